"""A batch of a re-encryption on SQLite: read, sealed again and written by one UPDATE, under the database's write lock.

SQLite has one writer at a time. Who takes the write lock before the first SELECT finds every row as it was read: that
is a compare-and-swap of the whole batch, and its UPDATE need not compare row by row. The UPDATE takes the new values
from a function, which looks them up by the key of the row; what it leaves behind is read back before it is committed.

A batch that has anything else to it is rolled back and left to the ordinary way, which says what is the matter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import compress
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Update, func, update
from sqlalchemy import column as clause_column
from sqlalchemy import table as clause_table
from sqlalchemy.sql.visitors import replacement_traverse

from sa_keyvault import store
from sa_keyvault.envelope import key_prefix
from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.keyring import Ring
from sa_keyvault.reencryption.changes import TableChange
from sa_keyvault.reencryption.converting import Batch, Converter, Resealed
from sa_keyvault.reencryption.reading import Reader
from sa_keyvault.reencryption.rowkeys import RowKey
from sa_keyvault.reencryption.sizing import BatchSize
from sa_keyvault.reencryption.walking import Walk
from sa_keyvault.statements.locks import take_write_lock

__all__ = ["LockedBatches", "locked_batches"]

_NEW = "sa_keyvault_new_{}"  # (key) -> new envelope of the column of that number, or NULL where it has none
_BOUND = "sa_keyvault_bound_{}"  # (key) -> what is to be read from that column, or NULL


class _UnsuitedError(Exception):
    """The batch is one for the ordinary way."""


def locked_batches(
    bind: Engine | Connection, change: TableChange, walk: Walk, converters: Sequence[Converter], ring: Ring
) -> "LockedBatches | None":
    """Return what re-encrypts under the write lock; None where the database or the job is another.

    In a caller's transaction a batch could not be rolled back by itself; and the functions of the UPDATE are called by
    the driver in the thread of the statement, which an asyncio driver has elsewhere.
    """
    if not isinstance(bind, Engine) or (bind.dialect.name, bind.dialect.driver) != ("sqlite", "pysqlite"):
        return None
    if not all(converter.is_plain_work for converter in converters):
        return None
    return LockedBatches(bind, change, walk, converters, ring)


class LockedBatches:
    """Re-encrypts the rows of one table, batch by batch.

    Args:
        engine: Of SQLite.
        change: A re-encryption.
        walk: Its statements.
        converters: Open and seal the values of each column.
        ring: The key ring.
    """

    def __init__(
        self, engine: Engine, change: TableChange, walk: Walk, converters: Sequence[Converter], ring: Ring
    ) -> None:
        self._engine = engine
        self._change = change
        self._walk = walk
        self._converters = converters
        self._ring = ring
        self._reader = Reader()
        # columns without types and defaults: a job is no change of the row, and an encrypted column takes no expression
        table = change.table
        self._target = clause_table(
            str(table.name), *(clause_column(str(column.name)) for column in table.columns), schema=table.schema
        )

    def convert(
        self,
        after: RowKey | None,
        until: RowKey | None,
        size: BatchSize,
        limit: int,
        note: Callable[[Connection, RowKey, int], None],
    ) -> Batch | None:
        """Re-encrypt the next rows.

        Args:
            after: The last key that was done; None at the start.
            until: The last key of the part; None: to the end.
            size: How many rows a batch has.
            limit: How many it has at most.
            note: Called in the transaction that writes, with the last key and the number of rows.

        Returns:
            What became of it; None where nothing is done, because the batch is one for the ordinary way.
        """
        try:
            with self._engine.begin() as connection:
                # before the lock is taken, which would keep out the ring's own connection in some journal modes
                self._ring.before_statement(connection)
                take_write_lock(connection, self._change.table, {})
                return self._convert(connection, after, until, size, limit, note)
        except (UnsupportedStatementError, _UnsuitedError):
            # the former: an engine that commits every statement has no lock
            return None

    def _convert(
        self,
        connection: Connection,
        after: RowKey | None,
        until: RowKey | None,
        size: BatchSize,
        limit: int,
        note: Callable[[Connection, RowKey, int], None],
    ) -> Batch:
        active = {area: self._ring.active_numbers(area) for area in self._change.areas}
        statement = self._walk.bound_batch(after, until, active, min(size.rows, limit))
        width = self._walk.key_count
        columns = self._reader.columns(connection, statement, width + len(self._converters))
        keys, stored = columns[:width], columns[width:]
        if not keys[0]:
            return Batch(None, 0)
        count, first, last = len(keys[0]), _row(keys, 0), _row(keys, -1)
        size.learn(stored, count)
        resealed = self._reseal(connection, stored, active)
        functions = {
            _NEW.format(number): _lookup([list(compress(key, one.selectors)) for key in keys], one.envelopes)
            for number, one in enumerate(resealed)
        }
        with self._functions(connection, functions):
            written = self._execute(connection, self._update(first, last, active))
        if written != count or not self._reads_back(connection, keys, [one.bound for one in resealed]):
            raise _UnsuitedError
        note(connection, last, count)
        return Batch(last, count)

    def _reseal(
        self, connection: Connection, stored: Sequence[Sequence[Any]], active: Mapping[str, frozenset[int]]
    ) -> list[Resealed]:
        found = []
        for converter, values in zip(self._converters, stored, strict=True):
            current = frozenset(map(key_prefix, active[converter.area]))
            resealed = converter.reseal(values, current, connection)
            if resealed is None:
                raise _UnsuitedError
            found.append(resealed)
        return found

    def _update(self, first: RowKey, last: RowKey, active: Mapping[str, frozenset[int]]) -> Update:
        """Return the UPDATE of all rows that are to be written: those of the batch, because nobody else writes."""
        columns = self._target.c
        names = [str(column.declaration.column.name) for column in self._change.columns]
        keys = [columns[str(column.name)] for column in self._change.table.primary_key.columns]
        found = [getattr(func, _NEW.format(number))(*keys) for number in range(len(names))]
        new = [func.coalesce(one, columns[name]) for one, name in zip(found, names, strict=True)]
        criterion = self._untyped(self._walk.within(first, last) & self._walk.needed(active))
        return update(self._target).where(criterion).values(dict(zip(names, new, strict=True)))

    def _untyped(self, criterion: ColumnElement[bool]) -> ColumnElement[bool]:
        columns = self._target.c

        def replace(element: Any, **_: Any) -> Any:
            return columns[str(element.name)] if isinstance(element, Column) else None

        return replacement_traverse(criterion, {}, replace)

    @staticmethod
    def _execute(connection: Connection, statement: Update) -> int:
        return connection.execute(statement, execution_options={store.INTERNAL: True}).rowcount

    def _reads_back(
        self, connection: Connection, keys: Sequence[Sequence[Any]], bound: Sequence[Sequence[bytes | None]]
    ) -> bool:
        """Whether every row has what was written to it: a trigger may have altered it."""
        functions = {_BOUND.format(number): _lookup(keys, values) for number, values in enumerate(bound)}
        # compared by the database, which is quicker than to make rows of Python of all that it has
        expected = [getattr(func, name)(*self._walk.keys) for name in functions]
        with self._functions(connection, functions):
            same = self._walk.count_bound(_row(keys, 0), _row(keys, -1), expected)
            return int(self._reader.select(connection, same).scalar_one()) == len(keys[0])

    @contextmanager
    def _functions(self, connection: Connection, functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
        """Let statements call functions of a key; not for longer, because the connection goes back to a pool."""
        driver: Any = connection.connection.driver_connection
        for name, function in functions.items():
            driver.create_function(name, self._walk.key_count, function)
        try:
            yield
        finally:
            for name in functions:
                driver.create_function(name, self._walk.key_count, None)


def _row(columns: Sequence[Sequence[Any]], place: int) -> RowKey:
    return tuple(column[place] for column in columns)


def _lookup(keys: Sequence[Sequence[Any]], values: Sequence[Any]) -> Callable[..., Any]:
    """Return the function that finds what belongs to a key, which comes by its columns; None where it is another."""
    if len(keys) == 1:
        # a method of the dictionary itself has no frame, and is called for every row
        return dict(zip(keys[0], values, strict=True)).get
    found = dict(zip(zip(*keys, strict=True), values, strict=True))
    return lambda *key: found.get(key)
