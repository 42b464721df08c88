"""What only the whole compiled statement shows; looked at once for each compilation."""

from typing import Any

from sqlalchemy import BindParameter, ColumnClause, CompoundSelect, Insert, Update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.selectable import SelectBase

from sa_keyvault.errors import UnsupportedOperatorError, UnsupportedStatementError
from sa_keyvault.statements.plans import Plans
from sa_keyvault.types import Encrypted, find_symbols

__all__ = ["PASSED", "require_sendable"]


PASSED = "sa_keyvault_passed"
"""Attribute of a compiled statement that was looked at: asked for each statement, so it is to be found at once."""


def require_sendable(compiled: Any, plans: Plans) -> None:
    """Refuse what the type, the compiler and the statement hooks cannot see; mark what has passed.

    Raises:
        sa_keyvault.UnsupportedOperatorError: A value is compared with an encrypted column, from its left.
        sa_keyvault.UnsupportedStatementError: A CTE writes encrypted columns, or a union mixes labels.
    """
    for cte in getattr(compiled, "ctes", None) or ():
        _refuse_writing_cte(cte, plans)
    statement = compiled.statement
    if isinstance(statement, CompoundSelect):
        _require_one_label(statement)
    for element in visitors.iterate(statement) if statement is not None else ():
        if isinstance(element, BinaryExpression):
            _refuse_comparison(element)
    setattr(compiled, PASSED, True)


def _refuse_writing_cte(cte: Any, plans: Plans) -> None:
    statement = getattr(cte, "element", None)
    if not isinstance(statement, (Insert, Update)):
        return
    plan = plans.of(statement.table)
    if plan is None:
        return
    msg = (
        f"an {type(statement).__name__.upper()} of {plan.table.fullname} in a CTE cannot be sealed: "
        "its parameters are not seen together; run it as a statement of its own"
    )
    raise UnsupportedStatementError(msg)


def _refuse_comparison(expression: BinaryExpression[Any]) -> None:
    for column, other in ((expression.left, expression.right), (expression.right, expression.left)):
        if not isinstance(column, ColumnClause) or not isinstance(column.type, Encrypted):
            continue
        if _has_value(other):
            msg = (
                f"{column} is encrypted, and is compared with a value that would be sent as it is; "
                "select the rows by other columns and compare in Python"
            )
            raise UnsupportedOperatorError(msg)


def _has_value(expression: Any) -> bool:
    """Whether *expression* holds a value; those inside a subquery (its LIMIT) are none of this comparison."""
    if isinstance(expression, SelectBase):
        return False
    return isinstance(expression, BindParameter) or any(map(_has_value, expression.get_children()))


def _require_one_label(statement: CompoundSelect[Any]) -> None:
    """The result of a union has the type of its first SELECT, so all must agree on label and area."""
    for columns in zip(*(select.selected_columns for select in statement.selects), strict=False):
        found = [
            find_symbols(column)[0] for column in columns if isinstance(column.type, Encrypted) and _has_row(column)
        ]
        for declaration in found[1:]:
            first = found[0]
            if (declaration.binding, declaration.type_.area) != (first.binding, first.type_.area):
                msg = (
                    f"{first.binding.label} and {declaration.binding.label} meet in a union, but not under one label "
                    'and area; give both the same context="…" and area, or run two statements'
                )
                raise UnsupportedStatementError(msg, label=str(first.binding.label))


def _has_row(column: Any) -> bool:
    return isinstance(column, ColumnClause)
