"""What an expression hands on: the encrypted column whose ciphertext it would give as a value of another type."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import BindParameter, Boolean, Case, ColumnClause, CompoundSelect, Null, Over, TypeCoerce
from sqlalchemy.sql.elements import ClauseElement, FunctionFilter, OperatorExpression, UnaryExpression, WithinGroup
from sqlalchemy.sql.functions import FunctionElement, ReturnTypeFromArgs
from sqlalchemy.sql.selectable import SelectBase, SelectStatementGrouping
from sqlalchemy.types import Integer

from sa_keyvault.dialects import RowBytes
from sa_keyvault.types import Encrypted

__all__ = ["encrypted_in", "is_encrypted", "members"]


def is_encrypted(expression: Any) -> bool:
    """Whether an expression is encrypted by its type, so that its values are opened, or refused, by that."""
    return not isinstance(expression, BindParameter) and isinstance(getattr(expression, "type", None), Encrypted)


def encrypted_in(expression: Any) -> Any:
    """Return an encrypted expression whose stored bytes *expression* has for its value; None where there is none."""
    if is_encrypted(expression) and not _is_null(expression):
        return expression
    found = (encrypted_in(one) for one in _handed_on(expression))
    return next((one for one in found if one is not None), None)


def members(selected: Any) -> Iterator[Any]:
    """Yield the SELECTs that a UNION is made of, or the one that it is."""
    if isinstance(selected, SelectStatementGrouping):
        yield from members(selected.element)
    elif isinstance(selected, CompoundSelect):
        for one in selected.selects:
            yield from members(one)
    else:
        yield selected


def _is_null(expression: Any) -> bool:
    return isinstance(expression, TypeCoerce) and isinstance(expression.clause, Null)


def _handed_on(expression: Any) -> Iterable[Any]:
    """Return the expressions of which one may be the value of *expression*, or a part of it."""
    if isinstance(expression, ColumnClause):
        # of a subquery: what it stands for one storey further in, in each SELECT of a union
        return expression._proxies
    if isinstance(expression, SelectBase):
        return (column for one in members(expression) for column in one.selected_columns)
    if isinstance(expression, Case):
        return [*(result for _, result in expression.whens), expression.else_]
    if isinstance(expression, (Over, FunctionFilter, WithinGroup)):
        # the function, and not what it is filtered or ordered by
        return itertools.islice(expression.get_children(), 1)
    if not isinstance(expression, ClauseElement) or _has_value_of_its_own(expression):
        return ()
    return expression.get_children()


def _has_value_of_its_own(expression: Any) -> bool:
    if isinstance(expression, ReturnTypeFromArgs):
        return False
    if isinstance(expression, FunctionElement):
        # lengths and counts; and what a function without a known type makes is none of a type that would hide it
        return expression.type._isnull or isinstance(expression.type, (Boolean, Integer))
    if isinstance(expression, (OperatorExpression, UnaryExpression)):
        # a comparison has the bytes of neither side, and EXISTS those of no row
        return isinstance(expression.type, Boolean)
    # how to ask for stored bytes
    return isinstance(expression, (RowBytes, TypeCoerce))
