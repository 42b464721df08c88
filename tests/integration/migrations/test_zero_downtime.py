"""Expand, convert, contract: a column is encrypted while the application reads and writes it all the time."""

import datetime
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, Engine, Integer, MetaData, String, Table, insert, select, update
from support.leaks import marked
from support.migrations import Migrations

from sa_keyvault import Encrypted, PlaintextAcceptedWarning
from sa_keyvault.reencryption import Pace, Progress, examine, reencrypt, reencrypting

_ROWS, _WRITERS = 240, 3
_UNTIL = datetime.date(2099, 12, 31)


def _people(type_: Any) -> Table:
    columns = (Column("id", Integer, primary_key=True, autoincrement=False), Column("ssn", type_))
    return Table("people", MetaData(), *columns)


_PLAIN = _people(String(60))
_BETWEEN = _people(Encrypted(String(60), area="identities", accept_plaintext_until=_UNTIL))
_DONE = _people(Encrypted(String(60), area="identities"))


def _application(engine: Engine, table: Table, rows: range, enough: threading.Event) -> dict[int, str]:
    """Write and read rows of its own until it is told to end; return what it wrote last."""
    last: dict[int, str] = {}
    round_ = 0
    while not enough.is_set():
        round_ += 1
        for number in rows:
            value = marked(f"round {round_} of row {number}")
            with engine.begin() as connection:
                connection.execute(update(table).where(table.c.id == number).values(ssn=value))
            last[number] = value
            with engine.connect() as connection:
                found = connection.execute(select(table.c.ssn).where(table.c.id == number)).scalar_one()
            assert found == value
            if enough.is_set():
                break
    return last


def test_expand_convert_contract(
    url: URL, migrations: Migrations, make_engine: EngineMaker, make_ring: RingMaker
) -> None:
    """No write of the application is lost, every value is encrypted at the end, and autogenerate agrees."""
    bare = make_engine(url)
    _PLAIN.metadata.create_all(bare)
    first = {number: marked(f"original {number}") for number in range(_ROWS)}
    with bare.begin() as connection:
        connection.execute(insert(_PLAIN), [{"id": number, "ssn": value} for number, value in first.items()])

    # expand
    script = migrations.revise(_BETWEEN.metadata)
    assert "op.prepare_column(" in script
    migrations.upgrade()

    def start(table: Table) -> Engine:
        ring = make_ring()
        options = {"connect_args": {"timeout": 60}} if url.get_backend_name() == "sqlite" else {}
        engine = make_engine(url, ring, **options)
        ring.initialize(engine, table.metadata)
        return engine

    with pytest.warns(PlaintextAcceptedWarning):
        engine = start(_BETWEEN)
    with engine.connect() as connection:
        assert {row.id: row.ssn for row in connection.execute(select(_BETWEEN))} == first

    # convert, while the application works on every fourth row
    enough, begun = threading.Event(), threading.Event()
    parts = [range(part * 4, _ROWS, _WRITERS * 4) for part in range(_WRITERS)]
    with ThreadPoolExecutor(_WRITERS) as pool:
        applications = [pool.submit(_application, engine, _BETWEEN, rows, enough) for rows in parts]
        try:
            report = reencrypt(engine, _BETWEEN, pace=Pace(batch_size=20), on_progress=_seen(begun))
        finally:
            enough.set()
        written = _all_of(applications)
    assert begun.is_set()
    assert report.is_finished

    # contract
    assert examine(engine, reencrypting(_BETWEEN)).rows == 0
    engine.dispose()
    engine = start(_DONE)
    with engine.connect() as connection:
        assert {row.id: row.ssn for row in connection.execute(select(_DONE))} == first | written
    assert migrations.differences(_DONE.metadata) == []


def test_expanding_is_undone(url: URL, migrations: Migrations, make_engine: EngineMaker, make_ring: RingMaker) -> None:
    """The downgrade decrypts what was written meanwhile, and the plain values are as they were."""
    bare = make_engine(url)
    _PLAIN.metadata.create_all(bare)
    with bare.begin() as connection:
        connection.execute(insert(_PLAIN), [{"id": number, "ssn": f"plain {number}"} for number in range(3)])
    migrations.revise(_BETWEEN.metadata)
    migrations.upgrade()
    ring = make_ring()
    engine = make_engine(url, ring)
    with pytest.warns(PlaintextAcceptedWarning):
        ring.initialize(engine, _BETWEEN.metadata)
    with engine.begin() as connection:
        connection.execute(update(_BETWEEN).where(_BETWEEN.c.id == 1).values(ssn="sealed"))
    engine.dispose()
    migrations.downgrade()
    with bare.connect() as connection:
        found = connection.execute(select(_PLAIN.c.ssn).order_by(_PLAIN.c.id)).scalars().all()
    assert found == ["plain 0", "sealed", "plain 2"]


def _seen(begun: threading.Event) -> Callable[[Progress], None]:
    return lambda _: begun.set()


def _all_of(applications: list[Future[dict[int, str]]]) -> dict[int, str]:
    return {number: value for one in applications for number, value in one.result().items()}
