"""What a job does to each column of a table: how its values are bound, or stored, and how they shall be."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Table
from sqlalchemy.types import TypeEngine

from sa_keyvault.binding import Binding
from sa_keyvault.dialects import RowSymbol, RowSymbols
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.types import Declaration, encrypted_columns

__all__ = [
    "ColumnChange",
    "TableChange",
    "Tie",
    "current_tie",
    "decrypting",
    "encrypting",
    "reencrypting",
]


@dataclass(frozen=True)
class Tie:
    """One way in which values of a column are bound, or were.

    Attributes:
        area: Area of the working keys.
        binding: What the envelopes have in common.
        symbols: What names the row.
    """

    area: str
    binding: Binding
    symbols: RowSymbols

    def __str__(self) -> str:
        names = ",".join(f"{one.expression}:{one.type_!r}" for one in self.symbols.symbols)
        return f"{self.area}|{self.binding.label.parts!r}|{names}"


@dataclass(frozen=True)
class ColumnChange:
    """What is done to one column.

    Attributes:
        declaration: The column as it shall be; or as it was, where it is decrypted.
        ties: How its envelopes may be bound: first as they shall be, then as they may have been.
        before: The type of values that are not encrypted; None where there are none.
        after: The type that values shall have that are decrypted; None where they are encrypted.
        former_type: The inner type that values were sealed as, where it was another. Nothing tells afterwards which
            values were converted, so that is a job for one transaction.
    """

    declaration: Declaration
    ties: tuple[Tie, ...]
    before: TypeEngine[Any] | None = None
    after: TypeEngine[Any] | None = None
    former_type: TypeEngine[Any] | None = None

    @property
    def name(self) -> str:
        """Key of the column in its table."""
        return str(self.declaration.column.key)

    @property
    def is_rebinding(self) -> bool:
        """Whether only opening a value tells whether it is to be written."""
        return len(self.ties) > 1 or self.former_type is not None

    def __str__(self) -> str:
        verb = "decrypt" if self.after is not None else "rebind" if self.is_rebinding else "encrypt"
        if verb == "encrypt" and self.before is None:
            verb = "re-encrypt"
        return f"{verb} {self.declaration.column.name}"


@dataclass(frozen=True)
class TableChange:
    """What a job does to a table, all columns in one pass.

    Attributes:
        table: The table.
        columns: What is done to each.
    """

    table: Table
    columns: tuple[ColumnChange, ...]

    @property
    def areas(self) -> frozenset[str]:
        """The areas of all keys that its values are or were under."""
        return frozenset(tie.area for column in self.columns for tie in column.ties)

    @property
    def job_id(self) -> str:
        """What names the job: the same for all who do the same to the same table."""
        parts = [self.table.fullname]
        for column in self.columns:
            types = (column.before, column.after, column.former_type)
            parts += [str(column), *map(str, column.ties), *map(repr, types)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def __str__(self) -> str:
        return f"{self.table.fullname}: {', '.join(map(str, self.columns))}"


def reencrypting(table: Table, columns: Iterable[str] | None = None) -> TableChange:
    """Return the change that leaves every value under an active key, bound as the table declares it.

    Args:
        table: Its columns say what they were before (`formerly`, `accept_plaintext_until`).
        columns: Keys of the columns; all encrypted ones by default.
    """
    return TableChange(table, tuple(_declared(one) for one in _chosen(table, columns)))


def encrypting(table: Table, before: Mapping[str, TypeEngine[Any]]) -> TableChange:
    """Return the change that encrypts values which are stored as another type.

    Args:
        table: Declares the columns as they shall be.
        before: How values of each column were declared, by column key.
    """
    chosen = _chosen(table, before)
    return TableChange(
        table, tuple(ColumnChange(one, (current_tie(one),), before=before[one.column.key]) for one in chosen)
    )


def decrypting(table: Table, after: Mapping[str, TypeEngine[Any]]) -> TableChange:
    """Return the change that decrypts values.

    Args:
        table: Declares the columns as they were.
        after: How values of each column shall be stored, by column key.
    """
    chosen = _chosen(table, after)
    return TableChange(table, tuple(ColumnChange(one, _ties(one), after=after[one.column.key]) for one in chosen))


def current_tie(declaration: Declaration) -> Tie:
    """Return how values of a column are bound by its declaration."""
    symbols = _row_symbols((symbol, symbol.type) for symbol in declaration.symbols)
    binding = declaration.binding
    return Tie(declaration.type_.area, binding, RowSymbols(symbols, binding.form))


def _former_tie(declaration: Declaration) -> Tie | None:
    """Return how values of a column were bound before, by its declaration."""
    former = declaration.former
    if former is None:
        return None
    return Tie(declaration.type_.area, former.binding, RowSymbols(_row_symbols(former.symbols), former.binding.form))


def _row_symbols(named: Iterable[tuple[Column[Any], TypeEngine[Any]]]) -> tuple[RowSymbol, ...]:
    return tuple(RowSymbol(column, type_, is_equivalent=False) for column, type_ in named)


def _declared(declaration: Declaration) -> ColumnChange:
    type_ = declaration.type_
    before = type_.inner if type_.accept_plaintext_until is not None else None
    return ColumnChange(declaration, _ties(declaration), before=before)


def _ties(declaration: Declaration) -> tuple[Tie, ...]:
    former = _former_tie(declaration)
    return (current_tie(declaration),) if former is None else (current_tie(declaration), former)


def _chosen(table: Table, columns: Iterable[str] | None) -> Sequence[Declaration]:
    if not table.primary_key.columns:
        msg = f"{table.fullname} has no primary key, so no job can walk through it; update the rows in the application"
        raise ConfigurationError(msg)
    declared = {str(one.column.key): one for one in encrypted_columns(table)}
    names = list(declared) if columns is None else list(columns)
    if unknown := [name for name in names if name not in declared]:
        msg = f"{table.fullname} has no encrypted column {unknown[0]!r}; it has: {', '.join(declared) or 'none'}"
        raise ConfigurationError(msg)
    if not names:
        msg = f"{table.fullname} has no encrypted column"
        raise ConfigurationError(msg)
    return [declared[name] for name in names]
