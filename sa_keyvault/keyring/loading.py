"""Reads the keys of a store, and verifies all that is signed about them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, inspect

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError, KeyRecordError, KeyStoreError
from sa_keyvault.installation import unwrap_master, verify_master, verify_store
from sa_keyvault.keyring.anchor import verify_anchor
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import KeySet, Master, WorkingKeys
from sa_keyvault.ledger import InstallationRecord, StoreRecord, members, store_digest
from sa_keyvault.records import MasterRecord, Wrap

__all__ = ["LoadKeys", "find_store", "load_keys", "load_states", "require_store"]

LoadKeys = Callable[[Connection, Identity], KeySet]
"""`load_keys` or `load_states`: how a ring reads its key store."""

_ATTEMPTS = 5
_AT_ONCE = 10_000  # keys, which take about 0.1 s and 5 MiB; without them each would be looked for at its first use


def load_keys(connection: Connection, identity: Identity) -> KeySet:
    """Read every key of the store; all signatures are verified, and states and members against the last digest.

    A master key that the policy does not accept is kept without its secret: what is not under it goes on.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record, or the store's, was changed outside the library or put back.
    """
    return _load(connection, identity, lambda connection: WorkingKeys.all(store.working(connection)))


def load_states(connection: Connection, identity: Identity) -> KeySet:
    """Read a key store as `load_keys` does, but of a large one only the states of its working keys.

    The same is verified; the keys themselves are read when they are needed.
    """
    return _load(connection, identity, _states)


def _states(connection: Connection) -> WorkingKeys:
    counts = store.working_counts(connection)
    if counts.total() <= _AT_ONCE:
        return WorkingKeys.all(store.working(connection))
    return WorkingKeys({}, store.inactive(connection), counts)


def _load(connection: Connection, identity: Identity, read: Callable[[Connection], WorkingKeys]) -> KeySet:
    for _ in range(_ATTEMPTS):
        record = require_store(connection)
        masters, wraps = store.masters(connection), store.wraps(connection)
        working = read(connection)
        present = members(store.membership_events(connection, record.events))
        installation = store.installations(connection).get(identity.key.fingerprint)
        # an operation that was committed between two of these statements would look like a forgery
        if store.store_record(connection) == record:
            own = {wrap.master_id: wrap for wrap in wraps if wrap.fingerprint == identity.key.fingerprint}
            _require_own(masters, wraps, own, identity)
            _require_joined(installation)
            known = {one.id: _master(one, own, record.store_id, identity) for one in masters}
            keys = KeySet(record, identity.policy, known, working, present)
            _verify_store(keys, installation, identity)
            if identity.anchor is None or _is_anchored(connection, identity.anchor, record):
                return keys
    msg = f"the key store changed {_ATTEMPTS} times while it was read; try again"
    raise KeyStoreError(msg)


def _is_anchored(connection: Connection, anchor: Path, record: StoreRecord) -> bool:
    """Compare with the anchor; return False where another process has seen a newer store meanwhile."""
    try:
        verify_anchor(anchor, record, partial(store.link_of, connection))
    except KeyStoreError:
        if store.store_record(connection) == record:
            raise
        return False
    return True


def find_store(connection: Connection) -> StoreRecord | None:
    """Return the store's own record; None where there is no key store, or an empty one."""
    return store.store_record(connection) if inspect(connection).has_table("keyvault_store") else None


def require_store(connection: Connection) -> StoreRecord:
    """Return the store's own record.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store.
    """
    if record := find_store(connection):
        return record
    msg = "the database has no initialized key store; call ring.initialize(engine, metadata) at start-up"
    raise KeyStoreError(msg)


def _require_own(
    records: Sequence[MasterRecord], wraps: Sequence[Wrap], own: dict[str, Wrap], identity: Identity
) -> None:
    if not records:
        msg = "the key store has no master key: it was never initialized, or its rows were deleted"
        raise KeyStoreError(msg)
    if not own:
        known = ", ".join(sorted({wrap.fingerprint for wrap in wraps})) or "none"
        msg = (
            f"installation key {identity.key.fingerprint} does not open this key store; "
            f"it is wrapped for: {known}; start with one of those keys"
        )
        raise KeyStoreError(msg)


def _require_joined(installation: InstallationRecord | None) -> None:
    if installation is not None and not installation.signature:
        msg = (
            f"installation key {installation.fingerprint} is invited to this key store, and has not joined it yet; run "
            "`sa-keyvault installation join` with the fingerprint of the key that invited it"
        )
        raise KeyStoreError(msg)


def _master(record: MasterRecord, own: dict[str, Wrap], store_id: str, identity: Identity) -> Master:
    wrap = own.get(record.id)
    if wrap is None:
        msg = f"master key {record.id} has no wrap for installation key {identity.key.fingerprint}"
        raise KeyStoreError(msg)
    provisioning = identity.policy.provisioning
    try:
        verify_master(record, wrap, identity.key, provisioning)
        if record.store_id != store_id:
            msg = f"master key {record.id} belongs to key store {record.store_id}, not to {store_id}"
            raise KeyRecordError(msg)
        identity.policy.suite_of(record)
        if not record.state.may_open:
            return Master(record, None)
        return Master(record, unwrap_master(record, wrap, identity.key, provisioning))
    except ConfigurationError as error:
        return Master(record, None, str(error))


def _verify_store(keys: KeySet, own: InstallationRecord | None, identity: Identity) -> None:
    if own is None:
        msg = f"installation key {identity.key.fingerprint} was deleted from the key store; restore it from a backup"
        raise KeyRecordError(msg)
    verify_store(keys.record, own, identity.key)
    masters = [master.record for master in keys.masters()]
    if store_digest(masters, keys.inactive, keys.members) != keys.record.digest:
        msg = (
            f"the states of {len(masters)} master keys and {len(keys.inactive)} working keys, or the "
            f"{len(keys.members)} installation keys by the audit events, are not those that the last operation left: "
            "a row was changed outside the library, or an older one was put back; `sa-keyvault audit verify` tells "
            "whether it is an event; restore the whole key store from one backup"
        )
        raise KeyRecordError(msg)
    if identity.key.fingerprint not in keys.members:
        msg = f"installation key {identity.key.fingerprint} has left this key store; have it invited again"
        raise KeyStoreError(msg)
