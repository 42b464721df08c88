"""What the key store remembers of encrypted columns."""

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sa_keyvault.store.access import execute, values_of
from sa_keyvault.store.reading import records
from sa_keyvault.store.schema import column_table

__all__ = ["ColumnRow", "add_column", "columns", "delete_column", "replace_column"]


@dataclass(frozen=True)
class ColumnRow:
    """What the key store remembers of one encrypted column.

    Attributes:
        schema_name: Schema, empty where there is none.
        table_name: Table.
        column_name: Column.
        label: The label's bytes, as they stand in the associated data.
        area: Area of its working keys.
        inner_type: Readable name of the type that is encrypted.
    """

    schema_name: str
    table_name: str
    column_name: str
    label: bytes
    area: str
    inner_type: str


def columns(connection: Connection) -> dict[tuple[str, str, str], ColumnRow]:
    """Return what is remembered of each column, by schema, table and column name."""
    rows = records(ColumnRow, column_table, execute(connection, select(column_table)))
    return {(row.schema_name, row.table_name, row.column_name): row for row in rows}


def add_column(connection: Connection, row: ColumnRow) -> None:
    """Remember an encrypted column."""
    execute(connection, insert(column_table).values(values_of(row)))


def replace_column(connection: Connection, row: ColumnRow) -> None:
    """Remember a changed declaration of an encrypted column."""
    key = {"schema_name": row.schema_name, "table_name": row.table_name, "column_name": row.column_name}
    same = [column_table.c[name] == bindparam(f"key_{name}", value) for name, value in key.items()]
    execute(connection, update(column_table).where(*same).values(values_of(row)))


def delete_column(connection: Connection, key: tuple[str, str, str]) -> None:
    """Forget a column that is encrypted no more; by schema, table and column name."""
    names = (column_table.c.schema_name, column_table.c.table_name, column_table.c.column_name)
    same = [name == value for name, value in zip(names, key, strict=True)]
    execute(connection, delete(column_table).where(*same))
