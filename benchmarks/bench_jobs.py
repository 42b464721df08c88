"""Re-encryption, against an UPDATE that rewrites the same bytes inside the database; and memory of loaded rows."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, String, Table, func, insert, select, text
from sqlalchemy.orm import Session

from benchmarks.databases import Database
from benchmarks.figures import PLAIN, Figure, Scale, figures_of, missing_figures
from benchmarks.measure import Peer, Race, race
from benchmarks.peers import AREA, Kind
from benchmarks.tables import Model, fill, make_models
from sa_keyvault.administration import rotate_area
from sa_keyvault.reencryption import reencrypt

if TYPE_CHECKING:
    from sa_keyvault import Encrypted

__all__ = ["bench_memory", "bench_reencryption"]

IN_SQL = "one UPDATE in SQL"
JOB = "`reencrypt`"

# the same length and other bytes: MariaDB writes nothing where nothing changes
_REWRITE = {
    "sqlite": "UPDATE copied SET secret_1 = CAST(substr(secret_1, 2) || substr(secret_1, 1, 1) AS BLOB)",
    "postgresql": "UPDATE copied SET secret_1 = substr(secret_1, 2) || substr(secret_1, 1, 1)",
    "mariadb": "UPDATE copied SET secret_1 = concat(substr(secret_1, 2), substr(secret_1, 1, 1))",
}


def bench_reencryption(database: Database, ours: Kind, scale: Scale) -> Iterator[Figure]:
    """Compare the job with the least that any rewriting costs: the database does it, without a key."""
    rows = scale.rows if database.name == "sqlite" else scale.server_rows
    (model,) = make_models(database, [ours], 1, "reencrypted").found.values()
    fill(model, rows)
    _copy(database, model)
    peers = {IN_SQL: _rewriting(database.bare, _REWRITE[database.name]), JOB: _job(database, model, rows)}
    found = race(peers, items=rows, rounds=scale.few_rounds)
    yield from figures_of(found, "re-encryption", f"{rows:,} rows", database.name, IN_SQL)


def _copy(database: Database, model: Model) -> None:
    """Make a table of the same bytes, without a key ring."""
    stored = text(f"SELECT id, city, secret_1 FROM {model.table.name}").columns(  # noqa: S608 - the name is ours
        id=Integer, city=String, secret_1=LargeBinary
    )
    declared, metadata = cast("Encrypted[str]", model.kind.make()), MetaData()
    copied = Table(
        "copied",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("city", String(40), nullable=False),
        Column("secret_1", declared.load_dialect_impl(database.bare.dialect), nullable=False),
    )
    metadata.create_all(database.bare)
    with database.bare.begin() as connection:
        rows = [dict(row) for row in connection.execute(stored).mappings()]
        connection.execute(insert(copied), rows)
        if connection.scalar(select(func.count()).select_from(copied)) != len(rows):
            msg = "the copy is not whole"
            raise AssertionError(msg)


def _rewriting(engine: Engine, statement: str) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        def work() -> None:
            with engine.begin() as connection:
                connection.execute(text(statement))

        yield work

    return prepare


def _job(database: Database, model: Model, rows: int) -> Peer:
    """Re-encrypt every row: the key that they are under was retired just before."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with database.ringed.begin() as connection:
            rotate_area(connection, database.ring, AREA)
        reports = []
        yield lambda: reports.append(reencrypt(database.ringed, model.table))
        if [report.rows for report in reports] != [rows]:
            msg = f"the job did not write {rows} rows: {reports}"
            raise AssertionError(msg)

    return prepare


def bench_memory(database: Database, chosen: Sequence[Kind], reasons: dict[str, str], scale: Scale) -> Iterator[Figure]:
    """Compare the memory of loaded objects, and its peak on the way, as Python's allocator counts it."""
    models = make_models(database, chosen, 1, "memory")
    rows = scale.many_column_rows
    kept: dict[str, list[float]] = {name: [] for name in models.found}
    peak: dict[str, list[float]] = {name: [] for name in models.found}
    for model in models.found.values():
        fill(model, rows)
        _loaded(model)
    for _ in range(scale.few_rounds):
        for name, model in models.found.items():
            own, highest = _loaded(model)
            kept[name].append(own)
            peak[name].append(highest)
    for work, measured in (("kept", kept), ("peak while loading", peak)):
        yield from figures_of(Race(rows, measured), "memory", work, database.name, PLAIN, unit="B")
        yield from missing_figures({**reasons, **models.reasons}, "memory", work, database.name, PLAIN)


def _loaded(model: Model) -> tuple[int, int]:
    """Return what loading all rows leaves allocated, and the peak, in bytes."""
    with Session(model.engine) as session:
        session.connection()
        gc.collect()
        tracemalloc.start()
        try:
            rows = session.scalars(select(model.mapped)).all()
            gc.collect()
            sizes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        del rows
    return sizes
