"""Seals the values of rows whose symbols are known."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from sa_keyvault.errors import EncodingError, EncryptionError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements.plans import EncryptedColumn, TablePlan
from sa_keyvault.types import SealedValue

__all__ = ["encode_column", "seal_plaintexts", "seal_rows"]

Row = dict[str, Any]


def encode_column(column: EncryptedColumn, values: Iterable[Any]) -> list[bytes | None]:
    """Return the plaintexts of *values*; None stands for NULL.

    Raises:
        sa_keyvault.EncodingError: The column's inner type cannot carry one of them.
    """
    encode = column.values.encode
    try:
        return [encode(value) for value in values]
    except EncryptionError as error:
        problem = f"{column.declaration.binding.label}: {error}"
    # outside the except clause: a traceback kept as context would hold the value
    raise EncodingError(problem, area=column.area, label=str(column.declaration.binding.label))


def seal_plaintexts(
    plan: TablePlan,
    column: EncryptedColumn,
    plaintexts: Sequence[bytes | None],
    symbol_rows: Sequence[Mapping[str, Any]],
    connection: Connection,
    ring: Ring,
) -> list[bytes | None]:
    """Return the envelope of each plaintext, bound to the row at the same position."""
    count = sum(plaintext is not None for plaintext in plaintexts)
    sealers = ring.sealers(column.area, count, connection)
    binding, symbols_of = column.binding, plan.symbols_of
    return [
        None if plaintext is None else next(sealers)(plaintext, binding, symbols_of(column, row))
        for plaintext, row in zip(plaintexts, symbol_rows, strict=True)
    ]


def seal_rows(
    plan: TablePlan,
    encoded: Mapping[str, Sequence[bytes | None]],
    rows: Sequence[Row],
    symbol_rows: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    connection: Connection,
    ring: Ring,
) -> None:
    """Replace the values of encrypted columns in *rows*, which are the library's own copies, by sealed ones.

    Args:
        plan: The table.
        encoded: Plaintexts by column key, one per row.
        rows: Parameters to change.
        symbol_rows: Values of the symbols, by column key, one mapping per row.
        names: Parameter name of each encrypted column that has not its own key.
        connection: The caller's connection.
        ring: The key ring.
    """
    for key, plaintexts in encoded.items():
        column, name = plan.encrypted[key], names.get(key, key)
        envelopes = seal_plaintexts(plan, column, plaintexts, symbol_rows, connection, ring)
        for row, envelope in zip(rows, envelopes, strict=True):
            row[name] = None if envelope is None else SealedValue(envelope, row.get(name))
