"""When a process looks at its key store again, and what the store may have become since."""

import time

from sa_keyvault.errors import KeyStoreError
from sa_keyvault.ledger import StoreRecord

__all__ = ["Refreshing", "require_successor"]


class Refreshing:
    """The times of one ring; until the store was read once, it is due.

    Args:
        seconds: After how long a change of keys made elsewhere is noticed at the latest.

    Attributes:
        due_at: From when on somebody is to look, on the monotonic clock.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.due_at: float = 0.0
        self._deadline = 0.0

    @property
    def is_overdue(self) -> bool:
        """Whether what is known is too old to be used."""
        return time.monotonic() >= self._deadline

    def begin(self) -> None:
        """One looks now: others go on meanwhile, as long as what is known is not too old, so that nobody waits."""
        self.due_at = min(time.monotonic() + self._seconds / 4, self._deadline)

    def end(self, begun: float) -> None:
        """What is known is what the store had at that time."""
        self.due_at, self._deadline = begun + self._seconds / 2, begun + self._seconds

    def demand(self) -> None:
        """Have the next statement look, and none go on without."""
        self.due_at = self._deadline = 0.0

    def retry(self) -> None:
        """Have the next statement look."""
        self.due_at = 0.0


def require_successor(known: StoreRecord, found: StoreRecord | None) -> None:
    """Refuse a store that is not the known one in the same state or a later one; who signed it is asked elsewhere.

    Raises:
        sa_keyvault.KeyStoreError: It is not.
    """
    if found is None or found.store_id != known.store_id:
        msg = f"the key store {known.store_id} is gone; restore it from a backup"
        raise KeyStoreError(msg)
    if found.version == known.version and found != known:
        msg = (
            f"the key store has another content in version {found.version} than was read before: it was changed "
            "outside the library, or put back; restore the newest backup"
        )
        raise KeyStoreError(msg)
    if found.version < known.version:
        msg = (
            f"the key store went back from version {known.version} to {found.version}: an older one was put in its "
            "place; restore the newest backup"
        )
        raise KeyStoreError(msg)
