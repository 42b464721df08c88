"""A job that is stopped keeps all that is done, and the next run does the rest and no more (R-30)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event
from support.jobs import CLAIMANTS, claimant, job_parts, kinds, open_values, raw_values, set_raw

from sa_keyvault.reencryption import Pace, Progress, reencrypt, reencrypting, run

TENS = Pace(batch_size=10)


class Stop:
    """A callback of a job that stops it after so many batches."""

    def __init__(self, batches: int, error: type[BaseException]) -> None:
        self._left = batches
        self._error = error

    def __call__(self, _: Progress) -> None:
        self._left -= 1
        if not self._left:
            raise self._error


@contextmanager
def batches_read(engine: Engine) -> Iterator[list[list[Any]]]:
    """Collect the parameters of every SELECT of a batch that the engine runs."""
    found: list[list[Any]] = []

    def collect(conn: object, cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT claimant") and "LIMIT" in statement:
            found.append(list(parameters.values() if isinstance(parameters, dict) else parameters))

    event.listen(engine, "before_cursor_execute", collect)
    yield found
    event.remove(engine, "before_cursor_execute", collect)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_stopped_and_resumed(rotated: Engine, plain: Engine, error: type[BaseException]) -> None:
    """After an error or an interrupt what was written stays, and the next run goes on behind it (A-39)."""
    with pytest.raises(error):
        reencrypt(rotated, CLAIMANTS, pace=TENS, on_progress=Stop(3, error))
    with plain.connect() as connection:
        stopped = raw_values(connection, CLAIMANTS, "email")
        assert [(part.after, part.done_rows, part.owner, part.is_finished) for part in job_parts(connection)] == [
            ("[30]", 30, "", False)
        ]
    with batches_read(rotated) as parameters:
        report = reencrypt(rotated, CLAIMANTS, pace=TENS)
    assert (report.rows, report.is_finished) == (70, True)
    assert 30 in parameters[0]
    with plain.connect() as connection:
        done = raw_values(connection, CLAIMANTS, "email")
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
        assert job_parts(connection) == []
    assert (stopped[:30], set(stopped[30:]) & set(done)) == (done[:30], set())
    with rotated.connect() as connection:
        assert open_values(connection, CLAIMANTS, "email", "voice_model") == [claimant(one) for one in range(1, 101)]


def test_stopped_at_every_batch(rotated: Engine, plain: Engine) -> None:
    """A job that is stopped after each of its batches gets done, each row once (A-39)."""
    written = []
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt):
            reencrypt(rotated, CLAIMANTS, pace=TENS, on_progress=Stop(1, KeyboardInterrupt))
        with plain.connect() as connection:
            written += [part.done_rows for part in job_parts(connection)]
    assert written == list(range(10, 101, 10))
    assert (reencrypt(rotated, CLAIMANTS).rows, reencrypt(rotated, CLAIMANTS).is_finished) == (0, True)


def test_time_is_up(rotated: Engine, plain: Engine) -> None:
    """A job whose time is up says that it is not finished, and another run finishes it."""
    with plain.connect() as connection:
        before = raw_values(connection, CLAIMANTS, "email")
    report = reencrypt(rotated, CLAIMANTS, pace=Pace(seconds=0))
    assert (report.rows, report.is_finished, report.others) == (0, False, 0)
    with plain.connect() as connection:
        assert before == raw_values(connection, CLAIMANTS, "email")
    report = reencrypt(rotated, CLAIMANTS)
    assert (report.rows, report.is_finished) == (100, True)


def test_time_is_up_between_batches(rotated: Engine, plain: Engine) -> None:
    """The time is looked at after every batch: what is written by then counts, and the part is free again."""
    # ten rows are written at once, and then the pace makes the job wait until its time is up
    report = reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=10, rows_per_second=100, seconds=0.05))
    assert (report.rows % 10, report.is_finished) == (0, False)
    with plain.connect() as connection:
        assert [(report.rows, "")] == [(part.done_rows, part.owner) for part in job_parts(connection)]
    assert reencrypt(rotated, CLAIMANTS).rows == 100 - report.rows


def test_progress(rotated: Engine) -> None:
    """The callback hears of every batch: the job in words, the rows done, and how many there are."""
    heard: list[Progress] = []
    run(rotated, reencrypting(CLAIMANTS, ["email"]), Pace(batch_size=40), heard.append)
    assert [("claimant: re-encrypt email", rows, 100) for rows in (40, 80, 100)] == [
        (one.name, one.rows, one.total) for one in heard
    ]
    assert sorted(one.seconds for one in heard) == [one.seconds for one in heard]


def test_row_that_appears_behind_the_job(rotated: Engine, plain: Engine) -> None:
    """A value that comes back under a retired key behind the walker (a restored row) is taken up in another round."""
    with plain.connect() as connection:
        old = raw_values(connection, CLAIMANTS, "email")[0]

    def restore(progress: Progress) -> None:
        if progress.rows == 50:
            with plain.begin() as connection:
                set_raw(connection, CLAIMANTS, "email", 1, old)

    report = reencrypt(rotated, CLAIMANTS, pace=TENS, on_progress=restore)
    assert (report.rows, report.is_finished) == (101, True)
    with plain.connect() as connection:
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
