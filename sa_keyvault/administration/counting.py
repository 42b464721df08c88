"""How many stored values depend on each working key, counted by the database from the envelopes' headers."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, LargeBinary, column, func, inspect, select, table, type_coerce
from sqlalchemy.exc import DBAPIError

from sa_keyvault import store
from sa_keyvault.administration.places import Place, places
from sa_keyvault.envelope import FORMAT
from sa_keyvault.errors import KeyStoreError

__all__ = ["ValueCount", "count_newest_values", "count_values", "hidden_columns", "missing_columns"]

_PREFIX_SIZE = 5  # bytes: format and key number
_LOOKED_UP = 1000  # key numbers in one statement
# MariaDB's errors for an unknown database, an unknown table, and one that is newer than the transaction's snapshot
_GONE = (1049, 1146)
_IN_MOTION = (*_GONE, 1412)


_Prepare = Callable[[Place, Any], Any]


@dataclass(frozen=True)
class ValueCount:
    """How many values of one column are under one working key.

    Attributes:
        schema_name: Schema, empty where there is none.
        table_name: Table.
        column_name: Column.
        number: The working key; None for values that are no envelopes.
        values: How many.
    """

    schema_name: str
    table_name: str
    column_name: str
    number: int | None
    values: int

    @property
    def name(self) -> str:
        """The column in words."""
        return ".".join(filter(None, (self.schema_name, self.table_name, self.column_name)))


def count_values(connection: Connection) -> list[ValueCount]:
    """Count the values of every column that the key store remembers; nothing is decrypted.

    An equally named column in another schema counts too, as soon as one of its values is under a key of this store:
    others are of another application. A table or column that is not there any more, or that may not be read, is left
    out: see `missing_columns` and `hidden_columns`.

    Raises:
        sa_keyvault.KeyStoreError: The database refuses to count.
    """
    return _count(connection, _plain)


def count_newest_values(connection: Connection) -> list[ValueCount]:
    """Count as `count_values`, but what is newest, also where the transaction has an older snapshot.

    MariaDB reads the newest rows only if it locks them. A database with a key store of its own is another
    application's, or a copy, whose rows are not locked.
    """
    is_mariadb = connection.dialect.name in ("mysql", "mariadb")
    return _count(connection, _locking if is_mariadb else _plain)


def missing_columns(connection: Connection) -> dict[str, str]:
    """Return the columns that may hold values and cannot be counted, each with the reason, in words by area."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for place in places(connection):
        for area in place.areas if place.problem else ():
            found[area].append(f"{place} ({place.problem})")
    return {area: ", ".join(columns) for area, columns in found.items()}


def hidden_columns(connection: Connection) -> list[str]:
    """Return the columns that may hold values and that this role may not read."""
    return [str(place) for place in places(connection) if place.is_hidden]


def _count(connection: Connection, prepare: _Prepare) -> list[ValueCount]:
    countable = [place for place in places(connection) if not place.problem]
    return [count for place in countable for count in _of_place(connection, place, prepare)]


def _plain(_: Place, statement: Any) -> Any:
    return statement


def _locking(place: Place, statement: Any) -> Any:
    return statement if place.is_foreign else statement.with_for_update(read=True)


def _code(error: DBAPIError) -> object:
    arguments = getattr(error.orig, "args", ())
    return arguments[0] if arguments else None


def _of_place(connection: Connection, place: Place, prepare: _Prepare) -> Iterator[ValueCount]:
    counts = _numbers(connection, place, prepare)
    if place.is_remembered or _has_own(connection, [number for number in counts if number is not None]):
        for number, values in sorted(counts.items(), key=lambda item: item[0] or 0):
            yield ValueCount(place.schema_name, place.table_name, place.column_name, number, values)


def _numbers(connection: Connection, place: Place, prepare: _Prepare) -> Counter[int | None]:
    """Return how many values of a column are under each number."""
    stored = type_coerce(column(place.column_name), LargeBinary)
    prefix = type_coerce(func.substr(stored, 1, _PREFIX_SIZE), LargeBinary).label("prefix")
    source = table(place.table_name, column(place.column_name), schema=place.schema_name or None)
    statement = select(prefix, func.count()).select_from(source).where(stored.is_not(None)).group_by(prefix)
    counts: Counter[int | None] = Counter()
    try:
        for found, values in map(tuple, store.execute(connection, prepare(place, statement))):
            counts[_number(found)] += int(values)
    except DBAPIError as error:
        if not place.is_remembered and _code(error) in (_IN_MOTION if place.is_foreign else _GONE):
            # another application's, which was dropped or made since the catalog was read
            return Counter()
        problem = type(error.orig).__name__
    else:
        return counts
    msg = f"the values in {place} cannot be counted ({problem}); use a role that may read all of them, and try again"
    raise KeyStoreError(msg)


def _has_own(connection: Connection, numbers: Sequence[int]) -> bool:
    """Whether one of the numbers is that of a key of this store."""
    if not numbers or not inspect(connection).has_table("keyvault_working_key"):
        # a key store that was dropped in part
        return False
    wanted = sorted(numbers)
    portions = (wanted[start : start + _LOOKED_UP] for start in range(0, len(wanted), _LOOKED_UP))
    return any(store.working_numbers(connection, portion) for portion in portions)


def _number(prefix: object) -> int | None:
    # a column that is being encrypted in place has texts beside envelopes
    if prefix is None:
        # SQLite's part of an empty value
        return None
    data = prefix.encode() if isinstance(prefix, str) else bytes(prefix)  # type: ignore[call-overload]
    if len(data) != _PREFIX_SIZE or data[0] != FORMAT:
        return None
    return int.from_bytes(data[1:], "big")
