"""Row locks: what is read to be bound or sealed again must not change before it is written."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Select, Table, false, update

from sa_keyvault import store
from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.statements.own import internal

__all__ = ["locked", "require_transaction", "take_write_lock", "unchanged"]


def require_transaction(connection: Connection, table: Table) -> None:
    """Refuse a connection in autocommit mode, on which no lock outlives its statement.

    Raises:
        sa_keyvault.UnsupportedStatementError: The connection commits every statement.
    """
    if store.is_autocommit(connection) and connection.dialect.name != "sqlite":
        raise _autocommit(table)


def _autocommit(table: Table) -> UnsupportedStatementError:
    msg = (
        f"this statement on {table.fullname} reads rows and then seals them, which needs a transaction; "
        "the connection is in AUTOCOMMIT mode"
    )
    return UnsupportedStatementError(msg)


def take_write_lock(connection: Connection, table: Table, options: Mapping[str, Any]) -> None:
    """Take SQLite's write lock with an UPDATE of no row, beside a statement with *options*.

    Raises:
        sa_keyvault.UnsupportedStatementError: The lock was gone at once: the connection is in autocommit mode.
    """
    column = next(iter(table.primary_key.columns), None)
    column = next(iter(table.columns)) if column is None else column
    statement = update(table).values({column: column, **unchanged(table)}).where(false())
    connection.execute(statement, execution_options=internal(options))
    # asked of the driver: an engine may run its transactions itself, with the driver's own switched off
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        raise _autocommit(table)


def unchanged(table: Table, written: Iterable[str] = ()) -> dict[Column[Any], Column[Any]]:
    """Return what an UPDATE of the library's own sets columns to that would change with every other UPDATE.

    Args:
        table: The table.
        written: Keys of the columns that it writes.
    """
    changing = [
        column
        for column in table.columns
        if column.computed is None and (column.onupdate is not None or column.server_onupdate is not None)
    ]
    return {column: column for column in changing if column.key not in written}


def locked(connection: Connection, statement: Select[Any], table: Table, options: Mapping[str, Any]) -> Select[Any]:
    """Return *statement*, made to lock the rows of *table* that it reads, for a statement with *options*."""
    require_transaction(connection, table)
    if connection.dialect.name == "sqlite":
        take_write_lock(connection, table, options)
        return statement
    if connection.dialect.name == "postgresql":
        return statement.with_for_update(of=table)
    return statement.with_for_update()
