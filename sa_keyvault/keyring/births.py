"""Which working keys an installation key has made: the audit events of their creation."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.ledger import Event, StoreRecord, chained, reason_of_birth

__all__ = ["Births"]

_PORTION = 10_000  # events


class Births:
    """The births of one store's working keys, as they are signed.

    Args:
        connection: Where the key store is; inside `locked`.
        record: The store's own record, which is verified.
        is_genuine: Whether an installation key that opens the store now has signed an event.
    """

    def __init__(self, connection: Connection, record: StoreRecord, is_genuine: Callable[[Event], bool]) -> None:
        self._connection = connection
        self._record = record
        self._is_genuine = is_genuine

    def among(self, numbers: Iterable[int]) -> set[int]:
        """Return those of *numbers* whose creation an installation key has signed, of one that has left, too."""
        found = store.births(self._connection, list(numbers))
        return {int(event.subject) for event in found if self._is_vouched(event)}

    def in_area(self, area: str) -> set[int]:
        """Return the numbers of the working keys that were made for an area; nothing is verified."""
        return store.born_for(self._connection, reason_of_birth(area))

    @cached_property
    def is_chain_whole(self) -> bool:
        """Whether every linked event is there, as it was linked: then members have signed them all."""
        chain = replace(self._record, events=0, head="")
        for first in range(1, self._record.events + 1, _PORTION):
            last = min(first + _PORTION - 1, self._record.events)
            for event in store.linked_events(self._connection, first, last):
                chain, linked = chained(chain, event)
                if linked != event:
                    return False
        return (chain.events, chain.head) == (self._record.events, self._record.head)

    def _is_vouched(self, event: Event) -> bool:
        if self._is_genuine(event):
            return True
        is_linked = event.number is not None and 1 <= event.number <= self._record.events
        return is_linked and self.is_chain_whole
