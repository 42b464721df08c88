"""What other processes changed: noticed within a bound, past the caller's snapshot, pool and event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Dialect, Engine, delete, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from support.databases import ASYNC_DRIVERS, database_url
from support.leaks import marked
from support.models import Base, Claimant, change_state, changing, disable_in_process, envelopes, run_processes

from sa_keyvault import (
    InstallationKey,
    KeyNotFoundError,
    KeyRing,
    KeyStateError,
    KeyStoreError,
    KeyStoreUnreachableError,
    store,
)
from sa_keyvault.dialects import ring_of
from sa_keyvault.envelope import key_number
from sa_keyvault.records import new_master
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM

EMAIL, OTHER = marked("email"), marked("other")
NEVER = 10**6
"""Seconds until the next refresh, for what must not be one."""

SERVERS = pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring, with the claimants' table: another process's way to the database."""
    engine = make_engine(url)
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def start(url: URL, make_engine: EngineMaker, make_ring: RingMaker, plain: Engine) -> Callable[..., Engine]:
    """Make initialized engines, each with a ring of its own, that refreshes at every statement or (almost) never."""

    def make(refresh_seconds: float = 0, metadata: Any = Base.metadata, **options: Any) -> Engine:
        ring = make_ring(refresh_seconds=refresh_seconds)
        engine = make_engine(url, ring, **options)
        ring.initialize(engine, metadata)
        return engine

    return make


@pytest.fixture
def ready(start: Callable[..., Engine]) -> Engine:
    """An engine that refreshes before every statement, and one claimant."""
    engine = start()
    add(engine, 1)
    return engine


def add(engine: Engine, number: int, email: str = EMAIL) -> None:
    """Insert a claimant."""
    with engine.begin() as connection:
        connection.execute(insert(Claimant).values(id=number, email=email))


def emails(engine: Engine) -> list[str]:
    """Return the values as they are opened, in the order of the rows."""
    with engine.connect() as connection:
        return list(connection.execute(select(Claimant.email).order_by(Claimant.id)).scalars())


def key_numbers(engine: Engine) -> list[int]:
    """Return the key number of each stored envelope, in the order of the rows."""
    with engine.connect() as connection:
        return [key_number(stored) for stored in envelopes(connection)]


def change(engine: Engine, key: InstallationKey, area: str, state: KeyState) -> None:
    """Put the working keys of an area into another state."""
    with engine.begin() as connection:
        change_state(connection, key, area, state)


def change_master(engine: Engine, key: InstallationKey, state: KeyState) -> None:
    """Put the oldest master key into another state."""
    with engine.begin() as connection, changing(connection, key) as operation:
        oldest = next(iter(operation.masters.values()))
        operation.move_master(oldest, state, f"master-key-{state}")


# -- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.REMOVED])
def test_disabled_key_opens_nothing(
    ready: Engine, plain: Engine, installation_key: InstallationKey, state: KeyState
) -> None:
    """A key disabled or removed elsewhere opens nothing in statements after the bound (R-26, R-29, A-37)."""
    assert emails(ready) == [EMAIL]
    (number,) = key_numbers(plain)
    states = [KeyState.DISABLED] if state is KeyState.DISABLED else [KeyState.RETIRED, state]
    for step in states:
        change(plain, installation_key, "identities", step)
    with pytest.raises(KeyStateError, match=f"working key {number} of area 'identities' is {state}") as caught:
        emails(ready)
    assert (number, "identities") == (caught.value.key_number, caught.value.area)


def test_disabled_by_another_process(
    ready: Engine, plain: Engine, url: URL, installation_key: InstallationKey, tmp_path: Path
) -> None:
    """A key that another process disables stops working in this one (R-29, A-37)."""
    assert emails(ready) == [EMAIL]
    assert run_processes(disable_in_process, url, installation_key, tmp_path, [("identities",)]) == [0]
    with pytest.raises(KeyStateError, match="is disabled"):
        emails(ready)


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.RETIRED])
def test_seals_under_a_new_key(
    ready: Engine, plain: Engine, installation_key: InstallationKey, state: KeyState
) -> None:
    """A key that is not active any more seals nothing: a new one follows it (R-26, A-37)."""
    change(plain, installation_key, "identities", state)
    add(ready, 2, OTHER)
    first, second = key_numbers(plain)
    assert first != second
    with ready.connect() as connection:
        assert connection.execute(select(Claimant.email).where(Claimant.id == 2)).scalar() == OTHER


def test_retired_key_opens(ready: Engine, plain: Engine, installation_key: InstallationKey) -> None:
    """A retired key opens what it sealed (R-26)."""
    change(plain, installation_key, "identities", KeyState.RETIRED)
    assert emails(ready) == [EMAIL]


def test_enabled_again(ready: Engine, plain: Engine, installation_key: InstallationKey) -> None:
    """A disabled key that is made active again opens, and seals (R-26)."""
    for state in (KeyState.DISABLED, KeyState.ACTIVE):
        change(plain, installation_key, "identities", state)
        if state is KeyState.DISABLED:
            with pytest.raises(KeyStateError):
                emails(ready)
    assert emails(ready) == [EMAIL]
    add(ready, 2)
    assert len(set(key_numbers(plain))) == 1


def test_other_area_goes_on(ready: Engine, plain: Engine, installation_key: InstallationKey) -> None:
    """A disabled key stops its own area only (R-26)."""
    with ready.begin() as connection:
        connection.execute(insert(Claimant).values(id=2, email=EMAIL, voice_model=b"model"))
    change(plain, installation_key, "identities", KeyState.DISABLED)
    with ready.connect() as connection:
        assert connection.execute(select(Claimant.voice_model).where(Claimant.id == 2)).scalar() == b"model"


def test_disabled_master(ready: Engine, plain: Engine, installation_key: InstallationKey) -> None:
    """Under a disabled master key nothing opens and nothing is sealed; enabled, it serves again (R-26, A-37)."""
    change_master(plain, installation_key, KeyState.DISABLED)
    with pytest.raises(KeyStateError, match=r"master key .* is disabled"):
        emails(ready)
    with pytest.raises(KeyStateError, match="no master key is active"):
        add(ready, 2)
    change_master(plain, installation_key, KeyState.ACTIVE)
    assert emails(ready) == [EMAIL]


def test_retired_master(ready: Engine, plain: Engine, installation_key: InstallationKey) -> None:
    """Under a retired master key everything opens and nothing is sealed (R-26)."""
    change_master(plain, installation_key, KeyState.RETIRED)
    assert emails(ready) == [EMAIL]
    with pytest.raises(KeyStateError, match="no master key is active"):
        add(ready, 2)


def test_old_state_within_the_bound(
    start: Callable[..., Engine], plain: Engine, installation_key: InstallationKey
) -> None:
    """Before refresh_seconds are over a process may still use the state that it knows (R-29)."""
    slow, quick = start(NEVER), start()
    add(slow, 1)
    assert emails(slow) == emails(quick) == [EMAIL]
    change(plain, installation_key, "identities", KeyState.DISABLED)
    assert emails(slow) == [EMAIL]
    with pytest.raises(KeyStateError):
        emails(quick)


@SERVERS
def test_past_a_snapshot(start: Callable[..., Engine], plain: Engine, installation_key: InstallationKey) -> None:
    """A REPEATABLE READ transaction, whose snapshot shows the old state, sees the change all the same (R-29, A-37)."""
    engine = start(isolation_level="REPEATABLE READ")
    add(engine, 1)
    with engine.connect() as connection:
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL
        change(plain, installation_key, "identities", KeyState.DISABLED)
        assert {record.state for record in store.working(connection)} == {KeyState.ACTIVE}
        with pytest.raises(KeyStateError):
            connection.execute(select(Claimant.email)).scalar()


def test_lost_store(ready: Engine, plain: Engine) -> None:
    """A key store that goes away, or is exchanged, under a running process stops it (R-44)."""
    table = store.tables.tables["keyvault_store"]
    with plain.begin() as connection:
        before = store.store_record(connection)
        assert before is not None
        connection.execute(update(table).values(store_id="0" * 32))
    with pytest.raises(KeyStoreError, match=f"{before.store_id} is gone"):
        emails(ready)
    with plain.begin() as connection:
        connection.execute(delete(table))
    with pytest.raises(KeyStoreError, match=f"{before.store_id} is gone"):
        emails(ready)
    with plain.begin() as connection:
        store.add_store(connection, before)
    assert emails(ready) == [EMAIL]


def test_reads_the_version_rarely(url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine) -> None:
    """Within refresh_seconds the key store is asked once, however many statements there are."""
    engine = make_engine(url, ring, pool_size=1)
    opened: list[Any] = []
    event.listen(engine, "connect", lambda connection, record: opened.append(connection))
    ring.initialize(engine, Base.metadata)
    key_numbers(engine)
    before = len(opened)
    for number in range(1, 6):
        add(engine, number)
    assert emails(engine) == [EMAIL] * 5
    assert len(opened) == before


def refuse(dialect: Dialect, record: Any, arguments: Any, parameters: Any) -> NoReturn:
    """Be a database that accepts no connection more."""
    raise dialect.loaded_dbapi.OperationalError(2003, "too many connections")


def refuse_as_asyncio_does(dialect: Dialect, record: Any, arguments: Any, parameters: Any) -> NoReturn:
    """Fail as a driver that lets the errors of sockets through."""
    raise ConnectionRefusedError


@SERVERS
@pytest.mark.parametrize("refuse", [refuse, refuse_as_asyncio_does])
def test_out_of_reach(start: Callable[..., Engine], refuse: Callable[..., NoReturn]) -> None:
    """Where the state cannot be read, the old one serves until the bound, and then nothing does (R-29)."""
    quick, slow = start(), start(NEVER)
    add(quick, 1)
    assert emails(slow) == [EMAIL]
    with quick.connect() as one, slow.connect() as two:
        for engine in (quick, slow):
            event.listen(engine, "do_connect", refuse)
        assert two.execute(select(Claimant.email)).scalar() == EMAIL
        with pytest.raises(KeyStoreUnreachableError, match="out of reach"):
            one.execute(select(Claimant.email))


def test_interrupted_while_it_looks(
    start: Callable[..., Engine], plain: Engine, installation_key: InstallationKey
) -> None:
    """A statement that is interrupted while it looks leaves it to the next one to look (R-29)."""
    engine = start(NEVER)
    with engine.connect() as connection:
        add(start(), 1)
        change(plain, installation_key, "identities", KeyState.DISABLED)

        def interrupt(dialect: Dialect, record: Any, arguments: Any, parameters: Any) -> NoReturn:
            raise KeyboardInterrupt

        event.listen(engine, "do_connect", interrupt)
        with pytest.raises(KeyboardInterrupt):
            connection.execute(select(Claimant.email))
        event.remove(engine, "do_connect", interrupt)
        with pytest.raises(KeyStateError, match="is disabled"):
            connection.execute(select(Claimant.email)).all()


@SERVERS
def test_another_store_is_no_outage(start: Callable[..., Engine], plain: Engine) -> None:
    """A store that went back is refused at the next look, and not only after the bound (A-44)."""
    engine = start(NEVER)
    assert emails(engine) == []
    with plain.begin() as connection:
        connection.execute(update(store.tables.tables["keyvault_store"]).values(version=0))
    with engine.connect() as connection:
        connection.execute(select(Claimant.email))
        # as if half of the time were over
        ring_of(engine.dialect)._refreshing.retry()
        with pytest.raises(KeyStoreError, match="went back from version"):
            connection.execute(select(Claimant.email))


# -- keys that are missed ----------------------------------------------------------------------------------------------


def take_away(engine: Engine) -> Any:
    """Delete the working keys of the area identities, and return a function that puts them back."""
    with engine.begin() as connection:
        records = store.working_in_area(connection, "identities")
        table = store.tables.tables["keyvault_working_key"]
        connection.execute(delete(table).where(table.c.area == "identities"))

    def put_back() -> None:
        with engine.begin() as connection:
            for record in records:
                store.add_working(connection, record)

    return put_back


def test_missing_key(ready: Engine, plain: Engine, start: Callable[..., Engine]) -> None:
    """A key that the store does not have gives an error with its number and area (A-17, A-29)."""
    (number,) = key_numbers(plain)
    take_away(plain)
    with pytest.raises(KeyNotFoundError, match=f"no working key {number}.*'identities'") as caught:
        emails(start(NEVER, None))
    assert (number, "identities") == (caught.value.key_number, caught.value.area)


def test_miss_is_remembered(
    ready: Engine, plain: Engine, url: URL, make_engine: EngineMaker, ring: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that was missed is not looked for again within a moment: a table full of its values is no flood."""
    monkeypatch.setattr("sa_keyvault.keyring.ring._MISS_SECONDS", float(NEVER))
    put_back = take_away(plain)
    engine = make_engine(url, ring)
    opened: list[Any] = []
    event.listen(engine, "connect", lambda connection, record: opened.append(connection))
    ring.initialize(engine)
    key_numbers(engine)
    before = len(opened)
    for _ in range(3):
        with pytest.raises(KeyNotFoundError):
            emails(engine)
    put_back()
    with pytest.raises(KeyNotFoundError):
        emails(engine)
    assert len(opened) == before + 1


def test_miss_is_forgotten(
    ready: Engine, plain: Engine, start: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that moment a key that was missed is found."""
    monkeypatch.setattr("sa_keyvault.keyring.ring._MISS_SECONDS", 0.0)
    put_back = take_away(plain)
    engine = start(NEVER, None)
    with pytest.raises(KeyNotFoundError):
        emails(engine)
    put_back()
    assert emails(engine) == [EMAIL]


def test_miss_with_an_exhausted_pool(start: Callable[..., Engine], plain: Engine) -> None:
    """A key that another process made is found while the application holds its only connection (R-36)."""
    one = start(NEVER, None, pool_size=1, max_overflow=0, pool_timeout=1)
    add(start(), 1)
    with one.connect() as connection:
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL


def test_miss_in_the_middle_of_a_result(
    ready: Engine, start: Callable[..., Engine], plain: Engine, installation_key: InstallationKey
) -> None:
    """A key that is missed while the rows of a streamed result are fetched is found."""
    slow = start(NEVER)
    change(plain, installation_key, "identities", KeyState.RETIRED)
    add(ready, 2, OTHER)
    assert len(set(key_numbers(plain))) == 2
    with slow.connect() as connection:
        rows = connection.execute(select(Claimant.email).order_by(Claimant.id), execution_options={"yield_per": 1})
        assert list(rows.scalars()) == [EMAIL, OTHER]


def test_miss_under_a_new_master(
    start: Callable[..., Engine], plain: Engine, installation_key: InstallationKey
) -> None:
    """A missed key whose master key was made since start-up brings that master key along."""
    slow = start(NEVER, None)
    change_master(plain, installation_key, KeyState.RETIRED)
    with plain.begin() as connection, changing(connection, installation_key) as operation:
        operation.add_master(*new_master(operation.store_id, AES_256_GCM))
    add(start(0, None), 1)
    assert emails(slow) == [EMAIL]


# -- asyncio -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=ASYNC_DRIVERS)
def async_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database for each asyncio driver."""
    yield from database_url(request.param, tmp_path)


async def _buffered(connection: AsyncConnection) -> list[str]:
    return list((await connection.execute(select(Claimant.email).order_by(Claimant.id))).scalars())


async def _streamed(connection: AsyncConnection) -> list[str]:
    result = await connection.stream(select(Claimant.email).order_by(Claimant.id))
    return [email async for email in result.scalars()]


async def started(url: URL, ring: KeyRing) -> AsyncEngine:
    """Return an initialized engine whose pool has one connection."""
    engine = create_async_engine(url, plugins=["keyvault"], keyring=ring, pool_size=1, max_overflow=0, pool_timeout=1)
    ring.initialize(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    return engine


@pytest.mark.parametrize("read", [_buffered, _streamed])
def test_asyncio_miss(
    async_url: URL, make_ring: RingMaker, read: Callable[[AsyncConnection], Awaitable[list[str]]]
) -> None:
    """A key that is missed while rows are fetched under asyncio is found, beside a pool without a connection left."""

    async def main() -> list[str]:
        engine, other = [await started(async_url, make_ring(refresh_seconds=NEVER)) for _ in range(2)]
        async with other.begin() as connection:
            await connection.execute(insert(Claimant).values(id=1, email=EMAIL))
        async with engine.connect() as connection:
            found = await read(connection)
        await engine.dispose()
        await other.dispose()
        return found

    assert asyncio.run(main()) == [EMAIL]


def test_asyncio_refresh(async_url: URL, make_ring: RingMaker, installation_key: InstallationKey) -> None:
    """A key disabled elsewhere stops working under asyncio, too (R-29, A-37)."""

    async def main() -> list[str]:
        engine, other = [await started(async_url, make_ring(refresh_seconds=0)) for _ in range(2)]
        async with engine.begin() as connection:
            await connection.execute(insert(Claimant).values(id=1, email=EMAIL))
            found = await _buffered(connection)
        async with other.begin() as connection:
            await connection.run_sync(change_state, installation_key, "identities", KeyState.DISABLED)
        async with engine.connect() as connection:
            with pytest.raises(KeyStateError, match="is disabled"):
                await _buffered(connection)
        await engine.dispose()
        await other.dispose()
        return found

    assert asyncio.run(main()) == [EMAIL]
