"""Runs the benchmarks and writes what they found into the documentation: `python -m benchmarks` from the root."""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter

from rich.console import Console
from sqlalchemy import text

from benchmarks import results
from benchmarks.bench_binding import bench_binding
from benchmarks.bench_caching import bench_caching
from benchmarks.bench_jobs import bench_memory, bench_reencryption
from benchmarks.bench_keys import bench_keys
from benchmarks.bench_rows import bench_growth, bench_rows
from benchmarks.bench_statements import bench_statements, bench_without_encryption
from benchmarks.bench_suites import bench_suites
from benchmarks.bench_values import bench_values
from benchmarks.databases import Database, opened, why_missing
from benchmarks.figures import FULL, OURS, PLAIN, QUICK, Figure, Goal, Scale
from benchmarks.page import markdown, write_page
from benchmarks.peers import kinds
from benchmarks.plots import draw_all

DATABASES = ("sqlite", "postgresql", "mariadb")

_console = Console(stderr=True)


def main() -> None:
    options = _options()
    if not options.draw:
        _measure(FULL if options.full else QUICK, options.only or "", options.to)
    runs = results.read_all(options.to)
    if not runs:
        msg = f"nothing was measured into {options.to} yet; run `python -m benchmarks`"
        raise SystemExit(msg)
    if options.to == results.FOLDER:
        write_page(runs)
    draw_all(runs[0], options.to)
    print("\n".join(markdown(runs)))


def _measure(scale: Scale, only: str, folder: Path) -> None:
    measured: results.Run | None = None
    for run in _runs(scale, only):
        # each part at once: what was measured is not lost where a long run is stopped
        results.write(folder, results.merged(results.last(folder, run.line), run))
        measured = results.merged(measured, run)
    if measured is not None and not only:
        # nothing of an earlier run stays beside the versions and the machine of this one
        results.write(folder, measured)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the price of encrypted columns.")
    parser.add_argument("--full", action="store_true", help="everything: up to a million rows and 100,000 keys")
    parser.add_argument("--draw", action="store_true", help="measure nothing; write table and plots of the last runs")
    parser.add_argument("--only", help="only the parts whose name contains this, such as rows, in the last run's place")
    parser.add_argument(
        "--to",
        type=Path,
        default=results.FOLDER,
        help="folder of the JSON files and the plots; the page of the documentation is written only without it",
    )
    return parser.parse_args()


def _runs(scale: Scale, only: str) -> Iterator[results.Run]:
    """Measure part after part, and yield what each has found."""
    missing = {name: reason for name in DATABASES if (reason := why_missing(name))}
    with tempfile.TemporaryDirectory() as folder:
        for name in DATABASES:
            if name in missing:
                continue
            for title, part in _parts(name, Path(folder), scale).items():
                if only in title:
                    begin = perf_counter()
                    with opened(name, Path(folder)) as database:
                        measured = list(part(database))
                    _console.print(f"{name}: {title} ({perf_counter() - begin:.1f} s)")
                    yield results.describe(scale, measured, missing, _server_version(name, Path(folder)))


def _parts(name: str, folder: Path, scale: Scale) -> dict[str, Callable[[Database], Iterable[Figure | Goal]]]:
    """Return what is measured on a database, by title."""
    chosen, reasons = kinds()
    by_name = {kind.name: kind for kind in chosen}
    shared: dict[str, Callable[[Database], Iterable[Figure | Goal]]] = {
        "rows": lambda database: bench_rows(database, chosen, reasons, scale),
        "statements": lambda database: bench_statements(database, chosen, reasons, scale),
        "binding": lambda database: bench_binding(database, scale),
        "re-encryption": lambda database: bench_reencryption(database, by_name[OURS], scale),
        "nothing encrypted": lambda database: bench_without_encryption(database, by_name[PLAIN], scale),
        "caching": lambda database: bench_caching(database, chosen),
    }
    if name != "sqlite":
        return shared
    return {
        "values": lambda database: bench_values(database, chosen, reasons, scale),
        **shared,
        "growth": lambda database: bench_growth(database, chosen, scale),
        "memory": lambda database: bench_memory(database, chosen, reasons, scale),
        "suites": lambda database: bench_suites(folder, scale),
        "keys": lambda database: bench_keys(folder, scale),
    }


def _server_version(name: str, folder: Path) -> dict[str, str]:
    if name == "sqlite":
        return {}
    with opened(name, folder) as database, database.bare.connect() as connection:
        connection.execute(text("SELECT 1"))
        version = connection.dialect.server_version_info or ()
        return {name: ".".join(str(part) for part in version if isinstance(part, int))}


if __name__ == "__main__":
    main()
