"""How many stored values depend on each working key, counted by the database from the envelopes' headers."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BINARY,
    VARBINARY,
    Connection,
    LargeBinary,
    String,
    column,
    func,
    inspect,
    select,
    table,
    type_coerce,
)

from sa_keyvault import store
from sa_keyvault.envelope import FORMAT

__all__ = ["ValueCount", "count_newest_values", "count_values", "missing_columns"]

_PREFIX_SIZE = 5  # bytes: format and key number


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


def count_values(connection: Connection) -> list[ValueCount]:
    """Count the values of every column that the key store remembers; nothing is decrypted.

    A table or column that is not there any more is left out: see `missing_columns`.
    """
    return _count(connection, lambda statement: statement)


def count_newest_values(connection: Connection) -> list[ValueCount]:
    """Count as `count_values`, but what is newest, also where the transaction has an older snapshot.

    MariaDB reads the newest rows only if it locks them.
    """
    is_mariadb = connection.dialect.name in ("mysql", "mariadb")
    return _count(connection, lambda statement: statement.with_for_update(read=True) if is_mariadb else statement)


def missing_columns(connection: Connection, area: str) -> list[str]:
    """Return the columns of an area that the key store remembers, and that cannot be counted."""
    rows = [row for row in store.columns(connection).values() if row.area == area]
    return [f"{row.table_name}.{row.column_name}" for row in rows if not _is_countable(connection, row)]


def _count(connection: Connection, prepare: Callable[[Any], Any]) -> list[ValueCount]:
    rows = [row for row in store.columns(connection).values() if _is_countable(connection, row)]
    return [count for row in rows for count in _of_column(connection, row, prepare)]


def _is_countable(connection: Connection, row: store.ColumnRow) -> bool:
    """Whether a column is there, and holds bytes or texts."""
    schema, inspector = row.schema_name or None, inspect(connection)
    if not inspector.has_table(row.table_name, schema=schema):
        return False
    types = {found["name"]: found["type"] for found in inspector.get_columns(row.table_name, schema=schema)}
    found = types.get(row.column_name)
    if connection.dialect.name == "sqlite":
        # a column of any type holds bytes, and one that was encrypted in place keeps the type it was declared with
        return found is not None
    return isinstance(found, (LargeBinary, BINARY, VARBINARY, String)) or _is_bytes(found)


def _is_bytes(found: Any) -> bool:
    try:
        return found is not None and found.python_type in (bytes, str)
    except NotImplementedError:
        return False


def _of_column(connection: Connection, row: store.ColumnRow, prepare: Callable[[Any], Any]) -> Iterator[ValueCount]:
    stored = type_coerce(column(row.column_name), LargeBinary)
    prefix = type_coerce(func.substr(stored, 1, _PREFIX_SIZE), LargeBinary).label("prefix")
    source = table(row.table_name, column(row.column_name), schema=row.schema_name or None)
    statement = select(prefix, func.count()).select_from(source).where(stored.is_not(None)).group_by(prefix)
    counts: Counter[int | None] = Counter()
    for found, values in map(tuple, store.execute(connection, prepare(statement))):
        counts[_number(found)] += int(values)
    for number, values in sorted(counts.items(), key=lambda item: item[0] or 0):
        yield ValueCount(row.schema_name, row.table_name, row.column_name, number, values)


def _number(prefix: object) -> int | None:
    # a column that is being encrypted in place has texts beside envelopes
    if prefix is None:
        # SQLite's part of an empty value
        return None
    data = prefix.encode() if isinstance(prefix, str) else bytes(prefix)  # type: ignore[call-overload]
    if len(data) != _PREFIX_SIZE or data[0] != FORMAT:
        return None
    return int.from_bytes(data[1:], "big")
