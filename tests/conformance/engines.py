"""Gives every engine of SQLAlchemy's tests a key ring: on SQLite over a copy of one prepared key store."""

import os
from typing import Any

from sqlalchemy import (
    URL,
    AdaptedConnection,
    Column,
    Connection,
    Dialect,
    Engine,
    Integer,
    MetaData,
    Pool,
    String,
    Table,
    create_engine,
    event,
)

from conformance.searching import opening_function
from sa_keyvault import Encrypted, InstallationKey, KeyRing
from sa_keyvault.keyring import load_keys
from sa_keyvault.plugin import _has_ring

__all__ = ["attach_rings"]

_FOREVER = 1e9  # seconds
_IS_COPIED = "SELECT 1 FROM sqlite_master WHERE name = 'keyvault_store'"
_URL = "SA_KEYVAULT_CONFORMANCE_URL"


class _CopiedRing(KeyRing):
    """A ring over a key store that was copied into the database; it reads it at the first statement that asks.

    `initialize` would need a transaction of its own, which a database in memory does not have while a test uses it.
    """

    def before_statement(self, connection: Connection) -> None:
        if self._keys is None:
            self._use(load_keys(connection, self.identity))
            self._refreshing.end(float("inf"))
        super().before_statement(connection)


def attach_rings() -> None:
    """Attach a ring to every engine that is made from now on."""
    key = InstallationKey.generate()
    shared = _shared_ring(key)
    script = _script(key)
    original = Engine.__init__

    # create_engine() looks up the names of these parameters
    def make(
        self: Engine,
        pool: Pool,
        dialect: Dialect,
        url: URL,
        logging_name: str | None = None,
        echo: Any = None,
        query_cache_size: int = 500,
        execution_options: Any = None,
        hide_parameters: bool = False,
    ) -> None:
        original(self, pool, dialect, url, logging_name, echo, query_cache_size, execution_options, hide_parameters)
        # a mock engine has no pool; the ring's own engine shares the dialect of the one it serves
        if not isinstance(pool, Pool) or _has_ring(self):
            return
        if dialect.name == "sqlite":
            ring = _CopiedRing(key, refresh_seconds=_FOREVER)
            ring.attach(self)
            event.listen(self, "connect", _Copier(script, ring))
        elif shared is not None and dialect.name == "postgresql":
            shared.attach(self)

    Engine.__init__ = make  # type: ignore[method-assign]


def _metadata() -> MetaData:
    metadata = MetaData()
    Table("any", metadata, Column("id", Integer, primary_key=True), Column("text", Encrypted(String)))
    return metadata


def _shared_ring(key: InstallationKey) -> KeyRing | None:
    """Return a ring over the key store of the server that the tests run on, if there is one."""
    url = os.environ[_URL]
    if not url:
        return None
    ring = KeyRing(key)
    ring.initialize(create_engine(url), _metadata())
    return ring


def _script(key: InstallationKey) -> str:
    """Return the SQL that makes a key store with its keys in an SQLite database."""
    engine = create_engine("sqlite://")
    KeyRing(key).initialize(engine, _metadata())
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        return "\n".join(driver.iterdump())


class _Copier:
    """Copies the key store into each new database, and lets it open values."""

    def __init__(self, script: str, ring: KeyRing) -> None:
        self._script = script
        self._ring = ring

    def __call__(self, dbapi_connection: Any, record: Any) -> None:
        if isinstance(dbapi_connection, AdaptedConnection):
            dbapi_connection.run_async(self._prepare_async)
            return
        if not dbapi_connection.execute(_IS_COPIED).fetchall():
            dbapi_connection.executescript(self._script)
        dbapi_connection.create_function(*opening_function(self._ring))

    async def _prepare_async(self, connection: Any) -> None:
        if not await connection.execute_fetchall(_IS_COPIED):
            await connection.executescript(self._script)
        await connection.create_function(*opening_function(self._ring))
