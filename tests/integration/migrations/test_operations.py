"""Operations in scripts that are written by hand: what each does, and what it refuses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from alembic.util import CommandError
from conftest import EngineMaker, RingMaker
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    event,
    insert,
    inspect,
    select,
    text,
    type_coerce,
)
from sqlalchemy_utils import StringEncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine
from support.leaks import marked
from support.migrations import Migrations
from support.models import Base

from sa_keyvault import ConfigurationError, Encrypted, KeyStateError, KeyVaultError, Provisioning, store
from sa_keyvault.administration import count_values, rotate_area
from sa_keyvault.envelope import key_number
from sa_keyvault.suites import TRIPLE_DES_SHA1

_SSN = marked("078-05-1120")
_ENCRYPT = 'op.encrypt_column("people", "ssn", sa.String(40), area="identities", existing_type=sa.String(40))'
_DECRYPT = 'op.decrypt_column("people", "ssn", sa.String(40), area="identities", plain_type=sa.String(40))'


def _people(type_: Any, key: Any = Integer, name: str = "people", column: str = "ssn") -> Table:
    return Table(name, MetaData(), Column("id", key, primary_key=True, autoincrement=False), Column(column, type_))


def _encrypted(**names: Any) -> Table:
    return _people(Encrypted(String(40), area="identities"), **names)


def _fill(engine: Engine, table: Table, rows: int = 3) -> None:
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": number, table.c[1].name: _SSN} for number in range(rows)])


@pytest.fixture
def filled(url: URL, make_engine: EngineMaker) -> Engine:
    """A bare engine on a database with a plain table."""
    engine = make_engine(url)
    _fill(engine, _people(String(40)))
    return engine


@pytest.fixture
def read(url: URL, make_engine: EngineMaker, make_ring: RingMaker) -> Any:
    """Read the values of a table as an application does that declares it so."""

    def read_it(table: Table) -> Sequence[Any]:
        ring = make_ring()
        engine = make_engine(url, ring)
        ring.initialize(engine, table.metadata)
        with engine.connect() as connection:
            return connection.execute(select(table.c[1])).scalars().all()

    return read_it


def test_encrypts_without_models(filled: Engine, migrations: Migrations, read: Any) -> None:
    """A script encrypts where the environment declares no model, and makes the key store's keys."""
    migrations.write(f"op.create_keyvault()\n    {_ENCRYPT}", f"{_DECRYPT}\n    op.drop_keyvault()")
    migrations.upgrade()
    assert read(_encrypted()) == [_SSN] * 3
    migrations.downgrade()
    with filled.connect() as connection:
        assert connection.execute(select(_people(String(40)).c.ssn)).scalars().all() == [_SSN] * 3


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
def test_under_the_original(
    url: URL, filled: Engine, migrations: Migrations, make_engine: EngineMaker, make_ring: RingMaker
) -> None:
    """Where the key store is provisioned as the original, a script encrypts under its 3DES keys, and decrypts again."""
    ring, table = make_ring(provisioning=Provisioning.original()), _encrypted()
    engine = make_engine(url, ring)
    ring.initialize(engine, table.metadata)
    migrations.write(_ENCRYPT, _DECRYPT)
    migrations.upgrade()
    with engine.connect() as connection:
        assert connection.execute(select(table.c.ssn)).scalars().all() == [_SSN] * 3
    with filled.connect() as connection:
        suites = {record.number: record.suite for record in store.working(connection)}
        stored = connection.execute(select(type_coerce(table.c.ssn, LargeBinary))).scalars().all()
        signed = [*store.wraps(connection), *store.installations(connection).values()]
    assert [TRIPLE_DES_SHA1.name] * 3 == [suites[key_number(bytes(value))] for value in stored]
    assert [one.algorithm for one in signed if not one.algorithm.endswith("sha1")] == []
    migrations.downgrade()
    with filled.connect() as connection:
        assert connection.execute(select(_people(String(40)).c.ssn)).scalars().all() == [_SSN] * 3


def test_in_a_batch(filled: Engine, migrations: Migrations, read: Any) -> None:
    """A batch encrypts its table's column before its own changes."""
    batch = (
        'with op.batch_alter_table("people") as batch:\n'
        '        batch.add_column(sa.Column("note", sa.String(40)))\n'
        '        batch.encrypt_column("ssn", sa.String(40), area="identities", existing_type=sa.String(40))'
    )
    migrations.write(batch)
    migrations.upgrade()
    assert read(_encrypted()) == [_SSN] * 3
    assert "note" in {column["name"] for column in inspect(filled).get_columns("people")}


def test_after_a_rename(filled: Engine, migrations: Migrations, read: Any) -> None:
    """A renamed table and column are rebound to their new names, and back."""
    migrations.write(_ENCRYPT, _DECRYPT)
    rebind = (
        'op.rebind_column("persons", "number", sa.String(40), area="identities", existing_label=("", "people", "ssn"))'
    )
    unbind = (
        'op.rebind_column("people", "ssn", sa.String(40), area="identities", existing_label=("", "persons", "number"))'
    )
    rename = 'op.alter_column("people", "ssn", new_column_name="number", existing_type=sa.LargeBinary(400))'
    unname = 'op.alter_column("people", "number", new_column_name="ssn", existing_type=sa.LargeBinary(400))'
    migrations.upgrade()
    migrations.write(
        f'{rename}\n    op.rename_table("people", "persons")\n    {rebind}',
        f'op.rename_table("persons", "people")\n    {unname}\n    {unbind}',
    )
    migrations.upgrade()
    assert read(_encrypted(name="persons", column="number")) == [_SSN] * 3
    migrations.downgrade("-1")
    assert read(_encrypted()) == [_SSN] * 3


def test_with_another_key(url: URL, make_engine: EngineMaker, migrations: Migrations, read: Any) -> None:
    """A table whose rows are named by another column has its values bound to that."""
    table = Table(
        "people",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("ssn", String(40)),
        Column("code", String(20), nullable=False),
    )
    engine = make_engine(url)
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": number, "ssn": _SSN, "code": f"c{number}"} for number in range(3)])
    migrations.write(
        'op.encrypt_column("people", "ssn", sa.String(40), existing_type=sa.String(40), symbols={"id": sa.Integer()})'
    )
    migrations.upgrade()
    migrations.write(
        'op.rebind_column("people", "ssn", sa.String(40), symbols={"id": sa.Integer(), "code": sa.String(20)}, '
        'existing_symbols={"id": sa.Integer()})'
    )
    migrations.upgrade()
    bound = Table(
        "people",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("ssn", Encrypted(String(40), bind_to=("code",))),
        Column("code", String(20), nullable=False),
    )
    assert read(bound) == [_SSN] * 3


def test_keys_are_rotated_and_values_follow(filled: Engine, migrations: Migrations, read: Any) -> None:
    """A script retires the working keys of an area, writes the values under new ones, and renews the master key."""
    migrations.write(_ENCRYPT)
    migrations.upgrade()
    column = type_coerce(_encrypted().c.ssn, LargeBinary)
    with filled.connect() as connection:
        before = {bytes(value)[1:5] for value in connection.execute(select(column)).scalars()}
    migrations.write(
        'op.rotate_working_key("identities")\n    op.rotate_master_key()\n    '
        'op.reencrypt_column("people", "ssn", sa.String(40), area="identities")'
    )
    migrations.upgrade()
    with filled.connect() as connection:
        after = {bytes(value)[1:5] for value in connection.execute(select(column)).scalars()}
        actions = [one.action for one in store.events(connection)]
    assert before & after == set()
    assert {"working-key-retired", "master-key-retired"} <= set(actions)
    assert read(_encrypted()) == [_SSN] * 3


def test_keys_that_others_retired_are_left(
    url: URL, filled: Engine, migrations: Migrations, make_engine: EngineMaker, make_ring: RingMaker, read: Any
) -> None:
    """`reencrypt_column` does what is left to do after an operation of an administrator."""
    migrations.write(_ENCRYPT)
    migrations.upgrade()
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine, _encrypted().metadata)
    with engine.begin() as connection:
        rotate_area(connection, ring, "identities", "leaked")
    migrations.write('op.reencrypt_column("people", "ssn", sa.String(40), area="identities")')
    migrations.upgrade()
    with filled.connect() as connection:
        column = type_coerce(_encrypted().c.ssn, LargeBinary)
        numbers = {int.from_bytes(bytes(value)[1:5]) for value in connection.execute(select(column)).scalars()}
    reading = make_ring()
    reading.initialize(make_engine(url, reading), _encrypted().metadata)
    assert numbers <= set(reading.active_numbers("identities"))


@pytest.mark.parametrize(
    "operation",
    [
        _ENCRYPT,
        _DECRYPT,
        'op.reencrypt_column("people", "ssn", sa.String(40))',
        'op.rebind_column("people", "ssn", sa.String(40), existing_area="other")',
        'op.rotate_working_key("identities")',
        "op.rotate_master_key()",
        "op.drop_keyvault()",
    ],
)
def test_no_script_of_sql_for_values(migrations: Migrations, operation: str) -> None:
    """What reads or writes values or keys is refused in `--sql` mode, with the way out."""
    migrations.write(operation)
    with pytest.raises(CommandError, match="run this migration online, without --sql"):
        migrations.upgrade(sql=True)


def test_a_script_of_sql_for_the_key_store(migrations: Migrations) -> None:
    """`create_keyvault` is written out as SQL."""
    migrations.write("op.create_keyvault()")
    assert migrations.upgrade(sql=True).count("CREATE TABLE keyvault_") == 9


def test_the_key_store_is_kept_while_it_is_needed(filled: Engine, migrations: Migrations) -> None:
    """`drop_keyvault` is refused while a value is under one of its keys."""
    migrations.write(_ENCRYPT, "op.drop_keyvault()")
    migrations.upgrade()
    with pytest.raises(KeyStateError, match=r"people\.ssn \(3\); decrypt them first"):
        migrations.downgrade()


@pytest.mark.parametrize("dropped", [1, 8, 9])
def test_a_key_store_that_was_dropped_in_part(filled: Engine, migrations: Migrations, dropped: int) -> None:
    """`drop_keyvault` goes on where it was stopped, which MariaDB leaves with the tables that were not dropped yet."""
    migrations.write("op.create_keyvault()", "op.drop_keyvault()")
    migrations.upgrade()
    with filled.begin() as connection:
        for table in store.present_tables(connection)[:dropped]:
            table.drop(connection)
    migrations.downgrade()
    assert [name for name in inspect(filled).get_table_names() if name.startswith("keyvault")] == []


def test_numbers_are_kept_as_well(url: URL, make_engine: EngineMaker, migrations: Migrations) -> None:
    """Values of a column of numbers count too, also where the database keeps the type that it was declared with."""
    engine, table = make_engine(url), _people(Integer)
    table.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": number, "ssn": number} for number in range(3)])
    migrations.write(
        'op.encrypt_column("people", "ssn", sa.Integer(), existing_type=sa.Integer())', "op.drop_keyvault()"
    )
    migrations.upgrade()
    with engine.connect() as connection:
        assert [count.values for count in count_values(connection)] == [3]
    with pytest.raises(KeyStateError, match=r"people\.ssn \(3\); decrypt them first"):
        migrations.downgrade()


def test_a_default_of_the_database(url: URL, make_engine: EngineMaker, migrations: Migrations, read: Any) -> None:
    """A default that the database would store unencrypted is dropped, or is to be dropped first."""
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE people (id INTEGER PRIMARY KEY, ssn VARCHAR(40) DEFAULT 'none')"))
        connection.execute(text(f"INSERT INTO people (id, ssn) VALUES (1, '{_SSN}')"))
    migrations.write(_ENCRYPT)
    if engine.dialect.name == "sqlite":
        with pytest.raises(ConfigurationError, match="has a default, which the database would store unencrypted"):
            migrations.upgrade()
        return
    migrations.upgrade()
    assert read(_encrypted()) == [_SSN]
    found = {column["name"]: column["default"] for column in inspect(engine).get_columns("people")}
    assert found["ssn"] in (None, "NULL")


def test_a_decryption_is_run_again(filled: Engine, migrations: Migrations) -> None:
    """A downgrade that was stopped behind its last ALTER, which MariaDB had committed, is run again to its end."""
    migrations.write(_ENCRYPT, f"{_DECRYPT}\n    raise RuntimeError('stopped')")
    migrations.upgrade()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="stopped"):
            migrations.downgrade()
    path = next((migrations.folder / "migrations" / "versions").glob("*.py"))
    path.write_text(path.read_text("utf-8").replace("raise RuntimeError('stopped')", "pass"), "utf-8")
    migrations.downgrade()
    with filled.connect() as connection:
        assert connection.execute(select(_people(String(40)).c.ssn)).scalars().all() == [_SSN] * 3


def test_another_library_is_left(url: URL, make_engine: EngineMaker, migrations: Migrations, read: Any) -> None:
    """What sqlalchemy-utils encrypted is sealed anew by a script that knows its type; no statement has a plaintext."""
    former = StringEncryptedType(String(40), "a key of the past", AesGcmEngine, length=255)
    engine = make_engine(url)
    _fill(engine, _people(former))
    migrations.write(
        'op.encrypt_column("people", "ssn", sa.String(40), area="identities", existing_type='
        'StringEncryptedType(sa.String(40), "a key of the past", AesGcmEngine, length=255))',
        'op.decrypt_column("people", "ssn", sa.String(40), area="identities", plain_type='
        'StringEncryptedType(sa.String(40), "a key of the past", AesGcmEngine, length=255))',
        "from sqlalchemy_utils import StringEncryptedType\n"
        "from sqlalchemy_utils.types.encrypted.encrypted_type import AesGcmEngine",
    )
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append(repr(parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        migrations.upgrade()
        assert read(_encrypted()) == [_SSN] * 3
        migrations.downgrade()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        assert connection.execute(select(_people(former).c.ssn)).scalars().all() == [_SSN] * 3
    assert [one for one in sent if _SSN in one or _SSN.encode().hex() in one] == []
    assert len(sent) > 10


def test_a_strict_table_is_refused(sqlite_url: URL, tmp_path: Any, key_files: Any, make_engine: EngineMaker) -> None:
    """A STRICT table of SQLite takes no bytes in a column of text; the error says what to do."""
    with make_engine(sqlite_url).begin() as connection:
        connection.execute(text("CREATE TABLE people (id INTEGER PRIMARY KEY, ssn TEXT) STRICT"))
    migrations = Migrations(tmp_path / "project", sqlite_url, key_files)
    migrations.write(_ENCRYPT)
    with pytest.raises(ConfigurationError, match="STRICT table"):
        migrations.upgrade()


def test_no_key_is_given(
    sqlite_url: URL, tmp_path: Any, key_files: Any, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key ring and without the variables of the environment, the error names both."""
    _fill(make_engine(sqlite_url), _people(String(40)))
    migrations = Migrations(tmp_path / "project", sqlite_url, key_files)
    monkeypatch.setattr(migrations, "variables", {})
    migrations.write(_ENCRYPT)
    with pytest.raises(ConfigurationError, match=r"set SA_KEYVAULT_INSTALLATION_KEY .* or make the engine in env\.py"):
        migrations.upgrade()


def test_forged_key_does_not_choose(
    sqlite_url: URL, tmp_path: Any, key_files: Any, make_engine: EngineMaker, make_ring: RingMaker
) -> None:
    """A migration with a key of the environment makes AES keys, whatever a row says that nobody sealed (A-31)."""
    ring, engine = make_ring(), make_engine(sqlite_url)
    _fill(engine, _people(String(40)))
    ring.initialize(make_engine(sqlite_url, ring), Base.metadata)
    with engine.begin() as connection:
        record = store.working(connection)[0]
        forged = replace(record, number=7, created="9999", suite="3des-cbc-hmac-sha256", wrapped=b"junk")
        store.add_working(connection, forged)
    migrations = Migrations(tmp_path / "project", sqlite_url, key_files)
    migrations.write(_ENCRYPT)
    migrations.upgrade()
    with engine.connect() as connection:
        assert {one.suite for one in store.working(connection) if one.number != 7} == {"aes-256-gcm"}


def test_what_a_value_does_not_fit_into(filled: Engine, migrations: Migrations) -> None:
    """A downgrade to a type that is too short is refused; it cuts no value."""
    migrations.write(
        _ENCRYPT, 'op.decrypt_column("people", "ssn", sa.String(40), area="identities", plain_type=sa.String(5))'
    )
    migrations.upgrade()
    if filled.dialect.name == "sqlite":
        pytest.skip("SQLite has no lengths")
    with pytest.raises(Exception, match=r"too long") as caught:
        migrations.downgrade()
    assert not isinstance(caught.value, KeyVaultError)


def test_an_operation_without_a_change(migrations: Migrations) -> None:
    """A `rebind_column` that says nothing of the past is refused."""
    migrations.write('op.rebind_column("people", "ssn", sa.String(40))')
    with pytest.raises(ConfigurationError, match="rebind_column needs what is to be left behind"):
        migrations.upgrade()
