"""The rules that put a failed test of SQLAlchemy into a class, and the verdict of a whole run."""

from pathlib import Path
from typing import Any

import pytest

from conformance.__main__ import ACCEPTED
from conformance.classes import ASSERTS_SQL, DEFECT, SKIPS, Accepted, accepted_defects, classify, compare

_SQL = {
    "type": "builtins.AssertionError",
    "text": "x != y",
    "frames": ["test_x.py:test", "assertions.py:assert_compile"],
}
_COUNT = {"type": "builtins.AssertionError", "text": "3 != 5", "frames": ["assertsql.py:no_more_statements"]}
_VALUE = {"type": "builtins.AssertionError", "text": "'a' != 'b'", "frames": ["test_x.py:test", "assertions.py:eq_"]}
_OTHER = {"type": "sqlalchemy.exc.IntegrityError", "text": "NOT NULL", "frames": ["default.py:do_execute"]}


def _refused(text: str, kind: str = "UnsupportedStatementError") -> dict[str, Any]:
    return {"type": f"sa_keyvault.errors.{kind}", "text": text, "frames": ["assertsql.py:assert_"]}


@pytest.mark.parametrize("error", [_SQL, _COUNT])
def test_sql_text_and_counts(error: dict[str, Any]) -> None:
    """An assertion about SQL text or the number of statements is one class."""
    assert classify([error]) == ASSERTS_SQL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("an encrypted column cannot be used with the operator 'eq'", "compares or sorts with the column in SQL"),
        ("a computed value (max) of an encrypted column has no row", "computes with the column in SQL"),
        ("a value of an encrypted column of area 'x' was selected by raw SQL, without its row", "selects with text()"),
    ],
)
def test_refusals(text: str, expected: str) -> None:
    """A refusal of the library is classed by what it refuses, wherever it was raised and whatever followed."""
    assert [expected] * 2 == [classify([_refused(text)]), classify([_VALUE, _refused(text)])]


@pytest.mark.parametrize(
    "errors", [[_VALUE], [_OTHER], [_refused("a value is not bound to a row")], [_refused("unheard of"), _SQL]]
)
def test_everything_else_is_a_defect(errors: list[dict[str, Any]]) -> None:
    """A wrong value, a database's error, and a library error that is no known refusal are defects."""
    assert classify(errors) == DEFECT


def test_comparison() -> None:
    """A run is compared test by test: what passed, what failed by class, and what vanished is a defect."""
    names = ("a", "b", "c", "d", "e", "f")
    yardstick = {name: {"outcome": "passed"} for name in names} | {"g": {"outcome": "failed", "errors": [_VALUE]}}
    encrypted: dict[str, Any] = {
        "a": {"outcome": "passed"},
        "b": {"outcome": "failed", "errors": [_SQL]},
        "c": {"outcome": "failed", "errors": [_VALUE]},
        "d": {"outcome": "failed", "errors": [_VALUE]},
        "e": {"outcome": "skipped"},
        "g": {"outcome": "failed", "errors": [_VALUE]},
    }
    found = compare(yardstick, encrypted, [Accepted("d*", "known")])
    expected = (6, 1, {ASSERTS_SQL: ["b"], DEFECT: ["c", "f"], SKIPS: ["e"]}, ["d"])
    assert expected == (found.yardstick, found.passed, found.classes, found.accepted)
    assert (found.reasons) == {
        "c": "builtins.AssertionError: 'a' != 'b' (assertions.py:eq_ < test_x.py:test)",
        "f": "it is missing",
    }


def test_accepted_defects_have_reasons() -> None:
    """The list of accepted defects is short, and each entry says why."""
    entries = accepted_defects(ACCEPTED)
    assert (len(entries) < 20, [entry.test for entry in entries if len(entry.reason) < 20]) == (True, [])


def test_no_list_is_no_acceptance(tmp_path: Path) -> None:
    """An empty list accepts nothing."""
    empty = tmp_path / "accepted.toml"
    empty.write_text("", encoding="utf-8")
    assert accepted_defects(empty) == []
