"""What only the whole compiled statement shows; looked at once for each compilation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Case, ColumnClause, CompoundSelect, Delete, Insert, Join, Label, Select, Update
from sqlalchemy.sql import visitors
from sqlalchemy.sql.elements import (
    BinaryExpression,
    BooleanClauseList,
    ClauseList,
    ExpressionClauseList,
    FunctionFilter,
    Grouping,
)
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import SelectBase

from sa_keyvault.errors import UnsupportedOperatorError, UnsupportedStatementError
from sa_keyvault.statements.ciphertext import encrypted_in, is_encrypted, members
from sa_keyvault.statements.plans import Plans
from sa_keyvault.statements.upserts import assignments, upsert_clauses
from sa_keyvault.statements.values import expressions
from sa_keyvault.types import find_symbols

__all__ = ["PASSED", "require_meaning", "require_sendable"]

_UPSERT_CRITERIA = ("update_whereclause", "inferred_target_whereclause")

PASSED = "sa_keyvault_passed"
"""Attribute of a compiled statement that was looked at: asked for each statement, so it is to be found at once."""


def require_sendable(compiled: Any, plans: Plans) -> None:
    """Refuse what the type, the compiler and the statement hooks cannot see; mark what has passed.

    Raises:
        sa_keyvault.UnsupportedOperatorError: A value is compared with an encrypted column, from its left; or the
            column is a criterion by itself.
        sa_keyvault.UnsupportedStatementError: A CTE writes encrypted columns; a union mixes labels; ciphertext would be
            read as a value of another type, or written to a plain column.
    """
    for cte in getattr(compiled, "ctes", None) or ():
        _refuse_writing_cte(cte, plans)
    statement = compiled.statement
    # what the ORM has made of it has the criteria of its options, too, and only columns of tables
    made = getattr(getattr(compiled, "compile_state", None), "statement", statement)
    for one in (statement,) if made is statement else (statement, made):
        if one is not None:
            require_meaning(one)
    _require_opened(made)
    setattr(compiled, PASSED, True)


def require_meaning(statement: Any) -> None:
    """Refuse a statement that takes ciphertext for a value, or would send a value beside it.

    Raises:
        sa_keyvault.UnsupportedOperatorError: In a comparison, or as a criterion.
        sa_keyvault.UnsupportedStatementError: In SET.
    """
    for element in _elements(statement):
        for one, other in _compared(element):
            _refuse_comparison(one, other)
        for criterion in _criteria(element):
            _refuse_criterion(criterion)
        if isinstance(element, (Insert, Update)):
            _refuse_ciphertext(element)


def _elements(statement: Any) -> Iterator[Any]:
    for element in visitors.iterate(statement):
        yield element
        for clause in upsert_clauses(element) if isinstance(element, Insert) else ():
            # SQLAlchemy 2.0 does not go on into them
            for criterion in (getattr(clause, name, None) for name in _UPSERT_CRITERIA):
                yield from visitors.iterate(criterion) if criterion is not None else ()


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


def _compared(element: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs of expressions that *element* itself compares."""
    if isinstance(element, BinaryExpression):
        yield element.left, element.right
    elif isinstance(element, Case) and element.value is not None:
        yield from ((element.value, when) for when, _ in element.whens)
    elif isinstance(element, FunctionElement) and getattr(element, "name", "").lower() == "nullif":
        compared = list(element.clauses)
        if len(compared) == len(("value", "other")):
            yield compared[0], compared[1]


def _refuse_comparison(one: Any, other: Any) -> None:
    for encrypted, compared in ((one, other), (other, one)):
        if _is_encrypted(encrypted) and _has_value(compared):
            msg = (
                f"{_name(encrypted)} is encrypted, and is compared with a value that would be sent as it is; "
                "select the rows by other columns and compare in Python"
            )
            raise UnsupportedOperatorError(msg)


def _is_encrypted(expression: Any) -> bool:
    """Whether the values of *expression* are encrypted, or one of those of a list, a tuple or a subquery."""
    if isinstance(expression, SelectBase):
        return any(map(_is_encrypted, expression.selected_columns))
    if isinstance(expression, Grouping):
        return _is_encrypted(expression.element)
    if isinstance(expression, (ClauseList, ExpressionClauseList)):
        return any(map(_is_encrypted, expression.clauses))
    return is_encrypted(expression)


def _has_value(expression: Any) -> bool:
    """Whether *expression* holds a value; those inside a subquery (its LIMIT) are none of this comparison."""
    if isinstance(expression, SelectBase):
        return False
    return isinstance(expression, BindParameter) or any(map(_has_value, expression.get_children()))


def _criteria(element: Any) -> Iterator[Any]:
    """Yield the expressions that *element* itself takes for true or false."""
    if isinstance(element, (Select, Update, Delete)):
        yield from element._where_criteria
    if isinstance(element, Select):
        yield from element._having_criteria
    elif isinstance(element, BooleanClauseList):
        yield from element.clauses
    elif isinstance(element, Join):
        yield element.onclause
    elif isinstance(element, FunctionFilter):
        yield element.criterion
    elif isinstance(element, Case) and element.value is None:
        yield from (when for when, _ in element.whens)


def _refuse_criterion(criterion: Any) -> None:
    if _is_encrypted(criterion):
        msg = (
            f"{_name(criterion)} is encrypted, so that it is neither true nor false to the database; "
            "select the rows by other columns and compare in Python"
        )
        raise UnsupportedOperatorError(msg)


def _refuse_ciphertext(statement: Insert | Update) -> None:
    for key, value in _set(statement):
        column = statement.table.c.get(key) if isinstance(key, str) else key
        encrypted = None if is_encrypted(column) else encrypted_in(value)
        if encrypted is not None:
            msg = (
                f"{key if column is None else column} cannot be set to {_name(encrypted)}, which is encrypted: "
                "the database has no key; load the rows and set the value"
            )
            raise UnsupportedStatementError(msg)


def _set(statement: Insert | Update) -> Iterator[tuple[Any, Any]]:
    """Yield what a statement sets, and what to."""
    yield from expressions(statement).items()
    if not isinstance(statement, Insert):
        return
    for row in (row for group in statement._multi_values for row in group):
        yield from row.items() if isinstance(row, Mapping) else zip(statement.table.columns, row, strict=False)
    for clause in upsert_clauses(statement):
        yield from assignments(clause)
    for member in members(statement.select) if statement.select is not None else ():
        yield from zip(statement._select_names or (), member.selected_columns, strict=False)


def _name(expression: Any) -> str:
    return str(expression) if isinstance(expression, ColumnClause) else f"a value ({type(expression).__name__})"


def _require_opened(statement: Any) -> None:
    """Refuse a statement that would hand out ciphertext, or open it as what it is not."""
    if isinstance(statement, CompoundSelect):
        for columns in zip(*(one.selected_columns for one in members(statement)), strict=False):
            _require_one_label(columns)
    elif isinstance(statement, Select):
        _require_types(statement.selected_columns)
    elif isinstance(statement, (Insert, Update, Delete)):
        _require_types(statement._returning)


def _require_types(columns: Iterable[Any]) -> None:
    for column in columns:
        if not is_encrypted(column):
            _require_plain(column)


def _require_plain(column: Any) -> None:
    if (encrypted := encrypted_in(column)) is not None:
        msg = (
            f"{_name(encrypted)} is encrypted, and would not be opened where it is read as a value of another type; "
            "select the column itself and compute in Python; in a union, put the SELECT with the encrypted column first"
        )
        raise UnsupportedStatementError(msg)


def _require_one_label(columns: Sequence[Any]) -> None:
    """The values of a column of a union are read by the type in its first SELECT."""
    if not _has_row(columns[0]):
        for column in columns:
            _require_plain(column)
    found = [find_symbols(column)[0] for column in columns if _has_row(column)]
    for declaration in found[1:]:
        first = found[0]
        if (declaration.binding, declaration.type_.area) != (first.binding, first.type_.area):
            msg = (
                f"{first.binding.label} and {declaration.binding.label} meet in a union, but not under one label "
                'and area; give both the same context="…" and area, or run two statements'
            )
            raise UnsupportedStatementError(msg, label=str(first.binding.label))


def _has_row(column: Any) -> bool:
    while isinstance(column, Label):
        column = column.element
    return isinstance(column, ColumnClause) and is_encrypted(column)
