"""Rows that are in an INSERT itself, `.values([…, …])`: what each gives, and what is left for parameters."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.elements import ClauseElement

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.upserts import assignments, upsert_clauses
from sa_keyvault.statements.values import MISSING, bound_value, column_key, is_expression, parameters_in

__all__ = ["parameters_beside_rows", "rows_in_statement"]

Row = dict[str, Any]


def rows_in_statement(statement: Insert, plan: TablePlan, sets: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the rows of all parameter sets, by column key.

    Raises:
        sa_keyvault.UnsupportedStatementError: A value is left to a parameter that is not given.
    """
    return [_with_values(plan, row, one) for one in sets for row in _rows(statement, plan)]


def parameters_beside_rows(statement: Insert, plan: TablePlan, sets: Sequence[Mapping[str, Any]]) -> Row:
    """Return the parameters that the statement still has when the values of its rows are in it.

    Raises:
        sa_keyvault.UnsupportedStatementError: They are for one parameter set of several, which are one statement now;
            or for a column.
    """
    values = [value for row in _rows(statement, plan) for value in row.values()]
    direct = {str(value.key) for value in values if isinstance(value, BindParameter)}
    needed = parameters_in(*filter(is_expression, values), *_around(statement))
    kept = {name: value for name, value in sets[0].items() if name in needed or name not in direct}
    problem = None
    if len(sets) > 1 and needed:
        problem = f"and of several parameter sets has {min(needed)!r} in a SQL expression; run it once per set"
    elif others := sorted(kept.keys() & plan.columns):
        problem = f"has a parameter {others[0]!r}, the name of a column, beside its rows; put the value into the rows"
    if problem:
        msg = f"an INSERT of several rows into {plan.table.fullname} {problem}"
        raise UnsupportedStatementError(msg)
    return kept


def _rows(statement: Insert, plan: TablePlan) -> Iterator[Row]:
    for row in (row for group in statement._multi_values for row in group):
        given = row if isinstance(row, Mapping) else _by_position(plan, row)
        yield {column_key(statement, plan.table, key): value for key, value in given.items()}


def _by_position(plan: TablePlan, row: Sequence[Any]) -> Row:
    return dict(zip((column.key for column in plan.table.columns), row, strict=False))


def _with_values(plan: TablePlan, row: Row, parameters: Mapping[str, Any]) -> Row:
    found = {key: bound_value(value, parameters) for key, value in row.items()}
    if missing := [key for key, value in found.items() if value is MISSING]:
        msg = (
            f"a row of an INSERT into {plan.table.fullname} leaves the value of {missing[0]!r} to a parameter that is "
            "not given; give it one, None for NULL"
        )
        raise UnsupportedStatementError(msg)
    return found


def _around(statement: Insert) -> Iterator[ClauseElement]:
    """Yield what a statement has beside its rows."""
    rest: Insert = statement._clone()
    rest._multi_values = ()
    yield rest
    # SQLAlchemy 2.0 does not go on into them
    for clause in upsert_clauses(statement):
        yield from (value for _, value in assignments(clause) if isinstance(value, ClauseElement))
