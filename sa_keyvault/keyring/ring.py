"""The key ring in a running process: finds the opener of an envelope and the sealers of an area.

Keys are read back before they are used by other transactions than the one that made them, so that a COMMIT which
fails, or a savepoint that is rolled back, never leaves data under a key that is not in the key store.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.binding import Binding
from sa_keyvault.envelope import Layouts, Opener, Sealer, joined_sealer
from sa_keyvault.errors import (
    ConfigurationError,
    KeyNotFoundError,
    KeyRecordError,
    KeyStoreError,
    KeyStoreUnreachableError,
    UnsupportedStatementError,
)
from sa_keyvault.keyring.allotting import Allotting
from sa_keyvault.keyring.anchor import advance_anchor, advance_anchor_or_warn
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import KeySet, number_in
from sa_keyvault.keyring.loading import LoadKeys, load_keys, load_states
from sa_keyvault.keyring.making import make_working
from sa_keyvault.keyring.refreshing import Refreshing, require_successor
from sa_keyvault.keyring.settings import Settings
from sa_keyvault.keyring.transaction import TransactionState, find_state, state_of
from sa_keyvault.keyring.usage import Usage
from sa_keyvault.records import WorkingRecord

if TYPE_CHECKING:
    from sa_keyvault.keyring.private import PrivateConnection
    from sa_keyvault.ledger import StoreRecord

__all__ = ["Ring"]

_AT_ONCE = 1_000  # keys that are read with one that is missed: values of many are often read one after the other
_MISS_SECONDS = 1.0
_MAX_MISSES = 1024


class Ring:
    """The keys of one store, in one process.

    Args:
        identity: Who the ring is to the key store.
        settings: What it is told to do.
    """

    def __init__(self, identity: Identity, settings: Settings) -> None:
        self.identity = identity
        self.settings = settings
        # asked for each statement, and the same for the ring's whole life
        self._suite = identity.policy.provisioning.working_suite
        self._usage = Usage()
        self._allotting = Allotting(self._suite, settings.limit_of(self._suite), self._usage)
        self._keys: KeySet | None = None
        self._private: PrivateConnection | None = None
        self._layouts: dict[tuple[str, Binding], Layouts] = {}
        self._sealers: dict[tuple[int, Binding], Sealer] = {}
        self._read_areas: set[str] = set()
        self._uncommitted: dict[int, WorkingRecord] = {}
        self._unpublished: set[int] = set()
        self._misses: dict[int, float] = {}
        self._refreshing = Refreshing(settings.refresh_seconds)
        self._anchored: StoreRecord | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.identity.key!r}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "a key ring can be neither pickled nor copied; make one in each process"
        raise TypeError(msg)

    # -- reading -------------------------------------------------------------------------------------------------

    def layouts(self, area: str, binding: Binding) -> Layouts:
        """Return the openers of one column: one object for the ring's whole life, looked into once per value.

        Raises:
            sa_keyvault.ConfigurationError: The ring is not initialized.
        """
        self._require_keys()
        found = self._layouts.get((area, binding))
        if found is None:
            found = Layouts(partial(self._find_opener, area, binding))
            # two threads may come here at once, and must end with one object: only that one is cleared later
            found = self._layouts.setdefault((area, binding), found)
        return found

    def _find_opener(self, area: str, binding: Binding, prefix: bytes) -> tuple[Opener, bool]:
        number = number_in(prefix.ljust(9, b"\x00"))
        keys = self._require_keys()
        record = keys.find(number)
        if record is None and number in self._uncommitted:
            return keys.opener(self._uncommitted[number], area, binding), False
        if record is None:
            record = self._load_missing(number, area)
            keys = self._require_keys()
        return keys.opener(record, area, binding), True

    def _load_missing(self, number: int, area: str) -> WorkingRecord:
        """Look for a key that was not read, or committed since; there is no connection at this place."""
        now = time.monotonic()
        if self._private is not None and self._misses.get(number, 0.0) <= now:
            self._read_missing(number, self._private)
        if record := self._require_keys().find(number):
            return record
        if len(self._misses) >= _MAX_MISSES:
            self._misses.clear()
        self._misses[number] = now + _MISS_SECONDS
        msg = (
            f"the key store has no working key {number}, which a value of area {area!r} names; "
            "restore the key store from a backup"
        )
        raise KeyNotFoundError(msg, key_number=number, area=area)

    def _read_missing(self, number: int, private: "PrivateConnection") -> None:
        records = private.run(lambda connection: store.working_from(connection, number, _AT_ONCE))
        if not records or records[0].number != number:
            return
        if not self._require_keys().agrees(records[0]):
            # an operation has changed its state since, or else somebody outside the library, which is noticed here
            self._use(private.run(lambda connection: self._load(connection, self.identity)))
        self._adopt(records, private.run)
        if not self._require_keys().agrees(records[0]):
            msg = (
                f"working key {number} is {records[0].state} in its record, which is not how the last operation left "
                "it: the record was changed outside the library, or an older one was put back; restore the whole key "
                "store from one backup"
            )
            raise KeyRecordError(msg, key_number=number, area=records[0].area)

    # -- writing -------------------------------------------------------------------------------------------------

    def active_numbers(self, area: str) -> frozenset[int]:
        """Return the numbers of the working keys that new values of *area* are under, those not yet committed too."""
        if self._private is not None and not self._require_keys().are_all and area not in self._read_areas:
            records = self._private.run(lambda connection: store.active_in_area(connection, area))
            self._adopt(records, self._private.run)
            self._read_areas.add(area)
        own = [record.number for record in list(self._uncommitted.values()) if record.area == area]
        return frozenset([*(record.number for record in self._require_keys().active(area)), *own])

    def sealer(self, area: str, binding: Binding, sizes: Sequence[int], connection: Connection) -> Sealer:
        """Return what seals, once, plaintexts of these *sizes*, of one column, which is of *area*.

        Makes working keys and usage reservations where they are needed, on *connection* and in its transaction.

        Raises:
            sa_keyvault.EncodingError: A plaintext is too large for one key.
            sa_keyvault.KeyStateError: No master key is active.
        """
        parts = self._allotting.allot(area, sizes, connection, partial(self._sealing_records, area, connection))
        return joined_sealer([(self._sealer_of(record, binding), share) for record, share in parts])

    def _sealer_of(self, record: WorkingRecord, binding: Binding) -> Sealer:
        seal = self._sealers.get((record.number, binding))
        if seal is None:
            seal = self._require_keys().sealer(record, binding)
            if record.number not in self._uncommitted:
                self._sealers[record.number, binding] = seal
        return seal

    def _sealing_records(self, area: str, connection: Connection) -> list[WorkingRecord]:
        wanted, active = self.settings.working_keys_per_area, self._require_keys().active(area)
        if len(active) > wanted:
            self._allotting.measure(area, active, connection)
        records = self._known_records(area, connection)
        if len(records) < wanted:
            self.adopt_committed(area, connection)
            records = self._known_records(area, connection)
        return records + [self._create_working(area, connection) for _ in range(wanted - len(records))]

    def _known_records(self, area: str, connection: Connection) -> list[WorkingRecord]:
        state = find_state(connection)
        own = [record for record in state.created.values() if record.area == area] if state else []
        records = self._allotting.unspent([*self._require_keys().active(area), *own], connection)
        return [record for record in records if not self.settings.is_too_old(record)]

    def adopt_committed(self, area: str, connection: Connection) -> None:
        """Take up keys of *area* that others have committed; those of this transaction are not committed."""
        state = find_state(connection)
        if state is not None and state.has_changed_keys:
            return
        records = store.newest_active(connection, area, self._suite.name, _AT_ONCE)
        others = [record for record in records if record.area == area and record.number not in self._uncommitted]
        self._adopt(others, lambda work: work(connection))

    def _create_working(self, area: str, connection: Connection) -> WorkingRecord:
        def reserve(key_id: str, wanted: int, limit: int) -> int:
            # few keys are made in one transaction: the portions of thousands at once fit into the margin
            return self._usage.take(connection, key_id, wanted, limit, limit).amount

        record = make_working(connection, self._require_keys(), area, self.identity, reserve)
        state_of(connection).created[record.number] = record
        self._uncommitted[record.number] = record
        return record

    # -- what other processes and transactions did ---------------------------------------------------------------

    def before_statement(self, connection: Connection) -> None:
        """Take up what has changed in the key store; next to nothing where nothing is due."""
        if time.monotonic() < self._refreshing.due_at and not self._unpublished:
            return
        if self._keys is None:
            # a statement that needs a key says so; others, such as those of create_all(), are none of the ring's
            return
        with self._looking():
            self._read(connection)

    def before_value(self) -> None:
        """Take up what has changed before a value is sealed or opened outside any statement."""
        if time.monotonic() < self._refreshing.due_at and not self._unpublished:
            return
        if self._private is None:
            # the one connection of a database in memory may be in a transaction; its statements look
            return
        with self._looking():
            try:
                self._private.run(self._catch_up)
            except KeyStoreUnreachableError:
                if self._refreshing.is_overdue:
                    raise

    @contextmanager
    def _looking(self) -> Iterator[None]:
        self._refreshing.begin()
        try:
            yield
        except BaseException:
            # whatever it was: nobody goes on with keys that may be disabled by now
            self._refreshing.retry()
            raise

    def _read(self, connection: Connection) -> None:
        if self._private is None:
            self._read_here(connection)
            return
        try:
            self._private.run(self._catch_up)
        except KeyStoreUnreachableError:
            if connection.dialect.name == "sqlite":
                # the caller's own exclusive lock keeps the private connection out
                self._read_here(connection)
            elif self._refreshing.is_overdue:
                raise

    def _read_here(self, connection: Connection) -> None:
        """Read on the caller's connection, unless its transaction has changed keys and may still be rolled back."""
        state = find_state(connection)
        if state is None or not state.has_changed_keys:
            self._catch_up(connection)

    def _catch_up(self, connection: Connection) -> None:
        begun = time.monotonic()
        known, found = self._require_keys().record, store.store_record(connection)
        require_successor(known, found)
        if found != known:
            self._use(self._load(connection, self.identity))
        self._advance_anchor()
        self._publish(connection)
        self._refreshing.end(begun)

    def _publish(self, connection: Connection) -> None:
        unpublished, self._unpublished = self._unpublished, set()
        if unpublished:
            self._adopt(store.working(connection, sorted(unpublished)), lambda work: work(connection))
        for number in unpublished:
            self._uncommitted.pop(number, None)

    def _adopt(self, records: list[WorkingRecord], run: Callable[[Callable[[Connection], KeySet]], KeySet]) -> None:
        if not all(self._require_keys().knows_master(record) for record in records):
            self._use(run(lambda connection: self._load(connection, self.identity)))
        for record in records:
            self._require_keys().add(record)

    @property
    def _load(self) -> LoadKeys:
        # what is left in the key store is read on the private connection, when it is needed
        return load_keys if self._private is None else load_states

    def _advance_anchor(self) -> None:
        record, anchor = self._require_keys().record, self.identity.anchor
        if anchor is not None and record != self._anchored and advance_anchor_or_warn(anchor, record):
            self._anchored = record

    def _start(self, keys: KeySet) -> None:
        """Take what a start has read; one that the anchor cannot remember is refused."""
        if self.identity.anchor is not None:
            advance_anchor(self.identity.anchor, keys.record)
            self._anchored = keys.record
        self._use(keys)

    def _use(self, keys: KeySet) -> None:
        # read on a caller's connection, they may hold what its transaction made and may still roll back
        self._keys = keys.without(self._uncommitted.keys())
        self._sealers.clear()
        self._allotting.clear()
        self._read_areas.clear()
        self._misses.clear()
        for layouts in self._layouts.values():
            layouts.clear()

    def _require_keys(self) -> KeySet:
        if self._keys is None:
            msg = "this key ring is not initialized; call ring.initialize(engine, metadata) at start-up"
            raise ConfigurationError(msg)
        return self._keys

    # -- how transactions end ------------------------------------------------------------------------------------

    def before_commit(self, connection: Connection) -> None:
        """Refuse a commit that would leave data without its key, or a row without its value.

        The event fires before a COMMIT that may still fail, so nothing is published here.

        Raises:
            sa_keyvault.KeyStoreError: A key made in this transaction is gone (a savepoint was rolled back).
            sa_keyvault.UnsupportedStatementError: A row of this transaction was never sealed.
        """
        state = find_state(connection)
        if state is None:
            return
        if state.unsealed:
            msg = f"{state.unsealed} inserted rows are not sealed yet, so this transaction cannot be committed"
            raise UnsupportedStatementError(msg)
        if gone := state.created.keys() - store.working_numbers(connection, state.created):
            msg = (
                f"working key {min(gone)} was made in this transaction and is gone (rolled back to a savepoint, "
                "or a deadlock); roll back and run the transaction again"
            )
            raise KeyStoreError(msg, key_number=min(gone))
        self._usage.before_commit(connection, state)
        self._unpublished.update(state.created)

    def after_transaction(self, state: TransactionState | None) -> None:
        """Forget what a transaction made, whatever ended it."""
        if state is None:
            return
        self._usage.forget(state)
        if state.has_changed_keys:
            # at once in this process, be it committed or rolled back
            self._refreshing.demand()
        for number in state.created.keys() - self._unpublished:
            self._uncommitted.pop(number, None)
