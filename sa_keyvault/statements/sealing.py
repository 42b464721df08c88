"""Seals the values of rows whose symbols are known."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Null

from sa_keyvault.errors import EncodingError, EncryptionError, UnsupportedStatementError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements.plans import EncryptedColumn, TablePlan
from sa_keyvault.types import SealedValue

__all__ = ["RowSet", "Work", "encode_column", "given_values", "has_plaintext", "seal_plaintexts", "seal_rows"]

Row = dict[str, Any]


@dataclass(frozen=True)
class RowSet:
    """The rows of one statement.

    Attributes:
        parameters: Copies of the parameters, to be changed; by parameter name.
        values: The same rows by column key, with the values of the statement itself.
        names: Parameter name of each value that the statement gives under another name.
    """

    parameters: list[Row]
    values: list[Row]
    names: Mapping[str, str]

    def give(self, key: str, given: Sequence[Any]) -> None:
        """Set the value of one column in every row."""
        name = self.names.get(key, key)
        for row, values, value in zip(self.parameters, self.values, given, strict=True):
            row[name] = values[key] = value

    def give_named(self, keys: Collection[str]) -> None:
        """Give those of *keys* that the statement has parameters for under the names that these have."""
        for key in self.names.keys() & set(keys):
            for position, values in enumerate(self.values):
                if key in values:
                    self.give_one(position, key, values[key])

    def give_one(self, position: int, key: str, value: Any) -> None:
        """Set the value of one column in one row."""
        self.parameters[position][self.names.get(key, key)] = self.values[position][key] = value


@dataclass(frozen=True)
class Work:
    """One statement on its way.

    Attributes:
        connection: The caller's connection.
        plan: The table.
        options: Execution options of the statement.
        rows: Its rows.
    """

    connection: Connection
    plan: TablePlan
    options: Mapping[str, Any]
    rows: RowSet

    @property
    def values(self) -> list[Row]:
        """The rows by column key."""
        return self.rows.values


def given_values(plan: TablePlan, key: str, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return what each row gives for the encrypted column *key*.

    Raises:
        sa_keyvault.UnsupportedStatementError: A row does not give it: to take that for NULL would lose a value.
    """
    with suppress(KeyError):
        return [row[key] for row in rows]
    number = next(number for number, row in enumerate(rows) if key not in row)
    msg = (
        f"parameter set {number} has no value for the encrypted column {key!r} of {plan.table.fullname}; "
        "give it one, None for NULL, or run statements that differ one by one"
    )
    raise UnsupportedStatementError(msg, area=plan.encrypted[key].area)


def encode_column(column: EncryptedColumn, values: Sequence[Any]) -> list[bytes | None]:
    """Return the plaintexts of *values*; None stands for NULL.

    Raises:
        sa_keyvault.EncodingError: The column's inner type cannot carry one of them.
    """
    encode = column.values.encode
    try:
        if Null not in set(map(type, values)):
            return list(map(encode, values))
        return [None if isinstance(value, Null) else encode(value) for value in values]
    except EncryptionError as error:
        problem = f"{column.declaration.binding.label}: {error.with_traceback(None)}"
    # outside the except clause: an error kept as context would hold the value in its traceback
    raise EncodingError(problem, area=column.area, label=str(column.declaration.binding.label))


def has_plaintext(encoded: Mapping[str, Sequence[bytes | None]]) -> bool:
    """Whether a value is sealed at all: NULL in every encrypted column that is set needs no key."""
    return any(plaintext is not None for plaintexts in encoded.values() for plaintext in plaintexts)


def seal_plaintexts(
    column: EncryptedColumn,
    plaintexts: Sequence[bytes | None],
    symbol_rows: Sequence[Mapping[str, Any]],
    connection: Connection,
    ring: Ring,
) -> list[bytes | None]:
    """Return the envelope of each plaintext, bound to the row at the same position."""
    given = [plaintext for plaintext in plaintexts if plaintext is not None]
    rows = symbol_rows
    if len(given) < len(plaintexts):
        pairs = zip(plaintexts, symbol_rows, strict=True)
        rows = [row for plaintext, row in pairs if plaintext is not None]
    seal = ring.sealer(column.area, column.binding, list(map(len, given)), connection)
    envelopes = seal(given, list(map(column.symbols_of, rows)))
    if len(given) == len(plaintexts):
        return list(envelopes)
    left = iter(envelopes)
    return [None if plaintext is None else next(left) for plaintext in plaintexts]


def seal_rows(
    plan: TablePlan,
    encoded: Mapping[str, Sequence[bytes | None]],
    rows: RowSet,
    symbol_rows: Sequence[Mapping[str, Any]],
    connection: Connection,
    ring: Ring,
) -> None:
    """Replace the values of encrypted columns in the parameters by sealed ones.

    Args:
        plan: The table.
        encoded: Plaintexts by column key, one per row.
        rows: The rows.
        symbol_rows: Values of the symbols, by column key, one mapping per row.
        connection: The caller's connection.
        ring: The key ring.
    """
    for key, plaintexts in encoded.items():
        column, name = plan.encrypted[key], rows.names.get(key, key)
        envelopes = seal_plaintexts(column, plaintexts, symbol_rows, connection, ring)
        for row, given, envelope in zip(rows.parameters, rows.values, envelopes, strict=True):
            row[name] = None if envelope is None else SealedValue(envelope, given.get(key))
