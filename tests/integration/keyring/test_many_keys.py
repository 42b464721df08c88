"""A key store with a hundred thousand working keys: how much of it is read, and what is unwrapped."""

import tracemalloc
from dataclasses import replace

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, insert
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import records, store
from sa_keyvault.keyring import load_keys
from sa_keyvault.store.schema import working_table
from sa_keyvault.suites import AES_256_GCM

COUNT = 100_000
MEMORY = 64 * 2**20  # bytes


def test_many_keys(url: URL, make_ring: RingMaker, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring opens with under 64 MiB, and unwraps a key when it is used first."""
    ring = make_ring()
    plain = make_engine(url)
    ring.initialize(make_engine(url, ring), Base.metadata)
    Base.metadata.create_all(plain)
    with plain.begin() as connection:
        master = load_keys(connection, ring.identity).masters()[0]
        one = records.new_working(master.record, master.require_secret(), "others", AES_256_GCM)
        taken = {record.number for record in store.working(connection)}
        # their wraps are the same, which is noticed at their first use only
        many = (replace(one, number=number) for number in range(1, COUNT + 10) if number not in taken)
        rows = [{name: getattr(record, name) for name in working_table.columns.keys()} for record in many]  # noqa: SIM118
        connection.execute(insert(working_table), rows)
    del rows
    unwrapped = []
    original = records.unwrap_working
    monkeypatch.setattr(records, "unwrap_working", lambda *given: unwrapped.append(given[0].number) or original(*given))
    fresh = make_ring()
    engine = make_engine(url, fresh)
    tracemalloc.start()
    try:
        fresh.initialize(engine, Base.metadata)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (peak < MEMORY, unwrapped) == (True, [])
    with Session(engine) as session, session.begin():
        session.add(Claimant(email=marked("ada@example.org")))
    assert len(unwrapped) == 1
