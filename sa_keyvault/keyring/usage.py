"""How many messages each working key has sealed, over all processes.

A process reserves messages in blocks, on the caller's connection and in the caller's transaction, and counts within
its block in memory. The library stops at half of a suite's limit: the other half is the margin for blocks
that other transactions have reserved and not committed.
"""

import os
import threading
from collections import defaultdict

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.keyring.transaction import TransactionState, state_of
from sa_keyvault.records import new_id

__all__ = ["Usage"]

_FIRST_BLOCK = 2**8
_LARGEST_BLOCK = 2**16


class Usage:
    """The blocks that this process has reserved.

    No lock is held while the database is asked: a thread that waits for the database must not stop one
    that would let it go on.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._left: defaultdict[int, int] = defaultdict(int)
        self._block: defaultdict[int, int] = defaultdict(lambda: _FIRST_BLOCK)
        self._lost: defaultdict[int, int] = defaultdict(int)
        self._awaited: dict[str, tuple[int, int]] = {}

    def take(self, connection: Connection, number: int, wanted: int, limit: int) -> int:
        """Return how many of *wanted* messages working key *number* may still seal.

        Args:
            connection: The caller's connection; a reservation becomes part of its transaction.
            number: Working key.
            wanted: Messages to seal now.
            limit: Messages that the key may seal in all.
        """
        if os.getpid() != self._process:
            # a forked child that counted on within its parent's block would spend it twice
            self._start()
        granted = self._from_block(number, wanted)
        if granted < wanted:
            self._reserve(connection, number, wanted - granted, limit)
            granted += self._from_block(number, wanted - granted)
        return granted

    def _from_block(self, number: int, wanted: int) -> int:
        with self._lock:
            granted = min(wanted, self._left[number])
            self._left[number] -= granted
        return granted

    def _reserve(self, connection: Connection, number: int, needed: int, limit: int) -> None:
        self._settle(connection)
        with self._lock:
            lost = self._lost.pop(number, 0)
            size = max(self._block[number], needed)
            self._block[number] = min(self._block[number] * 2, _LARGEST_BLOCK)
        messages = max(0, min(size, limit - store.usage(connection, number) - lost))
        if messages + lost:
            reservation = new_id()
            store.add_usage(connection, reservation, number, messages + lost)
            state_of(connection).reservations[reservation] = (number, messages + lost)
        with self._lock:
            self._left[number] += messages

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
        """Count the reservations of a transaction that did not last: their messages are spent all the same."""
        with self._lock:
            for number, messages in state.reservations.values():
                self._lost[number] += messages
            state.reservations.clear()

    def _settle(self, connection: Connection) -> None:
        """Look which awaited reservations were committed; those that were not are lost."""
        with self._lock:
            awaited, self._awaited = self._awaited, {}
        if not awaited:
            return
        kept = store.existing_usage(connection, awaited)
        with self._lock:
            for id_, (number, messages) in awaited.items():
                if id_ not in kept:
                    self._lost[number] += messages
