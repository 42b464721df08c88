"""Runs SQLAlchemy's own tests twice, with the yardstick and on encrypted columns, and says what differs."""

import argparse
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, make_url, text

from conformance.classes import DEFECT, Comparison, accepted_defects, compare
from conformance.source import unpacked_source

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".conformance"
ACCEPTED = Path(__file__).with_name("accepted.toml")
EXAMPLES = Path(__file__).with_name("examples_suite.py")
_EXPECTED = ("CREATE SCHEMA test_schema", "CREATE SCHEMA test_schema_2", "CREATE EXTENSION IF NOT EXISTS hstore")
_LIMIT = 1_000_000  # failures; SQLAlchemy's own configuration stops at 250


@dataclass(frozen=True)
class Suite:
    """Tests that are run twice.

    Attributes:
        name: What they are called.
        tests: Paths and options for pytest.
        yardstick: The kind of columns that they are compared with.
    """

    name: str
    tests: tuple[str, ...]
    yardstick: str

    def again(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return what runs the tests of these names once more; a suite with options runs as a whole."""
        has_options = any(part.startswith("-") for part in self.tests)
        # a class that is tried on several databases is called by one of them once it has run, and found without
        return self.tests if has_options else tuple(re.sub(r"_sqlite\+\w+(?=::)", "", name) for name in names)


def main() -> int:
    """Run, print, and return 1 if there is a defect that is not accepted, or if nothing ran."""
    options = _options()
    source, known = unpacked_source(options.cache), accepted_defects(ACCEPTED)
    encrypted = "encrypted" if options.url else "searchable"
    found: dict[str, Comparison] = {}
    for suite in _suites(options):
        yardstick, own = (_outcomes(source, kind, suite, options.url) for kind in (suite.yardstick, encrypted))
        compared = compare(yardstick, own, known)
        if compared.defects and not options.url:
            # by themselves: what an earlier test left behind, or the order of ciphertexts, is no defect of these
            alone = _outcomes(source, encrypted, replace(suite, tests=suite.again(compared.defects)), None)
            compared = compare(yardstick, own | alone, known)
        found[suite.name] = compared
    print(f"\nSQLAlchemy {version('sqlalchemy')}, {'PostgreSQL' if options.url else 'SQLite'}")
    for name, comparison in found.items():
        print(_report(name, comparison))
    if options.json:
        entries = {name: vars(comparison) for name, comparison in found.items()}
        options.json.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return 1 if any(comparison.defects or not comparison.passed for comparison in found.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m conformance", description="Run SQLAlchemy's own tests and examples on encrypted columns."
    )
    parser.add_argument("--url", help="a PostgreSQL server and database to make a database beside (default: SQLite)")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"where the source is kept (default: {CACHE.name})")
    parser.add_argument("--json", type=Path, help="where to write the names of the tests of each class")
    parser.add_argument("--tests", nargs="+", help="paths or node ids of SQLAlchemy's tests (default: all of the ORM)")
    return parser.parse_args()


def _suites(options: argparse.Namespace) -> list[Suite]:
    if options.tests:
        return [Suite("chosen tests", tuple(options.tests), "utf8")]
    orm = Suite("ORM tests", ("test/orm", "examples/versioned_history/test_versioning.py"), "utf8")
    examples = Suite("examples", ("--rootdir", str(EXAMPLES.parent), "-c", os.devnull, str(EXAMPLES)), "plain")
    return [orm] if options.url else [orm, examples]


def _outcomes(source: Path, columns: str, suite: Suite, url: str | None) -> dict[str, Any]:
    """Run the tests with that kind of columns, and return how each ended."""
    with tempfile.TemporaryDirectory() as folder, _database(url) as database:
        outcomes = Path(folder) / "outcomes.json"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)]),
            "SA_KEYVAULT_CONFORMANCE_COLUMNS": columns,
            "SA_KEYVAULT_CONFORMANCE_OUTCOMES": str(outcomes),
            "SA_KEYVAULT_CONFORMANCE_SOURCE": str(source),
            "SA_KEYVAULT_CONFORMANCE_URL": database or "",
        }
        # -s: SQLAlchemy's tests would otherwise import the package beside them, not the installed one
        command = [sys.executable, "-s", "-m", "pytest", "-p", "conformance.plugin", "-p", "no:cacheprovider"]
        command += ["--quiet", "--tb=no", "--no-summary", f"--maxfail={_LIMIT}", *suite.tests]
        command += ["--dburi", database] if database else ["-n", str(os.cpu_count() or 1)]
        _run(command, source, environment)
        found: dict[str, Any] = json.loads(outcomes.read_text(encoding="utf-8"))
    return found


def _run(command: Sequence[str], source: Path, environment: dict[str, str]) -> None:
    """Run pytest to its end, whether tests fail or not."""
    done = subprocess.run(command, cwd=source, env=environment, check=False)  # noqa: S603
    if done.returncode not in (0, 1):
        sys.exit(f"pytest ended with {done.returncode}")


@contextmanager
def _database(server: str | None) -> Iterator[str | None]:
    """Make a database with the schemas that SQLAlchemy's tests expect, and drop it afterwards."""
    if server is None:
        yield None
        return
    url, name = make_url(server), f"sa_keyvault_conformance_{secrets.token_hex(4)}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    own = url.set(database=name)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        engine = create_engine(own, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in _EXPECTED:
                connection.execute(text(statement))
        engine.dispose()
        yield own.render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _report(name: str, found: Comparison) -> str:
    lines = [
        f"{name}:",
        f"{found.yardstick:7}  pass with the yardstick",
        f"{found.passed:7}  of them pass on encrypted columns",
    ]
    for kind, names in sorted(found.classes.items(), key=lambda item: (item[0] == DEFECT, -len(item[1]))):
        lines.append(f"{len(names):7}  {kind}")
    if not found.defects:
        lines.append(f"{0:7}  {DEFECT}")
    lines.append(f"{len(found.accepted):7}  accepted, see accepted.toml")
    lines += [f"         {test}\n             {found.reasons[test]}" for test in found.defects]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
