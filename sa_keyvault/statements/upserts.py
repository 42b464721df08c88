"""Upserts: allowed where the row that is updated is the one that the new envelope is bound to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Connection, Null, inspect
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.functions import FunctionElement

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.statements.own import schema_of
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.stored import are_distinct
from sa_keyvault.statements.values import column_key

__all__ = [
    "assignments",
    "moves_envelopes",
    "require_bindable_upsert",
    "require_one_spelling",
    "upsert_clauses",
]

_NEW_ROW = ("excluded", "inserted", "new")


def moves_envelopes(statement: Insert, plan: TablePlan) -> bool:
    """Whether *statement* may put an envelope into a row that is there already."""
    assigned = [key for clause in upsert_clauses(statement) for key, _ in assignments(clause)]
    return any(column_key(statement, plan.table, key) in plan.encrypted for key in assigned)


def require_bindable_upsert(
    connection: Connection, statement: Insert, plan: TablePlan, options: Mapping[str, Any]
) -> None:
    """Refuse an upsert that would put an envelope into a row that it is not bound to.

    Raises:
        sa_keyvault.UnsupportedStatementError: With the remedy.
    """
    for clause in upsert_clauses(statement):
        _require_bindable(connection, statement, clause, plan, options)


def require_one_spelling(
    connection: Connection, plan: TablePlan, rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> None:
    """Refuse two spellings of one key: the second row would update the first, which its values are not bound to.

    Args:
        connection: The caller's connection.
        plan: The table.
        rows: The symbols of the rows, those that are there already as they are stored.
        options: Execution options of the caller's statement.

    Raises:
        sa_keyvault.UnsupportedStatementError: The database takes the keys of two rows for one.
    """
    spelled = {tuple(write(row[key]) for key, write in plan.writers.items()): row for row in rows}
    if len(spelled) > 1 and not are_distinct(connection, plan, spelled, options):
        msg = (
            f"an upsert into {plan.table.fullname} spells a key in two ways that are one to the database; "
            "run a statement for each"
        )
        raise UnsupportedStatementError(msg)


def _require_bindable(
    connection: Connection, statement: Insert, clause: Any, plan: TablePlan, options: Mapping[str, Any]
) -> None:
    assigned = {column_key(statement, plan.table, key): value for key, value in assignments(clause)}
    if changed := sorted(assigned.keys() & plan.symbols.keys()):
        msg = f"an upsert must not change {changed[0]!r} of {plan.table.fullname}, which names the row"
        raise UnsupportedStatementError(msg)
    touched = sorted(assigned.keys() & plan.encrypted.keys())
    if not touched:
        return
    for key in touched:
        if not _keeps_row(assigned[key], key):
            msg = (
                f"an upsert may set the encrypted column {key!r} of {plan.table.fullname} to the same column of "
                "the new row (excluded), to NULL or to a coalesce of the two, and to nothing else"
            )
            raise UnsupportedStatementError(msg)
    key_columns = {column.key for column in plan.key}
    if plan.symbols.keys() != key_columns:
        msg = (
            f"an upsert cannot set encrypted columns of {plan.table.fullname}: they are bound to more than the "
            "primary key, so the row that is there may have other symbols; use SELECT and UPDATE"
        )
        raise UnsupportedStatementError(msg)
    if statement.select is not None and plan.collated:
        msg = (
            f"an upsert from a SELECT cannot set encrypted columns of {plan.table.fullname}: the row that is there may "
            "spell its key differently; use SELECT and UPDATE"
        )
        raise UnsupportedStatementError(msg)
    if not _conflicts_on_key(connection, clause, plan, options):
        msg = (
            f"an upsert that sets encrypted columns of {plan.table.fullname} must have the primary key as its "
            "conflict target, and no other unique index may cause the conflict"
        )
        raise UnsupportedStatementError(msg)


def upsert_clauses(statement: Insert) -> list[Any]:
    """Return the ON CONFLICT clauses; SQLite has several of them from SQLAlchemy 2.1 on."""
    clause: Any = statement._post_values_clause
    if clause is None:
        return []
    return list(getattr(clause, "clauses", (clause,)))


def assignments(clause: Any) -> list[tuple[Any, Any]]:
    """Return what an ON CONFLICT clause sets, and what to."""
    if hasattr(clause, "update_values_to_set"):
        given = clause.update_values_to_set
        return list(given.items()) if hasattr(given, "items") else list(given)
    update = getattr(clause, "update", None) or {}
    return list(update.items()) if hasattr(update, "items") else list(update)


def _keeps_row(value: Any, key: str) -> bool:
    if value is None or isinstance(value, Null) or _is_always_null(value):
        return True
    if isinstance(value, FunctionElement) and value.name == "coalesce":
        return all(_is_column(clause, key) for clause in value.clauses)
    return _is_column(value, key, _NEW_ROW)


def _is_always_null(value: Any) -> bool:
    """Whether *value* is the parameter that SQLAlchemy has made of None; one with a name may be given another value."""
    if not isinstance(value, BindParameter) or not value.unique:
        return False
    return value.value is None and value.callable is None and not value.required


def _is_column(value: Any, key: str, tables: Iterable[str] = ()) -> bool:
    table = getattr(value, "table", None)
    if table is None or getattr(value, "key", None) != key:
        return False
    return not tables or str(getattr(table, "name", "")) in tables


def _conflicts_on_key(connection: Connection, clause: Any, plan: TablePlan, options: Mapping[str, Any]) -> bool:
    if not hasattr(clause, "inferred_target_elements"):
        return not _has_other_unique_index(connection, plan, options)
    if getattr(clause, "constraint_target", None) is not None:
        return bool(clause.constraint_target == plan.table.primary_key.name)
    elements = clause.inferred_target_elements
    if elements is None or clause.inferred_target_whereclause is not None:
        return False
    return {str(getattr(element, "key", element)) for element in elements} == {column.key for column in plan.key}


def _has_other_unique_index(connection: Connection, plan: TablePlan, options: Mapping[str, Any]) -> bool:
    """Ask the database, not the model: MariaDB names no conflict target, any unique index will do."""
    inspector = inspect(connection)
    schema = schema_of(plan.table, options)
    indexes = inspector.get_indexes(str(plan.table.name), schema=schema)
    return any(index["unique"] for index in indexes)
