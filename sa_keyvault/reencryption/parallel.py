"""A job by several workers of any executor: threads, processes, or those of a cluster.

A worker is sent the names of two functions, and opens engine and key ring by itself: no key travels.
"""

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, BrokenExecutor, Executor, wait
from dataclasses import replace

from sqlalchemy import Engine

from sa_keyvault.errors import ConfigurationError, ReencryptionError
from sa_keyvault.reencryption.batches import Converting, Pace
from sa_keyvault.reencryption.changes import TableChange
from sa_keyvault.reencryption.jobs import begin, run_rounds, work_off
from sa_keyvault.reencryption.parts import Parts
from sa_keyvault.reencryption.watch import OnProgress, Report, Watch

__all__ = ["run_in_parallel"]

_POLL_SECONDS = 0.5


def run_in_parallel(
    connect: Callable[[], Engine],
    make_change: Callable[[], TableChange],
    executor: Executor,
    workers: int,
    pace: Pace | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Do a job with several workers, each of which takes one part of the table after the other.

    Args:
        connect: A function of a module, which a worker can import; it returns an engine with a key ring that is
            initialized. The worker disposes of it.
        make_change: Another one, which returns what is to be done, for instance `reencrypting(Claimant.__table__)`.
        executor: Whose workers do it.
        workers: How many.
        pace: How fast all of them together go.
        on_progress: Called now and then.

    Raises:
        sa_keyvault.ReencryptionError: A worker was lost, or as for `reencrypt`. What was committed is whole, and the
            next run goes on behind it.
    """
    if workers < 1:
        msg = f"workers={workers!r} must be at least 1"
        raise ConfigurationError(msg)
    pace = pace or Pace()
    share = pace.rows_per_second
    own = replace(pace, rows_per_second=None if share is None else share / workers)
    engine, change = connect(), make_change()
    try:
        watch = Watch(str(change), pace, on_progress)
        work = Converting(engine, change, watch.note_unreadable)
        begin(work, change, watch)
        tasks = [(connect, make_change, own)] * workers
        return run_rounds(work, change, pace, watch, lambda parts: _run(executor, tasks, parts, watch))
    finally:
        engine.dispose()


def _run(
    executor: Executor,
    tasks: list[tuple[Callable[[], Engine], Callable[[], TableChange], Pace]],
    parts: Parts,
    watch: Watch,
) -> None:
    before, pending = watch.rows, {executor.submit(_work, *task) for task in tasks}
    already = parts.done_rows()
    try:
        while pending:
            done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_EXCEPTION)
            watch.set_rows(before + max(0, parts.done_rows() - already))
            for future in done:
                watch.note_unreadable(future.result().unreadable)
    except BrokenExecutor:
        lost = True
    else:
        return
    finally:
        for future in pending:
            future.cancel()
    if lost:
        msg = "a worker was lost; what was committed is whole: run the job again, and it goes on behind it"
        raise ReencryptionError(msg)


def _work(connect: Callable[[], Engine], make_change: Callable[[], TableChange], pace: Pace) -> Report:
    engine, change = connect(), make_change()
    try:
        watch = Watch(str(change), pace, None)
        work = Converting(engine, change, watch.note_unreadable)
        work_off(work, Parts(work, change, pace.part_size), pace, watch)
        return watch.report(is_finished=True, others=0)
    finally:
        engine.dispose()
