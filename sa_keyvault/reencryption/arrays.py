"""Columns of values as arrays of PostgreSQL: made in one go, where a driver would look at each value by itself."""

from collections.abc import Sequence
from functools import cache
from struct import Struct
from typing import Any

from sqlalchemy import Connection

__all__ = ["array_of"]

_DRIVERS = ("psycopg", "psycopg_async")
_HEAD = Struct("!iiIii")  # dimensions, whether values may be NULL, type, length, first index
_LENGTH = Struct("!i")
_BYTEA = 17
_NULL = _LENGTH.pack(-1)


class _Binary:
    """An array in the binary form of PostgreSQL's protocol; not shown, because statements are logged."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def array_of(values: Sequence[Any], connection: Connection) -> Any:
    """Return an array as the driver sends it on."""
    if connection.dialect.driver not in _DRIVERS:
        return list(values)
    if all(type(value) is int for value in values):
        return "{" + ",".join(map(str, values)) + "}"
    if not all(value is None or type(value) is bytes for value in values):
        return list(values)
    # half the bytes of an array as text, which the server would have to read
    driver_connection: Any = connection.connection.driver_connection
    driver_connection.adapters.register_dumper(_Binary, _dumper())
    pack = _LENGTH.pack
    items = [_NULL if value is None else pack(len(value)) + value for value in values]
    return _Binary(_HEAD.pack(1, 1, _BYTEA, len(items), 1) + b"".join(items))


@cache
def _dumper() -> Any:
    """Return what psycopg makes of a binary array; the statement says its type."""
    from psycopg.adapt import Dumper  # noqa: PLC0415 - where it is the driver
    from psycopg.pq import Format  # noqa: PLC0415

    class BinaryDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: _Binary) -> bytes:
            return obj.data

    return BinaryDumper
