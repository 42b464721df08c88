"""Rows as records: each field has the type that the library writes, or the row is refused.

SQLite keeps a value of any type in any column, and what is signed must have one reading: `b"%d" % 1.5` is `b"1"`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

from sqlalchemy import CursorResult, Table

from sa_keyvault.errors import KeyRecordError
from sa_keyvault.states import KeyState

__all__ = ["records", "typed_columns", "typed_values"]

_Record = TypeVar("_Record")

_PORTION = 250  # rows; of more at once, the garbage collector would look at each again and again
_BUFFERS = frozenset({bytes, bytearray, memoryview})
_SHOWN = 64  # characters of a key
_REMEDY = "the row was changed outside the library; restore it from a backup of the key store"


def records(kind: Callable[..., _Record], table: Table, result: CursorResult[Any]) -> Iterator[_Record]:
    """Yield the record of each row.

    Raises:
        sa_keyvault.KeyRecordError: A field is of another type than the library writes.
    """
    for columns in typed_columns(kind, table, result):
        yield from map(kind, *columns)


def typed_columns(kind: Any, table: Table, result: CursorResult[Any]) -> Iterator[list[Sequence[Any]]]:
    """Yield the values of each field of a record, in the order of the fields, for some rows at a time.

    Raises:
        sa_keyvault.KeyRecordError: A field is of another type than the library writes.
    """
    names, types = tuple(result.keys()), _types_of(kind)
    for rows in result.partitions(_PORTION):
        # whole columns, because a call for each of a million fields would take longer than to read them
        by_name = dict(zip(names, zip(*rows, strict=True), strict=True))
        yield [_typed(table, by_name, name, wanted) for name, wanted in types.items()]


def typed_values(type_: type, table: Table, name: str, values: Sequence[Any]) -> Sequence[Any]:
    """Return the values of one column.

    Raises:
        sa_keyvault.KeyRecordError: One of them is of another type.
    """
    if any(found is not type_ for found in set(map(type, values))):
        odd = next(value for value in values if type(value) is not type_)
        msg = f"a row of {table.name} has a {name} of type {type(odd).__name__}, not {type_.__name__}; {_REMEDY}"
        raise KeyRecordError(msg)
    return values


def _typed(table: Table, columns: Mapping[str, Sequence[Any]], name: str, types: frozenset[type]) -> Sequence[Any]:
    values = columns[name]
    found = set(map(type, values))
    if not found <= types:
        _refuse(table, columns, name, next(place for place, one in enumerate(values) if type(one) not in types))
    return tuple(map(bytes, values)) if types is _BUFFERS and found != {bytes} else values


@cache
def _types_of(kind: Any) -> dict[str, frozenset[type]]:
    return {name: _types(hint) for name, hint in get_type_hints(kind).items()}


def _types(hint: Any) -> frozenset[type]:
    if hint is bytes:
        return _BUFFERS
    if isinstance(hint, UnionType):
        return frozenset(get_args(hint))
    return frozenset({str if hint is KeyState else hint})


def _refuse(table: Table, columns: Mapping[str, Sequence[Any]], name: str, place: int) -> NoReturn:
    keys = {key.name: columns[key.name][place] for key in table.primary_key if key.name in columns.keys() - {name}}
    # a key may be anything itself
    shown = [f"{key} {value!r:.{_SHOWN}}" for key, value in keys.items() if type(value) in (int, str)]
    where = f"{table.name} ({', '.join(shown)})" if shown else f"a row of {table.name}"
    odd = columns[name][place]
    found = "NULL" if odd is None else f"of type {type(odd).__name__}"
    msg = f"{name} of {where} is {found}, which the library never writes; {_REMEDY}"
    raise KeyRecordError(msg)
