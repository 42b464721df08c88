"""The start-up call: what it makes, what it finds, and what it refuses to start with."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    create_engine,
    delete,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from support.databases import ASYNC_DRIVERS, database_url
from support.leaks import marked
from support.models import Base, Claimant, changing, run_processes, write_in_process

from sa_keyvault import (
    ConfigurationError,
    Encrypted,
    InstallationKey,
    KeyNotFoundError,
    KeyRecordError,
    KeyRing,
    KeyStateError,
    KeyStoreError,
    KeyVaultError,
    store,
)
from sa_keyvault.installation import wrap_master
from sa_keyvault.records import MasterRecord, new_id, new_master
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM, Provisioning

EMAIL, VOICE = marked("email"), marked("voice").encode()

MASTER, WRAP, WORKING = "keyvault_master_key", "keyvault_master_wrap", "keyvault_working_key"


@pytest.fixture(scope="module")
def other_key() -> InstallationKey:
    """The key of another installation."""
    return InstallationKey.generate()


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring: whoever has the database, and not the installation key."""
    return make_engine(url)


@pytest.fixture
def full(engine: Engine, ring: KeyRing) -> Engine:
    """An initialized database with one claimant."""
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Claimant(email=EMAIL, voice_model=VOICE))
        session.commit()
    return engine


def key_table(engine: Engine, name: str) -> Table:
    """Return one table of the key store as the database has it."""
    return Table(name, MetaData(), autoload_with=engine)


def contents(engine: Engine) -> dict[str, list[Any]]:
    """Return all rows of the key store."""
    with engine.connect() as connection:
        return {name: sorted(connection.execute(select(key_table(engine, name))).all()) for name in store.tables.tables}


def changed(value: Any) -> Any:
    """Return another value of the same kind and size."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return value[:-1] + ("0" if value[-1:] != "0" else "1")


def changes_of(engine: Engine, name: str) -> list[tuple[Column[Any], Any, Any]]:
    """Return each column of the only row of a table, with its value and another one."""
    table = key_table(engine, name)
    with engine.connect() as connection:
        row = connection.execute(select(table)).one()
    return [(table.c[key], value, changed(value)) for key, value in row._asdict().items()]


def write(engine: Engine, column: Column[Any], before: Any, after: Any) -> None:
    """Write one column in SQL, behind the library."""
    with engine.begin() as connection:
        assert connection.execute(update(column.table).where(column == before).values({column: after})).rowcount == 1


def swap(connection: Connection, table: Table, key: str, names: tuple[str, ...]) -> None:
    """Swap some columns of the two rows of a table."""
    first, second = connection.execute(select(table).order_by(table.c[key])).all()
    for row, other in ((first, second), (second, first)):
        values = {name: getattr(other, name) for name in names}
        connection.execute(update(table).where(table.c[key] == getattr(row, key)).values(values))


def read_all(engine: Engine) -> list[Any]:
    """Return all encrypted values."""
    with engine.connect() as connection:
        return list(connection.execute(select(Claimant.email, Claimant.voice_model)).one())


# -- what it makes -----------------------------------------------------------------------------------------------------


def test_makes_the_key_store(engine: Engine, ring: KeyRing) -> None:
    """The first start-up makes the tables, the store, one master key, and one working key for each area."""
    ring.initialize(engine, Base.metadata)
    assert set(store.tables.tables) <= set(inspect(engine).get_table_names())
    with engine.connect() as connection:
        row, masters, wraps = store.store_record(connection), store.masters(connection), store.wraps(connection)
        assert row is not None
        assert row.version == 1
        assert [(master.store_id, master.state) for master in masters] == [(row.store_id, KeyState.ACTIVE)]
        assert [(wrap.master_id, wrap.fingerprint) for wrap in wraps] == [
            (masters[0].id, ring.installation_key.fingerprint)
        ]
        working = store.working(connection)
        assert sorted(record.area for record in working) == ["identities", "models"]
        assert {(record.store_id, record.master_id, record.state) for record in working} == {
            (row.store_id, masters[0].id, KeyState.ACTIVE)
        }


def test_remembers_the_columns(engine: Engine, ring: KeyRing) -> None:
    """Every encrypted column of the metadata is remembered with its area and inner type."""
    ring.initialize(engine, Base.metadata)
    with engine.connect() as connection:
        rows = store.columns(connection)
    assert {key: (row.area, row.inner_type) for key, row in rows.items()} == {
        ("", "claimant", "email"): ("identities", "String(length=254)"),
        ("", "claimant", "voice_model"): ("models", "LargeBinary()"),
    }
    assert len({row.label for row in rows.values()}) == 2


def test_without_metadata(engine: Engine, ring: KeyRing) -> None:
    """Without metadata there are a master key, no working key and no column."""
    ring.initialize(engine)
    with engine.connect() as connection:
        assert len(store.masters(connection)) == 1
        assert store.working(connection) == []
        assert store.columns(connection) == {}


def test_a_set_of_keys_per_area(engine: Engine, make_ring: RingMaker, url: URL, make_engine: EngineMaker) -> None:
    """With working_keys_per_area=3 each area starts with three active keys, and a later start adds what is missing."""
    ring = make_ring()
    ring.initialize(make_engine(url, ring), Base.metadata)
    ring = make_ring(working_keys_per_area=3)
    ring.initialize(make_engine(url, ring), Base.metadata)
    with engine.connect() as connection:
        for area in ("identities", "models"):
            assert len(store.working_in_area(connection, area)) == 3


def test_is_idempotent(full: Engine, ring: KeyRing, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A second start-up, of the same ring or of another, changes no row of the key store."""
    before = contents(full)
    ring.initialize(full, Base.metadata)
    other = make_ring()
    other_engine = make_engine(url, other)
    other.initialize(other_engine, Base.metadata)
    assert contents(full) == before
    assert read_all(other_engine) == [EMAIL, VOICE]


def test_several_processes_at_once(
    url: URL, installation_key: InstallationKey, tmp_path: Path, ring: KeyRing, engine: Engine, plain: Engine
) -> None:
    """Four processes that start for the first time together end up with one store, one master key and one set."""
    Base.metadata.create_all(plain)
    emails = [marked(f"process-{number}") for number in range(4)]
    arguments = [([email], {}) for email in emails]
    assert run_processes(write_in_process, url, installation_key, tmp_path, arguments) == [0, 0, 0, 0]
    with plain.connect() as connection:
        assert len(connection.execute(select(store.tables.tables["keyvault_store"])).all()) == 1
        assert len(store.masters(connection)) == len(store.wraps(connection)) == 1
        assert sorted(record.area for record in store.working(connection)) == ["identities", "models"]
    ring.initialize(engine, Base.metadata)
    with Session(engine) as session:
        assert sorted(session.scalars(select(Claimant.email))) == emails


def test_attaches_the_ring(url: URL, make_engine: EngineMaker, ring: KeyRing) -> None:
    """An engine without a ring is given this one."""
    engine = make_engine(url)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Claimant(email=EMAIL))
        session.commit()
        assert session.scalars(select(Claimant.email)).one() == EMAIL


def test_does_not_need_the_pool(url: URL, make_engine: EngineMaker, ring: KeyRing) -> None:
    """The start-up goes on while the application holds the only connection of its pool (R-36)."""
    engine = make_engine(url, ring, pool_size=1, max_overflow=0, pool_timeout=1)
    with engine.connect():
        ring.initialize(engine, Base.metadata)
    with engine.connect() as connection:
        assert len(store.masters(connection)) == 1


def test_on_a_connection(engine: Engine, ring: KeyRing) -> None:
    """A connection that is in no transaction will do, and is in none afterwards."""
    with engine.connect() as connection:
        ring.initialize(connection, Base.metadata)
        assert not connection.in_transaction()
        assert len(store.masters(connection)) == 1


def test_on_sqlite_in_memory(make_engine: EngineMaker, ring: KeyRing) -> None:
    """A database in memory is initialized on the one connection that it has."""
    engine = make_engine("sqlite://", ring)
    ring.initialize(engine, Base.metadata)
    with engine.connect() as connection:
        assert len(store.masters(connection)) == 1
        assert len(store.working(connection)) == 2


# -- what it refuses ---------------------------------------------------------------------------------------------------


def test_refuses_a_transaction(engine: Engine, ring: KeyRing) -> None:
    """A connection in a transaction is refused: MariaDB would commit it at the first CREATE TABLE."""
    with engine.connect() as connection, connection.begin():
        with pytest.raises(ConfigurationError, match="transaction of its own"):
            ring.initialize(connection, Base.metadata)
        assert set(store.tables.tables) & set(inspect(connection).get_table_names()) == set()


def test_refuses_a_transaction_in_memory(make_engine: EngineMaker, ring: KeyRing) -> None:
    """A connection in a transaction is refused where there is no other connection, too."""
    engine = make_engine("sqlite://", ring)
    with (
        engine.connect() as connection,
        connection.begin(),
        pytest.raises(ConfigurationError, match="transaction of its own"),
    ):
        ring.initialize(connection, Base.metadata)


def test_without_initialize(engine: Engine, plain: Engine) -> None:
    """A ring that is not initialized says so at the first statement, and makes no table on its own."""
    Base.metadata.create_all(plain)
    with engine.connect() as connection:
        for statement in (select(Claimant.email), insert(Claimant).values(id=1, email=EMAIL)):
            with pytest.raises(ConfigurationError, match=r"ring\.initialize"):
                connection.execute(statement)
    assert inspect(plain).get_table_names() == ["claimant"]


def test_text_without_initialize(engine: Engine) -> None:
    """Textual SQL needs no ring: SQLAlchemy sends XA commands that way."""
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1


def test_create_tables_before_initialize(engine: Engine, ring: KeyRing) -> None:
    """The application's tables may be created before the key store is, on the same engine."""
    Base.metadata.create_all(engine)
    ring.initialize(engine, Base.metadata)
    assert set(inspect(engine).get_table_names()) == {"claimant", *store.tables.tables}


def test_door_without_initialize(ring: KeyRing) -> None:
    """The door of a ring that is not initialized says so."""
    with pytest.raises(ConfigurationError, match=r"ring\.initialize"):
        ring.open(Claimant.email, 1, b"\xf8")
    with pytest.raises(ConfigurationError, match=r"ring\.initialize"):
        ring.seal(Claimant.email, 1, EMAIL)


def test_refuses_another_installation_key(
    full: Engine, url: URL, make_engine: EngineMaker, ring: KeyRing, other_key: InstallationKey
) -> None:
    """An installation key without a wrap does not start, and the error names both fingerprints (R-44, A-33, A-45)."""
    before = contents(full)
    other = KeyRing(other_key)
    with pytest.raises(KeyStoreError) as caught:
        other.initialize(make_engine(url, other), Base.metadata)
    assert other_key.fingerprint in str(caught.value)
    assert ring.installation_key.fingerprint in str(caught.value)
    assert contents(full) == before


def test_refuses_a_master_signed_by_another_key(
    full: Engine, plain: Engine, restart: Any, other_key: InstallationKey
) -> None:
    """A master key wrapped with the public half, which everybody has, is refused: another key signed it (A-23)."""
    with plain.begin() as connection:
        row = store.store_record(connection)
        assert row is not None
        record, secret = new_master(row.store_id, AES_256_GCM)
        forged = wrap_master(record, secret, other_key, Provisioning.default())
        own = store.wraps(connection)[0].fingerprint
        store.add_master(connection, record)
        store.add_wraps(connection, [replace(forged, fingerprint=own)])
    with pytest.raises(KeyRecordError, match=record.id):
        restart()


@pytest.fixture
def restart(url: URL, make_engine: EngineMaker, make_ring: RingMaker) -> Any:
    """Start up anew, as another process would, and return the engine."""

    def start(metadata: MetaData | None = Base.metadata) -> Engine:
        ring = make_ring()
        engine = make_engine(url, ring)
        ring.initialize(engine, metadata)
        return engine

    return start


@pytest.mark.parametrize("loss", ["tables", "rows"])
def test_refuses_a_lost_key_store(full: Engine, plain: Engine, restart: Any, loss: str) -> None:
    """An empty key store beside full columns was lost, and nothing is made in its place."""
    if loss == "tables":
        store.tables.drop_all(plain)
    else:
        with plain.begin() as connection:
            for table in store.tables.sorted_tables:
                connection.execute(delete(table))
    with pytest.raises(KeyStoreError, match=r"claimant\.email has values") as caught:
        restart()
    assert caught.value.area == "identities"
    with plain.connect() as connection:
        if "keyvault_store" in inspect(connection).get_table_names():
            assert store.store_record(connection) is None
            assert store.masters(connection) == []


def test_accepts_empty_columns(full: Engine, plain: Engine, restart: Any) -> None:
    """An empty key store beside empty columns is a first start-up."""
    with plain.begin() as connection:
        connection.execute(text("DELETE FROM claimant"))
    store.tables.drop_all(plain)
    restart()
    with plain.connect() as connection:
        assert len(store.masters(connection)) == 1


@pytest.mark.parametrize("name", [MASTER, WRAP])
def test_refuses_an_edited_master(full: Engine, plain: Engine, restart: Any, name: str) -> None:
    """An edit of any one column of a master key or its wrap is refused; undone, the store opens (R-23, A-27, A-36)."""
    accepted = []
    for column, before, after in changes_of(plain, name):
        write(plain, column, before, after)
        try:
            restart()
            accepted.append(column.name)
        except (KeyRecordError, KeyStoreError):
            pass
        write(plain, column, after, before)
    assert accepted == []
    assert read_all(restart()) == [EMAIL, VOICE]


@pytest.mark.parametrize("state", ["retired", "disabled", "removed"])
def test_refuses_a_master_state_written_in_sql(full: Engine, plain: Engine, restart: Any, state: str) -> None:
    """A master key put into another state in SQL is refused (R-27, A-35)."""
    write(plain, key_table(plain, MASTER).c.state, "active", state)
    with pytest.raises(KeyRecordError, match="changed outside the library"):
        restart()


def test_refuses_a_master_enabled_in_sql(
    full: Engine, plain: Engine, restart: Any, installation_key: InstallationKey
) -> None:
    """A disabled master key that is made active again in SQL is refused (R-27, A-35)."""
    with plain.begin() as connection:
        with changing(connection, installation_key) as operation:
            operation.move_master(operation.active_masters()[0], KeyState.DISABLED, "master-key-disabled")
        table = store.tables.tables[MASTER]
        connection.execute(update(table).values(state="active", former_state=""))
    with pytest.raises(KeyRecordError, match="changed outside the library"):
        restart()


def test_refuses_a_master_of_another_store(
    full: Engine, plain: Engine, restart: Any, installation_key: InstallationKey
) -> None:
    """A master key that this installation signed for another store, brought in beside the own one, is refused."""
    record, secret = new_master(new_id(), AES_256_GCM)
    with plain.begin() as connection:
        store.add_master(connection, record)
        store.add_wraps(connection, [wrap_master(record, secret, installation_key, Provisioning.default())])
    with pytest.raises(KeyRecordError, match=f"belongs to key store {record.store_id}"):
        restart()


def test_refuses_another_store_id(full: Engine, plain: Engine, restart: Any) -> None:
    """A store whose id was exchanged does not accept its own master key any more."""
    other = new_id()
    with plain.begin() as connection:
        connection.execute(update(store.tables.tables["keyvault_store"]).values(store_id=other))
    with pytest.raises(KeyRecordError, match=f"not to {other}"):
        restart()


@pytest.fixture
def second_master(full: Engine, plain: Engine, installation_key: InstallationKey) -> MasterRecord:
    """One more valid master key in the store."""
    with plain.begin() as connection, changing(connection, installation_key) as operation:
        record, secret = new_master(operation.store_id, AES_256_GCM)
        operation.add_master(record, secret)
    return record


@pytest.mark.parametrize("names", [("wrapped",), ("signature",), ("wrapped", "signature")], ids="+".join)
def test_refuses_swapped_wraps(
    second_master: MasterRecord, plain: Engine, restart: Any, names: tuple[str, ...]
) -> None:
    """The wraps of two master keys of one store, swapped whole or in part, are refused (A-24)."""
    restart()
    with plain.begin() as connection:
        swap(connection, key_table(plain, WRAP), "master_id", names)
    with pytest.raises(KeyRecordError, match="changed outside the library"):
        restart()


# -- working keys that were edited or deleted --------------------------------------------------------------------------


def test_edited_working_key_does_not_open(engine: Engine, ring: KeyRing, plain: Engine, restart: Any) -> None:
    """An edit of any one column of a working key stops its values from opening (R-24, R-27, A-25, A-26, A-36)."""
    ring.initialize(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Claimant(email=EMAIL))
        session.commit()
    opened = []
    for column, before, after in changes_of(plain, WORKING):
        write(plain, column, before, after)
        # without metadata, so that no key is added
        try:
            read_all(restart(None))
            opened.append(column.name)
        except KeyVaultError:
            pass
        write(plain, column, after, before)
    assert opened == []
    assert read_all(restart(None)) == [EMAIL, None]


def test_edited_working_key_does_not_seal(full: Engine, plain: Engine, restart: Any) -> None:
    """A working key that was given to another area in SQL seals nothing there (A-26)."""
    with plain.begin() as connection:
        table = store.tables.tables[WORKING]
        connection.execute(delete(table).where(table.c.area == "identities"))
        connection.execute(update(table).values(area="identities"))
    with Session(restart()) as session:
        session.add(Claimant(email=EMAIL))
        with pytest.raises(KeyRecordError, match="changed outside the library"):
            session.flush()


@pytest.mark.parametrize("state", ["retired", "disabled", "removed"])
def test_working_key_state_written_in_sql(full: Engine, plain: Engine, restart: Any, state: str) -> None:
    """A working key put into another state in SQL opens nothing, even where that state would (R-27, A-35)."""
    with plain.begin() as connection:
        connection.execute(update(store.tables.tables[WORKING]).values(state=state))
    with pytest.raises((KeyRecordError, KeyStateError), match="working key"):
        read_all(restart())


def test_working_key_enabled_in_sql(
    full: Engine, plain: Engine, restart: Any, installation_key: InstallationKey
) -> None:
    """A disabled working key that is made active again in SQL opens nothing (R-27, A-35)."""
    with plain.begin() as connection:
        with changing(connection, installation_key) as operation:
            operation.move_working(list(operation.working.values()), KeyState.DISABLED, "working-key-disabled")
        connection.execute(update(store.tables.tables[WORKING]).values(state="active", former_state=""))
    with pytest.raises(KeyRecordError, match="changed outside the library"):
        read_all(restart())


def test_swapped_working_keys_do_not_open(full: Engine, plain: Engine, restart: Any) -> None:
    """The wrapped secrets of two areas' working keys, swapped, open nothing (R-24, A-25)."""
    with plain.begin() as connection:
        swap(connection, key_table(plain, WORKING), "number", ("wrapped",))
    engine = restart()
    for column in (Claimant.email, Claimant.voice_model):
        with pytest.raises(KeyRecordError, match="changed outside the library"), engine.connect() as connection:
            connection.execute(select(column)).all()


def test_deleted_working_key(full: Engine, plain: Engine, restart: Any) -> None:
    """A deleted working key gives an error with its number and area; put back, its values open (A-29)."""
    with plain.begin() as connection:
        table = store.tables.tables[WORKING]
        (record,) = store.working_in_area(connection, "identities")
        connection.execute(delete(table).where(table.c.number == record.number))
    engine = restart()
    with pytest.raises(KeyNotFoundError, match=str(record.number)) as caught:
        read_all(engine)
    assert (record.number, "identities") == (caught.value.key_number, caught.value.area)
    with plain.begin() as connection:
        store.add_working(connection, record)
    assert read_all(restart()) == [EMAIL, VOICE]


def test_deleted_masters(full: Engine, plain: Engine, restart: Any) -> None:
    """A store without its master key does not start (A-29)."""
    with plain.begin() as connection:
        connection.execute(delete(store.tables.tables[MASTER]))
    with pytest.raises(KeyStoreError, match="no master key"):
        restart()


def test_deleted_wraps(full: Engine, plain: Engine, restart: Any, ring: KeyRing) -> None:
    """A master key without its wrap does not start (A-29)."""
    with plain.begin() as connection:
        connection.execute(delete(store.tables.tables[WRAP]))
    with pytest.raises(KeyStoreError, match=ring.installation_key.fingerprint):
        restart()


def test_one_of_two_masters_deleted(second_master: MasterRecord, plain: Engine, restart: Any) -> None:
    """Where one of several master keys was deleted the ring does not start: the store is not what was signed (A-29)."""
    with plain.begin() as connection:
        table = store.tables.tables[MASTER]
        (deleted,) = connection.execute(select(table.c.id).where(table.c.id != second_master.id)).scalars()
        connection.execute(delete(table).where(table.c.id == deleted))
    with pytest.raises(KeyRecordError, match="the states of 1 master keys and 0 working keys, or the"):
        restart()


# -- columns that changed ----------------------------------------------------------------------------------------------


def declared(**options: Any) -> MetaData:
    """Return metadata in which the column of one table is declared with *options*."""
    metadata = MetaData()
    options = {"inner": String(80), "area": "identities"} | options
    Table("claim", metadata, Column("id", Integer, primary_key=True), Column("email", Encrypted(**options)))
    return metadata


CHANGES = [{"area": "credentials"}, {"context": "pinned"}]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_refuses_a_changed_column_with_values(engine: Engine, ring: KeyRing, change: dict[str, Any]) -> None:
    """A column whose area or context was changed in the model while it has values is refused."""
    metadata = declared()
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["claim"]).values(id=1, email=EMAIL))
    before = contents(engine)
    with pytest.raises(ConfigurationError, match=rf"{next(iter(change))}.* of claim\.email was changed"):
        ring.initialize(engine, declared(**change))
    assert contents(engine) == before


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_accepts_a_changed_column_without_values(engine: Engine, ring: KeyRing, change: dict[str, Any]) -> None:
    """A column without values may change its area and context, and is remembered as it is now."""
    metadata = declared()
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["claim"]).values(id=1, email=None))
        before = store.columns(connection)
    ring.initialize(engine, declared(**change))
    with engine.connect() as connection:
        after = store.columns(connection)
    assert after.keys() == before.keys()
    assert after != before
    assert {row.area for row in after.values()} == {change.get("area", "identities")}


def test_accepts_a_changed_inner_type(engine: Engine, ring: KeyRing) -> None:
    """A longer text type is no other key and no other label: accepted beside values, and remembered."""
    metadata = declared()
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(metadata.tables["claim"]).values(id=1, email=EMAIL))
    ring.initialize(engine, declared(inner=String(120)))
    with engine.connect() as connection:
        (row,) = store.columns(connection).values()
        assert row.inner_type == "String(length=120)"
        assert connection.execute(select(metadata.tables["claim"].c.email)).scalar() == EMAIL


# -- rings and engines -------------------------------------------------------------------------------------------------


def test_refuses_a_second_ring(engine: Engine, ring: KeyRing, make_ring: RingMaker) -> None:
    """An engine has one ring: a second is refused by attach and by initialize."""
    ring.initialize(engine)
    other = make_ring()
    with pytest.raises(ConfigurationError, match="has a key ring already"):
        other.attach(engine)
    with pytest.raises(ConfigurationError, match="has another key ring"):
        other.initialize(engine)


def test_refuses_a_second_store(engine: Engine, ring: KeyRing, tmp_path: Path, make_engine: EngineMaker) -> None:
    """A ring serves one key store; the engine of another is refused, and the first goes on."""
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with pytest.raises(ConfigurationError, match="serves key store"):
        ring.initialize(make_engine(f"sqlite:///{tmp_path / 'other.db'}"), Base.metadata)
    with Session(engine) as session:
        session.add(Claimant(email=EMAIL))
        session.commit()
        assert session.scalars(select(Claimant.email)).one() == EMAIL


def test_plugin_needs_a_ring(sqlite_url: URL) -> None:
    """The plugin without a key ring says which argument is missing."""
    with pytest.raises(ConfigurationError, match="keyring=ring"):
        create_engine(sqlite_url, plugins=["keyvault"])


@pytest.mark.parametrize(
    "options",
    [{"refresh_seconds": -1}, {"working_keys_per_area": 0}, {"usage_limit": 0}, {"usage_limit": 1.5}],
    ids=str,
)
def test_refuses_unusable_options(make_ring: RingMaker, options: dict[str, Any]) -> None:
    """An option that no ring could work with is refused, and named."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        make_ring(**options)


# -- asyncio -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=ASYNC_DRIVERS)
def async_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database for each asyncio driver."""
    yield from database_url(request.param, tmp_path)


@pytest.mark.parametrize("door", ["run_sync", "engine", "attached", "before the loop"])
def test_asyncio(async_url: URL, ring: KeyRing, door: str) -> None:
    """Under asyncio the ring is initialized on a connection, or on the engine, inside the event loop and before it."""
    plugin: dict[str, Any] = {} if door == "attached" else {"plugins": ["keyvault"], "keyring": ring}
    engine = create_async_engine(async_url, **plugin)
    if door == "attached":
        ring.attach(engine)
    if door == "before the loop":
        ring.initialize(engine, Base.metadata)

    async def main() -> Any:
        if door == "run_sync":
            async with engine.connect() as connection:
                await connection.run_sync(ring.initialize, Base.metadata)
        else:
            ring.initialize(engine, Base.metadata)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(insert(Claimant).values(id=1, email=EMAIL))
            masters = await connection.run_sync(store.masters)
        async with engine.connect() as connection:
            email = (await connection.execute(select(Claimant.email))).scalar()
        await engine.dispose()
        return len(masters), email

    assert asyncio.run(main()) == (1, EMAIL)


@pytest.mark.parametrize("door", ["run_sync", "engine"])
def test_asyncio_in_memory(ring: KeyRing, door: str) -> None:
    """Under asyncio a database in memory is initialized on its one connection; the engine will not do, and says so."""

    async def main() -> Any:
        engine = create_async_engine("sqlite+aiosqlite://", plugins=["keyvault"], keyring=ring)
        try:
            if door == "run_sync":
                async with engine.connect() as connection:
                    await connection.run_sync(ring.initialize, Base.metadata)
            else:
                with pytest.raises(ConfigurationError, match="run_sync"):
                    ring.initialize(engine, Base.metadata)
                return 1
            async with engine.connect() as connection:
                return len(await connection.run_sync(store.masters))
        finally:
            await engine.dispose()

    assert asyncio.run(main()) == 1
