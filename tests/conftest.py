"""Fixtures of all tests: a fresh database, an installation key, a ring, and the watch over leaks."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine
from support.databases import SYNC_DRIVERS, database_url
from support.leaks import LeakWatch

from sa_keyvault import InstallationKey, KeyRing, KeyVaultError

EngineMaker = Callable[..., Engine]
RingMaker = Callable[..., KeyRing]


@pytest.fixture(scope="session")
def installation_key() -> InstallationKey:
    """One RSA-4096 pair for the whole run: making one takes about a second."""
    return InstallationKey.generate()


@pytest.fixture(params=SYNC_DRIVERS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database, on each of the three databases."""
    yield from database_url(request.param, tmp_path)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> URL:
    """An empty SQLite file."""
    return next(database_url("sqlite", tmp_path))


@pytest.fixture
def make_ring(installation_key: InstallationKey) -> RingMaker:
    """Make key rings of one installation."""

    def make(**options: Any) -> KeyRing:
        return KeyRing(installation_key, **options)

    return make


@pytest.fixture
def make_engine() -> Iterator[EngineMaker]:
    """Make engines that are disposed of at the end of the test."""
    engines: list[Engine] = []

    def make(url: URL | str, ring: KeyRing | None = None, **options: Any) -> Engine:
        if ring is not None:
            options |= {"plugins": ["keyvault"], "keyring": ring}
        engine = create_engine(url, **options)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def ring(make_ring: RingMaker) -> KeyRing:
    """A key ring with default settings."""
    return make_ring()


@pytest.fixture
def engine(url: URL, ring: KeyRing, make_engine: EngineMaker) -> Engine:
    """An engine with a key ring that is not initialized yet."""
    return make_engine(url, ring)


@pytest.fixture
def fips_environment() -> dict[str, str]:
    """The environment in which a new process runs a FIPS provider; a folder that `.ci/fips-provider` made names it."""
    folder = os.environ.get("SA_KEYVAULT_TEST_FIPS")
    if not folder:
        pytest.skip("SA_KEYVAULT_TEST_FIPS names no folder with a FIPS provider; .ci/fips-provider makes one")
    return {
        "OPENSSL_CONF": f"{folder}/fips.cnf",
        "OPENSSL_MODULES": f"{folder}/ossl-modules",
        "PYTHONPATH": f"{folder}/python",
    }


@pytest.fixture(autouse=True)
def leak_watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeakWatch]:
    """Search every error of the library and every log record of the test for marked plaintexts (R-38, A-74)."""
    watch = LeakWatch()
    original = KeyVaultError.__init__

    def remember(self: KeyVaultError, *args: Any, **fields: Any) -> None:
        original(self, *args, **fields)
        watch.errors.append(self)

    monkeypatch.setattr(KeyVaultError, "__init__", remember)
    logger = logging.getLogger("sa_keyvault")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(watch)
    yield watch
    logging.getLogger().removeHandler(watch)
    logger.setLevel(level)
    assert watch.leaks() == []
