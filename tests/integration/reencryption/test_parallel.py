"""A job by several processes, of this machine or of a cluster, and one of them is killed (A-39, A-40)."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import pytest
from distributed import Client, LocalCluster
from sqlalchemy import Engine, Integer
from support.jobs import CLAIMANTS, all_done, claimant, job_parts, open_values, raw_values, set_raw
from support.workers import change

from sa_keyvault import ConfigurationError, ReencryptionError
from sa_keyvault.reencryption import Pace, Progress, Report, TableChange, run, run_in_parallel

Connect = Callable[[], Engine]
FAST = Pace(batch_size=10, part_size=20)
SLOW = Pace(batch_size=5, part_size=20, rows_per_second=12)


@pytest.fixture
def processes() -> Iterator[Executor]:
    """Two processes of this machine."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        yield executor


@pytest.fixture
def cluster() -> Iterator[Client]:
    """A cluster of two worker processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


class Killer:
    """A callback that kills the worker of one part, as soon as some rows are written."""

    def __init__(self, plain: Engine) -> None:
        self._plain = plain
        self.killed: list[int] = []

    def __call__(self, progress: Progress) -> None:
        if self.killed or not progress.rows:
            return
        with self._plain.connect() as connection:
            owners = [part.owner for part in job_parts(connection) if part.owner]
        for owner in owners[:1]:
            self.killed.append(int(owner.split(":")[-2]))
            os.kill(self.killed[0], signal.SIGKILL)


def run_two(connector: Connect, executor: Executor, pace: Pace, on_progress: Callable[[Progress], None]) -> Report:
    """Run the job with two workers."""
    return run_in_parallel(connector, change, executor, 2, pace, on_progress)


def test_several_processes(connector: Connect, rotated: Engine, processes: Executor) -> None:
    """Two processes do a table between them, and progress is told in one place."""
    heard: list[Progress] = []
    report = run_two(connector, processes, FAST, heard.append)
    assert (report.rows, report.is_finished, report.unreadable) == (100, True, ())
    assert heard[-1].rows == heard[-1].total == 100
    assert all_done(rotated)


def test_worker_is_killed(connector: Connect, rotated: Engine, plain: Engine, processes: Executor) -> None:
    """A process that is killed in the middle ends the run with an error; another run does what is left."""
    killer = Killer(plain)
    with pytest.raises(ReencryptionError, match="a worker was lost"):
        run_two(connector, processes, SLOW, killer)
    # the other process is ended only after the error is told, and may write until then
    processes.shutdown()
    assert len(killer.killed) == 1
    with rotated.connect() as connection:
        assert open_values(connection, CLAIMANTS, "email", "voice_model") == [claimant(one) for one in range(1, 101)]
        done = sum(part.done_rows for part in job_parts(connection))
    assert 0 < done < 100
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        report = run_two(connector, executor, FAST, lambda _: None)
    assert (report.rows, report.is_finished) == (100 - done, True)
    assert all_done(rotated)


def test_on_a_cluster(connector: Connect, rotated: Engine, cluster: Client) -> None:
    """The workers of a dask cluster do the same."""
    report = run_two(connector, cluster.get_executor(pure=False), FAST, lambda _: None)
    assert (report.rows, report.is_finished) == (100, True)
    assert all_done(rotated)


def test_cluster_loses_a_worker(connector: Connect, rotated: Engine, plain: Engine, cluster: Client) -> None:
    """A cluster gives the work of a killed worker to another one, which goes on behind what was committed."""
    killer = Killer(plain)
    run_two(connector, cluster.get_executor(pure=False), SLOW, killer)
    assert len(killer.killed) == 1
    assert run_two(connector, cluster.get_executor(pure=False), FAST, lambda _: None).is_finished
    assert all_done(rotated)


def test_values_that_do_not_open(connector: Connect, rotated: Engine, plain: Engine) -> None:
    """What workers cannot open is reported together, and the limit counts for all of them."""
    with plain.begin() as connection:
        for number in (5, 95):
            set_raw(connection, CLAIMANTS, "email", number, raw_values(connection, CLAIMANTS, "email")[0])
    with ThreadPoolExecutor(2) as executor:
        pace = Pace(batch_size=10, part_size=20, unreadable_limit=2)
        report = run_two(connector, executor, pace, lambda _: None)
    assert {("email", (5,)), ("email", (95,))} == {(one.column, one.key) for one in report.unreadable}
    assert not report.is_finished


def retyped() -> TableChange:
    """What would convert the claimants' values to another inner type."""
    made = change()
    return replace(made, columns=tuple(replace(one, former_type=Integer()) for one in made.columns))


def test_no_conversion_by_parts(connector: Connect, rotated: Engine) -> None:
    """Values are converted to another inner type in one transaction only: nothing tells which of them were."""
    with ThreadPoolExecutor(1) as executor:
        for act in (lambda: run(rotated, retyped()), lambda: run_in_parallel(connector, retyped, executor, 1)):
            with pytest.raises(ConfigurationError, match="in one transaction only"):
                act()


def test_no_workers(connector: Connect) -> None:
    """At least one worker is needed."""
    with ThreadPoolExecutor(1) as executor, pytest.raises(ConfigurationError, match="workers=0 must be at least 1"):
        run_in_parallel(connector, change, executor, 0)
