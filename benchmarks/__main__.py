"""Runs the benchmarks: `python -m benchmarks` from the repository's root."""

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend
from sqlalchemy import MetaData, create_engine, inspect

from benchmarks.bench_orm import compare_orm
from benchmarks.bench_suites import compare_suites
from benchmarks.bench_values import compare_values
from benchmarks.measure import Comparison
from sa_keyvault import InstallationKey, KeyRing

FIGURE = Path(__file__).parents[1] / "docs" / "_static" / "benchmark.svg"
PACKAGES = ("sa_keyvault", "sqlalchemy", "cryptography")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        comparisons = list(_measured(options.url or f"sqlite:///{folder}/benchmark.db", options.rounds))
    suites = list(compare_suites(options.rounds))
    print(_table([*comparisons, *suites]))
    if options.json:
        results = [_entry(found) for found in (*comparisons, *suites)]
        report = {**_environment(options.url or "sqlite"), "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not _draw(comparisons, options.figure):
        print("no figure: matplotlib is not installed", file=sys.stderr)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the price of encrypted columns.")
    parser.add_argument("--url", help="an empty database (default: an SQLite file that is removed afterwards)")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each peer, at least 2 (default: 15)")
    parser.add_argument("--json", type=Path, help="where to write the results, with versions and machine")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="where to draw them (needs matplotlib)")
    options = parser.parse_args()
    if options.rounds <= 1:
        parser.error("a spread needs at least 2 rounds")
    return options


def _measured(url: str, rounds: int) -> Iterator[Comparison]:
    ring = KeyRing(InstallationKey.generate())
    bare, engine = create_engine(url), create_engine(url, plugins=["keyvault"], keyring=ring)
    try:
        if inspect(bare).get_table_names():
            sys.exit("the database has tables; the benchmarks drop all they find when they end, so name an empty one")
        try:
            yield from compare_values(engine, ring, rounds * 2)
            yield from compare_orm(bare, engine, ring, rounds)
        finally:
            tables = MetaData()
            tables.reflect(bare)
            tables.drop_all(bare)
    finally:
        bare.dispose()
        engine.dispose()


def _table(comparisons: Sequence[Comparison]) -> str:
    rows = [("", "baseline", "encrypted", "ratio", "middle half", "goal", "")]
    for found in comparisons:
        spread = f"{found.ratio.low:.2f} to {found.ratio.high:.2f}"
        goal = "" if found.goal is None else f"≤ {found.goal}"
        verdict = {None: "", True: "met", False: "missed"}[found.is_met]
        times = (f"{found.baseline.median * 1e6:.2f} µs", f"{found.subject.median * 1e6:.2f} µs")
        rows.append((found.name, *times, f"{found.ratio.median:.2f}", spread, goal, verdict))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _entry(found: Comparison) -> dict[str, Any]:
    return {**asdict(found), "met": found.is_met}


def _environment(url: str) -> dict[str, Any]:
    return {
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
            "openssl": backend.openssl_version_text(),
            "sqlite": sqlite3.sqlite_version,
        },
        "machine": {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count()},
        "database": url.partition(":")[0],
    }


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _draw(comparisons: Sequence[Comparison], path: Path) -> bool:
    """Draw each ratio as a bar with its goal as a line across it; return whether there is something to draw with."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - the table needs nothing but the package
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError:
        return False
    # without salt and date two drawings of the same numbers would differ
    mpl.rcParams.update({"svg.hashsalt": "sa_keyvault", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(7, 0.5 * len(comparisons) + 1), layout="constrained")
    axes = figure.subplots()
    for place, found in enumerate(comparisons):
        ratio = found.ratio
        error = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        axes.barh(place, ratio.median, height=0.6, color="#4c78a8", xerr=error, ecolor="#333333", capsize=2)
        if found.goal is not None:
            axes.plot([found.goal] * 2, [place - 0.4, place + 0.4], color="#e45756", linewidth=2)
    axes.set_yticks(range(len(comparisons)), [found.name for found in comparisons])
    axes.invert_yaxis()
    axes.axvline(1, color="#999999", linewidth=1)
    axes.set_xlabel("time, as a multiple of the baseline (red: the goal)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    return True


if __name__ == "__main__":
    main()
