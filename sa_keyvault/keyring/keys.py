"""The keys of one store as they were last read back: which may seal, which may open, and their ciphers."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sa_keyvault.binding import Binding
from sa_keyvault.envelope import Opener, Sealer, key_number, opener, sealer
from sa_keyvault.errors import (
    ConfigurationError,
    KeyNotFoundError,
    KeyRecordError,
    KeyStateError,
    MalformedEnvelopeError,
)
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.ledger import StateMark, StoreRecord, inactive_states
from sa_keyvault.records import MasterRecord, MasterSecret, WorkingRecord, data_key
from sa_keyvault.states import KeyState
from sa_keyvault.suites import LEGACY_SUITES

__all__ = ["KeySet", "Master", "WorkingKeys", "number_in"]


@dataclass(frozen=True)
class Master:
    """A master key as this installation found it.

    Attributes:
        record: Its record.
        secret: Its secret; None in a state in which it is not used, and where it was refused.
        refusal: Why the ring's policy does not let it be used, else None.
    """

    record: MasterRecord
    secret: MasterSecret | None
    refusal: str | None = None

    def require_secret(self) -> MasterSecret:
        """Return the secret.

        Raises:
            sa_keyvault.ConfigurationError: The ring's policy refuses the key.
            sa_keyvault.KeyStateError: The key is in a state in which it is not used.
        """
        if self.refusal is not None:
            raise ConfigurationError(self.refusal)
        if self.secret is None:
            msg = f"master key {self.record.id} is {self.record.state}, so what is under it does not open"
            raise KeyStateError(msg)
        return self.secret


@dataclass(frozen=True)
class WorkingKeys:
    """What was read of the working keys of one store.

    Attributes:
        records: All of them, by number; none of a large key store.
        inactive: The states of all that are not active, by number.
        counts: How many there are under each master key, of each suite, in each state; None where the records tell.
    """

    records: Mapping[int, WorkingRecord]
    inactive: Mapping[int, StateMark]
    counts: Counter[tuple[str, str, KeyState]] | None

    @classmethod
    def all(cls, records: Iterable[WorkingRecord]) -> "WorkingKeys":
        """Return all keys of a store."""
        known = {record.number: record for record in records}
        return cls(known, inactive_states(known.values()), None)


def number_in(stored: bytes) -> int:
    """Return the key number of stored bytes.

    Raises:
        sa_keyvault.MalformedEnvelopeError: They are no envelope, or a row was never sealed.
    """
    number = key_number(stored)
    if number == 0:
        msg = "a pending envelope without a value: the transaction that inserted the row did not seal it"
        raise MalformedEnvelopeError(msg, size=len(stored))
    return number


class KeySet:
    """The committed keys of one store.

    Args:
        record: The store's own record when they were read.
        policy: What the ring accepts.
        masters: Master keys, by id.
        working: Working keys.
        members: Fingerprints of the installation keys that open the store, or are invited to.
    """

    def __init__(
        self,
        record: StoreRecord,
        policy: Policy,
        masters: dict[str, Master],
        working: WorkingKeys,
        members: frozenset[str],
    ) -> None:
        self.record = record
        self.members = members
        self._policy = policy
        self._masters = masters
        self._found = working
        self._working = dict(working.records)
        self._suite = policy.provisioning.working_suite.name
        self._sealing_masters = self._find_sealing_masters()
        self._active: dict[str, list[WorkingRecord]] = {}
        for key in self._working.values():
            self._note_active(key)

    def without(self, numbers: Collection[int]) -> "KeySet":
        """Return these keys without some working keys."""
        if not numbers:
            return self
        kept = {number: record for number, record in self._working.items() if number not in numbers}
        return KeySet(self.record, self._policy, self._masters, replace(self._found, records=kept), self.members)

    @property
    def store_id(self) -> str:
        """The store."""
        return self.record.store_id

    @property
    def version(self) -> int:
        """The store's version when they were read."""
        return self.record.version

    def agrees(self, record: WorkingRecord) -> bool:
        """Whether the state of *record* is the one that the last operation left it in."""
        left = self._found.inactive.get(record.number)
        return record.state is KeyState.ACTIVE if left is None else left == (record.state, record.epoch)

    def knows_master(self, record: WorkingRecord) -> bool:
        """Whether the master key of *record* is one of these."""
        return record.master_id in self._masters

    def add(self, record: WorkingRecord) -> None:
        """Take up a working key that was read since the others were, unless its state is another than is signed."""
        if record.number not in self._working and self.agrees(record):
            self._working[record.number] = record
            self._note_active(record)

    def find(self, number: int) -> WorkingRecord | None:
        """Return a working key, if it is one of these."""
        return self._working.get(number)

    def active(self, area: str) -> Sequence[WorkingRecord]:
        """Return the working keys of *area* that may seal, of the suites that are provisioned."""
        return self._active.get(area, ())

    def sealing_masters(self) -> list[Master]:
        """Return the master keys that may wrap new working keys: the suite that is provisioned first, newest first.

        Raises:
            sa_keyvault.KeyStateError: No master key is active.
        """
        active = [master for master in self._masters.values() if master.record.state is KeyState.ACTIVE]
        if not active:
            msg = (
                "no master key is active, so no working key can be made; enable one that is disabled "
                "(`sa-keyvault master enable`), or let one that is retired be followed (`sa-keyvault master rotate ID`)"
            )
            raise KeyStateError(msg)
        provisioned = self._policy.provisioning.master_suite.name
        active.sort(key=lambda master: (master.record.created, master.record.id), reverse=True)
        return sorted(active, key=lambda master: (master.secret is None, master.record.suite != provisioned))

    def masters(self) -> list[Master]:
        """Return all master keys."""
        return list(self._masters.values())

    def working(self) -> list[WorkingRecord]:
        """Return all working keys that were read."""
        return list(self._working.values())

    @property
    def inactive(self) -> Mapping[int, StateMark]:
        """The states of all working keys that are not active, by number, whether they were read or not."""
        return self._found.inactive

    @property
    def are_all(self) -> bool:
        """Whether every working key was read."""
        return self._found.counts is None

    @property
    def counts(self) -> Counter[tuple[str, str, KeyState]]:
        """How many working keys there are under each master key, of each suite, in each state; read or not."""
        if self._found.counts is not None:
            return self._found.counts
        return Counter((record.master_id, record.suite, record.state) for record in self._working.values())

    def weaknesses(self) -> Iterator[str]:
        """Yield what is outdated about what new keys are made of, and about the keys, each with the way out."""
        yield from self._policy.provisioning.weaknesses()
        states = Counter[KeyState]()
        for (_, suite, state), count in self.counts.items():
            if suite in LEGACY_SUITES:
                states[state] += count
        states.update(one.record.state for one in self._masters.values() if one.record.suite in LEGACY_SUITES)
        del states[KeyState.REMOVED]
        if active := states[KeyState.ACTIVE]:
            yield (
                f"{active} active keys are of 3DES, which NIST disallows for encryption after 2023; "
                "`sa-keyvault provision` leads to AES-256"
            )
        elif states:
            yield (
                f"{states.total()} keys of 3DES are left, which NIST disallows for encryption after 2023; "
                "`sa-keyvault reencrypt` writes the values under them anew, `sa-keyvault working remove` removes them"
            )

    def sealer(self, record: WorkingRecord, binding: Binding) -> Sealer:
        """Return what seals values of one column under a working key of these."""
        suite = self._policy.suite_of(record)
        key = data_key(record, suite, self._secret_of(record), binding)
        return sealer(record.number, suite, suite.cipher(key))

    def opener(self, record: WorkingRecord, area: str, binding: Binding) -> Opener:
        """Return the function that opens what a working key sealed in one column, which is of *area*.

        Raises:
            sa_keyvault.MalformedEnvelopeError: The key belongs to another area.
            sa_keyvault.KeyStateError: The key or its master key may not open.
            sa_keyvault.KeyRecordError: The key's record was changed outside the library.
        """
        if record.area != area:
            msg = f"working key {record.number} belongs to area {record.area!r}, the column to area {area!r}"
            raise MalformedEnvelopeError(msg, key_number=record.number, area=area)
        self._require_opening(record)
        suite = self._policy.suite_of(record)
        key = data_key(record, suite, self._secret_of(record), binding)
        return opener(suite, suite.cipher(key))

    def _is_provisioned(self, master: Master) -> bool:
        suite = self._policy.provisioning.master_suite.name
        return master.record.state.may_seal and master.secret is not None and master.record.suite == suite

    def _find_sealing_masters(self) -> frozenset[str]:
        """Return the ids of the master keys whose working keys may seal."""
        usable = [one for one in self._masters.values() if one.secret is not None and one.record.state.may_seal]
        # under a weaker master key than the provisioned one a working key has its strength only
        own = [master for master in usable if self._is_provisioned(master)]
        return frozenset(master.record.id for master in own or usable)

    def _note_active(self, record: WorkingRecord) -> None:
        is_of_suite = record.suite == self._suite and record.store_id == self.record.store_id
        if is_of_suite and record.state is KeyState.ACTIVE and record.master_id in self._sealing_masters:
            self._active.setdefault(record.area, []).append(record)

    def _require_opening(self, record: WorkingRecord) -> None:
        if not isinstance(record.state, KeyState) or record.store_id != self.store_id:
            msg = f"the record of working key {record.number} was changed outside the library"
            raise KeyRecordError(msg, key_number=record.number, area=record.area)
        if not record.state.may_open:
            msg = f"working key {record.number} of area {record.area!r} is {record.state}, so its data does not open"
            raise KeyStateError(msg, key_number=record.number, area=record.area)

    def _secret_of(self, record: WorkingRecord) -> MasterSecret:
        master = self._masters.get(record.master_id)
        if master is None:
            msg = f"working key {record.number} needs master key {record.master_id}, which the key store does not have"
            raise KeyNotFoundError(msg, key_number=record.number, area=record.area)
        return master.require_secret()
