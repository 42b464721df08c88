"""The subcommand `reencrypt`: writes values anew that are not under active keys, or not bound as declared."""

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import click
from sqlalchemy import Engine

from sa_keyvault.cli.access import Access, access_options
from sa_keyvault.cli.consoles import error_output, output, quiet_warnings, shown_warnings
from sa_keyvault.cli.interrupts import Interrupts, WorkerInterrupt, interrupt_workers
from sa_keyvault.cli.models import read_metadata
from sa_keyvault.cli.progress import progress_bar
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.reencryption import (
    Pace,
    Progress,
    Report,
    TableChange,
    examine,
    reencrypting,
    run,
    run_in_parallel,
)
from sa_keyvault.reencryption.batches import Converting
from sa_keyvault.types import encrypted_columns

__all__ = ["reencrypt"]

_LEFT, _INTERRUPTED = 3, 130  # exit codes; the second is that of shells for SIGINT
_EXAMINED = 10_000  # values that do not open: a dry run lists them, and does not stop at the first
_SHOWN = 20
_PARTS = 5  # batches of a part of a table, which one worker at a time is at


@click.command()
@access_options
@click.option("--metadata", "source", required=True, metavar="MODULE:NAME", help="Models, or their metadata.")
@click.option("--dry-run", is_flag=True, help="Open what would be written, and write nothing.")
@click.option("--batch-size", type=click.IntRange(1), default=10_000, show_default=True, help="Rows of a transaction.")
@click.option("--rows-per-second", type=click.FloatRange(0.001), help="How many rows are written in a second at most.")
@click.option("--seconds", type=click.FloatRange(0), help="After how long to stop; the next run goes on.")
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="How many processes.")
@click.option(
    "--threads",
    type=click.IntRange(1, 16),
    default=2,
    show_default=True,
    help="Threads of a single process, each with a connection; PostgreSQL only.",
)
@click.option(
    "--unreadable-limit",
    type=click.IntRange(0),
    help="How many values that do not open are passed over, by default none, in a dry run 10,000.",
)
@click.argument("table", required=False)
@click.argument("columns", nargs=-1)
def reencrypt(  # noqa: PLR0913, PLR0917 - what a user may choose; click gives all of it by name
    access: Access,
    source: str,
    batch_size: int,
    rows_per_second: float | None,
    seconds: float | None,
    workers: int,
    threads: int,
    unreadable_limit: int | None,
    table: str | None,
    columns: tuple[str, ...],
    *,
    dry_run: bool,
) -> None:
    """Write the values of TABLE anew that are not under active keys, or not bound as the models declare.

    Without TABLE the tables of all encrypted columns, without COLUMNS all of its encrypted columns. The application
    may write meanwhile. Ctrl-C ends the work after the batch at hand, and the next run goes on behind it.
    """
    if workers > 1 and access.has_to_ask:
        msg = "several processes cannot ask for the passphrase; name its file with --passphrase-file"
        raise click.UsageError(msg)
    changes = _changes(source, table, columns)
    limit = unreadable_limit if unreadable_limit is not None else _EXAMINED if dry_run else 0
    size = batch_size if rows_per_second is None else max(1, min(batch_size, int(rows_per_second)))
    pace = Pace(size, rows_per_second, seconds, _PARTS * size, limit, threads)
    work = _Work(access, source, pace, workers, is_dry=dry_run)
    interrupts = Interrupts()
    try:
        with interrupts.listening(), shown_warnings():
            reports, left = work.done(changes, interrupts)
    except KeyboardInterrupt:
        error_output().print("sa-keyvault: hint: what was written is kept; the same command goes on behind it")
        raise click.exceptions.Exit(_INTERRUPTED) from None
    _conclude(reports, left, is_dry=dry_run)


def _changes(source: str, table: str | None, columns: Sequence[str]) -> list[TableChange]:
    """Return what is to be done, so that a table that cannot be walked through is refused before the first row."""
    tables = {name: one for name, one in read_metadata(source).tables.items() if encrypted_columns(one)}
    if table is not None and table not in tables:
        known = ", ".join(tables) or "none"
        msg = f"--metadata {source} has no table {table!r} with encrypted columns; it has: {known}"
        raise ConfigurationError(msg)
    chosen = tables.values() if table is None else [tables[table]]
    return [reencrypting(one, columns or None) for one in chosen]


@dataclass(frozen=True)
class _Work:
    access: Access
    source: str
    pace: Pace
    workers: int
    is_dry: bool

    def done(self, changes: Sequence[TableChange], interrupts: Interrupts) -> tuple[list[Report], int]:
        """Do what is to be done; return what became of it, and how many rows are left at most."""
        end = None if self.pace.seconds is None else time.monotonic() + self.pace.seconds
        engine, reports = self.access.server(read_metadata(self.source)), []
        try:
            for change in changes:
                seconds = None if end is None else max(0.0, end - time.monotonic())
                report = self._do(engine, change, replace(self.pace, seconds=seconds), interrupts)
                _print(report, is_dry=self.is_dry)
                reports.append(report)
            left = 0 if self.is_dry else sum(map(partial(_left, engine), reports, changes))
        finally:
            engine.dispose()
        return reports, left

    def _do(self, engine: Engine, change: TableChange, pace: Pace, interrupts: Interrupts) -> Report:
        with progress_bar(str(change.table.fullname)) as advance:

            def on_progress(progress: Progress) -> None:
                advance(progress.rows, progress.total)
                interrupts.check()

            if self.is_dry:
                return examine(engine, change, pace, on_progress)
            if self.workers == 1:
                return run(engine, change, pace, on_progress)
            connect = partial(_connect, self.access, self.source)
            columns = tuple(column.name for column in change.columns)
            make_change = partial(_change, self.source, str(change.table.key), columns)
            # spawned, not forked: a session with a token does not survive a fork
            with ProcessPoolExecutor(self.workers, multiprocessing.get_context("spawn")) as executor:
                try:
                    return run_in_parallel(connect, make_change, executor, self.workers, pace, on_progress)
                except BaseException:
                    # also where one of them cannot go on: the others would first do all that is left
                    interrupt_workers()
                    raise


def _connect(access: Access, source: str) -> Engine:
    """Return the engine of a worker, which is another process; or that of this one, which shows the progress."""
    stop = WorkerInterrupt() if multiprocessing.parent_process() is not None else None
    # they are said by the command already
    with quiet_warnings():
        engine = access.server(read_metadata(source))
    if stop is not None:
        stop.end_between_transactions(engine)
    return engine


def _change(source: str, table: str, columns: tuple[str, ...]) -> TableChange:
    return reencrypting(read_metadata(source).tables[table], columns)


def _left(engine: Engine, report: Report, change: TableChange) -> int:
    return 0 if report.is_finished else Converting(engine, change, lambda _: None).remaining()


def _print(report: Report, *, is_dry: bool) -> None:
    verb = "to be written" if is_dry else "written"
    others = f"; others are at {report.others} parts of it" if report.others else ""
    output().print(f"{report.name}: {report.rows} rows {verb}, {report.seconds:.1f} s{others}")
    errors = error_output()
    for one in report.unreadable[:_SHOWN]:
        errors.print(f"sa-keyvault: error: {one.column} of row {one.key} does not open: {one.reason}", style="red")
    if more := len(report.unreadable[_SHOWN:]):
        errors.print(f"sa-keyvault: error: {more} more values do not open", style="red")


def _conclude(reports: Sequence[Report], left: int, *, is_dry: bool) -> None:
    rows = sum(report.rows for report in reports)
    if any(report.unreadable for report in reports):
        error_output().print("sa-keyvault: hint: values that do not open stay as they are; see the recovery guide")
        raise click.exceptions.Exit(1)
    if is_dry:
        output().print(f"{rows} rows are to be written; nothing was")
        raise click.exceptions.Exit(_LEFT if rows else 0)
    if all(report.is_finished for report in reports):
        output().print(f"{rows} rows written, none is left")
        return
    output().print(f"{rows} rows written, {left} are left at most: the same command goes on behind it")
    raise click.exceptions.Exit(_LEFT)
