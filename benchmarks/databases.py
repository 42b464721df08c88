"""The databases that are measured on: a file of SQLite, and an empty database on each server that is there."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from sa_keyvault import InstallationKey, KeyRing

__all__ = ["SERVERS", "Database", "opened", "why_missing"]

SERVERS = {"postgresql": "SA_KEYVAULT_TEST_POSTGRESQL", "mariadb": "SA_KEYVAULT_TEST_MARIADB"}
"""The variable with the URL of a database that exists, for each kind of server."""

_ASYNC = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+psycopg_async", "mariadb": "mysql+asyncmy"}


@dataclass(frozen=True)
class Database:
    """An empty database.

    Attributes:
        name: `sqlite`, `postgresql` or `mariadb`.
        url: Where it is.
        bare: An engine without a key ring.
        ringed: An engine with one.
        ring: That key ring.
    """

    name: str
    url: URL
    bare: Engine
    ringed: Engine
    ring: KeyRing

    @property
    def async_url(self) -> URL:
        """Where it is, for an asyncio driver."""
        return self.url.set(drivername=_ASYNC[self.name])


def why_missing(name: str) -> str:
    """Return why a database cannot be measured on; nothing where it can."""
    if name not in SERVERS:
        return ""
    url = os.environ.get(SERVERS[name])
    if not url:
        return f"{SERVERS[name]} is not set"
    engine = create_engine(url)
    try:
        with engine.connect():
            return ""
    except SQLAlchemyError as error:
        return f"does not answer ({type(error).__name__})"
    finally:
        engine.dispose()


@contextmanager
def opened(name: str, folder: Path, make_ring: Callable[[], KeyRing] | None = None) -> Iterator[Database]:
    """Enter to an empty database, which is gone afterwards."""
    with _url(name, folder) as url:
        ring = make_ring() if make_ring else KeyRing(_installation_key(), actor="benchmarks")
        bare, ringed = create_engine(url), create_engine(url, plugins=["keyvault"], keyring=ring)
        try:
            yield Database(name, url, bare, ringed, ring)
        finally:
            bare.dispose()
            ringed.dispose()


@cache
def _installation_key() -> InstallationKey:
    """Return one key for all databases: to make it takes seconds."""
    return InstallationKey.generate()


@contextmanager
def _url(name: str, folder: Path) -> Iterator[URL]:
    fresh = f"sa_keyvault_{secrets.token_hex(4)}"
    if name not in SERVERS:
        path = folder / f"{fresh}.db"
        yield make_url(f"sqlite:///{path}")
        path.unlink(missing_ok=True)
        return
    url = make_url(os.environ[SERVERS[name]])
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {fresh}"))
        yield url.set(database=fresh)
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {fresh}"))
    finally:
        admin.dispose()
