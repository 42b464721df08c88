"""What an administrator asks first: which keys there are, how worn they are, and what depends on them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.administration.counting import count_values, missing_columns
from sa_keyvault.errors import ConfigurationError, KeyStateError
from sa_keyvault.keyring import KeySet, Master, load_keys
from sa_keyvault.ledger import StoreRecord
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import WorkingRecord
from sa_keyvault.states import KeyState

__all__ = ["MasterStatus", "Status", "WorkingStatus", "status"]

_WORN_SOON = 0.9  # of a limit


@dataclass(frozen=True)
class MasterStatus:
    """One master key.

    Attributes:
        id: 32 hex digits.
        state: What it may do.
        suite: What it wraps with.
        created: UTC.
        changed: When its state changed last, UTC.
        lineage: Shared by master keys whose working keys can be rewrapped from one to the other.
        used: How much it has wrapped, in the unit of its suite.
        limit: How much it may wrap; None where the suite is not known.
        working_keys: How many working keys depend on it.
        obstacle: Why it cannot be removed; empty where it can.
    """

    id: str
    state: str
    suite: str
    created: str
    changed: str
    lineage: str
    used: int
    limit: int | None
    working_keys: int
    obstacle: str


@dataclass(frozen=True)
class WorkingStatus:
    """One working key.

    Attributes:
        number: Its number.
        area: The area that it serves.
        state: What it may do.
        suite: What it seals with.
        created: UTC.
        changed: When its state changed last, UTC.
        master_id: Master key that wraps it.
        used: How much it has sealed, in the unit of its suite.
        limit: How much it may seal; None where the suite is not known.
        values: How many values depend on it, by column.
        obstacle: Why it cannot be removed; empty where it can.
    """

    number: int
    area: str
    state: str
    suite: str
    created: str
    changed: str
    master_id: str
    used: int
    limit: int | None
    values: Mapping[str, int]
    obstacle: str


@dataclass(frozen=True)
class Status:
    """A key store.

    Attributes:
        store: Its own record.
        installations: Fingerprints of the installation keys that open it.
        masters: Its master keys, the oldest first.
        working: Its working keys, by area.
        plaintexts: How many values of each column are no envelopes.
        warnings: What is to be done soon, in words.
    """

    store: StoreRecord
    installations: tuple[str, ...]
    masters: tuple[MasterStatus, ...]
    working: tuple[WorkingStatus, ...]
    plaintexts: Mapping[str, int]
    warnings: tuple[str, ...]


def status(connection: Connection, ring: KeyRing) -> Status:
    """Describe a key store; all signatures are verified, and values are counted from their headers.

    Args:
        connection: Where the key store is; it is only read.
        ring: Of the store's installation; it need not be initialized.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library, or put back.
    """
    keys = load_keys(connection, ring.identity)
    used, counts, missing = store.total_usage(connection), count_values(connection), missing_columns(connection)
    masters = tuple(_master(master, keys.working(), used, ring) for master in keys.masters())
    ordered = sorted(keys.working(), key=lambda record: (record.area, record.created, record.number))
    by_number: defaultdict[int | None, dict[str, int]] = defaultdict(dict)
    for count in counts:
        by_number[count.number][count.name] = count.values
    working = tuple(
        _working(record, by_number.get(record.number, {}), missing.get(record.area, ""), used, ring)
        for record in ordered
    )
    plaintexts = {count.name: count.values for count in counts if count.number is None}
    return Status(
        store=keys.record,
        installations=tuple(sorted(keys.members)),
        masters=masters,
        working=working,
        plaintexts=plaintexts,
        warnings=(
            *keys.weaknesses(),
            *_without_active(keys),
            *_warnings(masters, working, ring),
        ),
    )


def _master(master: Master, working: Sequence[WorkingRecord], used: Mapping[str, int], ring: KeyRing) -> MasterStatus:
    record = master.record
    count = sum(one.master_id == record.id and one.state is not KeyState.REMOVED for one in working)
    obstacle = f"{count} working keys depend on it" if count else _obstacle(record.state, record.changed, ring)
    limit = _limit(record.suite, ring)
    return MasterStatus(
        id=record.id,
        state=str(record.state),
        suite=record.suite,
        created=record.created,
        changed=record.changed,
        lineage=record.lineage,
        used=used.get(record.id, 0),
        limit=None if limit is None else limit // 2,
        working_keys=count,
        obstacle=obstacle,
    )


def _working(
    record: WorkingRecord, values: Mapping[str, int], missing: str, used: Mapping[str, int], ring: KeyRing
) -> WorkingStatus:
    total = sum(values.values())
    obstacle = _obstacle(record.state, record.changed, ring) or (missing and f"{missing} cannot be counted")
    limit = _limit(record.suite, ring)
    if limit is not None:
        limit = ring.settings.limit_of(ring.identity.policy.provisioning.suite_named(record.suite))
    return WorkingStatus(
        number=record.number,
        area=record.area,
        state=str(record.state),
        suite=record.suite,
        created=record.created,
        changed=record.changed,
        master_id=record.master_id,
        used=used.get(str(record.number), 0),
        limit=limit,
        values=values,
        obstacle=f"{total} values depend on it" if total else obstacle,
    )


def _limit(suite: str, ring: KeyRing) -> int | None:
    try:
        return ring.identity.policy.provisioning.suite_named(suite).usage_limit
    except ConfigurationError:
        return None


def _obstacle(state: KeyState, changed: str, ring: KeyRing) -> str:
    if state is KeyState.REMOVED:
        return "it is removed"
    if state is not KeyState.RETIRED:
        return f"it is {state}"
    return "" if ring.settings.is_retired_long_enough(changed) else f"it has been retired since {changed} only"


def _without_active(keys: KeySet) -> Iterator[str]:
    try:
        keys.sealing_masters()
    except KeyStateError as error:
        yield str(error)


def _warnings(masters: Sequence[MasterStatus], working: Sequence[WorkingStatus], ring: KeyRing) -> Iterator[str]:
    for master in masters:
        if master.state == "active" and master.limit is not None and master.used > _WORN_SOON * master.limit:
            yield f"master key {master.id} is nearly worn out: rotate it"
        if master.state == "active" and ring.settings.is_master_too_old(master.created):
            yield f"master key {master.id} is at the end of its cryptoperiod: rotate it, or restart a server"
    for key in working:
        if key.state in ("retired", "disabled") and key.values:
            count = sum(key.values.values())
            yield f"{count} values are under working key {key.number}, which is {key.state}: re-encrypt them"
