"""The key store: the tables that hold the keys, and every statement on them."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Executable,
    Integer,
    LargeBinary,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import CursorResult

from sa_keyvault.errors import KeyStoreError
from sa_keyvault.records import MasterRecord, WorkingRecord, Wrap
from sa_keyvault.states import KeyState

__all__ = [
    "INTERNAL",
    "ColumnRow",
    "add_column",
    "add_master",
    "add_store",
    "add_usage",
    "add_working",
    "bump_version",
    "columns",
    "create_tables",
    "exclusive",
    "execute",
    "existing_usage",
    "locked",
    "masters",
    "replace_column",
    "replace_master",
    "replace_working",
    "store_row",
    "tables",
    "usage",
    "working",
    "working_in_area",
    "working_numbers",
    "wraps",
]

INTERNAL = "sa_keyvault_internal"
"""Execution option that marks the library's own statements; the statement hooks leave them alone."""

_LOCKING = "sa_keyvault_locking"  # execution option of a connection, inside `locked`
_LOCK_NUMBER = 0x5A6B7661  # any fixed number; PostgreSQL's advisory locks are per database
_LOCK_SECONDS = 60
_TABLE_OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

tables: MetaData = MetaData()

_store = Table(
    "keyvault_store",
    tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
    Column("version", BigInteger, nullable=False),
    **_TABLE_OPTIONS,
)
_master = Table(
    "keyvault_master_key",
    tables,
    Column("id", String(32), primary_key=True),
    Column("store_id", String(32), nullable=False),
    Column("created", String(20), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    Column("former_state", String(8), nullable=False),
    Column("suite", String(32), nullable=False),
    Column("lineage", String(32), nullable=False),
    **_TABLE_OPTIONS,
)
_wrap = Table(
    "keyvault_master_wrap",
    tables,
    Column("master_id", String(32), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("algorithm", String(64), nullable=False),
    Column("wrapped", LargeBinary(2048), nullable=False),
    Column("signature", LargeBinary(2048), nullable=False),
    **_TABLE_OPTIONS,
)
_working = Table(
    "keyvault_working_key",
    tables,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
    Column("area", String(64), nullable=False, index=True),
    Column("created", String(20), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    Column("former_state", String(8), nullable=False),
    Column("suite", String(32), nullable=False),
    Column("master_id", String(32), nullable=False),
    Column("wrapped", LargeBinary(256), nullable=False),
    **_TABLE_OPTIONS,
)
_usage = Table(
    "keyvault_usage",
    tables,
    Column("id", String(32), primary_key=True),
    Column("key_id", String(32), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    **_TABLE_OPTIONS,
)
_column = Table(
    "keyvault_column",
    tables,
    Column("schema_name", String(128), primary_key=True),
    Column("table_name", String(128), primary_key=True),
    Column("column_name", String(128), primary_key=True),
    Column("label", LargeBinary(1024), nullable=False),
    Column("area", String(64), nullable=False),
    Column("inner_type", String(255), nullable=False),
    **_TABLE_OPTIONS,
)

_Record = TypeVar("_Record", MasterRecord, Wrap, WorkingRecord)


@dataclass(frozen=True)
class ColumnRow:
    """What the key store remembers of one encrypted column.

    Attributes:
        schema_name: Schema, empty where there is none.
        table_name: Table.
        column_name: Column.
        label: The label's bytes, as they stand in the associated data.
        area: Area of its working keys.
        inner_type: Readable name of the type that is encrypted.
    """

    schema_name: str
    table_name: str
    column_name: str
    label: bytes
    area: str
    inner_type: str


def execute(connection: Connection, statement: Executable, rows: Any = None) -> CursorResult[Any]:
    """Run one of the library's own statements: no schema translation, no server-side cursor, no hook."""
    options = {"schema_translate_map": None, "stream_results": False, INTERNAL: True}
    return connection.execute(statement, rows, execution_options=options)


def create_tables(connection: Connection) -> None:
    """Create the tables that are missing."""
    tables.create_all(connection)


@contextmanager
def exclusive(connection: Connection) -> Iterator[None]:
    """Let one process at a time initialize the key store of this database.

    MariaDB commits at every CREATE TABLE, so there the lock is the session's, not the transaction's.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        execute(connection, select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        yield
    elif dialect in ("mysql", "mariadb"):
        name = func.concat("sa_keyvault:", func.md5(func.database()))
        if execute(connection, select(func.get_lock(name, _LOCK_SECONDS))).scalar() != 1:
            msg = f"another process has held the key store's lock for {_LOCK_SECONDS} s; try again"
            raise KeyStoreError(msg)
        try:
            yield
        finally:
            execute(connection, select(func.release_lock(name)))
    else:
        yield


def store_row(connection: Connection) -> tuple[str, int] | None:
    """Return store id and version, or None where the key store has never been initialized."""
    row = execute(connection, select(_store.c.store_id, _store.c.version)).one_or_none()
    return (row.store_id, row.version) if row else None


def add_store(connection: Connection, store_id: str) -> None:
    """Write the one row that names the store; its version starts at 1."""
    execute(connection, insert(_store).values(id=1, store_id=store_id, version=1))


def bump_version(connection: Connection) -> None:
    """Tell every process that a key's state has changed."""
    execute(connection, update(_store).values(version=_store.c.version + 1))


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """Let one administrative operation at a time change keys, and tell every process that they change.

    What is read inside is the newest that was committed, also where the transaction has an older snapshot.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store.
    """
    if not inspect(connection).has_table(_store.name) or store_row(connection) is None:
        msg = "the database has no initialized key store; call ring.initialize(engine, metadata) at start-up"
        raise KeyStoreError(msg)
    # the row's lock is held until the transaction ends
    bump_version(connection)
    connection.execution_options(**{_LOCKING: True})
    try:
        yield
    finally:
        connection.execution_options(**{_LOCKING: False})


def _rows(connection: Connection, statement: Select[Any]) -> CursorResult[Any]:
    is_locking = connection.get_execution_options().get(_LOCKING, False)
    return execute(connection, statement.with_for_update() if is_locking else statement)


def masters(connection: Connection) -> list[MasterRecord]:
    """Return every master key."""
    return [_with_state(MasterRecord, row) for row in _rows(connection, select(_master).order_by(_master.c.created))]


def wraps(connection: Connection) -> list[Wrap]:
    """Return every wrap of every master key."""
    return [Wrap(**row._asdict()) for row in _rows(connection, select(_wrap))]


def add_master(connection: Connection, record: MasterRecord, wrap: Wrap) -> None:
    """Write a new master key and its wrap."""
    execute(connection, insert(_master).values(_values(record)))
    execute(connection, insert(_wrap).values(_values(wrap)))


def replace_master(connection: Connection, record: MasterRecord, wrap: Wrap) -> None:
    """Write a changed master key and its wrap; inside `locked`."""
    execute(connection, update(_master).where(_master.c.id == record.id).values(_values(record)))
    same = (_wrap.c.master_id == wrap.master_id) & (_wrap.c.fingerprint == wrap.fingerprint)
    execute(connection, update(_wrap).where(same).values(_values(wrap)))


def working(connection: Connection, numbers: Sequence[int] | None = None) -> list[WorkingRecord]:
    """Return the working keys with these numbers, or all of them."""
    statement = select(_working)
    if numbers is not None:
        statement = statement.where(_working.c.number.in_(numbers))
    return [_with_state(WorkingRecord, row) for row in _rows(connection, statement)]


def working_in_area(connection: Connection, area: str) -> list[WorkingRecord]:
    """Return the working keys of one area."""
    rows = _rows(connection, select(_working).where(_working.c.area == area))
    return [_with_state(WorkingRecord, row) for row in rows]


def working_numbers(connection: Connection, numbers: Iterable[int]) -> set[int]:
    """Return those of *numbers* that the key store has."""
    statement = select(_working.c.number).where(_working.c.number.in_(list(numbers)))
    return set(execute(connection, statement).scalars())


def add_working(connection: Connection, record: WorkingRecord) -> None:
    """Write a new working key."""
    execute(connection, insert(_working).values(_values(record)))


def replace_working(connection: Connection, records: Sequence[WorkingRecord]) -> None:
    """Write changed working keys; inside `locked`."""
    changed: dict[str, Any] = {name: bindparam(f"new_{name}") for name in _working.c.keys() if name != "number"}  # noqa: SIM118
    statement = update(_working).where(_working.c.number == bindparam("key_number")).values(changed)
    rows = [{f"new_{name}": value for name, value in _values(record).items()} for record in records]
    for row in rows:
        row["key_number"] = row.pop("new_number")
    if rows:
        execute(connection, statement, rows)


def usage(connection: Connection, key_id: str) -> int:
    """Return how much use of a key is reserved, in the unit of its suite.

    Args:
        connection: Where the key store is.
        key_id: Number of a working key in decimal, or id of a master key.
    """
    total = select(func.coalesce(func.sum(_usage.c.amount), 0)).where(_usage.c.key_id == key_id)
    return int(execute(connection, total).scalar_one())


def add_usage(connection: Connection, reservation_id: str, key_id: str, amount: int) -> None:
    """Reserve use of a key; inserted, never updated, so no transaction waits for another."""
    execute(connection, insert(_usage).values(id=reservation_id, key_id=key_id, amount=amount))


def existing_usage(connection: Connection, reservation_ids: Iterable[str]) -> set[str]:
    """Return those of *reservation_ids* that the key store has."""
    statement = select(_usage.c.id).where(_usage.c.id.in_(list(reservation_ids)))
    return set(execute(connection, statement).scalars())


def columns(connection: Connection) -> dict[tuple[str, str, str], ColumnRow]:
    """Return what is remembered of each column, by schema, table and column name."""
    rows = (ColumnRow(**row._asdict()) for row in execute(connection, select(_column)))
    return {(row.schema_name, row.table_name, row.column_name): row for row in rows}


def add_column(connection: Connection, row: ColumnRow) -> None:
    """Remember an encrypted column."""
    execute(connection, insert(_column).values(_values(row)))


def replace_column(connection: Connection, row: ColumnRow) -> None:
    """Remember a changed declaration of an encrypted column."""
    key = {"schema_name": row.schema_name, "table_name": row.table_name, "column_name": row.column_name}
    same = [_column.c[name] == bindparam(f"key_{name}", value) for name, value in key.items()]
    execute(connection, update(_column).where(*same).values(_values(row)))


def _values(record: Any) -> dict[str, Any]:
    return dict(zip((field.name for field in fields(record)), astuple(record), strict=True))


def _with_state(record: type[_Record], row: Any) -> _Record:
    # an unknown state is left as it stands: the signature or seal over it decides, and refuses the key
    values = row._asdict()
    known = values["state"] in KeyState.__members__.values()
    values["state"] = KeyState(values["state"]) if known else values["state"]
    return record(**values)
