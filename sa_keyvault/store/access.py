"""How the library's own statements run: marked, alone where they must be, and without the application's options."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Executable, Table, func, inspect, select, update
from sqlalchemy.engine import CursorResult

from sa_keyvault.errors import KeyStoreError
from sa_keyvault.store.schema import column_table, store_table, tables

__all__ = [
    "INTERNAL",
    "create_tables",
    "exclusive",
    "execute",
    "is_autocommit",
    "locked",
    "present_tables",
    "values_of",
]

INTERNAL = "sa_keyvault_internal"
"""Execution option that marks the library's own statements; the statement hooks leave them alone."""

_LOCK_NUMBER = 0x5A6B7661  # any fixed number; PostgreSQL's advisory locks are per database
_LOCK_SECONDS = 60


def execute(connection: Connection, statement: Executable, rows: Any = None) -> CursorResult[Any]:
    """Run one of the library's own statements: no schema translation, no server-side cursor, no hook."""
    options = {"schema_translate_map": None, "stream_results": False, INTERNAL: True}
    return connection.execute(statement, rows, execution_options=options)


def create_tables(connection: Connection) -> None:
    """Create the tables that are missing."""
    tables.create_all(connection)


def present_tables(connection: Connection) -> list[Table]:
    """Return the tables that are there, the one that remembers the application's columns last."""
    names = set(inspect(connection).get_table_names())
    present = [table for table in tables.sorted_tables if table.name in names]
    return sorted(present, key=lambda table: table is column_table)


@contextmanager
def exclusive(connection: Connection) -> Iterator[None]:
    """Let one process at a time initialize the key store of this database.

    MariaDB commits at every CREATE TABLE, so there the lock is the session's, not the transaction's.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        execute(connection, select(func.pg_advisory_xact_lock(_LOCK_NUMBER)))
        yield
    elif dialect in ("mysql", "mariadb"):
        name = func.concat("sa_keyvault:", func.md5(func.database()))
        if execute(connection, select(func.get_lock(name, _LOCK_SECONDS))).scalar() != 1:
            msg = f"another process has held the key store's lock for {_LOCK_SECONDS} s; try again"
            raise KeyStoreError(msg)
        try:
            yield
        finally:
            execute(connection, select(func.release_lock(name)))
    else:
        yield


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """Let one administrative operation at a time change keys, until the transaction ends.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store; the connection commits every statement; or the transaction
            has a snapshot from before the last operation, and would undo it.
    """
    if not inspect(connection).has_table(store_table.name):
        msg = "the database has no initialized key store; call ring.initialize(engine, metadata) at start-up"
        raise KeyStoreError(msg)
    if is_autocommit(connection):
        msg = "an operation on keys needs a transaction, and the connection is in AUTOCOMMIT mode; use another one"
        raise KeyStoreError(msg)
    version = select(store_table.c.version)
    # an UPDATE that changes nothing takes the row's lock, and SQLite's; reading before it would take a snapshot that
    # is old as soon as the lock was waited for. A locking read shows MariaDB's newest row, a plain one the snapshot's
    execute(connection, update(store_table).values(version=store_table.c.version))
    if execute(connection, version).scalar() != execute(connection, version.with_for_update()).scalar():
        msg = "the keys were changed since this transaction began; roll it back and begin another one"
        raise KeyStoreError(msg)
    yield


def is_autocommit(connection: Connection) -> bool:
    """Whether the connection commits every statement by itself."""
    level = connection.get_execution_options().get("isolation_level")
    if level is None:
        level = getattr(connection.dialect, "_on_connect_isolation_level", None)
    return level == "AUTOCOMMIT"


def values_of(record: Any) -> Mapping[str, Any]:
    """Return the fields of a record by name, as they stand in its table."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
