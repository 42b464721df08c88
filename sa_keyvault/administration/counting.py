"""How many stored values depend on each working key, counted by the database from the envelopes' headers."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, LargeBinary, column, func, inspect, select, table, type_coerce

from sa_keyvault import store
from sa_keyvault.envelope import FORMAT

__all__ = ["ValueCount", "count_values"]

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

    A table or column that is not there any more has no values.
    """
    return [count for row in store.columns(connection).values() for count in _of_column(connection, row)]


def _of_column(connection: Connection, row: store.ColumnRow) -> Iterator[ValueCount]:
    schema = row.schema_name or None
    inspector = inspect(connection)
    if not inspector.has_table(row.table_name, schema=schema):
        return
    if row.column_name not in {found["name"] for found in inspector.get_columns(row.table_name, schema=schema)}:
        return
    stored = type_coerce(column(row.column_name), LargeBinary)
    prefix = type_coerce(func.substr(stored, 1, _PREFIX_SIZE), LargeBinary).label("prefix")
    source = table(row.table_name, column(row.column_name), schema=schema)
    statement = select(prefix, func.count()).select_from(source).where(stored.is_not(None)).group_by(prefix)
    counts: Counter[int | None] = Counter()
    for found, values in map(tuple, store.execute(connection, statement)):
        counts[_number(found)] += int(values)
    for number, values in sorted(counts.items(), key=lambda item: item[0] or 0):
        yield ValueCount(row.schema_name, row.table_name, row.column_name, number, values)


def _number(prefix: object) -> int | None:
    # a column that is being encrypted in place has texts beside envelopes
    data = prefix.encode() if isinstance(prefix, str) else bytes(prefix)  # type: ignore[call-overload]
    if len(data) != _PREFIX_SIZE or data[0] != FORMAT:
        return None
    return int.from_bytes(data[1:], "big")
