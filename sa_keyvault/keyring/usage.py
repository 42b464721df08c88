"""How much each key has been used, over all processes: values sealed by working keys, keys wrapped by master keys.

Usage is counted in the unit of the key's suite, messages or blocks. A process reserves it in portions, on the
caller's connection and in the caller's transaction, and counts within its portion in memory. The library stops at
half of a suite's limit: the other half is the margin for portions that other transactions have reserved and not
committed.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.keyring.transaction import TransactionState, state_of
from sa_keyvault.records import new_id

__all__ = ["Usage", "reserve"]

_FIRST_PORTION = 2**8
_LARGEST_PORTION = 2**16


class Usage:
    """The portions that this process has reserved.

    No lock is held while the database is asked: a thread that waits for the database must not stop one
    that would let it go on.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._left: defaultdict[str, int] = defaultdict(int)
        self._portion: defaultdict[str, int] = defaultdict(lambda: _FIRST_PORTION)
        self._lost: defaultdict[str, int] = defaultdict(int)
        self._awaited: dict[str, tuple[str, int]] = {}

    def take(self, connection: Connection, key_id: str, wanted: int, limit: int) -> int:
        """Return how much of the use that is *wanted* a key still has.

        Args:
            connection: The caller's connection; a reservation becomes part of its transaction.
            key_id: Number of a working key in decimal, or id of a master key.
            wanted: How much it is to be used now.
            limit: How much it may be used in all.
        """
        if os.getpid() != self._process:
            # a forked child that counted on within its parent's portion would spend it twice
            self._start()
        granted = self._from_portion(key_id, wanted)
        if granted < wanted:
            self._reserve(connection, key_id, wanted - granted, limit)
            granted += self._from_portion(key_id, wanted - granted)
        return granted

    def _from_portion(self, key_id: str, wanted: int) -> int:
        with self._lock:
            granted = min(wanted, self._left[key_id])
            self._left[key_id] -= granted
        return granted

    def _reserve(self, connection: Connection, key_id: str, needed: int, limit: int) -> None:
        self._settle(connection)
        with self._lock:
            lost = self._lost.pop(key_id, 0)
            size = max(self._portion[key_id], needed)
            self._portion[key_id] = min(self._portion[key_id] * 2, _LARGEST_PORTION)
        amount = max(0, min(size, limit - store.usage(connection, key_id) - lost))
        if amount + lost:
            reservation = new_id()
            store.add_usage(connection, reservation, key_id, amount + lost)
            state_of(connection).reservations[reservation] = (key_id, amount + lost)
        with self._lock:
            self._left[key_id] += amount

    def await_commit(self, state: TransactionState, written: set[str]) -> None:
        """Take the reservations of a transaction that is about to be committed; the COMMIT may still fail.

        Args:
            state: The transaction's; it has no reservations afterwards.
            written: Ids of those that it still has; the others were rolled back to a savepoint.
        """
        with self._lock:
            self._awaited.update({id_: state.reservations.pop(id_) for id_ in written})
        self.forget(state)

    def forget(self, state: TransactionState) -> None:
        """Count the reservations of a transaction that did not last: their use is spent all the same."""
        with self._lock:
            for key_id, amount in state.reservations.values():
                self._lost[key_id] += amount
            state.reservations.clear()

    def lost(self) -> dict[str, int]:
        """Return the use of each key that was spent in transactions which did not last, and is written nowhere."""
        with self._lock:
            return {key_id: amount for key_id, amount in self._lost.items() if amount}

    def wrote(self, lost: Mapping[str, int]) -> None:
        """Take note that what was *lost* is written now."""
        with self._lock:
            for key_id, amount in lost.items():
                self._lost[key_id] -= amount

    def _settle(self, connection: Connection) -> None:
        """Look which awaited reservations were committed; those that were not are lost."""
        with self._lock:
            awaited, self._awaited = self._awaited, {}
        if not awaited:
            return
        kept = store.existing_usage(connection, awaited)
        with self._lock:
            for id_, (key_id, amount) in awaited.items():
                if id_ not in kept:
                    self._lost[key_id] += amount


def reserve(connection: Connection, key_id: str, wanted: int, limit: int) -> int:
    """Reserve exactly what is *wanted*, or nothing where the key has less left; for operations that run alone.

    Returns:
        How much is reserved.
    """
    if store.usage(connection, key_id) + wanted > limit:
        return 0
    store.add_usage(connection, new_id(), key_id, wanted)
    return wanted
