"""The key ring in a running process: finds the opener of an envelope and the sealers of an area.

Keys are read back before they are used by other transactions than the one that made them, so that a COMMIT which
fails, or a savepoint that is rolled back, never leaves data under a key that is not in the key store.
"""

import bisect
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.binding import Binding
from sa_keyvault.envelope import Layouts, Opener, Sealer
from sa_keyvault.errors import (
    ConfigurationError,
    EncodingError,
    KeyNotFoundError,
    KeyStoreError,
    UnsupportedStatementError,
)
from sa_keyvault.installation import InstallationKey
from sa_keyvault.keyring.keys import KeySet, number_in
from sa_keyvault.keyring.making import make_working
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.startup import load_keys
from sa_keyvault.keyring.transaction import TransactionState, find_state, state_of
from sa_keyvault.keyring.usage import Usage
from sa_keyvault.records import WorkingRecord
from sa_keyvault.suites import Fips, Provisioning, Suite

if TYPE_CHECKING:
    from sa_keyvault.keyring.private import PrivateConnection

__all__ = ["Ring"]

_MISS_SECONDS = 1.0
_MAX_MISSES = 1024


class Ring:
    """The keys of one store, in one process.

    Args:
        installation_key: The root of all keys.
        provisioning: Algorithms of new keys.
        refresh_seconds: After how long a change of key states made elsewhere is noticed at the latest.
        working_keys_per_area: How many active keys share the new values of an area.
        usage_limit: How much a working key seals at most before a new one follows it, in the unit of its suite
            (messages, or blocks of 8 bytes for 3DES); never more than half of what the suite allows.
        fips: `"require"` refuses to start unless OpenSSL runs a FIPS provider, and refuses what is not approved.
    """

    def __init__(
        self,
        installation_key: InstallationKey,
        provisioning: Provisioning | None = None,
        refresh_seconds: float = 30.0,
        working_keys_per_area: int = 1,
        usage_limit: int | None = None,
        fips: Fips = "off",
    ) -> None:
        _require_positive(working_keys_per_area=working_keys_per_area, usage_limit=usage_limit)
        if refresh_seconds < 0:
            msg = f"refresh_seconds={refresh_seconds} is negative"
            raise ConfigurationError(msg)
        self.installation_key = installation_key
        self.policy: Policy = Policy(provisioning or Provisioning.default(), fips)
        self.refresh_seconds = refresh_seconds
        self.working_keys_per_area = working_keys_per_area
        self.usage_limit = usage_limit
        self._keys: KeySet | None = None
        self._private: PrivateConnection | None = None
        self._layouts: dict[tuple[str, Binding], Layouts] = {}
        self._sealers: dict[tuple[int, Binding], Sealer] = {}
        self._usage = Usage()
        self._worn: set[int] = set()
        self._uncommitted: dict[int, WorkingRecord] = {}
        self._unpublished: set[int] = set()
        self._misses: dict[int, float] = {}
        self._turn = itertools.count()
        self._attempt_at = self._deadline = 0.0

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.installation_key!r}>"

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
        return self._layouts.setdefault((area, binding), Layouts(partial(self._find_opener, area, binding)))

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
        """Look for a key that was committed since the last refresh; there is no connection at this place."""
        now = time.monotonic()
        if self._private is not None and self._misses.get(number, 0.0) <= now:
            private = self._private
            self._adopt(private.run(lambda connection: store.working(connection, [number])), private.run)
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

    # -- writing -------------------------------------------------------------------------------------------------

    def sealers(self, area: str, binding: Binding, sizes: Sequence[int], connection: Connection) -> Iterator[Sealer]:
        """Return an iterator over the sealers of plaintexts of these *sizes*, of one column, which is of *area*.

        Makes working keys and usage reservations where they are needed, on *connection* and in its transaction.

        Raises:
            sa_keyvault.EncodingError: A plaintext is too large for one key.
            sa_keyvault.KeyStateError: No master key is active.
        """
        parts = self._allot(area, sizes, connection)
        return itertools.chain.from_iterable(
            itertools.repeat(self._sealer(record, binding), share) for record, share in parts
        )

    def _allot(self, area: str, sizes: Sequence[int], connection: Connection) -> list[tuple[WorkingRecord, int]]:
        suite = self.policy.provisioning.working_suite
        costs = [suite.usage(size) for size in sizes]
        limit = self._limit(suite)
        _require_fit(area, suite, sizes, costs, limit)
        parts: list[tuple[WorkingRecord, int]] = []
        done = 0
        while done < len(costs):
            records = self._sealing_records(area, connection)
            first, share = next(self._turn), -(-(len(costs) - done) // len(records))
            for position in range(len(records)):
                record = records[(first + position) % len(records)]
                granted = self._grant(record, costs[done : done + share], limit, connection)
                parts.append((record, granted))
                done += granted
        return parts

    def _grant(self, record: WorkingRecord, costs: Sequence[int], limit: int, connection: Connection) -> int:
        """Return how many messages of these *costs*, from the first on, a key may still seal."""
        wanted = sum(costs)
        granted = self._usage.take(connection, str(record.number), wanted, limit)
        if granted == wanted:
            return len(costs)
        self._worn.add(record.number)
        return bisect.bisect_right(list(itertools.accumulate(costs)), granted)

    def _limit(self, suite: Suite) -> int:
        half = suite.usage_limit // 2
        return half if self.usage_limit is None else min(half, self.usage_limit)

    def _sealer(self, record: WorkingRecord, binding: Binding) -> Sealer:
        seal = self._sealers.get((record.number, binding))
        if seal is None:
            seal = self._require_keys().sealer(record, binding)
            if record.number not in self._uncommitted:
                self._sealers[record.number, binding] = seal
        return seal

    def _sealing_records(self, area: str, connection: Connection) -> list[WorkingRecord]:
        records = self._known_records(area, connection)
        if len(records) < self.working_keys_per_area:
            self._adopt_committed(area, connection)
            records = self._known_records(area, connection)
        missing = self.working_keys_per_area - len(records)
        return records + [self._create_working(area, connection) for _ in range(missing)]

    def _known_records(self, area: str, connection: Connection) -> list[WorkingRecord]:
        state = find_state(connection)
        own = [record for record in state.created.values() if record.area == area] if state else []
        records = [*self._require_keys().active(area), *own]
        return [record for record in records if record.number not in self._worn]

    def _adopt_committed(self, area: str, connection: Connection) -> None:
        """Take up keys of *area* that others have committed; those of this transaction are not committed."""
        records = store.working_in_area(connection, area)
        others = [record for record in records if record.area == area and record.number not in self._uncommitted]
        self._adopt(others, lambda work: work(connection))

    def _create_working(self, area: str, connection: Connection) -> WorkingRecord:
        suite, reserve = self.policy.provisioning.working_suite, partial(self._usage.take, connection)
        record = make_working(connection, self._require_keys(), area, suite, reserve)
        state_of(connection).created[record.number] = record
        self._uncommitted[record.number] = record
        return record

    # -- what other processes and transactions did ---------------------------------------------------------------

    def before_statement(self, connection: Connection) -> None:
        """Take up what has changed in the key store; next to nothing where nothing is due."""
        now = time.monotonic()
        if now < self._attempt_at and not self._unpublished:
            return
        if self._keys is None:
            # a statement that needs a key says so; others, such as those of create_all(), are none of the ring's
            return
        # others go on meanwhile with what is not yet too old, so that nobody waits for this thread
        self._attempt_at = now + self.refresh_seconds / 4
        self._read(connection, self._catch_up)

    def _read(self, connection: Connection, work: Callable[[Connection], None]) -> None:
        if self._private is None:
            work(connection)
            return
        try:
            self._private.run(work)
        except KeyStoreError:
            if connection.dialect.name == "sqlite":
                # the caller's own exclusive lock keeps the private connection out
                work(connection)
            elif time.monotonic() >= self._deadline:
                raise

    def _catch_up(self, connection: Connection) -> None:
        started = time.monotonic()
        keys = self._require_keys()
        row = store.store_row(connection)
        if row is None or row[0] != keys.store_id:
            msg = f"the key store {keys.store_id} is gone; restore it from a backup"
            raise KeyStoreError(msg)
        if row[1] != keys.version:
            self._use(load_keys(connection, self.installation_key, self.policy))
        self._publish(connection)
        self._attempt_at = started + self.refresh_seconds / 2
        self._deadline = started + self.refresh_seconds

    def _publish(self, connection: Connection) -> None:
        unpublished, self._unpublished = self._unpublished, set()
        if unpublished:
            self._adopt(store.working(connection, sorted(unpublished)), lambda work: work(connection))
        for number in unpublished:
            self._uncommitted.pop(number, None)

    def _adopt(self, records: list[WorkingRecord], run: Callable[[Callable[[Connection], KeySet]], KeySet]) -> None:
        if not all(self._require_keys().knows_master(record) for record in records):
            self._use(run(lambda connection: load_keys(connection, self.installation_key, self.policy)))
        for record in records:
            self._require_keys().add(record)

    def _use(self, keys: KeySet) -> None:
        self._keys = keys
        self._sealers.clear()
        self._worn.clear()
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
        self._usage.await_commit(state, store.existing_usage(connection, state.reservations))
        self._unpublished.update(state.created)

    def after_transaction(self, state: TransactionState | None) -> None:
        """Forget what a transaction made, whatever ended it."""
        if state is None:
            return
        self._usage.forget(state)
        if state.has_changed_keys:
            # at once in this process, be it committed or rolled back
            self._attempt_at = self._deadline = 0.0
        for number in state.created.keys() - self._unpublished:
            self._uncommitted.pop(number, None)


def _require_fit(area: str, suite: Suite, sizes: Sequence[int], costs: Sequence[int], limit: int) -> None:
    cost = max(costs, default=0)
    if cost <= limit:
        return
    size = sizes[costs.index(cost)]
    msg = (
        f"a value of {size} bytes uses {cost} of a {suite.name} key, more than the {limit} that one key is used for; "
        "store it in parts, or provision AES (`sa-keyvault provision`)"
    )
    raise EncodingError(msg, area=area, size=size)


def _require_positive(**values: Any) -> None:
    for name, value in values.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            msg = f"{name}={value!r} must be a whole number of at least 1"
            raise ConfigurationError(msg)
