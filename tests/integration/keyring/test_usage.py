"""How many messages a key has sealed: reserved in portions, counted over all processes, never too low."""

import os
from collections import Counter
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import URL, Connection, Engine, create_engine, event, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from support.leaks import marked
from support.models import Base, Claimant, envelopes, run_processes, write_in_process

from sa_keyvault import InstallationKey, KeyRing, Provisioning, store
from sa_keyvault.dialects import ring_of
from sa_keyvault.envelope import key_number
from sa_keyvault.keyring.transaction import drop_state, state_of
from sa_keyvault.keyring.usage import Usage
from sa_keyvault.suites import Aes256Gcm

EMAIL = marked("email")
LIMIT = 20
RESERVATIONS = store.tables.tables["keyvault_usage"]


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring, with the claimants' table."""
    engine = make_engine(url)
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def ready(engine: Engine, ring: KeyRing, plain: Engine) -> Engine:
    """An initialized engine."""
    ring.initialize(engine, Base.metadata)
    return engine


@pytest.fixture
def limited(url: URL, make_engine: EngineMaker, make_ring: RingMaker, plain: Engine) -> Engine:
    """An engine whose keys seal 20 messages each."""
    ring = make_ring(usage_limit=LIMIT)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    return engine


def add(engine: Engine, count: int, first: int = 1) -> None:
    """Insert rows with known keys in one statement."""
    with engine.begin() as connection:
        connection.execute(insert(Claimant), [{"id": first + n, "email": EMAIL} for n in range(count)])


def sealed(engine: Engine) -> Counter[int]:
    """Return how many stored values each working key has sealed."""
    with engine.connect() as connection:
        return Counter(key_number(stored) for stored in envelopes(connection))


def emails(engine: Engine) -> list[str]:
    """Return the values as they are opened."""
    with engine.connect() as connection:
        return list(connection.execute(select(Claimant.email)).scalars())


def reserved(engine: Engine) -> list[int]:
    """Return the amount of every reservation of a working key; those of master keys have ids of 32 characters."""
    amounts = select(RESERVATIONS.c.amount).where(func.length(RESERVATIONS.c.key_id) < 32)
    with engine.connect() as connection:
        return list(connection.execute(amounts).scalars())


# -- rings -------------------------------------------------------------------------------------------------------------


def test_reserves_in_portions(ready: Engine, plain: Engine) -> None:
    """Many values written one by one share one reservation, which covers them all (R-6)."""
    for number in range(1, 8):
        add(ready, 1, number)
    assert len(reserved(plain)) == 1
    assert reserved(plain)[0] > sum(sealed(plain).values()) == 7


def test_reserves_what_a_bulk_insert_needs(ready: Engine, plain: Engine) -> None:
    """A statement with more values than a portion reserves what it needs, and is counted whole (R-6)."""
    add(ready, 1000)
    assert len(reserved(plain)) == 1
    assert reserved(plain)[0] >= 1000
    assert sealed(plain).total() == 1000


def test_counts_over_rings(
    ready: Engine, plain: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Each ring reserves a portion of its own, and the key's usage is their sum (R-6)."""
    other_ring = make_ring()
    other = make_engine(url, other_ring)
    other_ring.initialize(other, Base.metadata)
    add(ready, 1, 1)
    add(other, 1, 2)
    (number,) = sealed(plain)
    with plain.connect() as connection:
        assert store.usage(connection, str(number)) == sum(reserved(plain))
    assert len(reserved(plain)) == 2


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_reservations_do_not_wait(
    ready: Engine, plain: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Two open transactions reserve messages of one key without waiting for each other."""
    other_ring = make_ring()
    other = make_engine(url, other_ring)
    other_ring.initialize(other, Base.metadata)
    with ready.connect() as one, other.connect() as two:
        one.execute(insert(Claimant).values(id=1, email=EMAIL))
        two.execute(insert(Claimant).values(id=2, email=EMAIL))
        one.commit()
        two.commit()
    assert len(sealed(plain)) == 1
    assert len(reserved(plain)) == 2


def test_bulk_insert_over_the_limit(limited: Engine, plain: Engine) -> None:
    """A bulk insert of 50 values with 20 messages per key goes on under new keys, and all open (A-42, A-51)."""
    add(limited, 50)
    assert sorted(sealed(plain).values()) == [10, 20, 20]
    assert emails(limited) == [EMAIL] * 50


def test_autoincrement_over_the_limit(limited: Engine, plain: Engine) -> None:
    """The same through the ORM, with keys that the database generates (A-42)."""
    with Session(limited) as session:
        session.add_all([Claimant(email=EMAIL) for _ in range(50)])
        session.commit()
    assert max(sealed(plain).values()) <= LIMIT
    assert sealed(plain).total() == 50
    assert emails(limited) == [EMAIL] * 50


def test_single_inserts_over_the_limit(limited: Engine, plain: Engine) -> None:
    """A key that is worn out between two transactions is followed by a new one, and its values open on."""
    for number in range(1, 46):
        add(limited, 1, number)
    assert sorted(sealed(plain).values()) == [5, 20, 20]
    assert emails(limited) == [EMAIL] * 45


def test_limit_over_rings(
    limited: Engine, plain: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A ring takes what another has reserved for spent: no key seals more than its limit (R-6, A-42)."""
    other_ring = make_ring(usage_limit=LIMIT)
    other = make_engine(url, other_ring)
    other_ring.initialize(other, Base.metadata)
    for number in range(0, 40, 8):
        add(limited, 4, number + 1)
        add(other, 4, number + 5)
    assert max(sealed(plain).values()) <= LIMIT
    assert emails(limited) == emails(other) == [EMAIL] * 40


def test_limit_over_processes(
    url: URL, plain: Engine, installation_key: InstallationKey, tmp_path: Path, limited: Engine
) -> None:
    """Processes that write at the same time share the usage of a key, and every value opens (R-6, R-37)."""
    arguments = [([EMAIL] * 30, {"usage_limit": LIMIT})] * 3
    assert run_processes(write_in_process, url, installation_key, tmp_path, arguments) == [0, 0, 0]
    # processes that reserve at the same instant do not see each other: that is what the other half is for
    assert max(sealed(plain).values()) <= 3 * LIMIT
    assert emails(limited) == [EMAIL] * 90


def add_in_process(url: URL, key_file: Path, passphrase: bytes, barrier: Barrier, first: int) -> None:
    """Insert 50 rows in one statement, together with other processes."""
    ring = KeyRing(InstallationKey.from_file(key_file, passphrase), usage_limit=LIMIT)
    engine = create_engine(url, plugins=["keyvault"], keyring=ring)
    ring.initialize(engine, Base.metadata)
    barrier.wait()
    add(engine, 50, first)
    engine.dispose()


def test_bulk_inserts_over_the_limit_in_processes(
    url: URL, plain: Engine, installation_key: InstallationKey, tmp_path: Path, limited: Engine
) -> None:
    """Two processes cross the limit in the middle of a bulk insert: others follow, all opens (R-6, R-37, A-42)."""
    assert run_processes(add_in_process, url, installation_key, tmp_path, [(1,), (101,)]) == [0, 0]
    used = sealed(plain)
    # both may spend the first key, which alone they share: processes that reserve at the same instant do not see
    # each other
    assert (used.total(), max(used.values()) <= 2 * LIMIT, len(used) >= 5) == (100, True, True)
    assert sum(count > LIMIT for count in used.values()) <= 1
    add(limited, 50, 201)
    later = sealed(plain) - used
    assert (sorted(later.values()), later.keys() & used.keys()) == ([10, 20, 20], set())
    assert emails(limited) == [EMAIL] * 150


def test_values_are_spread_over_a_set(url: URL, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """With several working keys per area the values of one statement are shared among them."""
    ring = make_ring(working_keys_per_area=4)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    add(engine, 40)
    assert list(sealed(plain).values()) == [10, 10, 10, 10]
    for number in range(41, 61):
        add(engine, 1, number)
    assert sorted(sealed(plain).values()) == [15, 15, 15, 15]
    assert emails(engine) == [EMAIL] * 60


def test_a_set_of_keys_over_the_limit(url: URL, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A set of keys with a limit stays a set: each worn key is followed by another."""
    ring = make_ring(working_keys_per_area=2, usage_limit=LIMIT)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    for number in range(1, 121, 12):
        add(engine, 12, number)
    assert max(sealed(plain).values()) <= LIMIT
    assert len(sealed(plain)) >= 6
    assert emails(engine) == [EMAIL] * 120


def first_portion(connection: Connection) -> int:
    """Insert one value in a transaction, and return how many messages it reserved."""
    connection.execute(insert(Claimant).values(id=1, email=EMAIL))
    return sum(messages for _, messages in state_of(connection).reservations.values())


def require_spent(ready: Engine, plain: Engine, lost: int) -> None:
    """Seal more than is left of the portion, and see whether the value that was not stored is counted too."""
    assert reserved(plain) == []
    add(ready, 2 * lost, 10)
    assert sum(reserved(plain)) >= 2 * lost + 1


def test_rolled_back_portion_is_spent(ready: Engine, plain: Engine) -> None:
    """What was reserved in a transaction that was rolled back is counted by the next reservation (R-6)."""
    with ready.connect() as connection:
        lost = first_portion(connection)
        connection.rollback()
    require_spent(ready, plain, lost)


def test_portion_rolled_back_to_savepoint_is_spent(ready: Engine, plain: Engine) -> None:
    """What was reserved in a savepoint is counted by the commit of the transaction around it (R-6)."""
    with ready.begin() as connection:
        connection.execute(text("DELETE FROM claimant"))
        savepoint = connection.begin_nested()
        lost = first_portion(connection)
        savepoint.rollback()
    assert reserved(plain) == [lost]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_portion_of_a_commit_that_fails_is_spent(ready: Engine, plain: Engine) -> None:
    """So is what was reserved in a transaction whose COMMIT the database refuses (R-6)."""
    with plain.begin() as connection:
        connection.execute(text("CREATE TABLE pair (id INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    with ready.connect() as connection:
        lost = first_portion(connection)
        connection.execute(text("INSERT INTO pair VALUES (1), (1)"))
        with pytest.raises(IntegrityError):
            connection.commit()
    require_spent(ready, plain, lost)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_forked_child_reserves_anew(ready: Engine, plain: Engine) -> None:
    """A forked child does not count on in its parent's portion (R-37, A-47)."""
    add(ready, 1, 1)
    ready.dispose()
    plain.dispose()
    before = len(reserved(plain))
    plain.dispose()
    child = os.fork()
    if child == 0:
        try:
            add(ready, 1, 2)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert len(reserved(plain)) == before + 1
    add(ready, 1, 3)
    assert len(reserved(plain)) == before + 1
    assert emails(ready) == [EMAIL] * 3


def test_savepoint_that_was_rolled_back_is_counted(
    url: URL, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """What a savepoint reserved and lost is written down when its transaction commits, for all processes (R-6)."""
    for process in range(1, 4):
        ring = make_ring()
        engine = make_engine(url, ring)
        ring.initialize(engine, Base.metadata)
        with engine.begin() as connection:
            savepoint = connection.begin_nested()
            connection.execute(insert(Claimant), [{"id": 100 * process, "email": EMAIL}])
            savepoint.rollback()
            connection.execute(insert(Claimant), [{"id": 100 * process + 1, "email": EMAIL}])
        assert reserved(plain) == [256] * process


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_many_transactions_at_once_stay_within_the_suite(
    url: URL, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Transactions that do not see each other share the margin: no key reaches the limit of its suite (R-6)."""
    suite = Aes256Gcm(name="small", usage_limit=320)
    engines = []
    for _ in range(4):
        ring = make_ring(provisioning=Provisioning(working="small", suites=(suite,)))
        engines.append(make_engine(url, ring))
        ring.initialize(engines[-1], Base.metadata)
    connections = [engine.connect() for engine in engines]
    for place, connection in enumerate(connections):
        rows = [{"id": 1000 * place + number, "email": EMAIL} for number in range(1, 161)]
        connection.execute(insert(Claimant), rows)
    for connection in connections:
        connection.commit()
        connection.close()
    assert sealed(plain).total() == 4 * 160
    assert max(sealed(plain).values()) <= 160


def test_worn_keys_cost_one_query(url: URL, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """However many keys of an area are worn, a new process finds that out by one query."""
    ring = make_ring(usage_limit=1)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    add(engine, 30)
    late = make_engine(url, make_ring(usage_limit=1))
    ring_of(late.dialect).initialize(late, Base.metadata)
    statements: list[str] = []
    event.listen(late, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    add(late, 1, 100)
    assert len([one for one in statements if "keyvault_usage" in one]) < 10


# -- one process's count -----------------------------------------------------------------------------------------------


@pytest.fixture
def store_engine(make_engine: EngineMaker) -> Engine:
    """A key store without a key: the count does not ask for one."""
    engine = make_engine("sqlite://", poolclass=StaticPool)
    store.tables.create_all(engine)
    return engine


KEY_ID = "5"


def test_takes_no_more_than_the_limit(store_engine: Engine) -> None:
    """What is left of the limit is granted, and then nothing."""
    usage = Usage()
    with store_engine.begin() as connection:
        assert [usage.take(connection, KEY_ID, 6, LIMIT, LIMIT).amount for _ in range(5)] == [6, 6, 6, 2, 0]
        assert store.usage(connection, KEY_ID) == LIMIT


def test_portions_grow(store_engine: Engine) -> None:
    """Portions grow, so that a busy process reserves rarely."""
    usage = Usage()
    with store_engine.begin() as connection:
        for _ in range(5000):
            assert usage.take(connection, KEY_ID, 1, 2**31, 2**31).amount == 1
        assert connection.execute(select(func.count()).select_from(RESERVATIONS)).scalar_one() <= 5
        assert store.usage(connection, KEY_ID) >= 5000


def test_keys_are_counted_apart(store_engine: Engine) -> None:
    """A message of one key is none of another."""
    usage = Usage()
    with store_engine.begin() as connection:
        assert usage.take(connection, KEY_ID, LIMIT, LIMIT, LIMIT).amount == LIMIT
        assert usage.take(connection, "6", LIMIT, LIMIT, LIMIT).amount == LIMIT


def test_lost_portion_is_in_the_next_reservation(store_engine: Engine) -> None:
    """The reservation after a rollback contains the messages of the one that was lost."""
    usage = Usage()
    with store_engine.connect() as connection:
        usage.take(connection, KEY_ID, 100, 2**31, 2**31)
        lost = store.usage(connection, KEY_ID)
        connection.rollback()
        state = drop_state(connection.info)
        assert state is not None
        usage.forget(state)
        assert store.usage(connection, KEY_ID) == 0
        usage.take(connection, KEY_ID, lost, 2**31, 2**31)
        ((_, messages),) = state_of(connection).reservations.values()
        assert messages == store.usage(connection, KEY_ID) >= lost + 100


def test_kept_portion_is_not_counted_twice(store_engine: Engine) -> None:
    """A reservation that the database has is not lost."""
    usage = Usage()
    with store_engine.connect() as connection:
        usage.take(connection, KEY_ID, 1, 2**31, 2**31)
        first = store.usage(connection, KEY_ID)
        state = state_of(connection)
        usage.before_commit(connection, state)
        usage.take(connection, KEY_ID, first, 2**31, 2**31)
        assert store.usage(connection, KEY_ID) == first + 2 * first


@settings(deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 400), st.booleans()),
        max_size=12,
    ),
    limit=st.integers(1, 2000),
)
def test_never_more_than_the_limit(steps: list[tuple[int, int, bool]], limit: int) -> None:
    """However takes, commits and rollbacks of three processes follow each other, only lost portions exceed the limit.

    A process knows its own lost portions, so that one alone stays within the limit.
    """
    engine = create_engine("sqlite://", poolclass=StaticPool)
    store.tables.create_all(engine)
    processes, granted = [Usage(), Usage(), Usage()], Counter[int]()
    lost = 0
    with engine.connect() as connection:
        for process, wanted, is_committed in steps:
            granted[process] += processes[process].take(connection, KEY_ID, wanted, limit, limit).amount
            state = drop_state(connection.info)
            if is_committed:
                if state is not None:
                    processes[process].before_commit(connection, state)
                connection.commit()
            else:
                connection.rollback()
                if state is not None:
                    lost += sum(messages for _, messages in state.reservations.values())
                    processes[process].forget(state)
        assert store.usage(connection, KEY_ID) <= limit + lost
    engine.dispose()
    assert max(granted.values(), default=0) <= limit
    assert granted.total() <= limit + lost
