"""What a run of a job says of itself: how far it is, what it did, and that it keeps to its pace."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sa_keyvault.errors import ReencryptionError
from sa_keyvault.reencryption.batches import Batch, Pace, Unreadable

if TYPE_CHECKING:
    from sa_keyvault.reencryption.rowkeys import RowKey

__all__ = ["OnProgress", "Progress", "Report", "Watch"]


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        name: The job in words.
        rows: How many rows this run has written.
        total: How many rows were to be written when it began, as far as the key numbers tell.
        seconds: How long it has run.
    """

    name: str
    rows: int
    total: int
    seconds: float


@dataclass(frozen=True)
class Report:
    """What a job did.

    Attributes:
        name: The job in words.
        rows: How many rows this run has written; in an examination: how many are to be written.
        is_finished: Whether nothing is left to be done.
        others: How many parts of the table other workers are at.
        unreadable: The values that do not open, as they are.
        seconds: How long it took.
    """

    name: str
    rows: int
    is_finished: bool
    others: int
    unreadable: tuple[Unreadable, ...]
    seconds: float


OnProgress = Callable[[Progress], None]


class Watch:
    """Counts what the threads of a run do, says so from one of them at a time, and holds them to their pace."""

    def __init__(self, name: str, pace: Pace, on_progress: OnProgress | None) -> None:
        self._name = name
        self._pace = pace
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._unreadable: dict[tuple[str, RowKey], Unreadable] = {}
        self._total = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.rows: int = 0

    def begin(self, total: int) -> None:
        """Take note of how many rows are to be written."""
        self._total = total

    @property
    def unreadable_rows(self) -> int:
        """How many rows have a value that does not open."""
        return len({key for _, key in self._unreadable})

    @property
    def seconds(self) -> float:
        """How long the run has taken."""
        return time.monotonic() - self._started

    @property
    def is_over(self) -> bool:
        """Whether the time is up, or the run was stopped."""
        return self._stopped.is_set() or self._is_late

    @property
    def _is_late(self) -> bool:
        return self._pace.seconds is not None and self.seconds >= self._pace.seconds

    def stop(self) -> None:
        """Let every thread come to its end after the batch at hand."""
        self._stopped.set()

    def note_unreadable(self, found: Sequence[Unreadable]) -> None:
        """Count values that do not open.

        Raises:
            sa_keyvault.ReencryptionError: There are too many.
        """
        if not found:
            return
        with self._lock:
            self._unreadable |= {(one.column, one.key): one for one in found}
            count = len(self._unreadable)
        if count > self._pace.unreadable_limit:
            first = found[0]
            msg = (
                f"{count} values do not open, the first of them in column {first.column!r}: "
                f"{first.reason}; all that was written is kept: mend them, or raise unreadable_limit to pass them over"
            )
            raise ReencryptionError(msg)

    def set_rows(self, rows: int) -> None:
        """Take over how many rows others have written."""
        with self._lock:
            self.rows = rows
            self._say()

    def note(self, batch: Batch) -> None:
        """Count a batch, and wait where the pace wants it."""
        with self._lock:
            self.rows += batch.rows
            self._say()
        if self._pace.rows_per_second is not None:
            self._stopped.wait(max(0.0, self.rows / self._pace.rows_per_second - self.seconds))

    def _say(self) -> None:
        if self._on_progress is not None:
            self._on_progress(Progress(self._name, self.rows, max(self._total, self.rows), self.seconds))

    def report(self, *, is_finished: bool, others: int) -> Report:
        """Return what the run did."""
        finished = is_finished and not self._unreadable
        return Report(self._name, self.rows, finished, others, tuple(self._unreadable.values()), self.seconds)
