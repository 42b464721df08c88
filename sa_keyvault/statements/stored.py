"""The symbols as the database has them, where it finds rows by values that are not the stored ones.

Text keys compare by collation: case, accents, trailing blanks on MariaDB, NOCASE on SQLite, citext on PostgreSQL.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, false, func, select, text, tuple_, union

from sa_keyvault.statements.locks import locked
from sa_keyvault.statements.own import internal, postgresql_relation
from sa_keyvault.statements.plans import TablePlan

__all__ = ["are_distinct", "chunks", "folded", "stored_symbols"]

_IGNORED = {"Mn", "Me", "Cf", "Cc"}  # marks and controls: general categories of Unicode, UAX #44 section 5.7.1
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


def folded(text: str) -> str:
    """Return the same text for all that most collations take for one: without case, accents and blanks at the end."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(letter for letter in decomposed if unicodedata.category(letter) not in _IGNORED)
    return letters.casefold().rstrip(" ")


# what compares texts by more than their bytes: citext, or a domain over it, and collations that are told so
_COMPARED = text(
    """
    WITH RECURSIVE base(typname, typbasetype, attcollation) AS (
        SELECT t.typname, t.typbasetype, a.attcollation
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = CAST(CAST(:relation AS TEXT) AS regclass) AND a.attname = ANY(:names)
        UNION ALL
        SELECT t.typname, t.typbasetype, b.attcollation FROM base b JOIN pg_type t ON t.oid = b.typbasetype
    )
    SELECT bool_or(b.typname = 'citext'), bool_or(NOT coalesce(c.collisdeterministic, true))
    FROM base b LEFT JOIN pg_collation c ON c.oid = b.attcollation
    """
)


def are_distinct(
    connection: Connection,
    plan: TablePlan,
    rows: Mapping[tuple[bytes, ...], Mapping[str, Any]],
    options: Mapping[str, Any],
) -> bool:
    """Whether the database tells the symbols of these rows apart; where it cannot be asked, the answer is no.

    Args:
        connection: The caller's connection.
        plan: The table.
        rows: Values of the symbols by column key, by their canonical texts.
        options: Execution options of the caller's statement.
    """
    if connection.dialect.name == "postgresql":
        relation = postgresql_relation(connection, plan.table, options)
        names = [str(column.name) for column in plan.symbols.values()]
        asked = {"relation": relation, "names": names}
        is_citext, is_loose = connection.execute(_COMPARED, asked, execution_options=internal(options)).one()
        return not is_loose and not (is_citext and _alike(rows))
    if connection.dialect.name == "sqlite":
        # its own collations fold less
        return all(_are_counted(connection, plan, group, options) for group in _alike(rows))
    return _are_counted(connection, plan, list(rows.values()), options)


def _alike(rows: Mapping[tuple[bytes, ...], Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return the groups of rows whose symbols differ in what collations pass over."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for texts, row in rows.items():
        groups.setdefault(tuple(folded(text.decode()) for text in texts), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def _are_counted(
    connection: Connection, plan: TablePlan, rows: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
) -> bool:
    # the first SELECT has no row, but the columns, whose collations a UNION compares by
    columns = list(plan.symbols.items())
    given = [
        bindparam(f"symbol_{number}_{place}", row[key], type_=column.type)
        for number, row in enumerate(rows)
        for place, (key, column) in enumerate(columns)
    ]
    lines = [", ".join(f":symbol_{number}_{place}" for place in range(len(columns))) for number in range(len(rows))]
    # not a SELECT for each row: SQLite takes five hundred of them
    listed = text("VALUES " + ", ".join(f"({line})" for line in lines)).bindparams(*given)
    united = union(select(*plan.symbols.values()).where(false()), listed.columns(*plan.symbols.values())).subquery()
    found = connection.execute(select(func.count()).select_from(united), execution_options=internal(options))
    return found.scalar() == len(rows)
