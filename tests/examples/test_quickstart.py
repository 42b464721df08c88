"""The quick start, run as a reader runs it: in a process of its own, on an SQLite file."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.py"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the quick start keeps its rows."""
    return tmp_path_factory.mktemp("quickstart") / "quickstart.db"


@pytest.fixture(scope="module")
def output(database: Path) -> str:
    """What the quick start prints."""
    return run(str(database))


def run(*arguments: str) -> str:
    """Run the quick start and return what it prints; it has to end well."""
    command = [sys.executable, "-X", "utf8", "-W", "error", str(QUICKSTART), *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)  # noqa: S603 - our own file
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def personal_values() -> list[str]:
    """Return the texts that the quick start stores encrypted."""
    claimants = runpy.run_path(str(QUICKSTART))["generated_claimants"]()
    values = [(claimant.name, claimant.email, claimant.phone) for claimant in claimants]
    secrets = [(credential.secret,) for claimant in claimants for credential in claimant.credentials]
    return [value for row in (*values, *secrets) for value in row if value is not None]


def test_runs_in_a_temporary_folder() -> None:
    """Without an argument the quick start runs to its end."""
    assert "The working keys by area" in run()


def test_shows_what_is_loaded(output: str) -> None:
    """Every personal value is printed as it was given, at the first start-up."""
    assert [value for value in personal_values() if value not in output] == []


def test_shows_the_refusal(output: str) -> None:
    """Two rows' ciphertexts swapped in SQL are refused (R-21, A-1)."""
    assert "refused: claimant.email: " in output


def test_second_start_up_finds_the_rows(output: str) -> None:
    """The second start-up, with the installation key from its file, loads the names and secrets again."""
    second = output.partition("second start-up")[2]
    assert [value for value in personal_values() if "+44" not in value and value not in second] == []


def test_shows_the_keys_by_area(output: str) -> None:
    """Every area has a working key of its own."""
    keys = [line.split() for line in output.partition("working keys by area:\n")[2].splitlines()]
    assert [key[0] for key in keys] == ["credentials", "features", "identities", "models"]
    assert len(keys) == len({key[1] for key in keys})


def test_database_file_has_no_personal_value(database: Path, output: str) -> None:
    """None of the personal values stands in the database file's bytes (R-32)."""
    stored = database.read_bytes()
    assert b"keyvault_working_key" in stored
    assert [value for value in personal_values() if value.encode() in stored] == []
