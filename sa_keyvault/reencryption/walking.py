"""The statements that a job reads with: the next rows of a table in the order of its primary key, by batches."""

from collections.abc import Mapping, Sequence
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


class Walk:
    """Makes the SELECT statements of one job.

    Every row is selected as its primary key, then the symbols of its values, each kind of them once, then the stored
    values; all as the driver hands them out.

    Args:
        change: What the job does.
    """

    def __init__(self, change: TableChange) -> None:
        self._change = change
        self._keys = tuple(_raw(column) for column in change.table.primary_key.columns)
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
        return len(self._keys)

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
        return self._rows().where(range_, self.needed(active)).order_by(*self._keys).limit(size)

    def by_keys(self, keys: Sequence[RowKey]) -> Select[Any]:
        """Select the rows with these keys, in the order of all of them."""
        rows = self._rows().order_by(*self._keys)
        if len(self._keys) == 1:
            return rows.where(self._keys[0].in_([key[0] for key in keys]))
        return rows.where(tuple_(*self._keys).in_(keys))

    def between(self, first: RowKey, last: RowKey, size: int) -> Select[Any]:
        """Select up to *size* rows from one key to another, both included."""
        range_ = and_(self._beyond(first, is_inclusive=True), self._until(last))
        return self._rows().where(range_).order_by(*self._keys).limit(size)

    def count(self, active: Mapping[str, frozenset[int]]) -> Select[Any]:
        """Select how many rows are to be written, as far as the key numbers tell."""
        return select(func.count()).select_from(self._change.table).where(self.needed(active))

    def ends(self, size: int) -> Select[Any]:
        """Select the key of every row at a multiple of *size*, in order: where parts of the table end."""
        place = func.row_number().over(order_by=self._keys).label("place")
        keys = [key.label(f"key_{number}") for number, key in enumerate(self._keys)]
        numbered = select(*keys, place).subquery()
        columns = [numbered.c[f"key_{number}"] for number in range(len(keys))]
        return select(*columns).where(numbered.c.place % size == 0).order_by(numbered.c.place)

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
        return [*self._keys, *symbols, *values]

    def _rows(self) -> Select[Any]:
        return select(*self.columns).select_from(self._change.table)

    def _after(self, key: RowKey | None) -> ColumnElement[bool]:
        return true() if key is None else self._beyond(key, is_inclusive=False)

    def _until(self, key: RowKey | None) -> ColumnElement[bool]:
        if key is None:
            return true()
        # no index is searched for the negation: without a bound of its own, all rows behind would be read
        return and_(self._keys[0] <= _bound(key[0]), ~self._beyond(key, is_inclusive=False))

    def _beyond(self, key: RowKey, *, is_inclusive: bool) -> ColumnElement[bool]:
        """Return `columns > key` (or `>=`), spelled out: MariaDB reads the whole index for a comparison of rows."""
        pairs = list(zip(self._keys, map(_bound, key), strict=True))
        criterion: ColumnElement[bool] = true() if is_inclusive else false()
        for column, value in reversed(pairs):
            criterion = or_(column > value, and_(column == value, criterion))
        # the index is searched by the first column
        return and_(pairs[0][0] >= pairs[0][1], criterion)


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
