"""Real databases: a fresh one for each test, on the servers that are there."""

import gc
import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, create_engine, make_url, text

__all__ = ["ASYNC_DRIVERS", "SYNC_DRIVERS", "Server", "database_url", "server"]

SYNC_DRIVERS = ("sqlite", "postgresql", "mariadb")
ASYNC_DRIVERS = ("sqlite+aiosqlite", "postgresql+asyncpg", "postgresql+psycopg_async", "mysql+asyncmy")

_ENVIRONMENT = {"postgresql": "SA_KEYVAULT_TEST_POSTGRESQL", "mariadb": "SA_KEYVAULT_TEST_MARIADB"}
_REQUIRED = "SA_KEYVAULT_TEST_REQUIRE"


@dataclass(frozen=True)
class Server:
    """A database server.

    Attributes:
        url: A database on it that exists, for the synchronous driver.
        container: The container it runs in, if the tests started it.
    """

    url: URL
    container: Any = None


@cache
def server(name: str) -> Server:
    """Return the server called *name*: from the environment, else in a container; else skip with the reason."""
    if url := os.environ.get(_ENVIRONMENT[name]):
        return Server(make_url(url))
    if reason := _no_docker():
        missing = f"no {name}: {_ENVIRONMENT[name]} is not set, and {reason}"
        if os.environ.get(_REQUIRED):
            pytest.fail(missing)
        pytest.skip(missing)
    return _container(name)


def _no_docker() -> str | None:
    try:
        from docker import from_env  # noqa: PLC0415 - comes with testcontainers only
        from docker.errors import DockerException  # noqa: PLC0415
    except ImportError:
        return "testcontainers is not installed"
    with warnings.catch_warnings():
        # a client that reaches no engine leaves its socket open; here it is collected, not in the middle of a test
        warnings.simplefilter("ignore", ResourceWarning)
        answers = _answers(from_env, DockerException)
        gc.collect()
    return None if answers else "no Docker engine answers"


def _answers(connect: Callable[[], Any], failure: type[Exception]) -> bool:
    try:
        client = connect()
        client.ping()
    except failure:
        return False
    client.close()
    return True


def _container(name: str) -> Server:
    from testcontainers.mysql import MySqlContainer  # noqa: PLC0415
    from testcontainers.postgres import PostgresContainer  # noqa: PLC0415

    container: Any
    if name == "postgresql":
        container = PostgresContainer("postgres:16", driver="psycopg")
    else:
        container = MySqlContainer("mariadb:11", dialect="pymysql", username="root", root_password="test")
    container.start()
    return Server(make_url(container.get_connection_url()), container)


def database_url(driver: str, folder: Path) -> Iterator[URL]:
    """Yield the URL of an empty database for *driver*, and drop it afterwards."""
    if driver.startswith("sqlite"):
        yield make_url(f"{driver}:///{folder / 'test.db'}")
        return
    kind = "mariadb" if driver.startswith(("mysql", "mariadb")) else "postgresql"
    url, name = server(kind).url, f"sa_keyvault_{secrets.token_hex(4)}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    try:
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        drivername = url.drivername if driver in SYNC_DRIVERS else driver
        yield url.set(drivername=drivername, database=name)
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name}{force}"))
    finally:
        admin.dispose()
