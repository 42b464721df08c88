"""Keys that the database would generate: fetched before the row is sealed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    DefaultClause,
    Dialect,
    Sequence,
    Table,
    func,
    literal,
    literal_column,
    select,
    text,
    type_coerce,
)
from sqlalchemy.dialects.postgresql.dml import Insert as PostgresInsert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import Insert
from sqlalchemy.sql.schema import ColumnElementColumnDefault

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.statements.locks import take_write_lock
from sa_keyvault.statements.own import internal, postgresql_relation, schema_of
from sa_keyvault.statements.stored import chunks

__all__ = ["GeneratedKeys", "fetch_keys", "is_auto_increment", "overriding"]

_MAX_SQLITE_ROWID = 2**63 - 1


@dataclass(frozen=True)
class GeneratedKeys:
    """Values of one key column that the database made for us.

    Attributes:
        values: One per row.
        is_always: Whether the column is GENERATED ALWAYS, so that the INSERT must override it.
    """

    values: list[Any]
    is_always: bool = False


def _sequence_of(column: Column[Any], dialect: Dialect) -> Sequence | None:
    """Return the sequence that makes the values of *column*; an optional one is not made where there is a serial."""
    default = column.default
    if not isinstance(default, Sequence) or not dialect.supports_sequences:
        return None
    return None if default.optional and dialect.sequences_optional else default


def is_auto_increment(column: Column[Any], dialect: Dialect) -> bool:
    """Whether the database counts the values of *column* by itself, with no default that could be selected."""
    table = column.table
    is_counter = isinstance(table, Table) and table.autoincrement_column is column
    has_default = column.server_default is not None and column.identity is None
    return is_counter and not has_default and _sequence_of(column, dialect) is None


def fetch_keys(
    connection: Connection, column: Column[Any], count: int, given: Iterable[Any], options: Mapping[str, Any]
) -> GeneratedKeys:
    """Let the database make *count* values of *column*, beside those *given* in the same statement.

    Raises:
        sa_keyvault.UnsupportedStatementError: It cannot tell a value before the row is inserted.
    """
    if connection.dialect.name == "postgresql":
        return _postgresql(connection, column, count, options)
    default = column.default
    if isinstance(default, ColumnElementColumnDefault):
        return GeneratedKeys(_select_values(connection, column, default.arg, count, options))
    if sequence := _sequence_of(column, connection.dialect):
        return GeneratedKeys(_select_values(connection, column, sequence.next_value(), count, options))
    if isinstance(column.server_default, DefaultClause):
        return GeneratedKeys(_select_values(connection, column, _server_default(column), count, options))
    if connection.dialect.name == "sqlite" and column.table.autoincrement_column is column:
        return GeneratedKeys(_sqlite_rowids(connection, column, count, given, options))
    raise _unknown(column)


def _unknown(column: Column[Any]) -> UnsupportedStatementError:
    msg = (
        f"{column} has no value in this INSERT, and the database cannot tell it before the row is inserted; "
        "give it, or declare a default that can be selected"
    )
    return UnsupportedStatementError(msg)


def _server_default(column: Column[Any]) -> ColumnElement[Any]:
    default = column.server_default
    assert isinstance(default, DefaultClause)  # noqa: S101 - asked by the callers
    if isinstance(default.arg, str):
        return literal(default.arg)
    return literal_column(str(default.arg)) if hasattr(default.arg, "text") else default.arg  # type: ignore[return-value]


def _select_values(
    connection: Connection, column: Column[Any], expression: Any, count: int, options: Mapping[str, Any]
) -> list[Any]:
    """Select *expression* once per row; it may give another value each time (`uuid()`, a sequence)."""
    values: list[Any] = []
    for chunk in chunks(range(count)):
        if connection.dialect.name == "postgresql":
            rows: Any = func.generate_series(1, len(chunk)).table_valued("n")
        else:
            first = select(literal(1).label("n")).cte("n", recursive=True)
            rows = first.union_all(select(first.c.n + 1).where(first.c.n < len(chunk)))
        statement = select(type_coerce(expression, column.type)).select_from(rows)
        values.extend(connection.execute(statement, execution_options=internal(options)).scalars())
    return values


# -- SQLite ------------------------------------------------------------------------------------------------------------


def _sqlite_rowids(
    connection: Connection, column: Column[Any], count: int, given: Iterable[Any], options: Mapping[str, Any]
) -> list[int]:
    """Take the next row ids; the write lock keeps other processes from taking the same ones."""
    table = column.table
    assert isinstance(table, Table)  # noqa: S101 - plans are made of tables only
    take_write_lock(connection, table, options)
    greatest = select(func.max(column))
    last = connection.execute(greatest, execution_options=internal(options)).scalar() or 0
    first = max(last, _sqlite_sequence(connection, table, options), 0, *given) + 1
    if first + count - 1 > _MAX_SQLITE_ROWID:
        msg = f"{table.fullname} has used its greatest row id; give {column} a value"
        raise UnsupportedStatementError(msg)
    return list(range(first, first + count))


def _sqlite_sequence(connection: Connection, table: Table, options: Mapping[str, Any]) -> int:
    """Return what AUTOINCREMENT remembers of deleted rows, 0 where the table has none."""
    schema = schema_of(table, options)
    prefix = f"{connection.dialect.identifier_preparer.quote_schema(schema)}." if schema else ""
    known = text(f"SELECT 1 FROM {prefix}sqlite_master WHERE name = 'sqlite_sequence'")  # noqa: S608 - a quoted name
    own = internal({})
    if connection.execute(known, execution_options=own).scalar() is None:
        return 0
    last = text(f"SELECT seq FROM {prefix}sqlite_sequence WHERE name = :name")  # noqa: S608 - a quoted name
    return int(connection.execute(last, {"name": str(table.name)}, execution_options=own).scalar() or 0)


# -- PostgreSQL --------------------------------------------------------------------------------------------------------

_CATALOG = text(
    """
    SELECT a.attidentity, pg_get_expr(d.adbin, d.adrelid),
           pg_get_serial_sequence(:relation, a.attname),
           has_sequence_privilege(pg_get_serial_sequence(:relation, a.attname), 'USAGE')
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = CAST(CAST(:relation AS TEXT) AS regclass) AND a.attname = :column
    """
)


def _postgresql(connection: Connection, column: Column[Any], count: int, options: Mapping[str, Any]) -> GeneratedKeys:
    """Select the column's own default, as the catalog has it: what the model says may not be what is there."""
    table = column.table
    assert isinstance(table, Table)  # noqa: S101 - plans are made of tables only
    if made := _sequence_of(column, connection.dialect):
        return GeneratedKeys(_select_values(connection, column, made.next_value(), count, options))
    if isinstance(column.default, ColumnElementColumnDefault):
        return GeneratedKeys(_select_values(connection, column, column.default.arg, count, options))
    parameters = {"relation": postgresql_relation(connection, table, options), "column": str(column.name)}
    row = connection.execute(_CATALOG, parameters, execution_options=internal({})).one_or_none()
    if row is None:
        raise _unknown(column)
    identity, default, sequence, may_use = row
    if sequence is not None and not may_use:
        msg = (
            f"{column} is counted by {sequence}, which this role may not use, so its rows cannot be sealed; "
            f"GRANT USAGE ON SEQUENCE {sequence} TO it, or give {column} a value"
        )
        raise UnsupportedStatementError(msg)
    if _is_set(identity):
        expression: Any = func.nextval(sequence)
    elif default is not None:
        expression = literal_column(default)
    else:
        raise _unknown(column)
    values = _select_values(connection, column, expression, count, options)
    return GeneratedKeys(values, is_always=_is_set(identity, "a"))


def _is_set(identity: Any, kind: str = "") -> bool:
    # "char" columns come as text or as bytes, as the driver likes it
    name = identity.decode() if isinstance(identity, bytes) else str(identity or "")
    return name == kind if kind else bool(name.strip("\x00"))


class _OverridingInsert(PostgresInsert):
    """An INSERT that gives values to a GENERATED ALWAYS column."""

    inherit_cache = True


def overriding(statement: Insert) -> Insert:
    """Return *statement* with OVERRIDING SYSTEM VALUE."""
    changed = _OverridingInsert.__new__(_OverridingInsert)
    changed.__dict__.update(statement.__dict__)
    return changed


@compiles(_OverridingInsert)
def _compile_overriding(element: _OverridingInsert, compiler: SQLCompiler, **kw: Any) -> str:
    visit: Any = compiler.visit_insert
    sql: str = visit(element, **kw)
    head, values, tail = sql.partition(") VALUES (")
    return f"{head}) OVERRIDING SYSTEM VALUE VALUES ({tail}" if values else sql
