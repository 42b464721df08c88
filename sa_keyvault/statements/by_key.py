"""Writes sealed values into rows that are there already, each found by its primary key."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, update

from sa_keyvault.keyring import Ring
from sa_keyvault.statements.locks import unchanged
from sa_keyvault.statements.own import internal
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.sealing import seal_plaintexts
from sa_keyvault.types import SealedValue

__all__ = ["write_by_key"]

# SQLAlchemy takes a parameter with the name of a column for that column's value
_KEY, _SEALED = "sa_keyvault_key_", "sa_keyvault_sealed_"


def write_by_key(
    plan: TablePlan,
    encoded: Mapping[str, Sequence[bytes | None]],
    rows: Sequence[Mapping[str, Any]],
    symbol_rows: Sequence[Mapping[str, Any]],
    connection: Connection,
    ring: Ring,
    options: Mapping[str, Any],
) -> None:
    """Seal the plaintexts and write them with one UPDATE statement for all rows.

    Args:
        plan: The table.
        encoded: Plaintexts by column key, one per row; None stands for NULL.
        rows: The primary key that each row is found by, by column key.
        symbol_rows: The symbols that each row's values are bound to, by column key.
        connection: The caller's connection.
        ring: The key ring.
        options: Execution options of the caller's statement.
    """
    parameters: list[dict[str, Any]] = [{f"{_KEY}{column.key}": row[column.key] for column in plan.key} for row in rows]
    for key, plaintexts in encoded.items():
        envelopes = seal_plaintexts(plan.encrypted[key], plaintexts, symbol_rows, connection, ring)
        for row, envelope in zip(parameters, envelopes, strict=True):
            row[f"{_SEALED}{key}"] = None if envelope is None else SealedValue(envelope, None)
    columns = plan.table.c
    same = [column == bindparam(f"{_KEY}{column.key}", type_=column.type) for column in plan.key]
    sealed = {columns[key]: bindparam(f"{_SEALED}{key}", type_=columns[key].type) for key in encoded}
    statement = update(plan.table).where(*same).values({**sealed, **unchanged(plan.table, encoded)})
    connection.execute(statement, parameters, execution_options=internal(options))
