"""A connection of the library's own: for what the caller's connection cannot show.

A REPEATABLE READ snapshot would show the old version of the key store for ever, and a key that is missed while
rows are being fetched has no connection at all.
"""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

from sa_keyvault.errors import KeyStoreUnreachableError, KeyVaultError

__all__ = ["PrivateConnection", "is_in_memory", "private_connection"]

_T = TypeVar("_T")

_LOCK_TIMEOUTS = {
    "sqlite": "PRAGMA busy_timeout = 5000",
    "postgresql": "SET lock_timeout = '5s'",
    "mysql": "SET SESSION lock_wait_timeout = 5, SESSION innodb_lock_wait_timeout = 5",
    "mariadb": "SET SESSION lock_wait_timeout = 5, SESSION innodb_lock_wait_timeout = 5",
}


def is_in_memory(connection: Connection) -> bool:
    """Whether *connection* is the only way to its database: SQLite in memory."""
    if connection.dialect.name != "sqlite":
        return False
    # the driver is asked, not SQLAlchemy: no transaction may begin here
    cursor = connection.connection.cursor()
    try:
        cursor.execute("PRAGMA database_list")
        return not any(row[1] == "main" and row[2] for row in cursor.fetchall())
    finally:
        cursor.close()


class PrivateConnection:
    """Opens one connection after the other beside an engine's pool.

    Args:
        engine: Whose database, driver and connection events to use.
    """

    def __init__(self, engine: Engine) -> None:
        # a pool of its own over the same creator and events: a full pool must not stop a key from being found
        pool = NullPool(
            engine.pool._creator,  # noqa: SLF001 - what Pool.recreate() itself hands on
            _dispatch=engine.pool.dispatch,
            dialect=engine.dialect,
        )
        self._engine = Engine(pool, engine.dialect, engine.url, hide_parameters=True)
        self._is_async = engine.dialect.is_async

    def run(self, work: Callable[[Connection], _T]) -> _T:
        """Return what *work* returns, called in a transaction of a connection of its own.

        Raises:
            sa_keyvault.KeyStoreUnreachableError: The database does not answer, or not with the key store's tables.
        """
        try:
            if self._is_async and not in_greenlet():
                return _in_helper_thread(self._begin, work)
            return self._begin(work)
        except (SQLAlchemyError, OSError) as error:
            problem = type(error).__name__
        msg = f"the key store cannot be read ({problem}); see whether its tables are there, and are not locked"
        raise KeyStoreUnreachableError(msg)

    def _connect(self) -> Connection:
        try:
            return self._engine.connect()
        except KeyVaultError:
            raise
        except Exception as error:  # noqa: BLE001 - asyncio drivers raise errors of their own here, and those of sockets
            problem = type(error).__name__
        msg = f"the key store is out of reach ({problem}); see whether the database accepts one more connection"
        raise KeyStoreUnreachableError(msg)

    def _begin(self, work: Callable[[Connection], _T]) -> _T:
        with self._connect() as connection:
            if timeout := _LOCK_TIMEOUTS.get(connection.dialect.name):
                connection.exec_driver_sql(timeout)
                connection.commit()
            result = work(connection)
            connection.commit()
            return result


def _in_helper_thread(begin: Callable[[Callable[[Connection], _T]], _T], work: Callable[[Connection], _T]) -> _T:
    """Run *begin* under an event loop of its own: a result processor is called from code that cannot await."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((True, asyncio.run(greenlet_spawn(begin, work))))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            outcome.extend((False, error))

    thread = threading.Thread(target=run, name="sa_keyvault", daemon=True)
    thread.start()
    thread.join()
    succeeded, value = outcome
    if not succeeded:
        raise value
    result: _T = value
    return result


def private_connection(bind: Engine | Connection) -> PrivateConnection | None:
    """Return the library's own way to the database, or None where there is but one way: SQLite in memory."""
    if bind.dialect.name != "sqlite":
        return PrivateConnection(bind.engine)
    private = PrivateConnection(bind.engine)
    is_file = not private.run(is_in_memory)
    return private if is_file else None
