"""Where values under a store's keys may be: in the columns that it remembers, and in their like in other schemas.

With `schema_translate_map` an application writes one model's values to many schemas, and only the model's own is
declared. So a table of the same name with a column of the same name may hold values wherever it is.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BINARY, VARBINARY, Connection, Inspector, LargeBinary, String, bindparam, inspect, text

from sa_keyvault import store

__all__ = ["Place", "places"]

_MISSING = "no such column of bytes is there"
_HIDDEN = "this role may not read it"

_CATALOGS = {
    # not the information schema, which leaves out what the role may not read
    "postgresql": (
        "SELECT s.nspname, t.relname, c.attname, "
        "has_schema_privilege(s.oid, 'USAGE') AND has_column_privilege(t.oid, c.attnum, 'SELECT'), "
        "pg_table_is_visible(t.oid), false "
        "FROM pg_class t JOIN pg_namespace s ON s.oid = t.relnamespace "
        "JOIN pg_attribute c ON c.attrelid = t.oid JOIN pg_type k ON k.oid = c.atttypid "
        "WHERE t.relname IN :tables AND c.attname IN :columns AND NOT c.attisdropped "
        "AND t.relkind IN ('r', 'p', 'f', 'v', 'm') AND s.nspname NOT LIKE 'pg~_%' ESCAPE '~' "
        "AND s.nspname <> 'information_schema' AND CAST('bytea' AS regtype) IN (c.atttypid, k.typbasetype) "
        "ORDER BY 1, 2, 3"
    ),
    # texts as well: a column of an encoding with one byte for each character takes every envelope
    "mysql": (
        "SELECT table_schema, table_name, column_name, privileges LIKE '%select%', table_schema = database(), "
        "table_schema IN (SELECT table_schema FROM information_schema.tables WHERE table_name = 'keyvault_store') "
        "FROM information_schema.columns WHERE table_name IN :tables AND column_name IN :columns "
        "AND (data_type LIKE '%blob' OR data_type LIKE '%binary' OR data_type LIKE '%text' OR data_type LIKE '%char') "
        "AND table_schema NOT IN ('information_schema', 'mysql', 'performance_schema', 'sys') ORDER BY 1, 2, 3"
    ),
}


@dataclass(frozen=True)
class Place:
    """A column that may hold values under keys of the store.

    Attributes:
        schema_name: Schema, empty where the model has none.
        table_name: Table.
        column_name: Column.
        areas: The areas that its values may be of.
        is_remembered: Whether it is the column that was declared, and not one of the same name in another schema.
        is_foreign: Whether its schema is another database of the server, with a key store of its own.
        problem: Why its values cannot be counted; empty where they can.
    """

    schema_name: str
    table_name: str
    column_name: str
    areas: frozenset[str]
    is_remembered: bool
    is_foreign: bool = False
    problem: str = ""

    @property
    def is_hidden(self) -> bool:
        """Whether it is there, and may not be read."""
        return self.problem == _HIDDEN

    def __str__(self) -> str:
        return ".".join(filter(None, (self.schema_name, self.table_name, self.column_name)))


class _Found(NamedTuple):
    schema_name: str
    table_name: str
    column_name: str
    is_readable: bool
    is_default: bool
    is_foreign: bool = False

    @property
    def names(self) -> tuple[str, str]:
        return _folded(self.table_name, self.column_name)


def places(connection: Connection) -> list[Place]:
    """Return where values may be: the columns that the key store remembers, then those of the same name elsewhere."""
    rows = list(store.columns(connection).values())
    if not rows:
        return []
    inspector, found = inspect(connection), _found(connection, rows)
    hidden = {(schema, *one.names) for one in found if not one.is_readable for schema in _schemas_of(one)}
    remembered = [_remembered(inspector, row, hidden) for row in rows]
    return remembered + list(_elsewhere(rows, found))


def _remembered(inspector: Inspector, row: store.ColumnRow, hidden: set[tuple[str, str, str]]) -> Place:
    problem = ""
    if not _is_countable(inspector, row):
        problem = _MISSING
    elif (row.schema_name, *_folded(row.table_name, row.column_name)) in hidden:
        problem = _HIDDEN
    names = (row.schema_name, row.table_name, row.column_name)
    return Place(*names, frozenset({row.area}), is_remembered=True, problem=problem)


def _elsewhere(rows: Iterable[store.ColumnRow], found: Iterable[_Found]) -> Iterator[Place]:
    areas: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        areas[_folded(row.table_name, row.column_name)].add(row.area)
    known = {(row.schema_name, *_folded(row.table_name, row.column_name)) for row in rows}
    for one in found:
        # the catalogs are asked for any of the tables with any of the columns
        if one.names in areas and not any((schema, *one.names) in known for schema in _schemas_of(one)):
            problem = "" if one.is_readable else _HIDDEN
            own = frozenset(areas[one.names])
            yield Place(*one[:3], own, is_remembered=False, is_foreign=one.is_foreign, problem=problem)


def _found(connection: Connection, rows: Iterable[store.ColumnRow]) -> list[_Found]:
    """Return the columns in all schemas that have such names, and a type that can hold envelopes."""
    dialect = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
    if dialect == "sqlite":
        return list(_attached(inspect(connection), rows))
    names = {"tables": {row.table_name for row in rows}, "columns": {row.column_name for row in rows}}
    query = text(_CATALOGS[dialect]).bindparams(*(bindparam(name, expanding=True) for name in names))
    wanted = query.bindparams(**{name: sorted(some) for name, some in names.items()})
    return [
        _Found(str(schema), str(table), str(column), *map(bool, flags))
        for schema, table, column, *flags in map(tuple, store.execute(connection, wanted))
    ]


def _attached(inspector: Inspector, rows: Iterable[store.ColumnRow]) -> Iterator[_Found]:
    for schema in inspector.get_schema_names():
        if schema == "main":
            # every remembered column without a schema is here, and looked for as it is
            continue
        for table, column in sorted({(row.table_name, row.column_name) for row in rows}):
            if inspector.has_table(table, schema=schema) and column in _types(inspector, table, schema):
                yield _Found(schema, table, column, is_readable=True, is_default=False)


def _is_countable(inspector: Inspector, row: store.ColumnRow) -> bool:
    """Whether a column is there, and holds bytes or texts."""
    schema = row.schema_name or None
    if not inspector.has_table(row.table_name, schema=schema):
        return False
    found = _types(inspector, row.table_name, schema).get(row.column_name)
    if inspector.dialect.name == "sqlite":
        # a column of any type holds bytes, and one that was encrypted in place keeps the type it was declared with
        return found is not None
    return isinstance(found, (LargeBinary, BINARY, VARBINARY, String)) or _is_bytes(found)


def _types(inspector: Inspector, table: str, schema: str | None) -> dict[str, Any]:
    return {column["name"]: column["type"] for column in inspector.get_columns(table, schema=schema)}


def _is_bytes(found: Any) -> bool:
    try:
        return found is not None and found.python_type in (bytes, str)
    except NotImplementedError:
        return False


def _schemas_of(found: _Found) -> tuple[str, ...]:
    """Return the names under which a model may have declared a column's schema."""
    return (found.schema_name, "") if found.is_default else (found.schema_name,)


def _folded(table: str, column: str) -> tuple[str, str]:
    # MariaDB looks names up without regard to case, and may have stored a table's in lower case
    return table.lower(), column.lower()
