"""Jobs run on the engines and connections of asyncio drivers, inside `run_sync`."""

import asyncio

import pytest
from conftest import RingMaker
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.ext.asyncio import create_async_engine
from support.jobs import CLAIMANTS, claimant, kinds, open_values

from sa_keyvault import KeyRing
from sa_keyvault.reencryption import Pace, Report, reencrypt


async def run_job(url: URL, ring: KeyRing, *, on_engine: bool) -> Report:
    """Run the job of the claimants through an asyncio driver."""
    engine = create_async_engine(url, plugins=["keyvault"], keyring=ring)
    async with engine.connect() as connection:
        await connection.run_sync(ring.initialize)

    def work(connection: Connection) -> Report:
        bind = engine.sync_engine if on_engine else connection
        return reencrypt(bind, CLAIMANTS, pace=Pace(batch_size=10, part_size=20))

    async with engine.begin() as connection:
        report = await connection.run_sync(work)
    await engine.dispose()
    return report


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg_async"])
@pytest.mark.parametrize("on_engine", [True, False])
def test_asyncio_driver(rotated: Engine, url: URL, make_ring: RingMaker, driver: str, on_engine: bool) -> None:
    """All rows are written, and open as before."""
    ring = make_ring(refresh_seconds=0)
    report = asyncio.run(run_job(url.set(drivername=driver), ring, on_engine=on_engine))
    assert (report.rows, report.is_finished) == (100, True)
    with rotated.connect() as connection:
        assert open_values(connection, CLAIMANTS, "email", "voice_model") == [claimant(one) for one in range(1, 101)]
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
