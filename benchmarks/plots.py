"""Draws the plots of a run, each as PNG and SVG."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.bench_values import LIMIT
from benchmarks.figures import OURS, PLAIN
from benchmarks.measure import Spread
from benchmarks.peers import UTILS_GCM
from benchmarks.results import Run

__all__ = ["draw_all"]

_COLORS = {OURS: "#1f5fa8", PLAIN: "#8a8a8a", LIMIT: "#8a8a8a", UTILS_GCM: "#c8553d"}
_OTHER = "#c9b79c"
_LINES = ["#2f9e7e", "#b58900", "#d16ba5", "#5c6f7b", "#7b3f00", "#7a5195"]
_STYLE: dict[str, Any] = {
    # without salt two drawings of the same numbers would differ
    "svg.hashsalt": "sa_keyvault",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "savefig.dpi": 150,
}


@dataclass(frozen=True)
class _Point:
    """A figure of a peer that is there.

    Attributes:
        peer: Who did it.
        work: What was done.
        size: What it grows with; 0 where that is not the point.
        amount: What one item took.
        ratio: In proportion to the baseline.
    """

    peer: str
    work: str
    size: int
    amount: Spread
    ratio: Spread


def draw_all(run: Run, folder: Path) -> None:
    """Draw every plot into *folder*."""
    style.use(_STYLE)
    measured = {figure.section for figure in run.figures if figure.database in {"", "sqlite"}}
    for name, (draw, sections) in _PLOTS.items():
        if sections <= measured:
            draw(run, folder / name)


def _draw_overview(run: Run, path: Path) -> None:
    """Bars: loading and flushing rows with one encrypted column, by peer."""
    canvas = Canvas(figsize=(9, 3.6), layout="constrained")
    axes = canvas.subplots(1, 2, sharey=True)
    works = (("load", "1 encrypted", "ORM load"), ("flush", "1 encrypted, keys given", "ORM flush, keys given"))
    for one, (section, work, title) in zip(axes, works, strict=True):
        found = [point for point in _of(run, section, "sqlite") if point.work == work]
        _draw_bars(one, found)
        one.set_title(title)
        one.set_xlabel("time, as a multiple of plain columns")
    canvas.suptitle("Rows of three columns, one of them encrypted (SQLite); whiskers: the middle half of all rounds")
    _save(canvas, path)


def _draw_bars(axes: Axes, found: Sequence[_Point]) -> None:
    for place, point in enumerate(found):
        ratio = point.ratio
        error = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        color = _COLORS.get(point.peer, _OTHER)
        axes.barh(place, ratio.median, height=0.65, color=color, xerr=error, ecolor="#333333", capsize=2)
        axes.annotate(
            f"{ratio.median:.2f}",
            (ratio.high, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(found)), [point.peer for point in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xlim(0, max(point.ratio.high for point in found) * 1.15)
    axes.axvline(1, color="#666666", linewidth=0.8)
    axes.grid(visible=False, axis="y")


def _draw_columns(run: Run, path: Path) -> None:
    """Lines: time of a row by number of encrypted columns."""
    canvas = Canvas(figsize=(9, 4), layout="constrained")
    axes = canvas.subplots(1, 2)
    for one, section in zip(axes, ("load", "flush"), strict=True):
        found = [point for point in _of(run, section, "sqlite") if "," not in point.work]
        _draw_lines(one, found, 1e6)
        one.set_title(f"ORM {section} (SQLite)")
        one.set_xlabel("encrypted columns")
        one.set_ylabel("µs per row")
        one.set_ylim(bottom=0)
        one.set_xticks([1, 3, 10])
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    _save(canvas, path)


def _draw_rows(run: Run, path: Path) -> None:
    """Lines: time by number of rows, in all and of one row."""
    canvas = Canvas(figsize=(9, 6), layout="constrained")
    grid = canvas.subplots(2, 2)
    for row, section in zip(grid, ("growth of load", "growth of flush"), strict=True):
        found = _of(run, section, "sqlite")
        title = section.removeprefix("growth of ")
        _draw_lines(row[0], found, 1.0, in_all=True)
        row[0].set_yscale("log")
        row[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        row[0].yaxis.set_minor_formatter(NullFormatter())
        row[0].set_ylabel(f"seconds of the {title}")
        _draw_lines(row[1], found, 1e6)
        row[1].set_ylim(bottom=0)
        row[1].set_ylabel("µs per row")
        for one in row:
            one.set_xscale("log")
            one.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            one.xaxis.set_minor_formatter(NullFormatter())
            one.set_xlabel("rows")
            one.set_title(f"ORM {title}, one encrypted column (SQLite)")
    handles, labels = grid[0][0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    _save(canvas, path)


def _draw_values(run: Run, path: Path) -> None:
    """Lines: opening and sealing one value by its size, against the bare cipher."""
    canvas = Canvas(figsize=(9, 4), layout="constrained")
    axes = canvas.subplots(1, 2, sharey=True)
    for one, doing in zip(axes, ("open", "seal"), strict=True):
        found = [point for point in _of(run, "values", "") if point.work.startswith(doing)]
        _draw_lines(one, found, 1.0, of_ratio=True)
        one.set_xscale("log", base=2)
        one.set_yscale("log")
        one.set_xticks([16, 1024, 2**20], ["16 B", "1 KiB", "1 MiB"])
        one.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.yaxis.set_minor_formatter(NullFormatter())
        one.set_ylim(bottom=0.9)
        one.set_title(f"{doing} one value")
        one.set_xlabel("size of the value")
    axes[0].set_ylabel("time, as a multiple of AESGCM alone")
    handles, labels = axes[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    _save(canvas, path)


def _draw_keys(run: Run, path: Path) -> None:
    """A line: the start of a ring by number of working keys."""
    canvas = Canvas(figsize=(5, 3.4), layout="constrained")
    axes = canvas.subplots()
    _draw_lines(axes, _of(run, "keys", "sqlite"), 1.0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("working keys in the key store")
    axes.set_ylabel("seconds to open it")
    axes.set_title("Start of a key ring (SQLite)")
    _save(canvas, path)


def _draw_lines(
    axes: Axes, found: Sequence[_Point], factor: float, *, in_all: bool = False, of_ratio: bool = False
) -> None:
    others = [name for name in dict.fromkeys(point.peer for point in found) if name not in _COLORS]
    colors = {**dict(zip(others, _LINES, strict=False)), **_COLORS}
    for peer in dict.fromkeys(point.peer for point in found):
        own = [point for point in found if point.peer == peer]
        spreads = [point.ratio if of_ratio else point.amount for point in own]
        scale = [factor * (point.size if in_all else 1) for point in own]
        middle, low, high = (
            [getattr(spread, name) * by for spread, by in zip(spreads, scale, strict=True)]
            for name in ("median", "low", "high")
        )
        sizes = [point.size for point in own]
        width = 2.2 if peer == OURS else 1.2
        axes.plot(sizes, middle, marker="o", markersize=3, linewidth=width, color=colors[peer], label=peer)
        axes.fill_between(sizes, low, high, color=colors[peer], alpha=0.15, linewidth=0)


def _of(run: Run, section: str, database: str) -> list[_Point]:
    return [
        _Point(one.peer, one.work, one.size or 0, one.amount, one.ratio)
        for one in run.figures
        if (one.section, one.database) == (section, database) and one.amount and one.ratio
    ]


def _save(canvas: Canvas, path: Path) -> None:
    canvas.savefig(path.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    canvas.savefig(path.with_suffix(".png"), metadata={"Software": None})


_PLOTS: dict[str, tuple[Callable[[Run, Path], None], set[str]]] = {
    "overview": (_draw_overview, {"load", "flush"}),
    "columns": (_draw_columns, {"load", "flush"}),
    "rows": (_draw_rows, {"growth of load", "growth of flush"}),
    "values": (_draw_values, {"values"}),
    "keys": (_draw_keys, {"keys"}),
}
