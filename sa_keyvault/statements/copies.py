"""INSERT … SELECT: allowed where every envelope keeps its label, its area and its row's symbols."""

from typing import Any

from sqlalchemy import Column, ColumnElement, Label, Null
from sqlalchemy.sql.dml import Insert

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.statements.ciphertext import members
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.values import column_key
from sa_keyvault.types import find_symbols

__all__ = ["require_same_row"]


def require_same_row(statement: Insert, plan: TablePlan) -> None:
    """Refuse an INSERT … SELECT whose envelopes would not open in their new rows.

    Raises:
        sa_keyvault.UnsupportedStatementError: With the remedy.
    """
    names = [column_key(statement, plan.table, name) for name in statement._select_names or ()]
    for member in members(statement.select):
        _require_kept(plan, dict(zip(names, member.selected_columns, strict=False)))


def _require_kept(plan: TablePlan, selected: dict[str, ColumnElement[Any]]) -> None:
    for key in selected.keys() & plan.encrypted.keys():
        if not _keeps_row(plan, key, selected):
            msg = (
                f"INSERT … SELECT into the encrypted column {key!r} of {plan.table.fullname}: the envelope would not "
                "open there, because label, area or the symbols of its row are not the same; "
                "load the rows and insert them"
            )
            raise UnsupportedStatementError(msg, label=str(plan.encrypted[key].declaration.binding.label))


def _keeps_row(plan: TablePlan, key: str, selected: dict[str, ColumnElement[Any]]) -> bool:
    source, target = _unlabelled(selected[key]), plan.encrypted[key]
    if isinstance(source, Null):
        return True
    try:
        declaration, groups = find_symbols(source)
    except UnsupportedStatementError:
        return False
    same_label = (declaration.binding, declaration.type_.area) == (target.declaration.binding, target.area)
    former, known = declaration.former, target.declaration.former
    if former is not None and (known is None or known.binding != former.binding):
        return False
    carried = [_unlabelled(selected[name]) if name in selected else None for name in target.symbol_keys]
    return same_label and all(
        column is not None and _same_column(column, symbol.expression)
        for column, symbol in zip(carried, groups[-1].symbols, strict=True)
    )


def _unlabelled(column: ColumnElement[Any]) -> ColumnElement[Any]:
    while isinstance(column, Label):
        column = column.element
    return column


def _same_column(one: ColumnElement[Any], other: ColumnElement[Any]) -> bool:
    return isinstance(one, Column) and hash(one) == hash(other)
