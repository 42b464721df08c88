"""A store with values in two areas, and what an administrator has at hand."""

from datetime import timedelta

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import InstallationKey, KeyRing
from sa_keyvault.installation import SoftwareInstallationKey

EMAIL = marked("ada@example.org")
VOICE = marked("voice").encode()


@pytest.fixture
def admin(make_ring: RingMaker) -> KeyRing:
    """A ring as an administrator's command has it: it is not initialized, and removes without delay."""
    return make_ring(removal_delay=timedelta(0), refresh_seconds=0, actor="ada", provisioning=None)


@pytest.fixture
def application(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """A running application with one row."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL, voice_model=VOICE))
    return engine


@pytest.fixture
def plain(application: Engine, url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring."""
    return make_engine(url)


@pytest.fixture(scope="module")
def other_key() -> SoftwareInstallationKey:
    """The key of another server, or the one that follows."""
    return InstallationKey.generate()


@pytest.fixture(scope="module")
def stranger() -> SoftwareInstallationKey:
    """The key of somebody who can write to the database."""
    return InstallationKey.generate()
