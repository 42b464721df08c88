"""An application with claimants, and what an administrator has at hand."""

from datetime import timedelta

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, Table
from support.jobs import CLAIMANTS, add_claimants, rotate
from support.models import Base

from sa_keyvault import KeyRing


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
