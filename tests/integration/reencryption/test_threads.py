"""Threads of one process share a table on PostgreSQL: nothing is lost, whatever ends one of them."""

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, event
from sqlalchemy.pool import NullPool, StaticPool
from support.jobs import CLAIMANTS, all_done, job_parts, raw_values, set_raw

from sa_keyvault import ReencryptionError
from sa_keyvault.reencryption import Pace, Progress, reencrypt

pytestmark = pytest.mark.parametrize("url", ["postgresql"], indirect=True)

FAST = Pace(batch_size=10, part_size=20)
SINGLY = Pace(batch_size=1, part_size=20)


@contextmanager
def at_updates(engine: Engine, act: Callable[[], object]) -> Iterator[None]:
    """Call a function before every UPDATE of claimants, in the thread that sends it."""

    def look(conn: object, cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE claimant"):
            act()

    event.listen(engine, "before_cursor_execute", look)
    yield
    event.remove(engine, "before_cursor_execute", look)


class Meeting:
    """Lets each of two threads go on past its first UPDATE when both are there, and after that at once."""

    def __init__(self) -> None:
        self._barrier = threading.Barrier(2, timeout=60)
        self.seen: set[int] = set()

    def __call__(self) -> None:
        if threading.get_ident() not in self.seen:
            self.seen.add(threading.get_ident())
            self._barrier.wait()


def is_main() -> bool:
    """Whether this is the thread that the job was called in."""
    return threading.current_thread() is threading.main_thread()


def assert_resumed(application: Engine, plain: Engine) -> None:
    """A job that was stopped has kept what it wrote, holds no part and no connection, and the next does the rest."""
    assert application.pool.checkedout() == 0  # type: ignore[attr-defined]
    with plain.connect() as connection:
        parts = job_parts(connection)
    assert {part.owner for part in parts} == {""}
    done = sum(part.done_rows for part in parts)
    assert 0 < done < 100
    assert reencrypt(application, CLAIMANTS).rows == 100 - done
    assert all_done(application)


def test_two_threads_at_the_same_time(rotated: Engine) -> None:
    """Two threads do each row once between them, and progress is told by one of them at a time."""
    heard, telling = [], threading.Lock()

    def hear(progress: Progress) -> None:
        assert telling.acquire(blocking=False)
        heard.append(progress.rows)
        telling.release()

    meeting = Meeting()
    with at_updates(rotated, meeting):
        report = reencrypt(rotated, CLAIMANTS, pace=FAST, on_progress=hear)
    assert (report.rows, report.is_finished, report.others, len(meeting.seen)) == (100, True, 0, 2)
    assert list(range(10, 101, 10)) == heard
    assert all_done(rotated)


@pytest.mark.parametrize("in_main", [True, False])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_error_in_one(rotated: Engine, plain: Engine, error: type[BaseException], in_main: bool) -> None:
    """An error in any of them ends both after the batch at hand, and the next run goes on behind it."""

    def fail(_: Progress) -> None:
        if is_main() is in_main:
            raise error

    with at_updates(rotated, Meeting()), pytest.raises(error):
        reencrypt(rotated, CLAIMANTS, pace=SINGLY, on_progress=fail)
    assert_resumed(rotated, plain)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt: a process that a shell has started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupt(rotated: Engine, plain: Engine) -> None:
    """Ctrl-C, which reaches the main thread wherever it is, ends both."""
    meeting, pressed = Meeting(), threading.Event()

    def press(progress: Progress) -> None:
        if progress.rows >= 5 and not pressed.is_set():
            pressed.set()
            _thread.interrupt_main()

    with at_updates(rotated, meeting), pytest.raises(KeyboardInterrupt):
        reencrypt(rotated, CLAIMANTS, pace=SINGLY, on_progress=press)
    assert_resumed(rotated, plain)


def test_limit_of_both(rotated: Engine, plain: Engine) -> None:
    """Values that do not open are counted over all threads, and reported together."""
    with plain.begin() as connection:
        for number in (5, 95):
            set_raw(connection, CLAIMANTS, "email", number, raw_values(connection, CLAIMANTS, "email")[0])
    with pytest.raises(ReencryptionError, match="2 values do not open"):
        reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=10, part_size=20, unreadable_limit=1))
    report = reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=10, part_size=20, unreadable_limit=2))
    assert {("email", (5,)), ("email", (95,))} == {(one.column, one.key) for one in report.unreadable}
    assert not report.is_finished


@pytest.mark.parametrize("options", [{"pool_size": 1, "max_overflow": 0}, {"poolclass": NullPool}])
def test_pools(
    rotated: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker, options: dict[str, Any]
) -> None:
    """Threads take turns at the only connection of a pool, and do without a pool."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring, **options)
    ring.initialize(engine)
    report = reencrypt(engine, CLAIMANTS, pace=FAST)
    assert (report.rows, report.is_finished) == (100, True)
    assert all_done(engine)


@pytest.mark.parametrize(
    ("options", "pace"),
    [
        ({"poolclass": StaticPool}, FAST),
        ({"isolation_level": "REPEATABLE READ"}, FAST),
        ({}, Pace(batch_size=10, part_size=20, threads=1)),
        ({}, Pace(batch_size=10)),
    ],
)
def test_single_thread(
    rotated: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker, options: dict[str, Any], pace: Pace
) -> None:
    """The caller's thread works alone where a connection is shared, where threads would collide, and on request."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring, **options)
    ring.initialize(engine)
    seen: set[bool] = set()
    with at_updates(engine, lambda: seen.add(is_main())):
        report = reencrypt(engine, CLAIMANTS, pace=pace)
    assert (report.rows, report.is_finished, seen) == (100, True, {True})
    assert all_done(engine)
