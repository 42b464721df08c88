"""What an operation of a migration means for a job: the table with its symbols, and how values are bound."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, inspect
from sqlalchemy.types import TypeEngine

from sa_keyvault import store
from sa_keyvault.binding import Binding, Label
from sa_keyvault.dialects import RowSymbol, RowSymbols, symbol_form
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.migrations.column_operations import ColumnOperation, Path, Symbols
from sa_keyvault.migrations.conversions import DecryptColumnOp, EncryptColumnOp
from sa_keyvault.migrations.rewriting import RebindColumnOp
from sa_keyvault.reencryption import ColumnChange, TableChange, Tie
from sa_keyvault.types import Encrypted, declaration_of, type_name

__all__ = ["change_of", "remembered"]


def change_of(operation: ColumnOperation, connection: Connection) -> TableChange:
    """Return what a job has to do.

    Raises:
        sa_keyvault.ConfigurationError: The table has no primary key, or not the symbols.
    """
    key = _primary_key(operation, connection)
    symbols = operation.symbols or key
    former = operation.existing_symbols if isinstance(operation, RebindColumnOp) else None
    table = _table(operation, key, symbols, former or {})
    declaration = declaration_of(table.c[operation.column_name])
    tie = _tie(table, operation.area, _label(operation), symbols)
    if isinstance(operation, EncryptColumnOp):
        change = ColumnChange(declaration, (tie,), before=operation.existing_type)
    elif isinstance(operation, DecryptColumnOp):
        change = ColumnChange(declaration, (tie,), after=operation.plain_type)
    elif isinstance(operation, RebindColumnOp):
        area = operation.area if operation.existing_area is None else operation.existing_area
        label = _label(operation) if operation.existing_label is None else _as_label(operation.existing_label)
        former_tie = _tie(table, area, label, former or symbols)
        ties = (tie,) if str(former_tie) == str(tie) else (tie, former_tie)
        change = ColumnChange(declaration, ties, former_type=operation.existing_type)
    else:
        change = ColumnChange(declaration, (tie,))
    return TableChange(table, (change,))


def remembered(operation: ColumnOperation) -> store.ColumnRow:
    """Return what the key store remembers of the column after the operation."""
    return store.ColumnRow(*operation.path, bytes(_label(operation)), operation.area, type_name(operation.type_))


def _primary_key(operation: ColumnOperation, connection: Connection) -> Symbols:
    inspector = inspect(connection)
    names = inspector.get_pk_constraint(operation.table_name, schema=operation.schema)["constrained_columns"]
    if not names:
        msg = f"{operation.table_name} has no primary key, so no job can walk through it"
        raise ConfigurationError(msg)
    found = inspector.get_columns(operation.table_name, schema=operation.schema)
    types = {str(one["name"]): one["type"] for one in found}
    given = operation.symbols or {}
    if missing := [name for name in given if name not in types]:
        msg = f"{operation.table_name} has no column {missing[0]!r}, which shall name its rows"
        raise ConfigurationError(msg)
    return {name: given.get(name, types[name]) for name in names}


def _table(operation: ColumnOperation, key: Symbols, symbols: Symbols, former: Symbols) -> Table:
    others = {**former, **symbols}
    columns = [Column(name, type_, primary_key=True, autoincrement=False) for name, type_ in key.items()]
    columns += [Column(name, type_, nullable=False) for name, type_ in others.items() if name not in key]
    encrypted: Column[Any] = Column(operation.column_name, Encrypted(operation.type_, operation.area))
    return Table(operation.table_name, MetaData(), *columns, encrypted, schema=operation.schema)


def _tie(table: Table, area: str, label: Label, symbols: Mapping[str, TypeEngine[Any]]) -> Tie:
    form = symbol_form(symbols.values())
    named = tuple(RowSymbol(table.c[name], type_, is_equivalent=False) for name, type_ in symbols.items())
    return Tie(area, Binding(label, len(named), form), RowSymbols(named, form))


def _label(operation: ColumnOperation) -> Label:
    return _as_label(operation.path if operation.context is None else operation.context)


def _as_label(label: str | Sequence[str] | Path) -> Label:
    return Label((label,) if isinstance(label, str) else tuple(label))
