"""Which working key seals which values: they take turns, each up to its limit; one that is worn is passed over."""

import bisect
import itertools
from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import EncodingError
from sa_keyvault.keyring.transaction import find_state, state_of
from sa_keyvault.keyring.usage import Usage
from sa_keyvault.records import WorkingRecord
from sa_keyvault.suites import Suite

__all__ = ["Allotting"]

_SHARES = 16  # transactions that may overdraw a key at the same time, without reaching the limit of its suite


class Allotting:
    """Allots the working keys of one ring to the values that it seals.

    Args:
        suite: Of the keys that seal.
        limit: How much one of them is used at most, in the unit of the suite.
        usage: Of the ring's keys.
    """

    def __init__(self, suite: Suite, limit: int, usage: Usage) -> None:
        self._suite = suite
        self._limit = limit
        # the other half of the limit is the margin for many transactions
        self._share: int = max(1, suite.usage_limit // 2 // _SHARES)
        self._usage = usage
        self._worn: set[int] = set()
        self._measured: set[str] = set()
        self._turn = itertools.count()

    def allot(
        self, area: str, sizes: Sequence[int], connection: Connection, find: Callable[[], Sequence[WorkingRecord]]
    ) -> list[tuple[WorkingRecord, int]]:
        """Return keys for plaintexts of these *sizes*, in their order, each with how many of them it seals.

        Args:
            area: Of the values.
            sizes: In bytes.
            connection: The caller's connection; usage is reserved in its transaction.
            find: Returns the keys that may seal now, at least one; it is called again when they are spent.

        Raises:
            sa_keyvault.EncodingError: A plaintext is too large for one key.
        """
        costs = [self._suite.usage(size) for size in sizes]
        self._require_fit(area, sizes, costs)
        parts: list[tuple[WorkingRecord, int]] = []
        done = 0
        while done < len(costs):
            records = find()
            first, share = next(self._turn), -(-(len(costs) - done) // len(records))
            for position in range(len(records)):
                record = records[(first + position) % len(records)]
                granted = self._grant(record, costs[done : done + share], connection)
                parts.append((record, granted))
                done += granted
        return parts

    def _require_fit(self, area: str, sizes: Sequence[int], costs: Sequence[int]) -> None:
        cost = max(costs, default=0)
        if cost <= self._limit:
            return
        size = sizes[costs.index(cost)]
        msg = (
            f"a value of {size} bytes uses {cost} of a {self._suite.name} key, more than the {self._limit} that one "
            "key is used for; store it in parts, or provision AES (`sa-keyvault provision`)"
        )
        raise EncodingError(msg, area=area, size=size)

    def _grant(self, record: WorkingRecord, costs: Sequence[int], connection: Connection) -> int:
        """Return how many messages of these *costs*, from the first on, a key may still seal."""
        wanted = sum(costs)
        state = find_state(connection)
        # nobody else knows a key that was made in this transaction
        share = self._limit if state is not None and record.number in state.created else self._share
        granted, is_worn = self._usage.take(connection, str(record.number), wanted, self._limit, share)
        if granted == wanted:
            return len(costs)
        if is_worn:
            self._worn.add(record.number)
        state_of(connection).spent.add(record.number)
        return bisect.bisect_right(list(itertools.accumulate(costs)), granted)

    def unspent(self, records: Sequence[WorkingRecord], connection: Connection) -> list[WorkingRecord]:
        """Return those of *records* that the transaction of *connection* may use on."""
        state = find_state(connection)
        out = self._worn | state.spent if state else self._worn
        return [record for record in records if record.number not in out]

    def measure(self, area: str, active: Sequence[WorkingRecord], connection: Connection) -> None:
        """Find the worn ones among many keys of *area* by one query, where each would be asked for in its turn."""
        if area in self._measured:
            return
        used = store.total_usage(connection)
        spent = [record.number for record in active if used.get(str(record.number), 0) >= self._limit]
        self._worn |= {number for number in spent if not self._usage.has_left(str(number))}
        self._measured.add(area)

    def clear(self) -> None:
        """Measure anew: other keys may be active now."""
        self._worn.clear()
        self._measured.clear()
