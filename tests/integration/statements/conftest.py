"""A few tables with server-made keys, on an initialized engine."""

from typing import Any

import pytest
from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, String, Table
from support.models import map_class

from sa_keyvault import Encrypted, KeyRing


@pytest.fixture
def metadata() -> MetaData:
    """The tests' tables."""
    return MetaData()


@pytest.fixture
def users(metadata: MetaData, engine: Engine, ring: KeyRing) -> Table:
    """A table whose key the database counts."""
    table = Table(
        "users",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("email", Encrypted(String(100), area="identities")),
        Column("picture", Encrypted(LargeBinary, area="models")),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    return table


@pytest.fixture
def user_class(users: Table) -> Any:
    """A class mapped to that table."""
    return map_class(users)
