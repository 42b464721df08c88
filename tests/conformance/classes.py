"""Puts a test that passes with the yardstick and fails on encrypted columns into a class, by rule.

A test asserts SQL text or counts statements; or it asks for what the library refuses on purpose; or there is a defect.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

__all__ = ["Accepted", "Comparison", "accepted_defects", "classify", "compare"]

ASSERTS_SQL = "asserts SQL text, or counts statements"
SKIPS = "skips itself: no statement is of the form that it waits for"
DEFECT = "defect"

_LIBRARY = "sa_keyvault.errors."
_SQL_FUNCTIONS = ("assert_compile", "assert_sql_count", "assert_sql_execution", "eq_ignore_whitespace")
_SQL_FILE = "assertsql.py:"

# what a refusal of the library says, and what it is called in the documentation
_REFUSALS: tuple[tuple[str, str], ...] = (
    (r"cannot be used with the operator", "compares or sorts with the column in SQL"),
    (r"is compared with a value", "compares or sorts with the column in SQL"),
    (r"a computed value \(", "computes with the column in SQL"),
    (r"a SQL expression cannot be the value", "writes a SQL expression"),
    (r"INSERT … SELECT into the encrypted column", "copies rows inside the database"),
    (r"an upsert ", "upserts by another key than the primary key"),
    (r"was selected by raw SQL", "selects with text()"),
    (r"the stored bytes came without", "selects with text()"),
    (r"does not carry", "selects a column from a subquery without its key"),
    (r"meet in a union, but not under one label", "joins columns of different tables in a union"),
    (r"is read as a value of another type", "begins a union with another column, or a NULL without a type"),
    (r"cannot be set to", "copies ciphertext into a plain column"),
    (r"cannot be bound to", "has a key that cannot name a row"),
    (r"have the same label", "maps two columns under one label"),
    (r"is not supported yet", "compiles for another database"),
)
# a database's own error about what the harness put in place of a sorted or grouped column
_HARNESS = (r"conformance_open", "compares or sorts with the column in SQL")


@dataclass(frozen=True)
class Accepted:
    """A defect that is known and accepted.

    Attributes:
        test: Pattern of the tests' names.
        reason: Why it is no defect of the library.
    """

    test: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """How a run on encrypted columns compares with the yardstick.

    Attributes:
        yardstick: How many tests pass with the yardstick.
        passed: How many of them pass on encrypted columns.
        classes: Names of the tests that do not, by class; defects that are accepted are left out.
        accepted: Names of the accepted ones.
        reasons: What each defect raised, by name.
    """

    yardstick: int
    passed: int
    classes: Mapping[str, Sequence[str]]
    accepted: Sequence[str]
    reasons: Mapping[str, str]

    @property
    def defects(self) -> Sequence[str]:
        """Names of the tests that show a defect."""
        return self.classes.get(DEFECT, ())


def classify(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return the class of a test that failed with *errors*, the one that was raised first.

    A library error that is no known refusal is a defect, wherever it was raised.
    """
    own = [error for error in errors if error["type"].startswith(_LIBRARY)]
    if own:
        found = (name for pattern, name in _REFUSALS if re.search(pattern, own[0]["text"]))
        return next(found, DEFECT)
    raised = errors[0]
    if raised["type"] == "builtins.AssertionError" and _is_about_sql(raised["frames"]):
        return ASSERTS_SQL
    if raised["type"] == "sqlalchemy.exc.OperationalError" and re.search(_HARNESS[0], raised["text"]):
        return _HARNESS[1]
    return DEFECT


def _is_about_sql(frames: Sequence[str]) -> bool:
    return any(frame.startswith(_SQL_FILE) or frame.partition(":")[2] in _SQL_FUNCTIONS for frame in frames)


def accepted_defects(path: Path) -> list[Accepted]:
    """Read the list of accepted defects."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("accepted", [])
    return [Accepted(entry["test"], entry["reason"]) for entry in entries]


def compare(
    yardstick: Mapping[str, Mapping[str, Any]],
    encrypted: Mapping[str, Mapping[str, Any]],
    known: Sequence[Accepted],
) -> Comparison:
    """Compare two runs of the same tests; one that did not run on encrypted columns is a defect."""
    expected = [name for name, found in yardstick.items() if found["outcome"] == "passed"]
    classes: dict[str, list[str]] = {}
    accepted: list[str] = []
    reasons: dict[str, str] = {}
    passed = 0
    for name in expected:
        found = encrypted.get(name, {"outcome": "missing"})
        if found["outcome"] == "passed":
            passed += 1
            continue
        kind = _class_of(found)
        if kind == DEFECT and any(fnmatchcase(name, entry.test) for entry in known):
            accepted.append(name)
            continue
        classes.setdefault(kind, []).append(name)
        if kind == DEFECT:
            reasons[name] = _first_error(found)
    return Comparison(len(expected), passed, classes, accepted, reasons)


def _class_of(found: Mapping[str, Any]) -> str:
    if found["outcome"] == "skipped":
        return SKIPS
    return classify(found["errors"]) if "errors" in found else DEFECT


def _first_error(found: Mapping[str, Any]) -> str:
    if "errors" not in found:
        return f"it is {found['outcome']}"
    first = found["errors"][0]
    return f"{first['type']}: {' '.join(first['text'].split())[:200]} ({' < '.join(first['frames'][:-4:-1])})"
