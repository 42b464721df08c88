"""The start-up of a key ring: makes the key store where there is none, and reads it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError, KeyRecordError, KeyStoreError
from sa_keyvault.installation import InstallationKey, unwrap_master, wrap_master
from sa_keyvault.keyring.keys import KeySet, Master
from sa_keyvault.keyring.making import make_working
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.private import is_in_memory
from sa_keyvault.keyring.usage import reserve
from sa_keyvault.records import MasterRecord, Wrap, new_id, new_master, next_master
from sa_keyvault.states import KeyState
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


def load_keys(connection: Connection, installation_key: InstallationKey, policy: Policy) -> KeySet:
    """Read every key of the store; the signatures of all master keys are verified.

    A master key that the policy does not accept is kept without its secret: what is not under it goes on.

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
    masters = {record.id: _master(record, own, store_id, installation_key, policy) for record in records}
    working = {record.number: record for record in store.working(connection)}
    return KeySet(store_id, version, policy, masters, working)


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


def _master(record: MasterRecord, own: dict[str, Wrap], store_id: str, key: InstallationKey, policy: Policy) -> Master:
    wrap = own.get(record.id)
    if wrap is None:
        msg = f"master key {record.id} has no wrap for installation key {key.fingerprint}"
        raise KeyStoreError(msg)
    try:
        secret = unwrap_master(record, wrap, key, policy.provisioning)
        policy.suite_of(record)
    except ConfigurationError as error:
        return Master(record, None, str(error))
    if record.store_id != store_id:
        msg = f"master key {record.id} belongs to key store {record.store_id}, not to {store_id}"
        raise KeyRecordError(msg)
    return Master(record, secret if record.state.may_open else None)


def initialize(
    connection: Connection,
    installation_key: InstallationKey,
    policy: Policy,
    columns: Sequence[DeclaredColumn],
    keys_per_area: int,
    lost: Mapping[str, int],
) -> KeySet:
    """Make what is missing of the key store, in one transaction, and read it.

    Safe from several processes at once: one does it, the others find it done.

    Args:
        connection: Where the key store is, or is to be.
        installation_key: Wraps and signs master keys.
        policy: What is made and accepted.
        columns: The encrypted columns of the application.
        keys_per_area: How many active working keys each of their areas has.
        lost: Use of keys that this process has to write down, by key id.

    Raises:
        sa_keyvault.KeyStoreError: The store is another installation's, or lost.
        sa_keyvault.ConfigurationError: A column with values was declared with another label or area before, or
            a key that is in use is none that the policy accepts.
    """
    _require_utf8(connection)
    with _transaction(connection), store.exclusive(connection):
        store.create_tables(connection)
        if store.store_row(connection) is None:
            _make_store(connection, installation_key, policy.provisioning, columns)
        keys = load_keys(connection, installation_key, policy)
        _require_accepted(keys, policy)
        for key_id, amount in lost.items():
            store.add_usage(connection, new_id(), key_id, amount)
        if _needs_master(connection, keys, policy.provisioning):
            _make_next_master(connection, keys, installation_key, policy.provisioning)
            keys = load_keys(connection, installation_key, policy)
        _make_working(connection, keys, policy.provisioning, columns, keys_per_area)
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


def _require_accepted(keys: KeySet, policy: Policy) -> None:
    """Refuse keys in use that the policy does not accept; once the ring runs they are refused one by one."""
    working = [record for record in keys.working() if record.state is not KeyState.REMOVED]
    in_use = {record.master_id for record in working}
    for master in keys.masters():
        if master.refusal and (master.record.state is KeyState.ACTIVE or master.record.id in in_use):
            raise ConfigurationError(master.refusal)
    if policy.fips == "require":
        for record in working:
            policy.suite_of(record)


def _needs_master(connection: Connection, keys: KeySet, provisioning: Provisioning) -> bool:
    """Whether no active master key is of the suite that is provisioned, or all of them are half worn.

    Master keys are made here and never in passing, so the successor comes long before it is needed.
    """
    masters = [master for master in keys.masters() if master.record.state is KeyState.ACTIVE]
    suite = provisioning.master_suite
    fresh = (
        store.usage(connection, master.record.id) < suite.usage_limit // 4
        for master in masters
        if master.record.suite == suite.name
    )
    return bool(masters) and not any(fresh)


def _make_next_master(
    connection: Connection, keys: KeySet, installation_key: InstallationKey, provisioning: Provisioning
) -> None:
    newest = keys.sealing_masters()[0]
    record, secret = next_master(newest.record, newest.require_secret(), provisioning.master_suite)
    store.add_master(connection, record, wrap_master(record, secret, installation_key, provisioning))
    store.bump_version(connection)


def _make_store(
    connection: Connection,
    installation_key: InstallationKey,
    provisioning: Provisioning,
    columns: Sequence[DeclaredColumn],
) -> None:
    for column in columns:
        if column.has_values(connection):
            row = column.row
            msg = (
                f"the key store is empty, but {row.table_name}.{row.column_name} has values: a key store was lost; "
                "restore it from a backup (new keys would not open them)"
            )
            raise KeyStoreError(msg, area=row.area)
    store_id = new_id()
    record, secret = new_master(store_id, provisioning.master_suite)
    store.add_store(connection, store_id)
    store.add_master(connection, record, wrap_master(record, secret, installation_key, provisioning))


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
            record = make_working(connection, keys, area, provisioning.working_suite, partial(reserve, connection))
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
