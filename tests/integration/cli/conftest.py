"""Fixtures of the command's tests."""

from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine
from sqlalchemy.orm import Session
from support.command import EMAIL, KeyFiles, Outcome, Runner, run_command, write_key_files
from support.models import Base, Claimant

from sa_keyvault.installation import SoftwareInstallationKey


@pytest.fixture
def key_files(installation_key: SoftwareInstallationKey, tmp_path: Path) -> KeyFiles:
    """The installation key of the run in a file, and its passphrase in another."""
    return write_key_files(installation_key, tmp_path)


@pytest.fixture
def run(key_files: KeyFiles) -> Runner:
    """Run `sa-keyvault` with these arguments, in an environment that names the key files."""

    def run_it(*arguments: str, url: URL | None = None, **environment: str) -> Outcome:
        return run_command(key_files, arguments, url, environment)

    return run_it


@pytest.fixture
def application(sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """A running application with one row."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(sqlite_url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL))
    return engine
