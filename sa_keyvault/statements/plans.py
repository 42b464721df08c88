"""What is known of a table before a statement on it is looked at: its encrypted columns and their symbols."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Dialect, Table

from sa_keyvault.binding import Binding, SymbolForm, join_symbols
from sa_keyvault.dialects import is_collated, symbol_writer
from sa_keyvault.types import Declaration, ValueCodec, encrypted_columns, value_codec

__all__ = ["EncryptedColumn", "Plans", "TablePlan"]


@dataclass(frozen=True)
class EncryptedColumn:
    """An encrypted column, ready to be sealed on one engine.

    Attributes:
        declaration: As its table declares it.
        key: Its key in parameters.
        area: Area of its working keys.
        binding: What its envelopes have in common.
        values: Its value codec.
        symbol_keys: Keys of the columns that name its row, in order.
        symbols_of: The function that makes the symbols of a row, as they stand in the associated data.
    """

    declaration: Declaration
    key: str
    area: str
    binding: Binding
    values: ValueCodec
    symbol_keys: tuple[str, ...]
    symbols_of: Callable[[Mapping[str, Any]], bytes]


@dataclass(frozen=True)
class TablePlan:
    """A table with encrypted columns, on one engine.

    Attributes:
        table: The table.
        encrypted: Its encrypted columns, by key.
        symbols: Every column that names a row of one of them, by key; the primary key first.
        bound: The keys of both.
        columns: The keys of all its columns.
        writers: The function that makes canonical text of a value, by key.
        collated: Keys of the symbols that a database may find by a value that is not the stored one.
    """

    table: Table
    encrypted: Mapping[str, EncryptedColumn]
    symbols: Mapping[str, Column[Any]]
    bound: frozenset[str]
    columns: frozenset[str]
    writers: Mapping[str, Callable[[Any], bytes]]
    collated: frozenset[str]

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The primary key's columns."""
        return tuple(self.table.primary_key.columns)


class Plans:
    """The plans of one engine's tables, made at the first statement on each."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._plans: WeakKeyDictionary[Table, tuple[int, TablePlan | None]] = WeakKeyDictionary()

    def of(self, table: Any) -> TablePlan | None:
        """Return the plan of *table*, or None where it has no encrypted column (or is no table).

        Raises:
            sa_keyvault.ConfigurationError: A declaration cannot be honoured.
        """
        if not isinstance(table, Table):
            return None
        known = self._plans.get(table)
        if known is None or known[0] != len(table.columns):
            # an ORM statement brings an annotated copy, which would not live as long as its plan
            plain = table.metadata.tables.get(table.key, table)
            known = (len(plain.columns), self._make(plain))
            self._plans[plain] = known
        return known[1]

    def _make(self, table: Table) -> TablePlan | None:
        declarations = encrypted_columns(table)
        if not declarations:
            return None
        symbols = {symbol.key: symbol for declaration in declarations for symbol in declaration.symbols}
        writers = {key: symbol_writer(symbol, self._dialect) for key, symbol in symbols.items()}
        encrypted = {declaration.column.key: self._column(declaration, writers) for declaration in declarations}
        return TablePlan(
            table=table,
            encrypted=encrypted,
            symbols=symbols,
            bound=frozenset([*encrypted, *symbols]),
            columns=frozenset(table.columns.keys()),
            writers=writers,
            collated=frozenset(key for key, symbol in symbols.items() if is_collated(symbol, self._dialect)),
        )

    def _column(self, declaration: Declaration, writers: Mapping[str, Callable[[Any], bytes]]) -> EncryptedColumn:
        keys = tuple(symbol.key for symbol in declaration.symbols)
        return EncryptedColumn(
            declaration=declaration,
            key=declaration.column.key,
            area=declaration.type_.area,
            binding=declaration.binding,
            values=value_codec(declaration.type_.inner, self._dialect),
            symbol_keys=keys,
            symbols_of=_joiner([(key, writers[key]) for key in keys], declaration.binding.form),
        )


def _joiner(
    writers: Sequence[tuple[str, Callable[[Any], bytes]]], form: SymbolForm
) -> Callable[[Mapping[str, Any]], bytes]:
    key, write = writers[0]
    if len(writers) == 1 and form is SymbolForm.COLON:
        # nearly every table; called once for each value that is written
        return lambda row: b":" + write(row[key])
    return lambda row: join_symbols([write(row[key]) for key, write in writers], form)
