"""The statements that a job reads with: the next rows of a table in the order of its primary key, by batches."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
)
from sqlalchemy.types import NullType

from sa_keyvault.dialects import RowBytes, RowSymbols
from sa_keyvault.envelope import FORMAT, key_prefix
from sa_keyvault.reencryption.changes import ColumnChange, TableChange
from sa_keyvault.reencryption.rowkeys import RowKey

__all__ = ["Walk"]

_PREFIX_SIZE = 5  # bytes: format and key number

_Comparison = Callable[[Any, Any], ColumnElement[bool]]


class Walk:
    """Makes the SELECT statements of one job.

    Every row is selected as its primary key, then the symbols of its values, each kind of them once, then the stored
    values; all as the driver hands them out.

    Args:
        change: What the job does.

    Attributes:
        keys: The columns of the primary key.
    """

    def __init__(self, change: TableChange) -> None:
        self._change = change
        self.keys: tuple[ColumnElement[Any], ...] = tuple(map(_raw, change.table.primary_key.columns))
        self._groups: list[RowSymbols] = []
        self._places: dict[tuple[str, int], int] = {}
        for column in change.columns:
            for number, tie in enumerate(column.ties):
                self._places[column.name, number] = self._place(tie.symbols)

    def _place(self, symbols: RowSymbols) -> int:
        if symbols not in self._groups:
            self._groups.append(symbols)
        return self._groups.index(symbols)

    @property
    def key_count(self) -> int:
        """How many columns the primary key has; they come first in every row."""
        return len(self.keys)

    @property
    def width(self) -> int:
        """How many columns every row has."""
        return self.key_count + len(self._groups) + len(self._change.columns)

    def symbols_at(self, column: ColumnChange, tie: int) -> int:
        """Return where in a row the symbols are that values of *column* are bound to by its tie of that number."""
        return self.key_count + self._places[column.name, tie]

    def value_at(self, column: ColumnChange) -> int:
        """Return where in a row the stored value of *column* is."""
        return self.key_count + len(self._groups) + self._change.columns.index(column)

    def batch(
        self, after: RowKey | None, until: RowKey | None, active: Mapping[str, frozenset[int]], size: int
    ) -> Select[Any]:
        """Select the next *size* rows that are to be written, in the order of their keys.

        Args:
            after: The last key that was walked through; None for the first batch.
            until: The last key of the part; None: to the end of the table.
            active: The working keys that values may stay under, by area.
            size: How many rows at most.
        """
        range_ = and_(self._after(after), self._until(until))
        return self._rows().where(range_, self.needed(active)).order_by(*self.keys).limit(size)

    def by_keys(self, keys: Sequence[RowKey]) -> Select[Any]:
        """Select the rows with these keys, in the order of all of them."""
        rows = self._rows().order_by(*self.keys)
        if len(self.keys) == 1:
            return rows.where(self.keys[0].in_([key[0] for key in keys]))
        return rows.where(tuple_(*self.keys).in_(keys))

    def between(self, first: RowKey, last: RowKey, size: int) -> Select[Any]:
        """Select up to *size* rows from one key to another, both included."""
        return self._rows().where(self.within(first, last)).order_by(*self.keys).limit(size)

    def bound_batch(
        self, after: RowKey | None, until: RowKey | None, active: Mapping[str, frozenset[int]], size: int
    ) -> Select[Any]:
        """Select the same rows as `batch`: their keys, then each value followed by the symbols that it is bound to."""
        range_ = and_(self._after(after), self._until(until), self.needed(active))
        columns = [*self.keys, *self._bound]
        return select(*columns).select_from(self._change.table).where(range_).order_by(*self.keys).limit(size)

    def count_bound(self, first: RowKey, last: RowKey, expected: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """Select how many rows from one key to another have what is expected of each column, not all of it NULL."""
        counted = select(func.count()).select_from(self._change.table).where(self.within(first, last))
        if len(expected) == 1:
            # what is expected is a function, which is called twice where NULL equals NULL
            return counted.where(self._bound[0] == expected[0])
        same = [found.is_not_distinct_from(one) for found, one in zip(self._bound, expected, strict=True)]
        return counted.where(*same, or_(*(one.is_not(None) for one in expected)))

    def within(self, first: RowKey, last: RowKey) -> ColumnElement[bool]:
        """Return the criterion of rows from one key to another, both included."""
        return and_(self._beyond(first, is_inclusive=True), self._until(last))

    @property
    def _bound(self) -> list[ColumnElement[Any]]:
        return [
            RowBytes(_raw(column.declaration.column), (column.ties[0].symbols,), NullType()).label(f"bound_{number}")
            for number, column in enumerate(self._change.columns)
        ]

    def count(self, active: Mapping[str, frozenset[int]]) -> Select[Any]:
        """Select how many rows are to be written, as far as the key numbers tell."""
        return select(func.count()).select_from(self._change.table).where(self.needed(active))

    def end(self, after: RowKey | None, size: int) -> Select[Any]:
        """Select the key of the row *size* rows behind another: where a part of the table ends."""
        rows = select(*self.keys).select_from(self._change.table).where(self._after(after))
        return rows.order_by(*self.keys).limit(1).offset(size - 1)

    def lookalikes(self, column: ColumnChange, known: Sequence[int]) -> Select[Any]:
        """Select how many values of *column* begin as an envelope does, but as none under a key of *known*."""
        value = _raw(column.declaration.column)
        looks = _begins(value, bytes([FORMAT]))
        own = _head(value, _PREFIX_SIZE).in_([key_prefix(number) for number in known])
        return select(func.count()).select_from(self._change.table).where(looks, ~own)

    def needed(self, active: Mapping[str, frozenset[int]]) -> ColumnElement[bool]:
        """Return the criterion of rows that are to be written, or may be."""
        return or_(false(), *(_needs(column, active) for column in self._change.columns))

    @property
    def columns(self) -> list[ColumnElement[Any]]:
        """What is selected of every row."""
        nothing: ColumnElement[Any] = literal_column("''")
        symbols = [
            RowBytes(nothing, (group,), NullType()).label(f"symbols_{number}")
            for number, group in enumerate(self._groups)
        ]
        values = [_raw(column.declaration.column) for column in self._change.columns]
        return [*self.keys, *symbols, *values]

    def _rows(self) -> Select[Any]:
        return select(*self.columns).select_from(self._change.table)

    def _after(self, key: RowKey | None) -> ColumnElement[bool]:
        return true() if key is None else self._beyond(key, is_inclusive=False)

    def _until(self, key: RowKey | None) -> ColumnElement[bool]:
        return true() if key is None else self._compared(key, operator.lt, operator.le, is_equal=True)

    def _beyond(self, key: RowKey, *, is_inclusive: bool) -> ColumnElement[bool]:
        return self._compared(key, operator.gt, operator.ge, is_equal=is_inclusive)

    def _compared(
        self, key: RowKey, differs: _Comparison, bounds: _Comparison, *, is_equal: bool
    ) -> ColumnElement[bool]:
        """Return `columns > key` or the like, spelled out: MariaDB reads the whole index for a comparison of rows."""
        pairs = list(zip(self.keys, map(_bound, key), strict=True))
        criterion: ColumnElement[bool] = true() if is_equal else false()
        for column, value in reversed(pairs):
            criterion = or_(differs(column, value), and_(column == value, criterion))
        # the index is searched by the first column
        return and_(bounds(*pairs[0]), criterion)


def _raw(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return type_coerce(column, NullType())


def _bound(value: Any) -> ColumnElement[Any]:
    return bindparam(None, value, type_=NullType(), unique=True)


def _begins(value: ColumnElement[Any], prefix: bytes) -> ColumnElement[bool]:
    return _head(value, len(prefix)) == bindparam(None, prefix, type_=LargeBinary(), unique=True)


def _head(value: ColumnElement[Any], size: int) -> ColumnElement[Any]:
    # SQLite: a part of no bytes is NULL, which is in no list and outside of none
    nothing = bindparam(None, b"", type_=LargeBinary(), unique=True)
    return type_coerce(func.coalesce(func.substr(type_coerce(value, LargeBinary()), 1, size), nothing), LargeBinary())


def _needs(column: ColumnChange, active: Mapping[str, frozenset[int]]) -> ColumnElement[bool]:
    value = _raw(column.declaration.column)
    if column.after is not None:
        return _begins(value, bytes([FORMAT]))
    prefixes = [key_prefix(number) for number in sorted(active[column.ties[0].area])]
    if column.is_rebinding or not prefixes:
        return value.is_not(None)
    return and_(value.is_not(None), _head(value, _PREFIX_SIZE).not_in(prefixes))
