"""What is known of a table before a statement on it is looked at: its encrypted columns and their symbols."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Dialect, Table, event

from sa_keyvault.binding import Binding, SymbolForm, join_symbols
from sa_keyvault.dialects import is_collated, symbol_writer
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.statements.defaults import has_client_default, has_client_onupdate
from sa_keyvault.types import Declaration, ValueCodec, encrypted_columns, value_codec

__all__ = ["EncryptedColumn", "Plans", "TablePlan", "listen_to_columns"]

_ATTACHED = "_sa_keyvault_attached"


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
        defaults: The columns with a client-side default, in order.
        onupdates: The columns with a client-side `onupdate`, in order.
    """

    table: Table
    encrypted: Mapping[str, EncryptedColumn]
    symbols: Mapping[str, Column[Any]]
    bound: frozenset[str]
    columns: frozenset[str]
    writers: Mapping[str, Callable[[Any], bytes]]
    collated: frozenset[str]
    defaults: tuple[Column[Any], ...]
    onupdates: tuple[Column[Any], ...]

    @property
    def key(self) -> tuple[Column[Any], ...]:
        """The primary key's columns."""
        return tuple(self.table.primary_key.columns)


def listen_to_columns() -> None:
    """Count, in each table, the columns that were put into it or in another's place, so that its plan is made anew."""
    if not event.contains(Column, "after_parent_attach", _on_attached):
        event.listen(Column, "after_parent_attach", _on_attached)


def _on_attached(column: Column[Any], parent: Any) -> None:
    if isinstance(parent, Table):
        setattr(parent, _ATTACHED, getattr(parent, _ATTACHED, 0) + 1)


@dataclass(frozen=True)
class _Known:
    """What was found of a table.

    Attributes:
        attached: How many columns had been put into it by then.
        plan: Its plan.
        plain: Keys of the columns that were not encrypted.
    """

    attached: int
    plan: TablePlan | None
    plain: frozenset[str]


class Plans:
    """The plans of one engine's tables, made at the first statement on each."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: WeakKeyDictionary[Table, _Known] = WeakKeyDictionary()

    def of(self, table: Any) -> TablePlan | None:
        """Return the plan of *table*, or None where it has no encrypted column (or is no table).

        Raises:
            sa_keyvault.ConfigurationError: A declaration cannot be honoured.
        """
        if not isinstance(table, Table):
            return None
        known = self._known.get(table)
        if known is None or known.attached != getattr(table, _ATTACHED, 0):
            # an ORM statement brings an annotated copy, which would not live as long as its plan
            itself = table.metadata.tables.get(table.key, table)
            known = self._look(itself, known)
            self._known[itself] = known
        return known.plan

    def _look(self, table: Table, before: _Known | None) -> _Known:
        plan = self._make(table)
        encrypted = frozenset(plan.encrypted if plan else ())
        if before is not None and (changed := sorted(encrypted & before.plain)):
            msg = (
                f"column {changed[0]!r} of {table.fullname} was plain when a statement on it was run first, which "
                "SQLAlchemy keeps compiled and would send its values as they are; declare it encrypted before"
            )
            raise ConfigurationError(msg)
        return _Known(getattr(table, _ATTACHED, 0), plan, frozenset(table.columns.keys()) - encrypted)

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
            defaults=tuple(filter(has_client_default, table.columns)),
            onupdates=tuple(filter(has_client_onupdate, table.columns)),
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
