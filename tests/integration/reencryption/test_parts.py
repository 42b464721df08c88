"""Workers share the parts of a table: each part is one worker's, and a dead worker's is taken over (A-40)."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, update
from sqlalchemy.pool import NullPool
from support.jobs import CLAIMANTS, all_done, job_parts

from sa_keyvault import ReencryptionError, store
from sa_keyvault.reencryption import Pace, Progress, Report, reencrypt, reencrypting
from sa_keyvault.reencryption.batches import Converting
from sa_keyvault.reencryption.jobs import begin, run_rounds, work_off
from sa_keyvault.reencryption.parts import Parts
from sa_keyvault.reencryption.watch import Watch
from sa_keyvault.store.schema import job_table

TENS = Pace(batch_size=10, part_size=30, threads=1)


def parts_of(engine: Engine) -> Parts:
    """Return the parts of the job as a worker has them."""
    change = reencrypting(CLAIMANTS)
    return Parts(Converting(engine, change, lambda _: None), change, TENS.part_size)


def give_to(engine: Engine, owner: str, age: timedelta = timedelta(0)) -> None:
    """Make another worker the owner of all parts, which it last said so long ago."""
    changed = (datetime.now(UTC) - age).strftime("%Y-%m-%dT%H:%M:%SZ")
    with engine.begin() as connection:
        connection.execute(update(job_table).values(owner=owner, changed=changed))


def test_parts_cover_the_table(rotated: Engine, plain: Engine) -> None:
    """The parts follow each other without a gap, from before the first row to behind the last."""
    parts_of(rotated).begin()
    with plain.connect() as connection:
        assert [(part.after, part.until) for part in job_parts(connection)] == [
            ("", "[30]"),
            ("[30]", "[60]"),
            ("[60]", "[90]"),
            ("[90]", ""),
        ]


def test_two_jobs_share_the_work(rotated: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Two jobs that run at the same time do each row once between them."""
    ring = make_ring(refresh_seconds=0)
    other = make_engine(url, ring)
    ring.initialize(other)

    def work(engine: Engine) -> Report:
        return reencrypt(engine, CLAIMANTS, pace=TENS)

    with ThreadPoolExecutor(2) as executor:
        reports = list(executor.map(work, [rotated, other]))
    assert sum(report.rows for report in reports) == 100
    assert all_done(rotated)


def test_late_job(rotated: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A job that counted its rows before another did all of them does none again: it takes up the other's keys."""
    ring = make_ring(refresh_seconds=0)
    other = make_engine(url, ring)
    ring.initialize(other)
    change, watch = reencrypting(CLAIMANTS), Watch("late", TENS, None)
    late = Converting(other, change, watch.note_unreadable)
    begin(late, change, watch)
    assert reencrypt(rotated, CLAIMANTS, pace=TENS).rows == 100
    report = run_rounds(late, change, TENS, watch, lambda parts: work_off(late, parts, TENS, watch))
    assert (report.rows, report.is_finished) == (0, True)
    assert all_done(rotated)


def test_second_job_steps_aside(rotated: Engine) -> None:
    """A job that finds all parts in other hands writes nothing, and says so; set free, they are done."""
    others = parts_of(rotated)
    others.begin()
    claims = [others.claim() for _ in range(4)]
    report = reencrypt(rotated, CLAIMANTS, pace=TENS)
    assert (report.rows, report.others, report.is_finished) == (0, 4, False)
    assert claims[2] is not None
    others.release(claims[2])
    report = reencrypt(rotated, CLAIMANTS, pace=TENS)
    assert (report.rows, report.others, report.is_finished) == (30, 3, False)
    for claim in claims:
        assert claim is not None
        others.release(claim)
    report = reencrypt(rotated, CLAIMANTS, pace=TENS)
    assert (report.rows, report.others, report.is_finished) == (70, 0, True)
    assert all_done(rotated)


def test_part_of_a_dead_process(rotated: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A part of a process of this machine that was killed is taken over at once (A-39)."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring, poolclass=NullPool)
    ring.initialize(engine)
    child = os.fork()
    if not child:
        try:
            mine = parts_of(engine)
            mine.begin()
            mine.claim()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with engine.connect() as connection:
        assert [str(child), "", "", ""] == [
            part.owner.partition(":")[2].split(":")[0] for part in job_parts(connection)
        ]
    report = reencrypt(rotated, CLAIMANTS, pace=TENS)
    assert (report.rows, report.is_finished) == (100, True)
    assert all_done(rotated)


@pytest.mark.parametrize(("age", "rows"), [(timedelta(0), 0), (timedelta(hours=1), 100)])
def test_part_of_another_machine(rotated: Engine, plain: Engine, age: timedelta, rows: int) -> None:
    """A part of another machine is its own as long as it speaks, and free when it has been silent for long."""
    parts_of(rotated).begin()
    give_to(plain, "elsewhere:1:abcdef", age)
    report = reencrypt(rotated, CLAIMANTS, pace=TENS)
    assert (report.rows, report.others, report.is_finished) == (rows, 0 if rows else 4, bool(rows))


def test_worker_that_lost_its_part(rotated: Engine, plain: Engine) -> None:
    """A worker whose part was taken over stops, its batch is undone, and nothing is lost (A-40)."""

    def lose(_: Progress) -> None:
        give_to(plain, "elsewhere:1:abcdef")

    with pytest.raises(ReencryptionError, match="part 0 of the job was taken over by another worker"):
        reencrypt(rotated, CLAIMANTS, pace=TENS, on_progress=lose)
    with plain.connect() as connection:
        assert [(part.after, part.done_rows, part.owner) for part in job_parts(connection)][:1] == [
            ("[10]", 10, "elsewhere:1:abcdef")
        ]
    give_to(plain, "")
    assert reencrypt(rotated, CLAIMANTS, pace=TENS).rows == 90
    assert all_done(rotated)


def test_parts_of_another_size(rotated: Engine, plain: Engine) -> None:
    """A job that was begun with parts of one size goes on with them, whatever size the next run asks for."""

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reencrypt(rotated, CLAIMANTS, pace=TENS, on_progress=stop)
    assert reencrypt(rotated, CLAIMANTS, pace=Pace(part_size=7, threads=1)).rows == 90
    assert all_done(rotated)


def test_part_that_was_done_meanwhile(rotated: Engine, plain: Engine) -> None:
    """A part that another worker has claimed, done and finished within the same second is not claimed again."""
    parts = parts_of(rotated)
    parts.begin()
    with plain.connect() as connection:
        (stale, *_) = store.job_parts(connection, reencrypting(CLAIMANTS).job_id)
    claim = parts.claim()
    assert claim is not None
    parts.finish(claim)
    with plain.begin() as connection:
        connection.execute(update(job_table).values(changed=stale.changed))
        assert not store.claim_part(connection, stale, "elsewhere:1:abcdef", stale.changed)
