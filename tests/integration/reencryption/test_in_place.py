"""A column of any type is encrypted in place and decrypted out, and holds the same values all the while."""

import datetime
import decimal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import (
    JSON,
    URL,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    Text,
    Time,
    Unicode,
    Uuid,
    insert,
    text,
)
from sqlalchemy.types import TypeDecorator, TypeEngine
from support.jobs import kinds, open_values, raw_values
from support.keys import Color
from support.leaks import marked

from sa_keyvault import AuthenticationError, ConfigurationError, Encrypted, ReencryptionError
from sa_keyvault.reencryption import Pace, decrypt, encrypt, encrypting, examine

pytestmark = pytest.mark.filterwarnings("ignore:Dialect sqlite.*Decimal objects natively")


class Reversed(TypeDecorator[str]):
    """A type of an application's own."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: object) -> Any:
        """Store the text backwards."""
        return None if value is None else value[::-1]

    def process_result_value(self, value: Any, dialect: object) -> Any:
        """Load it forwards."""
        return None if value is None else value[::-1]


@dataclass(frozen=True)
class Kind:
    """A type, and some values of it.

    Attributes:
        name: For the test's id.
        type_: The type.
        values: NULL is added to them.
    """

    name: str
    type_: TypeEngine[Any]
    values: Sequence[Any]


UUIDS = [uuid.UUID(int=5), uuid.UUID(int=2**127 + 1)]
TEXTS = [marked("text"), "", "ünï ©∂é 🔑", "a:b%'"]
KINDS = [
    Kind("string", String(60), TEXTS),
    Kind("text", Text(), [*TEXTS, marked("long") * 1000]),
    Kind("unicode", Unicode(60), TEXTS),
    Kind("own type", Reversed(), TEXTS),
    Kind("enum", Enum(Color), [Color.RED, Color.GREEN]),
    Kind("enum of texts", Enum("one", "two", name="numbers"), ["one", "two"]),
    Kind("json", JSON(none_as_null=True), [{"a": [1, 2.5, None, marked()]}, [], "text", 7, False]),
    Kind("uuid", Uuid(), UUIDS),
    Kind("uuid as text", Uuid(as_uuid=False), [str(one) for one in UUIDS]),
    Kind("uuid in a char", Uuid(native_uuid=False), UUIDS),
    Kind("boolean", Boolean(), [True, False]),
    Kind("integer", Integer(), [0, -1, 2**31 - 1]),
    Kind("big integer", BigInteger(), [0, -(2**63), 2**63 - 1]),
    Kind("numeric", Numeric(12, 4), [decimal.Decimal("12345.6789"), decimal.Decimal("-0.5000")]),
    Kind("numeric as float", Numeric(12, 4, asdecimal=False), [12345.6789, -0.5]),
    Kind("float", Float(53), [0.1, -1e300, 2.5e-12]),
    Kind("datetime", DateTime(), [datetime.datetime(2026, 11, 24, 15, 4, 5), datetime.datetime(1000, 1, 1)]),  # noqa: DTZ001 - the type is naive
    Kind("date", Date(), [datetime.date(2026, 11, 24), datetime.date(1000, 1, 1)]),
    Kind("time", Time(), [datetime.time(15, 4, 5), datetime.time(0, 0)]),
    Kind("bytes", LargeBinary(), [b"", b"\x00\xff", marked("bytes").encode()]),
]


def table_of(type_: TypeEngine[Any]) -> Table:
    """Return the table with one column of that type."""
    return Table(
        "kept",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("value", type_),
    )


def make_binary(engine: Engine) -> None:
    """Make the column one of bytes, as a migration does; SQLite has none to alter."""
    _alter(
        engine,
        postgresql="ALTER TABLE kept ALTER COLUMN value TYPE bytea USING convert_to(value::text, 'UTF8')",
        mysql="ALTER TABLE kept MODIFY value LONGBLOB",
    )


def make_plain(engine: Engine, type_: TypeEngine[Any]) -> None:
    """Make the column one of its own type again."""
    native = engine.dialect.type_compiler_instance.process(type_)
    _alter(
        engine,
        postgresql=f"ALTER TABLE kept ALTER COLUMN value TYPE {native} USING convert_from(value, 'UTF8')::{native}",
        mysql=f"ALTER TABLE kept MODIFY value {native}",
    )


def _alter(engine: Engine, **statements: str) -> None:
    if statement := statements.get(engine.dialect.name):
        with engine.begin() as connection:
            connection.execute(text(statement))


@pytest.fixture
def fresh(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """An engine with a key ring that is initialized."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine, table_of(Encrypted()).metadata)
    return engine


def fill(engine: Engine, table: Table, values: Sequence[Any]) -> None:
    """Make the table, with these values."""
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        for number, value in enumerate(values):
            connection.execute(insert(table).values(id=number, value=value))


@pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.name)
def test_there_and_back(fresh: Engine, plain: Engine, kind: Kind) -> None:
    """Values of every type are encrypted in place, read as they were, and decrypted out into a column as it was."""
    before, after = table_of(kind.type_), table_of(Encrypted(kind.type_))
    values = [*kind.values, None]
    fill(fresh, before, values)
    with plain.connect() as connection:
        stored = raw_values(connection, before, "value")
    if not isinstance(kind.type_, LargeBinary):
        make_binary(plain)
    with fresh.connect() as connection:
        converted = raw_values(connection, after, "value")
    assert examine(fresh, encrypting(after, {"value": kind.type_})).rows == len(kind.values)
    report = encrypt(fresh, after, {"value": kind.type_}, Pace(batch_size=2))
    assert (report.rows, report.is_finished) == (len(kind.values), True)
    with fresh.connect() as connection:
        assert [(value,) for value in values] == open_values(connection, after, "value")
        assert kinds(connection, after, "value") == {"active", "null"}
    assert encrypt(fresh, after, {"value": kind.type_}).rows == 0
    report = decrypt(fresh, after, {"value": kind.type_}, Pace(batch_size=2))
    assert (report.rows, report.is_finished) == (len(kind.values), True)
    if not isinstance(kind.type_, LargeBinary):
        make_plain(plain, kind.type_)
    with fresh.connect() as connection:
        assert [(value,) for value in values] == open_values(connection, before, "value")
    with plain.connect() as connection:
        assert stored == raw_values(connection, before, "value")
    assert len(converted) == len(stored)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_lookalikes_are_refused(fresh: Engine, plain: Engine) -> None:
    """Bytes that begin as an envelope does could not be told apart later, so nothing is begun."""
    before, after = table_of(LargeBinary()), table_of(Encrypted(LargeBinary))
    fill(fresh, before, [b"plain", b"\xf8", b"\xf8 is no envelope"])
    with pytest.raises(ReencryptionError, match=r"2 values of kept\.value are no envelopes and begin as one does"):
        encrypt(fresh, after, {"value": LargeBinary()})
    with plain.connect() as connection:
        assert raw_values(connection, before, "value") == [b"plain", b"\xf8", b"\xf8 is no envelope"]


def test_type_without_a_text(fresh: Engine) -> None:
    """A type whose values have no text that says all of them is refused by name."""
    after = table_of(Encrypted(Interval))
    fill(fresh, after, [])
    with pytest.raises(ConfigurationError, match="cannot be converted in place"):
        encrypt(fresh, after, {"value": Interval()})


def test_column_that_is_not_altered(fresh: Engine) -> None:
    """A column that cannot hold bytes is refused with the remedy; SQLite's holds whatever it is given."""
    after = table_of(Encrypted(String(40)))
    fill(fresh, table_of(String(40)), [marked()])
    if fresh.dialect.name == "sqlite":
        assert encrypt(fresh, after, {"value": String(40)}).rows == 1
        return
    with pytest.raises(ConfigurationError, match="alter it first"):
        encrypt(fresh, after, {"value": String(40)})


def test_text_of_another_type(fresh: Engine, plain: Engine) -> None:
    """Bytes that are no text of the type are reported and left; the report does not show them."""
    fill(fresh, table_of(LargeBinary()), [b"5", marked("five").encode()])
    after = table_of(Encrypted(Integer))
    report = encrypt(fresh, after, {"value": Integer()}, Pace(unreadable_limit=1))
    assert [(one.column, one.key, one.reason) for one in report.unreadable] == [
        ("value", (1,), "11 stored bytes are neither an envelope nor the text of a Integer()")
    ]
    with plain.connect() as connection:
        assert raw_values(connection, after, "value")[1] == marked("five").encode()


def test_decrypted_values_are_authentic(fresh: Engine, plain: Engine) -> None:
    """A value of another row is not decrypted out: the job stops before it is written (R-21, A-1)."""
    after = table_of(Encrypted(String(40)))
    fill(fresh, after, [marked("1"), marked("2")])
    with plain.begin() as connection:
        connection.execute(text("UPDATE kept SET value = (SELECT value FROM (SELECT * FROM kept) AS k WHERE k.id = 1)"))
        before = raw_values(connection, after, "value")
    with pytest.raises(ReencryptionError, match="1 values do not open"):
        decrypt(fresh, after, {"value": String(40)})
    with plain.connect() as connection:
        assert before == raw_values(connection, after, "value")
    with fresh.connect() as connection, pytest.raises(AuthenticationError):
        open_values(connection, after, "value")
