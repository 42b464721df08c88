"""A large key store: how much of it is read, what is unwrapped, and what is looked for when it is needed."""

import tracemalloc
from dataclasses import replace

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, insert, select, update
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import KeyRecordError, KeyRing, KeyStateError, records, store
from sa_keyvault import administration as administer
from sa_keyvault.installation import sign_store
from sa_keyvault.keyring import PrivateConnection, load_keys
from sa_keyvault.ledger import inactive_states, store_digest
from sa_keyvault.states import KeyState
from sa_keyvault.store.schema import working_table
from sa_keyvault.suites import AES_256_GCM

COUNT = 100_000
LARGE = 10_001
MEMORY = 64 * 2**20  # bytes


def fill(engine: Engine, ring: KeyRing, count: int, state: KeyState = KeyState.ACTIVE) -> None:
    """Add working keys of an area that no column is of; their wraps are the same, which a first use would notice."""
    with engine.begin() as connection:
        master = load_keys(connection, ring.identity).masters()[0]
        one = records.new_working(master.record, master.require_secret(), "others", AES_256_GCM)
        if state is not KeyState.ACTIVE:
            one = records.working_with_state(one, master.require_secret(), state)
        taken = {record.number for record in store.working(connection)}
        many = (replace(one, number=number) for number in range(1, count + 10) if number not in taken)
        rows = [{name: getattr(record, name) for name in working_table.columns.keys()} for record in many]  # noqa: SIM118
        connection.execute(insert(working_table), rows)
        found = store.store_record(connection)
        assert found is not None
        digest = store_digest(
            [master.record], inactive_states(store.working(connection)), [ring.identity.key.fingerprint]
        )
        signed = replace(found, version=found.version + 1, digest=digest)
        store.replace_store(connection, signed)
        provisioning = ring.identity.policy.provisioning
        store.replace_installation(connection, sign_store(signed, ring.identity.key, provisioning))


@pytest.mark.parametrize("state", [KeyState.ACTIVE, KeyState.RETIRED])
def test_many_keys(
    state: KeyState, url: URL, make_ring: RingMaker, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring opens with under 64 MiB, and unwraps a key when it is used first."""
    ring = make_ring()
    plain = make_engine(url)
    ring.initialize(make_engine(url, ring), Base.metadata)
    Base.metadata.create_all(plain)
    fill(plain, ring, COUNT, state)
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


# -- keys are read when they are needed --------------------------------------------------------------------------------


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring."""
    return make_engine(url)


@pytest.fixture
def admin(url: URL, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker) -> KeyRing:
    """The ring of an administrator, and a large key store, in which three keys have a value each."""
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(plain)
    for number in (1, 2, 3):
        with engine.begin() as connection:
            connection.execute(insert(Claimant).values(id=number, email=marked(f"email {number}")))
            administer.rotate_area(connection, ring, "identities")
    fill(plain, ring, LARGE)
    return ring


@pytest.fixture
def late(url: URL, admin: KeyRing, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """An engine whose ring has read none of these keys yet, and does not look for changes soon."""
    ring = make_ring(refresh_seconds=3600)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    return engine


def emails(engine: Engine) -> list[str]:
    """Return all values, in the order of the rows."""
    with engine.connect() as connection:
        return list(connection.scalars(select(Claimant.email).order_by(Claimant.id)))


def number_of(engine: Engine, state: KeyState) -> int:
    """Return the smallest number of a key of the area identities in that state."""
    with engine.connect() as connection:
        return min(one.number for one in store.working_in_area(connection, "identities") if one.state is state)


def test_values_under_older_keys_open(late: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that were not read at the start are found by the values under them, and read once."""
    assert emails(late) == [marked(f"email {number}") for number in (1, 2, 3)]
    monkeypatch.setattr(PrivateConnection, "run", None)
    assert emails(late) == [marked(f"email {number}") for number in (1, 2, 3)]


def test_a_start_makes_no_key_that_is_there(late: Engine, plain: Engine) -> None:
    """A ring of a large key store takes the newest key of each area."""
    with late.begin() as connection:
        connection.execute(insert(Claimant).values(id=4, email=marked("email 4")))
    with plain.connect() as connection:
        states = [record.state for record in store.working_in_area(connection, "identities")]
    assert sorted(states) == ["active", "retired", "retired", "retired"]


def test_all_active_keys_are_current(
    url: URL, late: Engine, admin: KeyRing, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Values may stay under every active key, whether the ring has read it or not."""
    other = make_ring(working_keys_per_area=3)
    engine = make_engine(url, other)
    other.initialize(engine, Base.metadata)
    late_ring = make_ring()
    late_ring.initialize(make_engine(url, late_ring), Base.metadata)
    assert (len(other.active_numbers("identities")), late_ring.active_numbers("identities")) == (
        3,
        other.active_numbers("identities"),
    )


def test_key_disabled_since_the_start(late: Engine, plain: Engine, admin: KeyRing) -> None:
    """A key that was disabled before the ring has read it does not open a value."""
    number = number_of(plain, KeyState.RETIRED)
    with plain.begin() as connection:
        administer.disable_working(connection, admin, number)
    with pytest.raises(KeyStateError, match=f"working key {number} .* is disabled"):
        emails(late)


def test_old_row_put_back_since_the_start(
    url: URL, plain: Engine, admin: KeyRing, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """The row of a disabled key from before, put back before the ring has read it, is refused (A-28)."""
    number = number_of(plain, KeyState.RETIRED)
    key = working_table.c.number == number
    with plain.begin() as connection:
        before = connection.execute(select(working_table).where(key)).mappings().one()
        administer.disable_working(connection, admin, number)
    ring = make_ring(refresh_seconds=3600)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with plain.begin() as connection:
        connection.execute(update(working_table).where(key).values(dict(before)))
    with pytest.raises(KeyRecordError, match="put back"):
        emails(engine)


def test_state_that_differs_by_a_blank(late: Engine, plain: Engine) -> None:
    """A state that MariaDB finds equal to the one that is signed, and that is another text, is refused."""
    number = number_of(plain, KeyState.RETIRED)
    with plain.begin() as connection:
        connection.execute(update(working_table).where(working_table.c.number == number).values(state="retired "))
    with pytest.raises(KeyRecordError, match="put back"):
        emails(late)


def test_in_memory_all_keys_are_read(make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Where there is one connection only, no key is looked for later."""
    ring = make_ring()
    engine = make_engine("sqlite://", ring, poolclass=StaticPool)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(Claimant).values(id=1, email=marked("email 1")))
        administer.rotate_area(connection, ring, "identities")
    fill(engine, ring, LARGE)
    ring.initialize(engine, Base.metadata)
    assert emails(engine) == [marked("email 1")]
