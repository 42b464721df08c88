"""The start-up of a key ring: makes the key store where there is none, and reads it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.envelope import HEADER_SIZE, key_number
from sa_keyvault.errors import ConfigurationError, KeyStateError, KeyStoreError
from sa_keyvault.installation import SIGNATURES, sign_store, wrap_master
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import KeySet
from sa_keyvault.keyring.loading import LoadKeys, load_keys, load_states
from sa_keyvault.keyring.making import make_working
from sa_keyvault.keyring.operation import operation
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.private import is_in_memory
from sa_keyvault.keyring.settings import Settings
from sa_keyvault.keyring.usage import reserve
from sa_keyvault.ledger import StoreRecord, chained, store_digest
from sa_keyvault.records import new_id, new_master
from sa_keyvault.states import KeyState
from sa_keyvault.suites import Provisioning

__all__ = ["DeclaredColumn", "initialize", "prepare"]

_logger = logging.getLogger("sa_keyvault")


@dataclass(frozen=True)
class DeclaredColumn:
    """An encrypted column that the application declares.

    Attributes:
        row: What the key store remembers of it.
        sample: Returns some of its envelopes; none where there is no such table.
        former_label: The label that some of its values may still be bound to, as bytes.
    """

    row: store.ColumnRow
    sample: Callable[[Connection], list[bytes]]
    former_label: bytes | None = None

    def has_values(self, connection: Connection) -> bool:
        """Whether the column has an envelope in it."""
        return bool(self.sample(connection))


def initialize(
    connection: Connection,
    identity: Identity,
    settings: Settings,
    columns: Sequence[DeclaredColumn],
    lost: Mapping[str, int],
) -> KeySet:
    """Make what is missing of the key store, in one transaction, and read it.

    Safe from several processes at once: one does it, the others find it done.

    Args:
        connection: Where the key store is, or is to be.
        identity: Who opens it.
        settings: How many keys there are to be, and how old they may get.
        columns: The encrypted columns of the application.
        lost: Use of keys that this process has to write down, by key id.

    Raises:
        sa_keyvault.KeyStoreError: The store is another installation's, or lost.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library, or put back.
        sa_keyvault.ConfigurationError: A column with values was declared with another label or area before, or
            a key that is in use is none that the policy accepts.
    """
    # in memory there is no other connection, which would read a key when it is needed
    load = load_keys if is_in_memory(connection) else load_states
    with _transaction(connection), store.exclusive(connection):
        keys = prepare(connection, identity, settings, columns, lost, load)
        connection.commit()
    return keys


def prepare(
    connection: Connection,
    identity: Identity,
    settings: Settings,
    columns: Sequence[DeclaredColumn],
    lost: Mapping[str, int],
    load: LoadKeys,
) -> KeySet:
    """Do what `initialize` does as part of the caller's transaction, which others do not see before it is committed."""
    _require_utf8(connection)
    store.create_tables(connection)
    if store.store_record(connection) is None:
        _make_store(connection, identity, columns)
    keys = load(connection, identity)
    _require_accepted(keys, identity.policy)
    _require_accepted_signature(connection, keys, identity)
    for key_id, amount in lost.items():
        store.add_usage(connection, new_id(), key_id, amount)
    if _needs_master(connection, keys, identity.policy.provisioning, settings) and _can_sign(keys, identity):
        with operation(connection, identity, "start-up") as changing:
            changing.follow_master(keys.sealing_masters()[0], identity.policy.provisioning.master_suite)
        keys = load(connection, identity)
    _make_working(connection, keys, identity, settings, columns)
    _remember_columns(connection, columns)
    return keys


def _require_utf8(connection: Connection) -> None:
    """Refuse a SQLite file of another encoding: its symbols would be read back in other bytes than were sealed."""
    if connection.dialect.name != "sqlite":
        return
    encoding = connection.exec_driver_sql("PRAGMA encoding").scalar()
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


def _require_accepted_signature(connection: Connection, keys: KeySet, identity: Identity) -> None:
    own = store.installations(connection)[identity.key.fingerprint]
    if own.algorithm == SIGNATURES["sha1"] and identity.policy.provisioning.hash != "sha1":
        msg = (
            f"the record of key store {keys.store_id} is signed with SHA-1, which a key ring that is provisioned with "
            "SHA-256 refuses; `sa-keyvault provision` signs it anew"
        )
        raise ConfigurationError(msg)


def _require_accepted(keys: KeySet, policy: Policy) -> None:
    """Refuse active keys that the policy does not accept; all others are refused one by one, when they are used."""
    active = [(master_id, suite) for master_id, suite, state in keys.counts if state is KeyState.ACTIVE]
    in_use = {master_id for master_id, _ in active}
    for master in keys.masters():
        if master.refusal and (master.record.state is KeyState.ACTIVE or master.record.id in in_use):
            raise ConfigurationError(master.refusal)
    if policy.fips == "require":
        for master_id, suite in active:
            policy.suite_named(suite, f"a working key under master key {master_id}")


def _needs_master(connection: Connection, keys: KeySet, provisioning: Provisioning, settings: Settings) -> bool:
    """Whether no active master key is of the suite that is provisioned, or all of them are old or half worn.

    Master keys are made here and never in passing, so the successor comes long before it is needed.
    """
    masters = [master.record for master in keys.masters() if master.record.state is KeyState.ACTIVE]
    suite = provisioning.master_suite
    fresh = (
        store.usage(connection, record.id) < suite.usage_limit // 4
        for record in masters
        if record.suite == suite.name and not settings.is_master_too_old(record.created)
    )
    return bool(masters) and not any(fresh)


def _can_sign(keys: KeySet, identity: Identity) -> bool:
    """Whether a master key could be signed for all installations; else a server starts with those that there are."""
    missing = keys.members - {key.fingerprint for key in identity.signers}
    if missing:
        _logger.warning("a new master key is due, and is not made: nothing can be signed for %s", ", ".join(missing))
    return not missing


def _make_store(connection: Connection, identity: Identity, columns: Sequence[DeclaredColumn]) -> None:
    for column in columns:
        if column.has_values(connection):
            row = column.row
            msg = (
                f"the key store is empty, but {row.table_name}.{row.column_name} has values: a key store was lost; "
                "restore it from a backup (new keys would not open them)"
            )
            raise KeyStoreError(msg, area=row.area)
    provisioning = identity.policy.provisioning
    master, secret = new_master(new_id(), provisioning.master_suite)
    store.add_master(connection, master)
    store.add_wraps(connection, [wrap_master(master, secret, identity.key, provisioning)])
    record = StoreRecord(master.store_id, 1, store_digest([master], {}, [identity.key.fingerprint]), 0, "")
    created = ("store-created", record.store_id), ("master-key-created", master.id)
    for action, subject in created:
        record, event = chained(record, identity.event(record.store_id, action, subject))
        store.add_event(connection, event)
    store.add_store(connection, record)
    store.add_installation(connection, sign_store(record, identity.key, provisioning))


def _make_working(
    connection: Connection, keys: KeySet, identity: Identity, settings: Settings, columns: Sequence[DeclaredColumn]
) -> None:
    suite, wanted = identity.policy.provisioning.working_suite.name, settings.working_keys_per_area
    for area in sorted({column.row.area for column in columns}):
        if not keys.are_all:
            for record in store.newest_active(connection, area, suite, wanted):
                keys.add(record)
        fresh = [record for record in keys.active(area) if not settings.is_too_old(record)]
        missing = wanted - len(fresh)
        if missing > 0 and not _can_make(keys, area):
            continue
        for _ in range(missing):
            keys.add(make_working(connection, keys, area, identity, partial(reserve, connection)))


def _can_make(keys: KeySet, area: str) -> bool:
    """Whether a master key is active; else a server starts to read, and the write that needs a key is refused."""
    try:
        keys.sealing_masters()
    except KeyStateError as error:
        _logger.warning("area %r gets no working key: %s", area, error)
        return False
    return True


def _remember_columns(connection: Connection, columns: Sequence[DeclaredColumn]) -> None:
    known = store.columns(connection)
    for column in columns:
        row = column.row
        before = known.get((row.schema_name, row.table_name, row.column_name))
        if before is None:
            _require_known_keys(connection, column)
            store.add_column(connection, row)
        elif before != row:
            _require_no_values(connection, column, before)
            store.replace_column(connection, row)


def _require_known_keys(connection: Connection, column: DeclaredColumn) -> None:
    """Refuse a column whose values are under keys of another key store: this one was made in place of a lost one."""
    numbers = {key_number(envelope) for envelope in column.sample(connection) if len(envelope) >= HEADER_SIZE} - {0}
    if unknown := numbers - store.working_numbers(connection, numbers):
        row = column.row
        msg = (
            f"{row.table_name}.{row.column_name} has values under working key {min(unknown)}, which the key store does "
            "not have: it is another one than these values were written with; restore that one from a backup"
        )
        raise KeyStoreError(msg, key_number=min(unknown), area=row.area)


def _require_no_values(connection: Connection, column: DeclaredColumn, before: store.ColumnRow) -> None:
    row = column.row
    labels = (row.label, column.former_label)
    if (before.label in labels and before.area == row.area) or not column.has_values(connection):
        return
    changed = "context (or name, or schema)" if before.label != row.label else "area"
    msg = (
        f"the {changed} of {row.table_name}.{row.column_name} was changed in the model, but the column has values "
        f"sealed under the old one (area {before.area!r}); declare it as it was, or say what it was with formerly=…"
    )
    raise ConfigurationError(msg, area=row.area)
