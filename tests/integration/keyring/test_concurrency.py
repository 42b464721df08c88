"""One ring used by many: threads, tasks and forked processes; and several rings in one process."""

import asyncio
import copy
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from support.databases import ASYNC_DRIVERS, database_url
from support.leaks import marked
from support.models import Base, Claimant, envelopes

from sa_keyvault import InstallationKey, KeyNotFoundError, KeyRing, store

EMAIL, OTHER = marked("email"), marked("other")
WORKERS, ROUNDS = 8, 6
HEADER, NONCE = 9, 12


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring, with the claimants' table."""
    engine = make_engine(url)
    Base.metadata.create_all(engine)
    return engine


def patient(url: URL) -> dict[str, Any]:
    """Return engine options under which SQLite's writers wait for each other long enough on a busy machine."""
    return {"connect_args": {"timeout": 300}} if url.get_backend_name() == "sqlite" else {}


def texts(worker: int) -> list[str]:
    """Return the values that one worker writes."""
    return [marked(f"{worker}-{number}") for number in range(ROUNDS)]


ALL_TEXTS = sorted(text for worker in range(WORKERS) for text in texts(worker))


def emails(engine: Engine) -> list[str]:
    """Return the values as they are opened."""
    with engine.connect() as connection:
        return sorted(connection.execute(select(Claimant.email)).scalars())


def repeated_nonces(engine: Engine) -> dict[bytes, int]:
    """Return the pairs of key number and nonce that occur more than once."""
    with engine.connect() as connection:
        found = Counter(stored[1:5] + stored[HEADER : HEADER + NONCE] for stored in envelopes(connection))
    return {pair: count for pair, count in found.items() if count > 1}


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"usage_limit": 10}, {"working_keys_per_area": 3, "usage_limit": 10}, {"refresh_seconds": 0}],
    ids=str,
)
def test_threads(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, options: dict[str, Any]
) -> None:
    """Threads that write and read through one ring open each other's values; no nonce occurs twice (R-37)."""
    ring = make_ring(**options)
    engine = make_engine(url, ring, pool_size=WORKERS, **patient(url))
    ring.initialize(engine)
    barrier = Barrier(WORKERS)

    def work(worker: int) -> list[str]:
        barrier.wait()
        for email in texts(worker):
            with Session(engine) as session:
                session.add(Claimant(email=email))
                session.commit()
            found = emails(engine)
        return found

    with ThreadPoolExecutor(WORKERS) as pool:
        for worker, found in enumerate(pool.map(work, range(WORKERS))):
            assert set(texts(worker)) <= set(found)
    assert emails(engine) == ALL_TEXTS
    assert repeated_nonces(plain) == {}


# -- asyncio -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=ASYNC_DRIVERS)
def async_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database for each asyncio driver."""
    yield from database_url(request.param, tmp_path)


def test_tasks(async_url: URL, make_ring: RingMaker) -> None:
    """Tasks of one event loop that write and read at the same time open each other's values (R-37)."""
    ring = make_ring(usage_limit=10)

    async def work(engine: AsyncEngine, worker: int) -> None:
        for email in texts(worker):
            async with AsyncSession(engine) as session:
                session.add(Claimant(email=email))
                await session.commit()
                assert email in set(await session.scalars(select(Claimant.email)))

    async def main() -> list[str]:
        engine = create_async_engine(
            async_url, plugins=["keyvault"], keyring=ring, pool_size=WORKERS, **patient(async_url)
        )
        ring.initialize(engine)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await asyncio.gather(*(work(engine, worker) for worker in range(WORKERS)))
        async with AsyncSession(engine) as session:
            found = sorted(await session.scalars(select(Claimant.email)))
            connection = await session.connection()
            stored = await connection.run_sync(envelopes)
        await engine.dispose()
        assert len({envelope[1:5] + envelope[HEADER : HEADER + NONCE] for envelope in stored}) == len(stored)
        return found

    assert asyncio.run(main()) == ALL_TEXTS


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_forked_children(url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine) -> None:
    """Children forked from a process in the middle of its work write under nonces of their own (R-37, A-47)."""
    ring = make_ring(usage_limit=10)
    engine = make_engine(url, ring, **patient(url))
    ring.initialize(engine)
    with Session(engine) as session:
        session.add(Claimant(email=EMAIL))
        session.commit()
    children = [fork(lambda worker=worker: write_after_fork(engine, worker)) for worker in range(4)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert emails(engine) == sorted([EMAIL, *(email for worker in range(4) for email in texts(worker))])
    assert repeated_nonces(plain) == {}


def write_after_fork(engine: Engine, worker: int) -> None:
    """Write as a child does: the connections in the pool are its parent's."""
    engine.dispose(close=False)
    for email in texts(worker):
        with Session(engine) as session:
            session.add(Claimant(email=email))
            session.commit()
    engine.dispose()


def fork(work: Callable[[], None]) -> int:
    """Run *work* in a forked child, and return its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy], ids=lambda use: use.__name__)
def test_refuses_copies(sqlite_url: URL, ring: KeyRing, make_engine: EngineMaker, use: Callable[[Any], Any]) -> None:
    """A ring is neither pickled nor copied, and neither is what it has derived (R-39, A-49)."""
    engine = make_engine(sqlite_url, ring)
    ring.initialize(engine, Base.metadata)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        use(ring)
    with pytest.raises(TypeError):
        use(ring.installation_key)


def test_masked_repr(sqlite_url: URL, ring: KeyRing, make_engine: EngineMaker) -> None:
    """The text of a ring names the installation, and no key material (R-39, A-75)."""
    ring.initialize(make_engine(sqlite_url, ring), Base.metadata)
    assert repr(ring) == f"<KeyRing: {ring.installation_key!r}>"


# -- several engines ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_key() -> InstallationKey:
    """The key of another installation."""
    return InstallationKey.generate()


def test_two_rings_with_one_model(
    url: URL, ring: KeyRing, other_key: InstallationKey, tmp_path: Path, make_engine: EngineMaker
) -> None:
    """Two engines with rings and databases of their own serve the same models side by side: nothing is global."""
    other_ring = KeyRing(other_key)
    engines = make_engine(url, ring), make_engine(f"sqlite:///{tmp_path / 'other.db'}", other_ring)
    for engine, own in zip(engines, (ring, other_ring), strict=True):
        own.initialize(engine, Base.metadata)
        Base.metadata.create_all(engine)
    with Session(engines[0]) as one, Session(engines[1]) as two:
        one.add(Claimant(id=1, email=EMAIL))
        two.add(Claimant(id=1, email=OTHER))
        one.flush()
        two.flush()
        one.expire_all()
        two.expire_all()
        assert one.scalars(select(Claimant.email)).one() == EMAIL
        assert two.scalars(select(Claimant.email)).one() == OTHER
        one.commit()
        two.commit()
    assert [emails(engine) for engine in engines] == [[EMAIL], [OTHER]]


def test_foreign_value_does_not_open(
    url: URL, ring: KeyRing, make_ring: RingMaker, tmp_path: Path, make_engine: EngineMaker
) -> None:
    """A value of the same cell in another database of the same installation does not open (R-21, A-5)."""
    other_ring = make_ring()
    engines = make_engine(url, ring), make_engine(f"sqlite:///{tmp_path / 'other.db'}", other_ring)
    for engine, own in zip(engines, (ring, other_ring), strict=True):
        own.initialize(engine, Base.metadata)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Claimant(id=1, email=EMAIL))
            session.commit()
    with engines[0].connect() as connection:
        (stored,) = envelopes(connection)
    with engines[1].begin() as connection:
        connection.execute(text("UPDATE claimant SET email = :stored"), {"stored": stored})
    with pytest.raises(KeyNotFoundError):
        emails(engines[1])


def test_one_ring_for_two_engines(url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine) -> None:
    """Two engines of one database share a ring, and one set of keys."""
    engines = make_engine(url, ring), make_engine(url, ring)
    for engine in engines:
        ring.initialize(engine, Base.metadata)
    for number, engine in enumerate(engines, start=1):
        with engine.begin() as connection:
            connection.execute(insert(Claimant).values(id=number, email=EMAIL))
    assert [emails(engine) for engine in engines] == [[EMAIL, EMAIL]] * 2
    with plain.connect() as connection:
        assert len(store.working_in_area(connection, "identities")) == 1


def test_engine_options_share_the_ring(url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine) -> None:
    """`Engine.execution_options` makes a view of the same engine, with the same ring."""
    engine = make_engine(url, ring)
    view = engine.execution_options(stream_results=False)
    ring.initialize(view, Base.metadata)
    with view.begin() as connection:
        connection.execute(insert(Claimant).values(id=1, email=EMAIL))
    assert emails(engine) == [EMAIL]
