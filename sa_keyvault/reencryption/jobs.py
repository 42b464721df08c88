"""Jobs over a table: re-encrypt, rebind, encrypt in place, decrypt out; stopped and resumed at will."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from sqlalchemy import Connection, Engine, Table, inspect
from sqlalchemy.types import TypeEngine

from sa_keyvault.dialects import require_supported
from sa_keyvault.errors import ConfigurationError, ReencryptionError
from sa_keyvault.keyring import Ring
from sa_keyvault.reencryption.batches import Converting, Pace
from sa_keyvault.reencryption.changes import TableChange, decrypting, encrypting, reencrypting
from sa_keyvault.reencryption.parts import Claim, Parts
from sa_keyvault.reencryption.rowkeys import RowKey
from sa_keyvault.reencryption.threads import can_share, run_together
from sa_keyvault.reencryption.watch import OnProgress, Report, Watch
from sa_keyvault.types import is_binary, require_convertible

__all__ = ["begin", "decrypt", "encrypt", "examine", "reencrypt", "run", "run_rounds", "work_off"]

_ROUNDS = 5  # through the table, where rows appear behind the walker under keys that were retired meanwhile


def reencrypt(
    bind: Engine | Connection,
    table: Table,
    columns: Iterable[str] | None = None,
    pace: Pace | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Write every value of a table's encrypted columns that is not under an active key, bound as declared.

    Values that are bound as `formerly` says, or are not encrypted yet (`accept_plaintext_until`), are taken up.
    An application may write meanwhile: what it writes always counts.

    Args:
        bind: An engine with a key ring that is initialized: every batch is a transaction, and the job can be stopped
            and run again. Or a connection: all of it is part of its transaction.
        table: The table as it is declared.
        columns: Keys of the columns; all encrypted ones by default.
        pace: How fast.
        on_progress: Called after every batch, from one thread at a time, which need not be the caller's
            (`Pace.threads`).

    Raises:
        sa_keyvault.ReencryptionError: More values do not open than the pace allows, or the job cannot go on.
        sa_keyvault.ConfigurationError: The table or a column cannot be walked through.
    """
    return run(bind, reencrypting(table, columns), pace, on_progress)


def encrypt(
    bind: Engine | Connection,
    table: Table,
    before: Mapping[str, TypeEngine[object]],
    pace: Pace | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Encrypt values in place that are stored as another type; the column is one of bytes already.

    Args:
        bind: As for `reencrypt`.
        table: The table as it shall be.
        before: How the values of each column were declared, by column key.
        pace: How fast.
        on_progress: Called after every batch.

    Raises:
        sa_keyvault.ReencryptionError: A value of a column of bytes looks like an envelope, or as for `reencrypt`.
        sa_keyvault.ConfigurationError: As for `reencrypt`.
    """
    return run(bind, encrypting(table, before), pace, on_progress)


def decrypt(
    bind: Engine | Connection,
    table: Table,
    after: Mapping[str, TypeEngine[object]],
    pace: Pace | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Decrypt values in place; the column stays one of bytes, and holds the texts of the values.

    Args:
        bind: As for `reencrypt`.
        table: The table as it was.
        after: How the values of each column shall be declared, by column key.
        pace: How fast.
        on_progress: Called after every batch.

    Raises:
        sa_keyvault.ReencryptionError: As for `reencrypt`.
        sa_keyvault.ConfigurationError: As for `reencrypt`.
    """
    return run(bind, decrypting(table, after), pace, on_progress)


def run(
    bind: Engine | Connection,
    change: TableChange,
    pace: Pace | None = None,
    on_progress: OnProgress | None = None,
    ring: Ring | None = None,
) -> Report:
    """Do what *change* says, under keys of *ring*; by default the engine's own.

    Raises:
        sa_keyvault.ConfigurationError: Values shall be converted to another type, but not in one transaction.
    """
    pace = pace or Pace()
    watch = Watch(str(change), pace, on_progress)
    work = Converting(bind, change, watch.note_unreadable, ring)
    begin(work, change, watch)
    if isinstance(bind, Connection):
        return _run_in_transaction(work, pace, watch)
    if pace.threads == 1 or not can_share(bind):
        return run_rounds(work, change, pace, watch, lambda parts: work_off(work, parts, pace, watch))

    def help_out() -> None:
        own = Converting(bind, change, watch.note_unreadable, ring)
        work_off(own, Parts(own, change, pace.part_size), pace, watch)

    def work_through(parts: Parts) -> None:
        helpers = min(pace.threads, parts.unfinished()) - 1
        run_together(partial(work_off, work, parts, pace, watch), [help_out] * helpers, watch.stop)

    return run_rounds(work, change, pace, watch, work_through)


def run_rounds(
    work: Converting, change: TableChange, pace: Pace, watch: Watch, work_through: Callable[[Parts], None]
) -> Report:
    """Go through the table until nothing is left to be done, or others are at the rest.

    Raises:
        sa_keyvault.ConfigurationError: Values shall be converted to another type: nothing would tell which were.
    """
    if any(column.former_type is not None for column in change.columns):
        msg = "values are converted to another inner type in one transaction only; give the job a connection"
        raise ConfigurationError(msg)
    for _ in range(_ROUNDS):
        parts = Parts(work, change, pace.part_size)
        parts.begin()
        work_through(parts)
        others = parts.others()
        is_through = parts.forget()
        if not is_through or _is_all_done(work, change, watch):
            return watch.report(is_finished=is_through, others=others)
    return watch.report(is_finished=False, others=0)


def examine(
    bind: Engine | Connection,
    change: TableChange,
    pace: Pace | None = None,
    on_progress: OnProgress | None = None,
) -> Report:
    """Open every value that the job would write, and write nothing; the report says how many rows there are."""
    pace = pace or Pace()
    watch = Watch(str(change), pace, on_progress)
    work = Converting(bind, change, watch.note_unreadable)
    begin(work, change, watch)
    after: RowKey | None = None
    while not watch.is_over:
        batch = work.examine(after, None, pace)
        if batch.last is None:
            break
        watch.note(batch)
        after = batch.last
    return watch.report(is_finished=watch.rows == 0 and not watch.is_over, others=0)


def begin(work: Converting, change: TableChange, watch: Watch) -> None:
    """Refuse what cannot be done, before the first row is written; and count what is to be done.

    Raises:
        sa_keyvault.ReencryptionError: A value of a column of bytes looks like an envelope.
        sa_keyvault.ConfigurationError: The table or a column cannot be walked through.
    """
    _require_walkable(work, change)
    _require_no_lookalikes(work, change)
    watch.begin(work.remaining())


def work_off(work: Converting, parts: Parts, pace: Pace, watch: Watch) -> None:
    """Do parts until there is none that nobody is at."""
    while not watch.is_over:
        claim = parts.claim()
        if claim is None:
            break
        # others were at this part, or at all of the table, before this one knew the keys that they made for it
        work.adopt_keys()
        _work_on(work, parts, claim, pace, watch)


def _work_on(work: Converting, parts: Parts, claim: Claim, pace: Pace, watch: Watch) -> None:
    try:
        while not watch.is_over:
            moved: list[Claim] = []

            def note(connection: Connection, last: RowKey, rows: int, claim: Claim = claim) -> None:
                moved.append(claim.move(connection, last, rows))  # noqa: B023 - called before the loop goes on

            batch = work.convert(claim.after, claim.until, pace, note)
            if batch.last is None:
                parts.finish(claim)
                return
            claim = moved[-1]
            watch.note(batch)
        parts.release(claim)
    except BaseException:
        # also where the user interrupts: the next run need not wait until the part is free
        parts.release(claim)
        raise


def _run_in_transaction(work: Converting, pace: Pace, watch: Watch) -> Report:
    after: RowKey | None = None
    while not watch.is_over:
        batch = work.convert(after, None, pace, lambda *_: None)
        if batch.last is None:
            return watch.report(is_finished=True, others=0)
        watch.note(batch)
        after = batch.last
    return watch.report(is_finished=False, others=0)


def _is_all_done(work: Converting, change: TableChange, watch: Watch) -> bool:
    """Whether the key numbers show that no row is left; what is rebound does not show, so one pass counts as all."""
    return any(column.is_rebinding for column in change.columns) or work.remaining() <= watch.unreadable_rows


def _require_walkable(work: Converting, change: TableChange) -> None:
    require_supported(work.dialect)
    for column in change.columns:
        for type_ in (column.before, column.after):
            if type_ is not None:
                require_convertible(type_, work.dialect)
    if work.dialect.name == "sqlite":
        return
    table = change.table
    with work.transaction() as connection:
        found = inspect(connection).get_columns(str(table.name), schema=table.schema)
    stored = {one["name"]: one["type"] for one in found}
    for column in change.columns:
        name = str(column.declaration.column.name)
        if name in stored and not is_binary(stored[name], work.dialect):
            msg = (
                f"{table.fullname}.{name} is a column of {stored[name]!r}, and envelopes are bytes; alter it first "
                "(op.encrypt_column in an Alembic migration does both)"
            )
            raise ConfigurationError(msg)


def _require_no_lookalikes(work: Converting, change: TableChange) -> None:
    """Refuse values of a column of bytes that begin as an envelope does and are none: nothing could tell them apart."""
    for column in change.columns:
        if column.before is None or not is_binary(column.before, work.dialect):
            continue
        if count := work.lookalikes(column):
            msg = (
                f"{count} values of {column.declaration.binding.label} are no envelopes and begin as one does, so that "
                "they could not be told apart; encrypt this column with the application, into another one"
            )
            raise ReencryptionError(msg, label=str(column.declaration.binding.label))
