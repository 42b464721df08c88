"""Under asyncio, on every asynchronous driver."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RingMaker
from sqlalchemy import URL, LargeBinary, insert, select, type_coerce, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import joinedload
from support.databases import ASYNC_DRIVERS, database_url
from support.leaks import marked
from support.zoo import Base, Company, Employee, Engineer

from sa_keyvault import DecryptionError, KeyRing, Provisioning, store
from sa_keyvault.envelope import key_number
from sa_keyvault.suites import TRIPLE_DES_SHA1


@pytest.fixture(params=ASYNC_DRIVERS)
def async_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An empty database for each asynchronous driver."""
    yield from database_url(request.param, tmp_path)


@pytest.fixture
def ring(request: pytest.FixtureRequest, make_ring: RingMaker) -> KeyRing:
    """A key ring with default settings, unless a test asks for another provisioning."""
    return make_ring(provisioning=getattr(request, "param", None))


@pytest.fixture
def run(async_url: URL, ring: KeyRing) -> Callable[[Callable[[AsyncEngine], Awaitable[None]]], None]:
    """Run a coroutine function with an initialized engine."""

    async def life(test: Callable[[AsyncEngine], Awaitable[None]]) -> None:
        engine = create_async_engine(async_url, plugins=["keyvault"], keyring=ring)
        async with engine.connect() as connection:
            await connection.run_sync(ring.initialize, Base.metadata)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await test(engine)
        await engine.dispose()

    return lambda test: asyncio.run(life(test))


def test_write_and_read(run: Any) -> None:
    """Flush, query, eager load, update and refresh through an AsyncSession."""

    async def test(engine: AsyncEngine) -> None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            company = Company(name=marked("acme"))
            session.add_all(
                [company, *(Engineer(name=marked(str(n)), machine=marked("m"), company=company) for n in range(5))]
            )
            await session.commit()
        async with AsyncSession(engine) as session:
            statement = select(Company).options(joinedload(Company.employees.of_type(Engineer))).limit(1)
            company = (await session.scalars(statement)).unique().one()
            assert [employee.name for employee in company.employees] == [marked(str(n)) for n in range(5)]
            company.name = marked("changed")
            await session.commit()
            await session.refresh(company)
            assert company.name == marked("changed")

    run(test)


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
@pytest.mark.parametrize("ring", [Provisioning.original()], ids=["original"], indirect=True)
def test_under_the_original(run: Any) -> None:
    """Values are written, updated and read under the original's 3DES keys."""

    async def test(engine: AsyncEngine) -> None:
        table = Company.__table__
        async with AsyncSession(engine, expire_on_commit=False) as session:
            companies = [Company(name=marked(str(n))) for n in range(3)]
            session.add_all(companies)
            await session.commit()
            companies[2].name = marked("changed")
            await session.commit()
        async with AsyncSession(engine) as session:
            found = (await session.scalars(select(Company.name).order_by(Company.id))).all()
        assert found == [marked("0"), marked("1"), marked("changed")]
        async with engine.connect() as connection:
            working = await connection.run_sync(store.working)
            stored = (await connection.scalars(select(type_coerce(table.c.name, LargeBinary)))).all()
        suites = {record.number: record.suite for record in working}
        assert [TRIPLE_DES_SHA1.name] * 3 == [suites[key_number(bytes(value))] for value in stored]

    run(test)


def test_core_and_stream(run: Any) -> None:
    """Core statements, RETURNING where there is one, and streamed rows."""

    async def test(engine: AsyncEngine) -> None:
        table = Company.__table__
        async with engine.begin() as connection:
            await connection.execute(insert(table), [{"id": n, "name": marked(str(n))} for n in range(1, 4)])
            await connection.execute(update(table).where(table.c.id > 1).values(name=marked("many")))
            result = await connection.stream(select(table.c.name).order_by(table.c.id))
            assert [row.name async for row in result] == [marked("1"), marked("many"), marked("many")]

    run(test)


def test_swap_is_refused(run: Any) -> None:
    """A value moved to another row does not open."""

    async def test(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(insert(Company.__table__), [{"id": n, "name": marked(str(n))} for n in (1, 2)])
            await connection.exec_driver_sql(
                "UPDATE company SET name = (SELECT n FROM (SELECT name n FROM company WHERE id = 1) x)"
            )
            with pytest.raises(DecryptionError, match=r"company\.name"):
                (await connection.execute(select(Company.__table__.c.name).where(Company.__table__.c.id == 2))).all()

    run(test)


def test_many_tasks_at_once(run: Any) -> None:
    """Tasks that share an engine write and read at once, with a refresh due at every statement (A-72)."""

    async def test(engine: AsyncEngine) -> None:
        async def one(number: int) -> str:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                employee = Employee(name=marked(str(number)))
                session.add(employee)
                await session.commit()
                return (await session.scalars(select(Employee.name).where(Employee.id == employee.id))).one()

        count = 1 if engine.dialect.name == "sqlite" else 12
        assert sorted(await asyncio.gather(*map(one, range(count)))) == sorted(marked(str(n)) for n in range(count))

    run(test)


def test_initialize_on_the_engine(async_url: URL, ring: KeyRing) -> None:
    """`ring.initialize(async_engine)` works from code that cannot await."""
    engine = create_async_engine(async_url, plugins=["keyvault"], keyring=ring)
    ring.initialize(engine, Base.metadata)
    assert ring.open(Company.name, 1, ring.seal(Company.name, 1, marked("x"))) == marked("x")
    asyncio.run(engine.dispose())
