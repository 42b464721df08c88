"""Other ways to the rows: Core, asyncio, joins, single rows; and tables that have nothing encrypted."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

from sqlalchemy import Engine, Executable, Table, create_engine, event, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from benchmarks.databases import Database
from benchmarks.figures import OURS, PLAIN, Figure, Goal, Scale, figures_of, missing_figures
from benchmarks.measure import Peer, percentiles_in_turns, race
from benchmarks.peers import Kind
from benchmarks.tables import Model, Models, fill, make_models, values_of

__all__ = ["bench_statements", "bench_without_encryption"]

WITHOUT = "no key ring"
EVENTS = "no key ring, listeners that do nothing"
RINGED = "key ring attached"

_PERCENTS = (50, 99)
_STATEMENTS = 200
_MANY = 1_000


def bench_statements(
    database: Database, chosen: Sequence[Kind], reasons: dict[str, str], scale: Scale
) -> Iterator[Figure]:
    """Compare every kind in Core, under asyncio, in joins and one row at a time."""
    rows = scale.server_rows
    models = make_models(database, chosen, 1, "statements")
    others = make_models(database, chosen, 1, "joined")
    for model in (*models.found.values(), *others.found.values()):
        fill(model, rows)
    measure = partial(race, items=rows, rounds=scale.few_rounds)
    peers: dict[str, dict[str, Peer]] = {
        "Core SELECT": {name: _selecting(model) for name, model in models.found.items()},
        "Core INSERT": {name: _inserting(model, rows) for name, model in models.found.items()},
        "join of two": {name: _joining(model, others.found[name]) for name, model in models.found.items()},
    }
    for work, named in peers.items():
        yield from figures_of(measure(named), "statements", work, database.name, PLAIN)
        yield from missing_figures({**reasons, **models.reasons}, "statements", work, database.name, PLAIN)
    with asyncio.Runner() as runner, _async_loading(runner, database, models) as named:
        yield from figures_of(measure(named), "statements", "asyncio load", database.name, PLAIN)
    yield from missing_figures({**reasons, **models.reasons}, "statements", "asyncio load", database.name, PLAIN)
    yield from _single_rows(database, models, reasons, scale)


def _single_rows(database: Database, models: Models, reasons: dict[str, str], scale: Scale) -> Iterator[Figure]:
    keys = count()
    rows = scale.server_rows
    works = {
        "read": {name: _reading(model, rows, keys) for name, model in models.found.items()},
        "write": {name: _writing(model, rows, keys) for name, model in models.found.items()},
    }
    for work, named in works.items():
        races = percentiles_in_turns(named, burst=scale.burst, rounds=scale.few_rounds, percents=_PERCENTS)
        for percent, found in races.items():
            title = f"{work} p{percent}"
            yield from figures_of(found, "one row", title, database.name, PLAIN)
            yield from missing_figures({**reasons, **models.reasons}, "one row", title, database.name, PLAIN)


def bench_without_encryption(database: Database, plain: Kind, scale: Scale) -> Iterator[Figure | Goal]:
    """Compare statements on one table without encrypted columns: the ring attached to the engine, or not."""
    (model,) = make_models(database, [plain], 1, "nothing").found.values()
    fill(model, scale.rows)
    listened = create_engine(database.url)
    _listen(listened)
    try:
        engines = {WITHOUT: database.bare, EVENTS: listened, RINGED: database.ringed}
        ways = {
            "INSERT of one row": _one_insert,
            "UPDATE of one row": _one_update,
            f"INSERT of {_MANY:,} rows": _many_insert,
            "SELECT of one row": _one_select,
        }
        for work, way in ways.items():
            peers = {
                name: way(Model(plain, model.table, model.mapped, engine, model.secrets), scale)
                for name, engine in engines.items()
            }
            items = _MANY if way is _many_insert else _STATEMENTS
            found = race(peers, items=items, rounds=scale.rounds * 2)
            yield from figures_of(found, "nothing encrypted", work, database.name, WITHOUT)
            if database.name == "sqlite" and work.endswith("one row") and not work.startswith("SELECT"):
                text = f"{work}, table without encrypted columns, key ring attached"
                yield Goal.not_measurably_more("nothing encrypted", text, found.ratio(RINGED, WITHOUT))
    finally:
        listened.dispose()


def _listen(engine: Engine) -> None:
    """Listen to what the key ring listens to for each statement, and do nothing: what SQLAlchemy's events cost."""

    def before_execute(connection: Any, statement: Any, multiparams: Any, params: Any, options: Any) -> Any:
        return statement, multiparams, params

    def after_execute(
        connection: Any, statement: Any, multiparams: Any, params: Any, options: Any, result: Any
    ) -> None:
        pass

    def before_cursor_execute(
        connection: Any, cursor: Any, statement: Any, parameters: Any, context: Any, executemany: Any
    ) -> Any:
        return statement, parameters

    event.listen(engine, "before_execute", before_execute, retval=True)
    event.listen(engine, "after_execute", after_execute)
    event.listen(engine, "before_cursor_execute", before_cursor_execute, retval=True)


def _selecting(model: Model) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        take = model.kind.take
        with model.engine.connect() as connection:
            chosen = select(model.table.c.id, model.table.c.secret_1)
            if take is None:
                yield lambda: connection.execute(chosen).all()
            else:
                yield lambda: [(id_, take(secret)) for id_, secret in connection.execute(chosen)]

    return prepare


def _inserting(model: Model, rows: int) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        given = [{"id": number, **values_of(number, model.secrets)} for number in range(rows + 1, 2 * rows + 1)]
        with model.engine.connect() as connection:
            # never committed: every measurement finds the same table
            yield lambda: connection.execute(insert(model.table), given)

    return prepare


def _joining(model: Model, other: Model) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        take = model.kind.take or (lambda text: text)
        chosen = select(model.mapped.secret_1, other.mapped.secret_1).join(
            other.mapped, other.mapped.id == model.mapped.id
        )
        late = model.kind.take is not None
        with Session(model.engine) as session:
            session.connection()
            if late:
                yield lambda: [(take(one), take(two)) for one, two in session.execute(chosen)]
            else:
                yield lambda: session.execute(chosen).all()

    return prepare


@contextmanager
def _async_loading(runner: asyncio.Runner, database: Database, models: Models) -> Iterator[dict[str, Peer]]:
    bare = create_async_engine(database.async_url)
    ringed = create_async_engine(database.async_url, plugins=["keyvault"], keyring=database.ring)
    try:
        yield {
            name: _async_load(runner, model, ringed if name == OURS else bare) for name, model in models.found.items()
        }
    finally:
        runner.run(bare.dispose())
        runner.run(ringed.dispose())


def _async_load(runner: asyncio.Runner, model: Model, engine: AsyncEngine) -> Peer:
    async def load() -> list[object]:
        async with AsyncSession(engine) as session:
            return model.texts((await session.scalars(select(model.mapped))).all())

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        yield lambda: runner.run(load())

    return prepare


def _reading(model: Model, rows: int, keys: Iterator[int]) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with Session(model.engine) as session:
            session.connection()

            def work() -> object:
                session.expunge_all()
                return model.texts([session.get(model.mapped, next(keys) * 7 % rows + 1)])

            yield work

    return prepare


def _writing(model: Model, rows: int, keys: Iterator[int]) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with model.engine.connect() as connection:

            def work() -> None:
                number = next(keys)
                given = {"secret_1": values_of(number, model.secrets)["secret_1"]}
                key = number * 7 % rows + 1
                connection.execute(update(model.table).where(model.table.c.id == key), given)

            yield work

    return prepare


def _one_insert(model: Model, scale: Scale) -> Peer:
    return _repeated(
        model, lambda table, key: insert(table).values(id=scale.rows + key, **values_of(key, model.secrets))
    )


def _one_update(model: Model, scale: Scale) -> Peer:
    return _repeated(model, lambda table, key: update(table).where(table.c.id == key).values(city=f"city {key}"))


def _one_select(model: Model, scale: Scale) -> Peer:
    return _repeated(model, lambda table, key: select(table).where(table.c.id == key))


def _repeated(model: Model, make: Callable[[Table, int], Executable]) -> Peer:
    """Run statements that are made beforehand."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        statements = [make(model.table, key) for key in range(1, _STATEMENTS + 1)]
        with model.engine.connect() as connection:
            connection.begin()

            def work() -> None:
                for statement in statements:
                    connection.execute(statement)

            yield work

    return prepare


def _many_insert(model: Model, scale: Scale) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        first = scale.rows + 1
        given = [{"id": number, **values_of(number, model.secrets)} for number in range(first, first + _MANY)]
        with model.engine.connect() as connection:
            connection.begin()
            yield lambda: connection.execute(insert(model.table), given)

    return prepare
