"""A ring that examines: it reads what a running application has written, and makes nothing."""

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, select
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import KeyStoreError, store
from sa_keyvault.administration import rotate_area

EMAILS = [marked("ada@example.org"), marked("grace@example.org")]


def test_examine(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """It reads values, also those under keys that were made meanwhile, though a master key is due and none is made."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAILS[0]))
    plain, examiner, examined = make_engine(url), make_ring(), make_engine(url)
    with plain.begin() as connection:
        (master,) = store.masters(connection)
        store.add_usage(connection, "0" * 32, master.id, 2**30)
    examiner.examine(examined)
    with plain.begin() as connection:
        rotate_area(connection, make_ring(), "identities")
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=2, email=EMAILS[1]))
    with examined.connect() as connection:
        assert connection.scalars(select(Claimant.email).order_by(Claimant.id)).all() == EMAILS
    with plain.connect() as connection:
        assert [record.id for record in store.masters(connection)] == [master.id]


def test_no_store(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Where there is no key store, none is made."""
    with pytest.raises(KeyStoreError, match="no initialized key store"):
        make_ring().examine(make_engine(url))
    with make_engine(url).connect() as connection:
        assert store.present_tables(connection) == []
