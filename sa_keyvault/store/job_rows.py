"""Checkpoints of jobs: how far each part of a table is, and who is at it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select, update

from sa_keyvault.store.access import execute, values_of
from sa_keyvault.store.reading import records
from sa_keyvault.store.schema import job_table

__all__ = [
    "JobPart",
    "add_parts",
    "claim_part",
    "delete_job",
    "finish_part",
    "job_parts",
    "move_part",
    "release_part",
]


@dataclass(frozen=True)
class JobPart:
    """A range of a table's keys that one worker at a time walks through.

    Attributes:
        job_id: What the job does, and to which table, as a digest.
        part: Number of the part, from 0.
        name: The job in words.
        after: The key after which the work goes on, as JSON; empty: from the first row.
        until: The last key of the part, as JSON; empty: to the last row.
        done_rows: How many rows were written.
        is_finished: Whether all of it is done.
        owner: Who is at it; empty: nobody.
        changed: When the owner last said so, UTC.
    """

    job_id: str
    part: int
    name: str
    after: str
    until: str
    done_rows: int
    is_finished: bool
    owner: str
    changed: str


def job_parts(connection: Connection, job_id: str) -> list[JobPart]:
    """Return the parts of a job, in order; none where it has not begun, or is finished."""
    statement = select(job_table).where(job_table.c.job_id == job_id).order_by(job_table.c.part)
    return list(records(JobPart, job_table, execute(connection, statement)))


def add_parts(connection: Connection, parts: Sequence[JobPart]) -> None:
    """Write the parts of a job that begins."""
    execute(connection, insert(job_table), [dict(values_of(part)) for part in parts])


def claim_part(connection: Connection, part: JobPart, owner: str, now: str) -> bool:
    """Take a part as it was read; return whether nobody else has taken it meanwhile."""
    # all that changes: within one second it may have been claimed, moved and finished
    same = [job_table.c[name] == getattr(part, name) for name in ("owner", "changed", "after", "is_finished")]
    return _update(connection, and_(_is(part), *same), owner=owner, changed=now)


def move_part(connection: Connection, part: JobPart, after: str, done_rows: int, now: str) -> bool:
    """Write how far the owner of a part is; return whether it is still the owner."""
    return _update(connection, _own(part), after=after, done_rows=done_rows, changed=now)


def finish_part(connection: Connection, part: JobPart, done_rows: int, now: str) -> bool:
    """Write that a part is done; return whether its owner is still the owner."""
    return _update(connection, _own(part), is_finished=True, owner="", done_rows=done_rows, changed=now)


def release_part(connection: Connection, part: JobPart) -> bool:
    """Let others go on with a part; return whether its owner was still the owner."""
    return _update(connection, _own(part), owner="")


def delete_job(connection: Connection, job_id: str) -> None:
    """Forget a job."""
    execute(connection, delete(job_table).where(job_table.c.job_id == job_id))


def _is(part: JobPart) -> ColumnElement[bool]:
    return and_(job_table.c.job_id == part.job_id, job_table.c.part == part.part)


def _own(part: JobPart) -> ColumnElement[bool]:
    return and_(_is(part), job_table.c.owner == part.owner)


def _update(connection: Connection, criterion: ColumnElement[bool], **values: object) -> bool:
    return execute(connection, update(job_table).where(criterion).values(values)).rowcount == 1
