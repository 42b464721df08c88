"""Stored rows that are sealed again: read with their envelopes, locked, opened as bytes and bound anew.

Values are not decoded on the way: JSON's null and SQL's NULL are both None in Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, LargeBinary, Select

from sa_keyvault.dialects import RowBytes
from sa_keyvault.statements.locks import locked
from sa_keyvault.statements.own import CRITERIA_OF_OTHERS, internal
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.types import bytes_reader, find_symbols

__all__ = ["StoredRow", "read_rows"]


@dataclass(frozen=True)
class StoredRow:
    """A row as the database has it.

    Attributes:
        symbols: Values of key and symbols, by column key.
        plaintexts: Opened values of the columns that were asked for, by key; None stands for NULL.
    """

    symbols: dict[str, Any]
    plaintexts: dict[str, bytes | None]


def read_rows(
    connection: Connection,
    plan: TablePlan,
    statement: Select[Any],
    keys: Sequence[str],
    options: Mapping[str, Any],
) -> list[StoredRow]:
    """Read and lock the rows that *statement* selects.

    Args:
        connection: The caller's connection.
        plan: The table.
        statement: A SELECT of nothing, with its criteria; the columns are added here.
        keys: Encrypted columns to open.
        options: Execution options of the caller's statement.
    """
    named = {**{column.key: column for column in plan.key}, **plan.symbols}
    columns: list[ColumnElement[Any]] = [column.label(f"symbol_{key}") for key, column in named.items()]
    for key in keys:
        encrypted = plan.encrypted[key]
        column = encrypted.declaration.column
        columns.append(RowBytes(column, find_symbols(column)[1], LargeBinary()).label(f"envelope_{key}"))
    chosen = locked(connection, statement.with_only_columns(*columns, maintain_column_froms=True), plan.table, options)
    found = connection.execute(chosen, execution_options={**internal(options), CRITERIA_OF_OTHERS: True}).all()
    width = len(named)
    readers = [bytes_reader(plan.encrypted[key].declaration, connection.dialect) for key in keys]
    return [
        StoredRow(
            symbols=dict(zip(named, row[:width], strict=True)),
            plaintexts={key: read(stored) for key, read, stored in zip(keys, readers, row[width:], strict=True)},
        )
        for row in found
    ]
