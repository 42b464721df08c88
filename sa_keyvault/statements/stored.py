"""The symbols as the database has them, where it finds rows by values that are not the stored ones.

Text keys compare by collation: case, accents, trailing blanks on MariaDB, NOCASE on SQLite, citext on PostgreSQL.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, false, func, select, text, tuple_, union

from sa_keyvault.statements.locks import locked
from sa_keyvault.statements.own import internal, postgresql_relation
from sa_keyvault.statements.plans import TablePlan

__all__ = ["are_distinct", "chunks", "stored_symbols"]

_CHUNK = 200  # keys per SELECT; SQLite allows 999 parameters in old builds, and a key may have several columns


def chunks(rows: Sequence[Any], size: int = _CHUNK) -> list[Sequence[Any]]:
    """Cut *rows* into pieces of at most *size*."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def stored_symbols(
    connection: Connection, plan: TablePlan, given: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return, for each row, the symbols that the database has for the given ones, or the given ones themselves.

    The rows that are found are locked.

    Args:
        connection: The caller's connection.
        plan: The table.
        given: Values of the symbols, by column key.
        options: Execution options of the caller's statement.
    """
    keys = tuple(plan.symbols)
    wanted = [tuple(row[key] for key in keys) for row in given]
    known: set[tuple[bytes, ...]] = set()
    for chunk in chunks(wanted):
        known.update(_texts(plan, row) for row in _select(connection, plan, chunk, options))
    found = []
    for row, values in zip(given, wanted, strict=True):
        if _texts(plan, values) in known:
            found.append(dict(row))
            continue
        rows = _select(connection, plan, [values], options)
        found.append(dict(zip(keys, rows[0], strict=True)) if rows else dict(row))
    return found


def _texts(plan: TablePlan, values: Sequence[Any]) -> tuple[bytes, ...]:
    return tuple(write(value) for write, value in zip(plan.writers.values(), values, strict=True))


def _select(
    connection: Connection, plan: TablePlan, wanted: Sequence[tuple[Any, ...]], options: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    columns = list(plan.symbols.values())
    if len(wanted) == 1:
        criterion = and_(*(column == value for column, value in zip(columns, wanted[0], strict=True)))
    elif len(columns) == 1:
        criterion = columns[0].in_([values[0] for values in wanted])
    else:
        criterion = tuple_(*columns).in_(wanted)
    statement = locked(connection, select(*columns).where(criterion), plan.table, options)
    return [tuple(row) for row in connection.execute(statement, execution_options=internal(options))]


# citext, or a domain over it, and collations that are told so compare texts by more than their bytes
_BY_BYTES = text(
    """
    SELECT bool_and(b.typname <> 'citext' AND coalesce(c.collisdeterministic, true))
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = CAST(CAST(:relation AS TEXT) AS regclass) AND a.attname = ANY(:names)
    """
)


def are_distinct(
    connection: Connection, plan: TablePlan, rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> bool:
    """Whether the database tells the symbols of these rows apart; on PostgreSQL it may say no where it would.

    Args:
        connection: The caller's connection.
        plan: The table.
        rows: Values of the symbols, by column key; no two have the same.
        options: Execution options of the caller's statement.
    """
    own = internal(options)
    if connection.dialect.name == "postgresql":
        relation = postgresql_relation(connection, plan.table, options)
        names = [str(column.name) for column in plan.symbols.values()]
        return bool(
            connection.execute(_BY_BYTES, {"relation": relation, "names": names}, execution_options=own).scalar()
        )
    # the first SELECT has no row, but the columns, whose collations a UNION compares by
    columns = plan.symbols.items()
    given = [select(*(bindparam(None, row[key], type_=column.type) for key, column in columns)) for row in rows]
    united = union(select(*plan.symbols.values()).where(false()), *given).subquery()
    found = connection.execute(select(func.count()).select_from(united), execution_options=own)
    return found.scalar() == len(rows)
