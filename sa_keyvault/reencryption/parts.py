"""Who does which part of a table: parts are claimed, moved along and finished in the key store."""

import datetime
import os
import secrets
import socket
from dataclasses import dataclass, replace

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from sa_keyvault import store
from sa_keyvault.errors import ReencryptionError
from sa_keyvault.records import timestamp
from sa_keyvault.reencryption.batches import Converting
from sa_keyvault.reencryption.changes import TableChange
from sa_keyvault.reencryption.rowkeys import RowKey, key_from_text, key_to_text

__all__ = ["Claim", "Parts"]

_STALE_SECONDS = 120  # after which a part whose owner says nothing is free


@dataclass(frozen=True)
class Claim:
    """A part of a table that is this worker's.

    Attributes:
        row: Its checkpoint.
    """

    row: store.JobPart

    @property
    def after(self) -> RowKey | None:
        """The key after which the work goes on."""
        return key_from_text(self.row.after)

    @property
    def until(self) -> RowKey | None:
        """The last key of the part."""
        return key_from_text(self.row.until)

    def move(self, connection: Connection, last: RowKey, rows: int) -> "Claim":
        """Write that all rows up to *last* are done, in the transaction that wrote them.

        Raises:
            sa_keyvault.ReencryptionError: Another worker has taken the part, because this one was silent for too long.
        """
        after, done, now = key_to_text(last), self.row.done_rows + rows, timestamp()
        if not store.move_part(connection, self.row, after, done, now):
            msg = f"part {self.row.part} of the job was taken over by another worker; this batch is its work now"
            raise ReencryptionError(msg)
        return Claim(replace(self.row, after=after, done_rows=done, changed=now))


class Parts:
    """The parts of one job.

    Args:
        work: Runs the statements.
        change: The job.
        part_size: How many rows a part has.
    """

    def __init__(self, work: Converting, change: TableChange, part_size: int) -> None:
        self._work = work
        self._change = change
        self._part_size = part_size
        self._owner = f"{socket.gethostname()[:80]}:{os.getpid()}:{secrets.token_hex(8)}"

    def begin(self) -> None:
        """Cut the table into parts, unless the job has begun before: then it goes on."""
        with self._work.transaction() as connection:
            if store.job_parts(connection, self._change.job_id):
                return
        ends = [key_to_text(key) for key in self._work.ends(self._part_size)]
        ranges = zip(["", *ends], [*ends, ""], strict=True)
        rows = [
            store.JobPart(self._change.job_id, number, str(self._change)[:255], after, until, 0, False, "", timestamp())  # noqa: FBT003 - a record's field
            for number, (after, until) in enumerate(ranges)
        ]
        try:
            with self._work.transaction() as connection:
                store.add_parts(connection, rows)
        except IntegrityError:
            # another began at the same moment
            return

    def claim(self) -> Claim | None:
        """Take a part that nobody is at; None where there is none."""
        while True:
            with self._work.transaction() as connection:
                free = next(filter(_is_free, store.job_parts(connection, self._change.job_id)), None)
                if free is None:
                    return None
                now = timestamp()
                if store.claim_part(connection, free, self._owner, now):
                    return Claim(replace(free, owner=self._owner, changed=now))

    def finish(self, claim: Claim) -> None:
        """Write that a part is done."""
        with self._work.transaction() as connection:
            store.finish_part(connection, claim.row, claim.row.done_rows, timestamp())

    def release(self, claim: Claim) -> None:
        """Let others go on with a part."""
        with self._work.transaction() as connection:
            store.release_part(connection, claim.row)

    def done_rows(self) -> int:
        """Return how many rows all workers have written."""
        return sum(part.done_rows for part in self._all())

    def unfinished(self) -> int:
        """Return how many parts are not done."""
        return sum(not part.is_finished for part in self._all())

    def others(self) -> int:
        """Return how many parts others are at."""
        return sum(bool(part.owner) and not part.is_finished for part in self._all())

    def _all(self) -> list[store.JobPart]:
        with self._work.transaction() as connection:
            return store.job_parts(connection, self._change.job_id)

    def forget(self) -> bool:
        """Forget the job if all of it is done; return whether it is."""
        with self._work.transaction() as connection:
            parts = store.job_parts(connection, self._change.job_id)
            if not all(part.is_finished for part in parts):
                return False
            store.delete_job(connection, self._change.job_id)
            return True


def _is_free(part: store.JobPart) -> bool:
    if part.is_finished:
        return False
    return not part.owner or _is_stale(part.changed) or _is_dead(part.owner)


def _is_stale(changed: str) -> bool:
    silent = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(changed)
    return silent.total_seconds() > _STALE_SECONDS


def _is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that is no more.

    Who is held for dead by mistake loses its part, and no work: every write compares first.
    """
    host, process, _ = owner.rsplit(":", 2)
    if host != socket.gethostname()[:80]:
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False
