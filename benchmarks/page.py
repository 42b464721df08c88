"""Writes the tables into the page of the documentation, between two marks."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.figures import Figure, Goal
from benchmarks.measure import Spread
from benchmarks.results import Run

__all__ = ["PAGE", "amount", "markdown", "short", "write_page"]

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"

_MARKS = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.DOTALL)

_TITLES = {
    "values": "One value",
    "load": "ORM load",
    "flush": "ORM flush",
    "growth of load": "ORM load, by number of rows",
    "growth of flush": "ORM flush, by number of rows",
    "statements": "Core, asyncio, joins",
    "one row": "Latency of one row",
    "nothing encrypted": "A table without encrypted columns",
    "binding": "The binding to the row",
    "suites": "Suites",
    "provisionings": "Start of a ring in every provisioning",
    "keys": "Start of a ring, by number of working keys",
    "re-encryption": "Re-encryption",
    "memory": "Memory of a loaded row",
    "statement cache": "Statement cache",
}

_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "": ""}


def write_page(runs: Sequence[Run]) -> None:
    """Put the tables of all runs into the page."""
    page = PAGE.read_text(encoding="utf-8")
    text = "\n".join(markdown(runs))
    PAGE.write_text(_MARKS.sub(lambda found: f"{found[1]}\n{text}\n{found[2]}", page), encoding="utf-8")


def markdown(runs: Sequence[Run]) -> Iterator[str]:
    """Yield the lines of the tables; the first run's figures are shown, of the others the goals."""
    yield "### Goals"
    yield ""
    yield from _goals(runs)
    yield ""
    yield from _environment(runs)
    for name, reason in runs[0].missing.items():
        yield f"{_NAMES[name]}: not available: {reason}."
        yield ""
    for section, title in _TITLES.items():
        figures = [one for one in runs[0].figures if one.section == section]
        for database in dict.fromkeys(one.database for one in figures):
            yield f"### {title}" + (f", {_NAMES[database]}" if database else "")
            yield ""
            yield from _table([one for one in figures if one.database == database])
            yield ""


def _goals(runs: Sequence[Run]) -> Iterator[str]:
    yield "| goal | at most | " + " | ".join(f"SQLAlchemy {run.line}" for run in runs) + " |"
    yield "|---|---|" + "---|" * len(runs)
    for goal in sorted(runs[0].goals, key=lambda goal: list(_TITLES).index(goal.section)):
        cells = [_verdict(next((one for one in run.goals if one.text == goal.text), None)) for run in runs]
        limit = "1, within the noise" if "without encrypted columns" in goal.text else f"{goal.limit:g}"
        yield f"| {goal.text} | {limit} | " + " | ".join(cells) + " |"


def _verdict(goal: Goal | None) -> str:
    if goal is None:
        return "not measured"
    return f"{ratio(goal.measured)}, " + ("met" if goal.is_met else "**not met**")


def _environment(runs: Sequence[Run]) -> Iterator[str]:
    for run in runs:
        named = ", ".join(f"{name} {value}" for name, value in run.versions.items() if name != "openssl")
        machine = ", ".join(f"{name} {value}" for name, value in run.machine.items())
        yield f"Measured ({run.scale} run) with {named}, {run.versions['openssl']}; {machine}."
        yield ""


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield a table with a row for each peer and a column for each work."""
    works = list(dict.fromkeys(one.work for one in figures))
    peers = list(dict.fromkeys(one.peer for one in figures))
    by_place = {(one.peer, one.work): one for one in figures}
    yield "| | " + " | ".join(works) + " |"
    yield "|---|" + "---|" * len(works)
    for peer in peers:
        cells = [_cell(by_place.get((peer, work))) for work in works]
        if len(set(cells)) == 1 and cells[0].startswith("not available"):
            # the reason once, not in every column
            cells = [cells[0], *[""] * (len(works) - 1)]
        yield f"| {peer} | " + " | ".join(cells) + " |"


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    if figure.amount is None or figure.ratio is None:
        return f"not available: {figure.reason}"
    if figure.baseline in (figure.peer, figure.work):
        return f"{amount(figure)} = 1"
    if figure.unit == "hits":
        return amount(figure)
    return f"{ratio(figure.ratio)}"


def ratio(spread: Spread) -> str:
    """Return a ratio with its middle half: `1.42 (1.40 to 1.45)`."""
    return f"{short(spread.median)} ({short(spread.low)} to {short(spread.high)})"


def short(number: float) -> str:
    """Return a number with two or three digits that mean something."""
    return f"{number:.2f}" if number < 10 else f"{number:,.1f}" if number < 100 else f"{number:,.0f}"  # noqa: PLR2004


def amount(figure: Figure) -> str:
    """Return the amount of one item with its unit."""
    taken = figure.amount.median if figure.amount else 0.0
    if figure.unit == "B":
        return f"{taken:,.0f} B"
    if figure.unit == "hits":
        return f"{taken:.0f} hits"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if taken * factor >= 1:
            return f"{short(taken * factor)} {unit}"
    return f"{taken * 1e6:.2f} µs"
