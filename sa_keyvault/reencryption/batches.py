"""One batch of a job: rows are read, opened, sealed, written and read back.

Every batch is a transaction that also writes how far the job is; whatever ends the process, what is committed is
whole, and the next run goes on behind it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Engine

from sa_keyvault import store
from sa_keyvault.dialects import ring_of
from sa_keyvault.envelope import key_prefix
from sa_keyvault.errors import ConfigurationError, ReencryptionError
from sa_keyvault.keyring import Ring
from sa_keyvault.reencryption.changes import ColumnChange, TableChange
from sa_keyvault.reencryption.converting import Batch, Block, Converter, Plaintexts, Row
from sa_keyvault.reencryption.locked_batches import locked_batches
from sa_keyvault.reencryption.reading import Reader, by_columns
from sa_keyvault.reencryption.rowkeys import RowKey
from sa_keyvault.reencryption.sizing import BatchSize
from sa_keyvault.reencryption.walking import Walk
from sa_keyvault.reencryption.writing import Writer

__all__ = ["Batch", "Converting", "Pace", "Unreadable"]

_KEYS = 500  # in one SELECT; SQLite allows 999 parameters in old builds, and a key may have several columns
_ATTEMPTS = 20


@dataclass(frozen=True)
class Pace:
    """How fast a job goes.

    Attributes:
        batch_size: How many rows one transaction writes at most; fewer where their values are large.
        rows_per_second: How many rows to write in a second at most; None: as many as there are.
        seconds: After how long to stop, with everything kept that is done; None: at the end.
        part_size: How many rows a part of the table has, which one worker at a time is at.
        unreadable_limit: How many values that do not open are passed over and reported before the job stops.
        threads: With how many threads a job by one process works at an engine of PostgreSQL, each of them with a
            connection and at a part of its own; one: with the caller's.
    """

    batch_size: int = 10_000
    rows_per_second: float | None = None
    seconds: float | None = None
    part_size: int = 50_000
    unreadable_limit: int = 0
    threads: int = 2

    def __post_init__(self) -> None:
        """Refuse what is not usable.

        Raises:
            sa_keyvault.ConfigurationError: A number is out of range.
        """
        least_of = {
            "batch_size": 1,
            "rows_per_second": 0.001,
            "seconds": 0,
            "part_size": 1,
            "unreadable_limit": 0,
            "threads": 1,
        }
        for name, least in least_of.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                msg = f"{name}={value!r} must be at least {least}"
                raise ConfigurationError(msg)


@dataclass(frozen=True)
class Unreadable:
    """A value that does not open; it stays as it is.

    Attributes:
        column: Key of the column.
        key: Primary key of its row, as the driver hands it out.
        reason: What is wrong.
    """

    column: str
    key: RowKey
    reason: str


class Converting:
    """Converts the rows of one table, batch by batch.

    Args:
        bind: The engine, which gives each batch a transaction of its own; or a connection, all in its transaction.
        change: What to do.
        on_unreadable: Called with the values of a batch that do not open, before it is written; may raise.
        ring: The key ring; by default the engine's own.
    """

    def __init__(
        self,
        bind: Engine | Connection,
        change: TableChange,
        on_unreadable: Callable[[Sequence[Unreadable]], None],
        ring: Ring | None = None,
    ) -> None:
        self._bind = bind
        self._on_unreadable = on_unreadable
        self._ring = ring_of(bind.dialect) if ring is None else ring
        self._change = change
        self._walk = Walk(change)
        self._reader = Reader()
        self._converters = [Converter(column, self._walk, self._ring, bind.dialect) for column in change.columns]
        with self.transaction() as connection:
            self._writer = Writer(
                connection, change.table, [column.name for column in change.columns], self._walk.columns
            )
        self._size = BatchSize()
        self._locked = locked_batches(bind, change, self._walk, self._converters, self._ring)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Enter a transaction of the engine, or the one of the connection."""
        if isinstance(self._bind, Connection):
            yield self._bind
            return
        with self._bind.begin() as connection:
            yield connection

    def active(self) -> dict[str, frozenset[int]]:
        """Return the numbers of the keys that values may stay under, by area."""
        return {area: self._ring.active_numbers(area) for area in self._change.areas}

    def adopt_keys(self) -> None:
        """Take up the keys that others have made since: values under them are done."""
        with self.transaction() as connection:
            self._ring.before_statement(connection)
            for area in self._change.areas:
                self._ring.adopt_committed(area, connection)

    def remaining(self) -> int:
        """Return how many rows are to be written, as far as the key numbers tell."""
        self.adopt_keys()
        with self.transaction() as connection:
            return int(self._reader.select(connection, self._walk.count(self.active())).scalar_one())

    @property
    def dialect(self) -> Dialect:
        """Of the engine."""
        return self._bind.dialect

    def lookalikes(self, column: ColumnChange) -> int:
        """Return how many values of a column begin as an envelope does, under no key of its area."""
        with self.transaction() as connection:
            known = [record.number for record in store.working_in_area(connection, column.ties[0].area)]
            return int(self._reader.select(connection, self._walk.lookalikes(column, known)).scalar_one())

    def ends(self, size: int) -> list[RowKey]:
        """Return the keys at which parts of *size* rows end."""
        with self.transaction() as connection:
            found: list[RowKey] = []
            # an index is quick to skip rows in; a number for each row takes as long as half a re-encryption
            while rows := self._reader.rows(connection, self._walk.end(found[-1] if found else None, size)):
                found += rows
        return found

    def examine(self, after: RowKey | None, until: RowKey | None, pace: Pace) -> Batch:
        """Open the next rows, and write nothing."""
        block = self._read(after, until, pace)
        if not len(block):
            return Batch(None, 0)
        self._size.learn(block.columns[self._converters[0].value_at :], len(block))
        return Batch(self._last(block), len(self._open(block)[0]))

    def convert(
        self,
        after: RowKey | None,
        until: RowKey | None,
        pace: Pace,
        note: Callable[[Connection, RowKey, int], None],
    ) -> Batch:
        """Convert the next rows.

        Args:
            after: The last key that was done; None at the start.
            until: The last key of the part; None: to the end.
            pace: How many rows at most.
            note: Called in the transaction that writes, with the last key and the number of rows.

        Raises:
            sa_keyvault.ReencryptionError: What was written does not read back, or others write all the while.
        """
        if self._locked is not None:
            batch = self._locked.convert(after, until, self._size, pace.batch_size, note)
            if batch is not None:
                return batch
        block = self._read(after, until, pace)
        last, written = self._last(block), 0
        if last is None:
            return Batch(None, 0)
        for _ in range(_ATTEMPTS):
            chosen, plaintexts = self._open(block)
            with self.transaction() as connection:
                missed, count, altered = self._write(connection, chosen, plaintexts)
                # raised here, where no local shows a value
                self._require_unaltered(altered)
                written += count
                if not missed:
                    note(connection, last, written)
            if not missed:
                return Batch(last, written)
            # another wrote these rows since they were read: what it wrote counts
            block = self._read_again(missed)
        msg = f"{len(block)} rows of {self._change.table.fullname} are written too often; run the job again"
        raise ReencryptionError(msg)

    def _read(self, after: RowKey | None, until: RowKey | None, pace: Pace) -> Block:
        size = min(self._size.rows, pace.batch_size)
        with self.transaction() as connection:
            self._ring.before_statement(connection)
            statement = self._walk.batch(after, until, self.active(), size)
            return Block(self._reader.columns(connection, statement, self._walk.width))

    def _read_again(self, keys: Sequence[RowKey]) -> Block:
        with self.transaction() as connection:
            return Block(by_columns(self._rows_with(connection, keys), self._walk.width))

    def _open(self, block: Block) -> tuple[Block, list[Plaintexts]]:
        """Return the rows that are to be written, and the plaintexts of each column, None where a value stays."""
        current = {area: frozenset(map(key_prefix, numbers)) for area, numbers in self.active().items()}
        columns = []
        for converter in self._converters:
            opened, unread = converter.open(block, current[converter.area])
            columns.append(opened)
            if unread:
                name, key = converter.change.name, slice(self._walk.key_count)
                self._on_unreadable([Unreadable(name, row[key], str(reason)) for row, reason in unread])
        if any(None not in column for column in columns):
            return block, columns
        selectors = [any(one is not None for one in values) for values in zip(*columns, strict=True)]
        return block.chosen(selectors), [Plaintexts(compress(column, selectors)) for column in columns]

    def _write(
        self, connection: Connection, block: Block, plaintexts: Sequence[Plaintexts]
    ) -> tuple[list[RowKey], int, int]:
        """Write rows and read them back.

        Returns:
            The keys of those that others wrote meanwhile; how many were written; and how many of these are stored
            as something else.
        """
        if not len(block):
            return [], 0, 0
        width, first = self._walk.key_count, self._converters[0].value_at
        keys, old = block.columns[:width], block.columns[first:]
        new = [
            converter.convert(opened, block, connection)
            for converter, opened in zip(self._converters, plaintexts, strict=True)
        ]
        count, returned = self._writer.write(connection, keys, old, new)
        # an envelope that is stored as it was sealed, beside the symbols that it was sealed for, opens
        expected = Block([*block.columns[:first], *new])
        missed = self._missed(connection, expected, returned)
        self._size.learn(old, len(block))
        return missed, count, max(0, count + len(missed) - len(expected))

    def _require_unaltered(self, altered: int) -> None:
        if not altered:
            return
        msg = (
            f"{altered} rows of {self._change.table.fullname} do not read back as they were written (a trigger, or a "
            "column that is too short); nothing of this batch is kept"
        )
        raise ReencryptionError(msg)

    def _missed(
        self, connection: Connection, expected: Block, returned: Sequence[Sequence[Any]] | None
    ) -> list[RowKey]:
        """Return the keys of the rows that are there and are not as expected; those that are gone were deleted."""
        if returned is None:
            # in one go where few others are between them
            range_ = self._walk.between(self._key(expected, 0), self._key(expected, -1), 2 * len(expected))
            returned = self._reader.columns(connection, range_, self._walk.width)
        if returned == expected.columns:
            return []
        wanted, stored = self._by_key(expected.rows), self._by_key(Block(returned).rows)
        if wanted == stored:
            return []
        others = [key for key in wanted if key not in stored]
        stored |= self._by_key(self._rows_with(connection, others))
        return [key for key, row in wanted.items() if key in stored and stored[key] != row]

    def _rows_with(self, connection: Connection, keys: Sequence[RowKey]) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(keys), _KEYS):
            found += self._reader.rows(connection, self._walk.by_keys(keys[start : start + _KEYS]))
        return found

    def _last(self, block: Block) -> RowKey | None:
        return self._key(block, -1) if len(block) else None

    def _by_key(self, rows: Sequence[Row]) -> dict[RowKey, Row]:
        return dict(zip(map(itemgetter(slice(self._walk.key_count)), rows), rows, strict=True))

    def _key(self, block: Block, place: int) -> RowKey:
        return tuple(column[place] for column in block.columns[: self._walk.key_count])
