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
from typing import NamedTuple

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.keyring.transaction import TransactionState, state_of
from sa_keyvault.records import new_id

__all__ = ["Grant", "Usage", "reserve"]

_FIRST_PORTION = 2**8
_LARGEST_PORTION = 2**16


class Grant(NamedTuple):
    """What may be used of a key now.

    Attributes:
        amount: How much, at most what was wanted.
        is_worn: Whether it is less because nothing is left of the key; else the transaction has had its share.
    """

    amount: int
    is_worn: bool


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

    def take(self, connection: Connection, key_id: str, wanted: int, limit: int, share: int) -> Grant:
        """Take of what a key may still be used.

        Args:
            connection: The caller's connection; a reservation becomes part of its transaction.
            key_id: Number of a working key in decimal, or id of a master key.
            wanted: How much it is to be used now.
            limit: How much it may be used in all.
            share: How much one transaction may reserve: others do not see it before it is committed, so that
                many at once could overdraw the key.
        """
        if os.getpid() != self._process:
            # a forked child that counted on within its parent's portion would spend it twice
            self._start()
        granted = self._from_portion(key_id, wanted)
        if granted == wanted:
            return Grant(granted, is_worn=False)
        is_worn = self._reserve(connection, key_id, wanted - granted, limit, share)
        granted += self._from_portion(key_id, wanted - granted)
        return Grant(granted, is_worn and granted < wanted)

    def has_left(self, key_id: str) -> bool:
        """Whether this process has reserved use of a key that it has not spent."""
        with self._lock:
            return self._left[key_id] > 0

    def _from_portion(self, key_id: str, wanted: int) -> int:
        with self._lock:
            granted = min(wanted, self._left[key_id])
            self._left[key_id] -= granted
        return granted

    def _reserve(self, connection: Connection, key_id: str, needed: int, limit: int, share: int) -> bool:
        """Reserve a portion; return whether nothing is left of the key afterwards."""
        self._settle(connection)
        used = store.usage(connection, key_id)
        reservations = state_of(connection).reservations
        own = sum(amount for reserved, amount in reservations.values() if reserved == key_id)
        with self._lock:
            lost = self._lost.pop(key_id, 0)
            size = max(self._portion[key_id], needed)
            self._portion[key_id] = min(self._portion[key_id] * 2, _LARGEST_PORTION)
        amount = max(0, min(size, limit - used - lost, share - own))
        if amount + lost:
            self._write(connection, reservations, key_id, amount + lost)
        with self._lock:
            self._left[key_id] += amount
        return used + lost + amount >= limit

    @staticmethod
    def _write(connection: Connection, reservations: dict[str, tuple[str, int]], key_id: str, amount: int) -> None:
        reservation = new_id()
        store.add_usage(connection, reservation, key_id, amount)
        reservations[reservation] = (key_id, amount)

    def before_commit(self, connection: Connection, state: TransactionState) -> None:
        """Write down what a transaction has spent that is about to be committed; the COMMIT may still fail.

        Reservations that were rolled back to a savepoint are written again, and so is what others have lost.

        Args:
            connection: The transaction's.
            state: The transaction's; it has no reservations afterwards.
        """
        gone = state.reservations.keys() - store.existing_usage(connection, state.reservations)
        for id_ in gone:
            store.add_usage(connection, id_, *state.reservations[id_])
        with self._lock:
            lost, self._lost = self._lost, defaultdict(int)
        for key_id, amount in lost.items():
            self._write(connection, state.reservations, key_id, amount)
        with self._lock:
            self._awaited.update(state.reservations)
            state.reservations.clear()

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
    if not wanted or store.usage(connection, key_id) + wanted > limit:
        return 0
    store.add_usage(connection, new_id(), key_id, wanted)
    return wanted
