"""An application with claimants, and what an administrator has at hand."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, Table
from support.jobs import CLAIMANTS, add_claimants, rotate
from support.models import Base
from support.workers import connect

from sa_keyvault import KeyRing, new_passphrase
from sa_keyvault.installation import SoftwareInstallationKey


@pytest.fixture
def admin(make_ring: RingMaker) -> KeyRing:
    """A ring as an administrator's command has it: it is not initialized, and removes without delay."""
    return make_ring(removal_delay=timedelta(0), refresh_seconds=0, actor="ada", provisioning=None)


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring."""
    return make_engine(url)


@pytest.fixture
def table() -> Table:
    """The table of the claimants."""
    return CLAIMANTS


@pytest.fixture
def application(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """A running application with a hundred claimants."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    add_claimants(engine, range(1, 101))
    return engine


@pytest.fixture
def rotated(application: Engine, plain: Engine, admin: KeyRing) -> Engine:
    """The same, and every value is under a retired key."""
    rotate(plain, admin, "identities", "models")
    return application


@pytest.fixture
def connector(url: URL, installation_key: SoftwareInstallationKey, tmp_path: Path) -> Callable[[], Engine]:
    """What a worker connects with; the installation key is in a file, as on a server."""
    passphrase = new_passphrase()
    key_file, passphrase_file = tmp_path / "installation.pem", tmp_path / "passphrase"
    installation_key.to_file(key_file, passphrase)
    passphrase_file.touch(mode=0o600)
    passphrase_file.write_bytes(passphrase)
    return partial(connect, url, key_file, passphrase_file)
