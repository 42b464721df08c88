"""The start-up of a key ring: makes the key store where there is none, and reads it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError, KeyRecordError, KeyStoreError
from sa_keyvault.installation import InstallationKey, unwrap_master, wrap_master
from sa_keyvault.keyring.keys import KeySet, Master
from sa_keyvault.keyring.private import is_in_memory
from sa_keyvault.records import MasterRecord, Wrap, new_id, new_master, new_working
from sa_keyvault.suites import Provisioning

__all__ = ["DeclaredColumn", "initialize", "load_keys"]


@dataclass(frozen=True)
class DeclaredColumn:
    """An encrypted column that the application declares.

    Attributes:
        row: What the key store remembers of it.
        has_values: Whether the column's table is there and has a value in it.
    """

    row: store.ColumnRow
    has_values: Callable[[Connection], bool]


def load_keys(connection: Connection, installation_key: InstallationKey) -> KeySet:
    """Read every key of the store; the signatures of all master keys are verified.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A master key's record was changed outside the library.
    """
    row = store.store_row(connection)
    if row is None:
        msg = "the database has no initialized key store; call ring.initialize(engine, metadata) at start-up"
        raise KeyStoreError(msg)
    store_id, version = row
    records, wraps = store.masters(connection), store.wraps(connection)
    own = {wrap.master_id: wrap for wrap in wraps if wrap.fingerprint == installation_key.fingerprint}
    _require_own(records, wraps, own, installation_key)
    masters = {record.id: _master(record, own, store_id, installation_key) for record in records}
    working = {record.number: record for record in store.working(connection)}
    return KeySet(store_id, version, masters, working)


def _require_own(
    records: Sequence[MasterRecord], wraps: Sequence[Wrap], own: dict[str, Wrap], key: InstallationKey
) -> None:
    if not records:
        msg = "the key store has no master key: it was never initialized, or its rows were deleted"
        raise KeyStoreError(msg)
    if not own:
        known = ", ".join(sorted({wrap.fingerprint for wrap in wraps})) or "none"
        msg = (
            f"installation key {key.fingerprint} does not open this key store; "
            f"it is wrapped for: {known}; start with one of those keys"
        )
        raise KeyStoreError(msg)


def _master(record: MasterRecord, own: dict[str, Wrap], store_id: str, key: InstallationKey) -> Master:
    wrap = own.get(record.id)
    if wrap is None:
        msg = f"master key {record.id} has no wrap for installation key {key.fingerprint}"
        raise KeyStoreError(msg)
    secret = unwrap_master(record, wrap, key)
    if record.store_id != store_id:
        msg = f"master key {record.id} belongs to key store {record.store_id}, not to {store_id}"
        raise KeyRecordError(msg)
    return Master(record, secret if record.state.may_open else None)


def initialize(
    connection: Connection,
    installation_key: InstallationKey,
    provisioning: Provisioning,
    columns: Sequence[DeclaredColumn],
    keys_per_area: int,
) -> KeySet:
    """Make what is missing of the key store, in one transaction, and read it.

    Safe from several processes at once: one does it, the others find it done.

    Raises:
        sa_keyvault.KeyStoreError: The store is another installation's, or lost.
        sa_keyvault.ConfigurationError: A column with values was declared with another label or area before.
    """
    _require_utf8(connection)
    with _transaction(connection), store.exclusive(connection):
        store.create_tables(connection)
        if store.store_row(connection) is None:
            _make_store(connection, installation_key, columns)
        keys = load_keys(connection, installation_key)
        _make_working(connection, keys, provisioning, columns, keys_per_area)
        _remember_columns(connection, columns)
        connection.commit()
    return keys


def _require_utf8(connection: Connection) -> None:
    """Refuse a SQLite file of another encoding: its symbols would be read back in other bytes than were sealed."""
    if connection.dialect.name != "sqlite":
        return
    encoding = connection.exec_driver_sql("PRAGMA encoding").scalar()
    connection.rollback()
    if encoding != "UTF-8":
        msg = (
            f"this SQLite database has the encoding {encoding}; encrypted columns need UTF-8, so dump and load it anew"
        )
        raise ConfigurationError(msg)


@contextmanager
def _transaction(connection: Connection) -> Iterator[None]:
    try:
        if connection.dialect.name == "sqlite" and not is_in_memory(connection):
            connection.rollback()
            # IMMEDIATE: two processes that both read first and then write would fail with SQLITE_BUSY
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield
    finally:
        connection.rollback()


def _make_store(connection: Connection, installation_key: InstallationKey, columns: Sequence[DeclaredColumn]) -> None:
    for column in columns:
        if column.has_values(connection):
            row = column.row
            msg = (
                f"the key store is empty, but {row.table_name}.{row.column_name} has values: a key store was lost; "
                "restore it from a backup (new keys would not open them)"
            )
            raise KeyStoreError(msg, area=row.area)
    store_id = new_id()
    record, secret = new_master(store_id)
    store.add_store(connection, store_id)
    store.add_master(connection, record, wrap_master(record, secret, installation_key))


def _make_working(
    connection: Connection,
    keys: KeySet,
    provisioning: Provisioning,
    columns: Sequence[DeclaredColumn],
    keys_per_area: int,
) -> None:
    for area in sorted({column.row.area for column in columns}):
        missing = keys_per_area - len(keys.active(area))
        for _ in range(missing):
            master = keys.sealing_master()
            if master.secret is None:
                continue
            record = new_working(master.record, master.secret, area, provisioning.working_suite)
            store.add_working(connection, record)
            keys.add(record)


def _remember_columns(connection: Connection, columns: Sequence[DeclaredColumn]) -> None:
    known = store.columns(connection)
    for column in columns:
        row = column.row
        before = known.get((row.schema_name, row.table_name, row.column_name))
        if before is None:
            store.add_column(connection, row)
        elif before != row:
            _require_no_values(connection, column, before)
            store.replace_column(connection, row)


def _require_no_values(connection: Connection, column: DeclaredColumn, before: store.ColumnRow) -> None:
    row = column.row
    if (before.label, before.area) == (row.label, row.area) or not column.has_values(connection):
        return
    changed = "context (or name, or schema)" if before.label != row.label else "area"
    msg = (
        f"the {changed} of {row.table_name}.{row.column_name} was changed in the model, but the column has values "
        f"sealed under the old one (area {before.area!r}); declare it as it was, or re-encrypt the column"
    )
    raise ConfigurationError(msg, area=row.area)
