"""What the binding to the row costs: more symbols, none at all, and the way around statements."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, Uuid, insert, select, text

from benchmarks.databases import Database
from benchmarks.figures import Figure, Scale, figures_of
from benchmarks.measure import Peer, calls, race
from benchmarks.peers import AREA
from benchmarks.tables import secret_text
from sa_keyvault import Encrypted
from sa_keyvault.envelope import Layouts, opener, reader, sealer
from sa_keyvault.suites import AES_256_GCM, random_secret

__all__ = ["bench_binding"]

BY_KEY = "the key"
UNREAD = "stored bytes, not opened"

_TENANT = UUID("6f1c2f0e-3a77-4b0c-9f37-1d2d5f0a9c11")
_SYMBOLS: dict[str, Callable[[int], bytes]] = {
    "no symbols": lambda number: b"",
    BY_KEY: lambda number: b":%d" % number,
    "key, UUID and text": lambda number: b"%d:5%b:32eu-central:10" % (number, _TENANT.hex.encode()),
}
_COUNT = 5_000


def bench_binding(database: Database, scale: Scale) -> Iterator[Figure]:
    """Compare envelopes with more and fewer symbols, and SELECTs of rows that are bound so."""
    plaintexts = [secret_text(number).encode() for number in range(_COUNT)]
    for work, way in (("seal an envelope", _seal), ("open an envelope", _open)):
        peers = {name: way(plaintexts, [make(number) for number in range(_COUNT)]) for name, make in _SYMBOLS.items()}
        yield from figures_of(race(peers, items=_COUNT, rounds=scale.rounds), "binding", work, "", BY_KEY)
    yield from _rows(database, scale)


def _rows(database: Database, scale: Scale) -> Iterator[Figure]:
    metadata, rows = MetaData(), scale.server_rows
    bound = {BY_KEY: (), "key, UUID and text": ("tenant", "region")}
    tables = {name: _table(metadata, f"bound_{len(more)}", more) for name, more in bound.items()}
    database.ring.initialize(database.ringed, metadata)
    metadata.create_all(database.ringed)
    given = [
        {"id": number, "tenant": _TENANT, "region": "eu-central", "secret": secret_text(number)}
        for number in range(1, rows + 1)
    ]
    with database.ringed.begin() as connection:
        for table in tables.values():
            connection.execute(insert(table), given)
    peers = {name: _select(database, table) for name, table in tables.items()}
    raw = text("SELECT id, secret FROM bound_0").columns(id=Integer, secret=LargeBinary)
    peers[UNREAD] = _execute(database, raw)
    peers["raw SQL and `ring.open`"] = _open_raw(database, tables[BY_KEY], raw)
    found = race(peers, items=rows, rounds=scale.few_rounds)
    yield from figures_of(found, "binding", "SELECT of rows", database.name, BY_KEY)
    writing = {name: _insert(database, table, given) for name, table in tables.items()}
    found = race(writing, items=rows, rounds=scale.few_rounds)
    yield from figures_of(found, "binding", "INSERT of rows", database.name, BY_KEY)


def _table(metadata: MetaData, name: str, bind_to: tuple[str, ...]) -> Table:
    return Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tenant", Uuid, nullable=False),
        Column("region", String(20), nullable=False),
        Column("secret", Encrypted(String(254), area=AREA, bind_to=bind_to), nullable=False),
    )


def _seal(plaintexts: Sequence[bytes], symbols: Sequence[bytes]) -> Peer:
    seal = sealer(1, AES_256_GCM, AES_256_GCM.cipher(random_secret(AES_256_GCM.key_size)))
    return calls(lambda: seal(plaintexts, symbols))


def _open(plaintexts: Sequence[bytes], symbols: Sequence[bytes]) -> Peer:
    cipher = AES_256_GCM.cipher(random_secret(AES_256_GCM.key_size))
    seal, found = sealer(1, AES_256_GCM, cipher), (opener(AES_256_GCM, cipher), True)
    stored = [envelope + row for envelope, row in zip(seal(plaintexts, symbols), symbols, strict=True)]
    read = reader(Layouts(lambda _: found), bytes.decode, lambda error, _: error)

    def work() -> None:
        for one in stored:
            read(one)

    return calls(work)


def _select(database: Database, table: Table) -> Peer:
    return _execute(database, select(table.c.id, table.c.secret))


def _execute(database: Database, statement: Any) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with database.ringed.connect() as connection:
            yield lambda: connection.execute(statement).all()

    return prepare


def _open_raw(database: Database, table: Table, raw: Any) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        open_one = partial(database.ring.open, table.c.secret)
        with database.ringed.connect() as connection:
            yield lambda: [open_one(key, stored) for key, stored in connection.execute(raw)]

    return prepare


def _insert(database: Database, table: Table, given: list[dict[str, Any]]) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        shifted = [{**row, "id": row["id"] + len(given)} for row in given]
        with database.ringed.connect() as connection:
            connection.begin()
            yield lambda: connection.execute(insert(table), shifted)

    return prepare
