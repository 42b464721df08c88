"""Nothing leaks: what SQLAlchemy makes of errors, logs and pickles holds no plaintext."""

import logging
import pickle
from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, String, Table, insert, select, text, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, registry
from sqlalchemy.types import TypeDecorator
from support.leaks import MARK, LeakWatch, leaks_in_error, marked

from sa_keyvault import DecryptionError, EncodingError, Encrypted, KeyRing, KeyVaultError, PlaintextLogWarning, codec
from sa_keyvault.types import SealedValue


@pytest.fixture
def table(engine: Engine, ring: KeyRing) -> Table:
    """A table with a key of the application's own."""
    result = Table(
        "leaky",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("name", String(20), nullable=False),
        Column("email", Encrypted(String(100))),
    )
    ring.initialize(engine, result.metadata)
    result.create(engine)
    return result


def test_the_search_is_awake(leak_watch: LeakWatch) -> None:
    """The search finds a plaintext in the text, the arguments, the attributes and the cause of an error."""
    inner = KeyVaultError(marked("cause"))
    error = KeyVaultError("harmless", label=marked("attribute"))
    error.__cause__ = inner
    found = leaks_in_error(error)
    assert [place for place in found if "attributes" in place] == ["KeyVaultError: attributes"]
    assert "KeyVaultError: text" in found
    leak_watch.errors.clear()


def test_the_search_sees_frames(leak_watch: LeakWatch) -> None:
    """The search finds a plaintext in a local variable of the library's own frames."""
    with pytest.raises(EncodingError) as caught:
        codec.INTEGER.encode(marked("local"))
    assert any("local" in place for place in leaks_in_error(caught.value))
    leak_watch.errors.clear()


def test_integrity_error(engine: Engine, table: Table) -> None:
    """A database error after the value was sealed shows ciphertext only: text, parameters, pickle (R-38, A-74)."""
    with engine.connect() as connection:
        connection.execute(insert(table), {"id": 1, "name": "n", "email": marked("x")})
        with pytest.raises(IntegrityError) as caught:
            connection.execute(insert(table), {"id": 1, "name": "n", "email": marked("x")})
    assert MARK not in f"{caught.value} {caught.value.params!r} {caught.value.args!r}"
    assert MARK.encode() not in _pickled(caught.value)


def test_error_in_another_bind_processor(engine: Engine, table: Table) -> None:
    """An error while another column is bound shows the sealed value masked (R-38)."""

    class Broken(TypeDecorator[str]):
        """Fails when it is bound."""

        impl = String
        cache_ok = True

        def process_bind_param(self, value: Any, dialect: Any) -> Any:
            """Fail for every value."""
            msg = "broken"
            raise ValueError(msg)

    copy = table.to_metadata(MetaData())
    copy.c.name.type = Broken()
    with engine.connect() as connection, pytest.raises(SQLAlchemyError) as caught:
        connection.execute(insert(copy), {"id": 1, "name": "n", "email": marked("x")})
    assert MARK not in f"{caught.value} {getattr(caught.value, 'params', None)!r}"
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(caught.value)


def test_sealed_value_is_masked() -> None:
    """The value on its way to the driver shows its size, and refuses pickling."""
    sealed = SealedValue(b"12345", marked("x"))
    assert repr(sealed) == "<SealedValue: 5 bytes>"
    with pytest.raises(TypeError, match="plaintext"):
        pickle.dumps(sealed)


def test_statement_log(engine: Engine, table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """What SQLAlchemy logs of statements and parameters is ciphertext (A-73)."""
    engine.echo = True
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"), engine.begin() as connection:
        connection.execute(insert(table), [{"id": 1, "name": "n", "email": marked("x")}])
        connection.execute(update(table).where(table.c.name == "n").values(email=marked("y")))
        assert connection.execute(select(table.c.email)).scalar() == marked("y")
    engine.echo = False
    assert "INSERT INTO leaky" in caplog.text
    assert MARK not in caplog.text


def test_debug_log_is_warned_of(sqlite_url: Any, make_ring: Any, make_engine: Any) -> None:
    """A ring warns when SQLAlchemy's log level would print decrypted rows (A-73)."""
    logger = logging.getLogger("sqlalchemy.engine")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        with pytest.warns(PlaintextLogWarning, match="prints decrypted rows"):
            make_engine(sqlite_url, make_ring())
    finally:
        logger.setLevel(before)


def test_failed_flush_keeps_attributes(engine: Engine, table: Table) -> None:
    """After a failed flush and a rollback an object still has its plaintext (A-69)."""

    class Row:
        """A row."""

    registry().map_imperatively(Row, table)
    with Session(engine) as session:
        row: Any = Row()
        row.id, row.email = 1, marked("x")
        session.add(row)
        with pytest.raises(SQLAlchemyError):
            session.flush()
        session.rollback()
        row.name = "n"
        session.add(row)
        session.commit()
        assert row.email == marked("x")


def test_query_log_of_the_server(engine: Engine, table: Table) -> None:
    """The database's own log of statements has ciphertext only (A-80)."""
    if engine.dialect.name != "mysql":
        pytest.skip("tried on MariaDB, whose log can be a table")
    with engine.connect() as connection:
        before = connection.execute(text("SELECT @@log_output, @@general_log")).one()
        connection.execute(text("SET GLOBAL log_output = 'TABLE'"))
        connection.execute(text("SET GLOBAL general_log = 1"))
        try:
            connection.execute(insert(table), {"id": 1, "name": "seen", "email": marked("x")})
            connection.commit()
            found = connection.execute(text("SELECT argument FROM mysql.general_log WHERE argument LIKE '%leaky%'"))
            logged = [bytes(row[0]) if not isinstance(row[0], str) else row[0].encode() for row in found]
        finally:
            connection.execute(text(f"SET GLOBAL general_log = {before[1]}"))
            connection.execute(text(f"SET GLOBAL log_output = '{before[0]}'"))
    assert any(b"seen" in line for line in logged)
    assert not any(MARK.encode() in line for line in logged)


def test_opened_value_is_in_no_error(engine: Engine, table: Table, ring: KeyRing) -> None:
    """A value that opens but is not of the column's type is in no error, through a query and through the door."""
    binary = Table(
        "leaky", MetaData(), Column("id", Integer, primary_key=True), Column("email", Encrypted(LargeBinary))
    )
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "name": "n", "email": None})
        connection.execute(update(binary).where(binary.c.id == 1).values(email=marked("x").encode() + b"\xff"))
        stored = connection.execute(text("SELECT email FROM leaky")).scalar()
        with pytest.raises(DecryptionError, match="inner type has changed"):
            connection.execute(select(table.c.email)).all()
    with pytest.raises(DecryptionError, match="inner type has changed"):
        ring.open(table.c.email, 1, bytes(stored or b""))


def _pickled(error: BaseException) -> bytes:
    try:
        return pickle.dumps(error)
    except TypeError:
        return b""
