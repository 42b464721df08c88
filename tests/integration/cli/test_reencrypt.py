"""Transcripts of the subcommand `reencrypt`, which is stopped, resumed and shared among processes."""

import os
import re
import signal

import pytest
from sqlalchemy import URL, Engine, insert, select
from support.command import EMAIL, KeyFiles, Outcome, Runner
from support.leaks import MARK
from support.models import Claimant, envelopes
from support.terminals import on_terminal

from sa_keyvault import store
from sa_keyvault.envelope import key_number
from sa_keyvault.states import KeyState

pytestmark = pytest.mark.alone

MODELS = ("reencrypt", "--metadata", "support.models:Base")
ALL = "claimant: re-encrypt email, re-encrypt voice_model"
TIME = r"\d+\.\d s"


@pytest.fixture
def retired(application: Engine, sqlite_url: URL, run: Runner) -> Engine:
    """An application with 600 rows whose key of emails is retired."""
    rows = [{"id": number, "email": f"{EMAIL}{number}"} for number in range(2, 601)]
    with application.begin() as connection:
        connection.execute(insert(Claimant), rows)
    assert run("working", "rotate", "identities", url=sqlite_url).code == 0
    return application


def left(engine: Engine) -> int:
    """Return how many emails are not under an active key; all of them open."""
    with engine.connect() as connection:
        emails = connection.scalars(select(Claimant.email).order_by(Claimant.id)).all()
    assert [EMAIL, *(f"{EMAIL}{number}" for number in range(2, len(emails) + 1))] == emails
    return not_current(engine)


def not_current(engine: Engine) -> int:
    """Return how many emails are not under an active key, by their headers."""
    with engine.connect() as connection:
        keys = store.working_in_area(connection, "identities")
        active = {record.number for record in keys if record.state is KeyState.ACTIVE}
        return sum(key_number(one) not in active for one in envelopes(connection))


def matches(pattern: str, done: Outcome, code: int = 0) -> bool:
    """Whether a run ended so, without an error; else what it printed is shown."""
    assert (done.code, done.errors) == (code, "")
    return re.fullmatch(pattern, done.output) is not None


def test_reencrypt(retired: Engine, sqlite_url: URL, run: Runner) -> None:
    """A dry run writes nothing and says what is to be done, a run does it, and the key can be removed then."""
    key = str(key_number(next(iter(stored(retired)))))
    dry = run(*MODELS, "--dry-run", url=sqlite_url)
    expected = f"{ALL}: 600 rows to be written, {TIME}\n600 rows are to be written; nothing was\n"
    assert (matches(expected, dry, 3), left(retired)) == (True, 600)
    done = run(*MODELS, url=sqlite_url)
    expected = f"{ALL}: 600 rows written, {TIME}\n600 rows written, none is left\n"
    assert (matches(expected, done), left(retired)) == (True, 0)
    again = run(*MODELS, url=sqlite_url)
    assert matches(f"{ALL}: 0 rows written, {TIME}\n0 rows written, none is left\n", again)
    nothing = run(*MODELS, "--dry-run", url=sqlite_url)
    assert matches(f"{ALL}: 0 rows to be written, {TIME}\n0 rows are to be written; nothing was\n", nothing)
    command = ("working", "remove", key, "--yes", "--removal-hours", "0", "--refresh-seconds", "0")
    assert run(*command, url=sqlite_url).output == f"working key {key} is removed\n"


def stored(engine: Engine) -> list[bytes]:
    """Return the stored emails."""
    with engine.connect() as connection:
        return envelopes(connection)


def test_one_column(retired: Engine, sqlite_url: URL, run: Runner) -> None:
    """A table and columns of it can be named; what is not there is an error that says what is."""
    done = run(*MODELS, "claimant", "email", "--batch-size", "7", url=sqlite_url)
    expected = f"claimant: re-encrypt email: 600 rows written, {TIME}\n600 rows written, none is left\n"
    assert (matches(expected, done), left(retired)) == (True, 0)
    for names, problem in (
        (("claimants",), "has no table 'claimants' with encrypted columns; it has: claimant"),
        (("claimant", "id"), "claimant has no encrypted column 'id'; it has: email, voice_model"),
    ):
        refused = run(*MODELS, *names, url=sqlite_url)
        told = refused.errors.replace("\nsa-keyvault: hint: ", "; ")
        assert (refused.code, refused.output, problem in told) == (1, "", True)
    assert run("reencrypt", url=sqlite_url).code == 2


def test_limit_of_time(retired: Engine, sqlite_url: URL, run: Runner) -> None:
    """When the time is up it ends with exit code 3, and the next run goes on."""
    done = run(*MODELS, "--seconds", "0", url=sqlite_url)
    ending = "0 rows written, 600 are left at most: the same command goes on behind it\n"
    assert matches(f"{ALL}: 0 rows written, {TIME}\n{ending}", done, 3)
    assert run(*MODELS, url=sqlite_url).code == 0
    assert left(retired) == 0


def test_workers(retired: Engine, sqlite_url: URL, run: Runner) -> None:
    """Several processes share the work; each of them needs the passphrase, so it must be in a file."""
    done = run(*MODELS, "--workers", "2", "--batch-size", "30", url=sqlite_url)
    expected = f"{ALL}: 600 rows written, {TIME}\n600 rows written, none is left\n"
    assert (matches(expected, done), left(retired)) == (True, 0)
    refused = run(*MODELS, "--workers", "2", url=sqlite_url, SA_KEYVAULT_PASSPHRASE_FILE="")
    assert (refused.code, "several processes cannot ask for the passphrase" in refused.errors) == (2, True)


def test_value_that_does_not_open(retired: Engine, sqlite_url: URL, run: Runner) -> None:
    """It is named by its row, stays as it is, and does not stop the others where that is allowed (R-38)."""
    with retired.begin() as connection:
        connection.exec_driver_sql("UPDATE claimant SET email = (SELECT email FROM claimant WHERE id = 8) WHERE id = 7")
    for workers in ("2", "1"):
        stopped = run(*MODELS, "--workers", workers, "--batch-size", "30", url=sqlite_url)
        problem = "1 values do not open, the first of them in column 'email'"
        assert (stopped.code, problem in stopped.errors, "Traceback" in stopped.errors) == (1, True, False)
    for option in (("--dry-run",), ("--unreadable-limit", "1")):
        # the workers may have written some before they were stopped
        rows = not_current(retired) - 1
        done = run(*MODELS, *option, url=sqlite_url)
        assert (done.code, "error: email of row (7,) does not open: " in done.errors) == (1, True)
        assert (f": {rows} rows " in done.output, MARK in done.errors) == (True, False)
    kept = stored(retired)
    assert len({key_number(one) for one in kept if one != kept[6]}) == 1
    assert key_number(kept[6]) not in {key_number(one) for one in kept[7:]}


# -- a terminal, and Ctrl-C --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_interrupted(retired: Engine, sqlite_url: URL, run: Runner, key_files: KeyFiles, workers: str) -> None:
    """Ctrl-C ends the work after the batch, with exit code 130 and how to go on; the next run goes on behind it.

    Until then a terminal shows the bar, with rate and remaining time.
    """
    arguments = (*MODELS, "--rows-per-second", "20", "--workers", workers)
    with on_terminal(key_files, sqlite_url, arguments) as terminal:
        bar = terminal.read_until("/s")
        os.killpg(terminal.process.pid, signal.SIGINT)
        rest = terminal.rest()
        code = terminal.process.wait(60)
    assert (code, "claimant" in bar, "/600" in bar) == (130, True, True), rest
    assert "sa-keyvault: hint: what was written is kept; the same command goes on behind it" in rest
    assert "Traceback" not in rest
    now = left(retired)
    assert 0 < now < 600
    resumed = run(*MODELS, url=sqlite_url)
    assert (f"{now} rows written, none is left" in resumed.output, left(retired)) == (True, 0)


def test_no_bar_without_a_terminal(retired: Engine, sqlite_url: URL, run: Runner) -> None:
    """Where stderr is no terminal nothing is drawn into it."""
    assert run(*MODELS, url=sqlite_url, FORCE_COLOR="1").errors == ""


def test_bar_of_the_doctor(retired: Engine, sqlite_url: URL, key_files: KeyFiles) -> None:
    """Opening all values shows a bar on a terminal, too, which is gone at the end; the findings are on stdout."""
    with retired.begin() as connection:
        connection.execute(insert(Claimant), [{"id": number, "email": EMAIL} for number in range(601, 2002)])
    arguments = ("doctor", "--metadata", "support.models:Base", "--all-values")
    with on_terminal(key_files, sqlite_url, arguments) as terminal:
        shown = terminal.rest()
        findings, _ = terminal.process.communicate(timeout=60)
    assert (terminal.process.returncode, "2000/2001" in shown, "WRONG" in findings) == (0, True, False)
    assert "values of claimant.email: 2001 open" in findings
