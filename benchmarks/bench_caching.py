"""Whether SQLAlchemy's cache of compiled statements is hit as often as without encrypted columns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event, insert, select, update
from sqlalchemy.engine.interfaces import CacheStats
from sqlalchemy.orm import Session

from benchmarks.databases import Database
from benchmarks.figures import OURS, PLAIN, Figure, Goal
from benchmarks.measure import Spread
from benchmarks.peers import Kind
from benchmarks.tables import Model, fill, make_models, secret_text, values_of

__all__ = ["bench_caching"]

_REPEATS = 100


def bench_caching(database: Database, chosen: Sequence[Kind]) -> Iterator[Figure | Goal]:
    """Run each kind of statement 100 times, and count how often its compiled form came from the cache."""
    kinds = [kind for kind in chosen if kind.name in {PLAIN, OURS}]
    hits = {name: _hits(model) for name, model in make_models(database, kinds, 1, "cached").found.items()}
    for work, plain in hits[PLAIN].items():
        for name in hits:
            own, ratio = hits[name][work], hits[name][work] / plain
            yield Figure(
                "statement cache",
                work,
                database.name,
                name,
                PLAIN,
                "hits",
                Spread(own, own, own),
                Spread(ratio, ratio, ratio),
            )
    if database.name != "sqlite":
        return
    worst = max(hits[PLAIN][work] - hits[OURS][work] for work in hits[PLAIN])
    share = 1 + worst / _REPEATS
    yield Goal.at_most(
        "statement cache", "statement cache: misses beyond those of plain columns", 1.0, Spread(share, share, share)
    )


def _hits(model: Model) -> dict[str, int]:
    fill(model, _REPEATS)
    works: dict[str, Callable[[Session, int], object]] = {
        "ORM load": lambda session, key: session.scalars(select(model.mapped).where(model.mapped.id == key)).all(),
        "ORM flush": lambda session, key: _flush(session, model, 10_000 + key),
        "ORM update": lambda session, key: _change(session, model, key),
        "Core INSERT": lambda session, key: session.execute(
            insert(model.table), [{"id": 20_000 + key, **values_of(key, model.secrets)}]
        ),
        "Core UPDATE": lambda session, key: session.execute(
            update(model.table).where(model.table.c.id == key).values(secret_1=secret_text(key))
        ),
    }
    found = {}
    for work, run in works.items():
        with Session(model.engine) as session, _counted(model.engine, model.table.name) as counts:
            for key in range(1, _REPEATS + 1):
                run(session, key)
            session.rollback()
        found[work] = counts.count(CacheStats.CACHE_HIT)
    return found


def _flush(session: Session, model: Model, key: int) -> None:
    person = model.mapped()
    for name, value in {"id": key, **values_of(key, model.secrets)}.items():
        setattr(person, name, value)
    session.add(person)
    session.flush()


def _change(session: Session, model: Model, key: int) -> None:
    person = session.get_one(model.mapped, key)
    person.secret_1 = secret_text(key, 2)
    session.flush()


@contextmanager
def _counted(engine: Engine, table: str) -> Iterator[list[CacheStats]]:
    """Note whence each statement on a table had its compiled form; the library's own statements are on others."""
    counts: list[CacheStats] = []

    def note(
        connection: Any,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,  # noqa: FBT001
    ) -> None:
        if context.compiled is not None and table in statement:
            counts.append(context.cache_hit)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield counts
    finally:
        event.remove(engine, "before_cursor_execute", note)
