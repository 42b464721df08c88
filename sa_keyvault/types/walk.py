"""From a selected column to the row it came from: finds the symbol columns in the FROM clause that carries it.

A column of a subquery stands for one of a table, perhaps over several storeys of subqueries, aliases and unions.
The symbols are found in the innermost table, and then carried outwards one storey at a time.
"""

from dataclasses import replace
from typing import Any, cast

from sqlalchemy import Cast, Column, ColumnClause, ColumnElement, FromClause, Label, Null, Table, TypeCoerce

from sa_keyvault.dialects import RowBytes, RowSymbol, RowSymbols
from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.types.declared import Declaration, EncryptedDeclaration, declaration_of
from sa_keyvault.types.values import RowValue

__all__ = ["find_row", "find_symbols"]


def find_row(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the expression that selects *column* together with its row's symbols.

    Raises:
        sa_keyvault.UnsupportedStatementError: It is computed, or the subquery does not carry its key.
    """
    if _is_filler(column):
        return column
    declaration, groups = find_symbols(column)
    type_, former = declaration.type_, declaration.former
    row_value = RowValue(
        type_.inner,
        type_.area,
        declaration.binding,
        None if former is None else former.binding,
        type_.accept_plaintext_until,
    )
    element = column.element if isinstance(column, Label) else column
    return RowBytes(element, groups, row_value)


def find_symbols(column: ColumnElement[Any]) -> tuple[Declaration, tuple[RowSymbols, ...]]:
    """Return the declaration behind *column*, and its symbols in the FROM clause that *column* belongs to.

    Where the row was named otherwise before, those symbols come first, as a group of their own.
    """
    declaration, symbols = _find(column)
    count, former = declaration.binding.symbol_count, declaration.former
    own = RowSymbols(symbols[:count], declaration.binding.form)
    return declaration, (own,) if former is None else (RowSymbols(symbols[count:], former.binding.form), own)


def _find(column: ColumnElement[Any]) -> tuple[Declaration, tuple[RowSymbol, ...]]:
    """Return the declaration behind *column*, and the symbols that name its row and those that did before."""
    column = _unlabelled(column)
    if not isinstance(column, ColumnClause) or not isinstance(column.type, EncryptedDeclaration):
        msg = (
            f"a computed value ({type(column).__name__}) of an encrypted column has no row, so it cannot be opened; "
            "select the column itself and compute in Python"
        )
        raise UnsupportedStatementError(msg)
    # a proxy is a column too, of a subquery or an alias
    table = cast("FromClause", column.table)
    if isinstance(table, Table):
        return _in_table(column, table)
    found = [
        (declaration, tuple(_outward(table, symbol, declaration) for symbol in symbols))
        for declaration, symbols in map(_find, _sources(column))
    ]
    return _agreed(found)


def _in_table(column: ColumnClause[Any], table: Table) -> tuple[Declaration, tuple[RowSymbol, ...]]:
    declaration = declaration_of(table.c[column.key])
    former = () if declaration.former is None else declaration.former.symbols
    named = [*((symbol, symbol.type) for symbol in declaration.symbols), *former]
    return declaration, tuple(RowSymbol(symbol, type_, is_equivalent=False) for symbol, type_ in named)


def _sources(column: ColumnClause[Any]) -> list[ColumnElement[Any]]:
    """Return what *column* stands for one storey further in; several in a union, without its NULL fillers."""
    sources = [source for source in column._proxies if not _is_filler(source)]  # noqa: SLF001 - no public name
    if not sources:
        msg = f"column {column.name!r} of a subquery stands for no column of a table, so it cannot be opened"
        raise UnsupportedStatementError(msg)
    return sources


def _agreed(found: list[tuple[Declaration, tuple[RowSymbol, ...]]]) -> tuple[Declaration, tuple[RowSymbol, ...]]:
    """Return what all columns that meet in a union have in common: label, area and carried symbols."""
    declaration, symbols = found[0]
    for other, other_symbols in found[1:]:
        same_label = other.binding == declaration.binding and other.type_.area == declaration.type_.area
        if not same_label:
            msg = (
                f"{declaration.binding.label} and {other.binding.label} meet in a union, but not under one label and "
                'area; give both the same context="…" and area'
            )
            raise UnsupportedStatementError(msg, label=str(declaration.binding.label))
        pairs = zip(symbols, other_symbols, strict=True)
        if not all(own.expression is another.expression for own, another in pairs):
            msg = (
                f"{declaration.binding.label}: the SELECTs of a union carry the key in different columns; "
                "select it at the same position in each"
            )
            raise UnsupportedStatementError(msg, label=str(declaration.binding.label))
    return declaration, symbols


def _outward(table: FromClause, symbol: RowSymbol, declaration: Declaration) -> RowSymbol:
    """Return the column of *table*, a subquery or alias, that carries *symbol*."""
    # require_embedded: without it a self-join resolves to the other alias
    carried = table.corresponding_column(symbol.expression, require_embedded=True)  # type: ignore[arg-type]
    if carried is not None:
        return replace(symbol, expression=carried)
    for candidate in table.columns:
        if any(_same_key(base, own) for base in candidate.base_columns for own in symbol.expression.base_columns):
            return replace(symbol, expression=candidate, is_equivalent=True)
    name = symbol.expression
    msg = (
        f"{declaration.binding.label} is selected from a subquery that does not carry {name}, "
        f"which names its row; select {name} in the subquery as well"
    )
    raise UnsupportedStatementError(msg, label=str(declaration.binding.label))


def _same_key(one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
    """Whether two key columns are equal in a joined row: one refers to the other through foreign keys."""
    return other in _referred(one) or one in _referred(other)


def _referred(column: ColumnElement[Any]) -> set[ColumnElement[Any]]:
    if not isinstance(column, Column) or not column.primary_key:
        return set()
    direct = {key.column for key in column.foreign_keys}
    return direct.union(*(_referred(referred) for referred in direct))


def _unlabelled(column: ColumnElement[Any]) -> ColumnElement[Any]:
    while isinstance(column, Label):
        column = column.element
    return column


def _is_filler(column: ColumnElement[Any]) -> bool:
    column = _unlabelled(column)
    while isinstance(column, (Cast, TypeCoerce)):
        column = column.clause
    return isinstance(_unlabelled(column), Null)
