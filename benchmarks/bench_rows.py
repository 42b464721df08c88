"""ORM rows loaded and flushed in every kind: by kind, by number of encrypted columns, by number of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.databases import Database
from benchmarks.figures import OURS, PLAIN, Figure, Goal, Scale, figures_of, missing_figures
from benchmarks.measure import Peer, Race, Spread, race
from benchmarks.peers import UTILS_GCM, Kind
from benchmarks.tables import Model, fill, make_models, require_texts, values_of

__all__ = ["COLUMNS", "bench_growth", "bench_rows", "flushing", "loading"]

COLUMNS = (1, 3, 10)
LOAD_GOAL = 1.4
FLUSH_GOAL = 1.15
SHARE_GOAL = 0.2
GROWTH_GOAL = 1.1


def bench_rows(
    database: Database, chosen: Sequence[Kind], reasons: dict[str, str], scale: Scale
) -> Iterator[Figure | Goal]:
    """Compare every kind, with 1, 3 and 10 columns of it."""
    is_main = database.name == "sqlite"
    for columns in COLUMNS if is_main else scale.server_columns:
        rows, flushed = _sizes(columns, scale) if is_main else (scale.server_rows, scale.server_rows)
        rounds = scale.rounds if columns == 1 and is_main else scale.few_rounds
        models = make_models(database, chosen, columns, "rows")
        write = partial(race, items=flushed, rounds=rounds)
        found = {"flush": write({name: flushing(model, flushed) for name, model in models.found.items()})}
        if columns == 1:
            # SQLite sends plain rows one by one where it has to tell their keys
            found["flush, keys given"] = write(
                {name: flushing(model, flushed, has_keys=True) for name, model in models.found.items()}
            )
        for model in models.found.values():
            fill(model, rows)
            require_texts(model)
        loads = {name: loading(model) for name, model in models.found.items()}
        found["load"] = race(loads, items=rows, rounds=rounds)
        for doing, taken in found.items():
            section = "load" if doing == "load" else "flush"
            work = f"{columns} encrypted" + doing.removeprefix(section)
            yield from figures_of(taken, section, work, database.name, PLAIN, size=columns)
            yield from missing_figures({**reasons, **models.reasons}, section, work, database.name, PLAIN)
        if columns == 1 and is_main:
            yield from _goals(found)


def _sizes(columns: int, scale: Scale) -> tuple[int, int]:
    """Return how many rows are loaded, and flushed."""
    return (scale.rows, scale.flushed_rows) if columns == 1 else (scale.many_column_rows, scale.many_column_rows)


def _goals(found: Mapping[str, Race]) -> Iterator[Goal]:
    load = found["load"]
    yield Goal.at_most(
        "load",
        f"loading {load.items:,} rows with one encrypted column of three",
        LOAD_GOAL,
        load.ratio(OURS, PLAIN),
    )
    for doing in ("flush", "flush, keys given"):
        title = f"flushing {found[doing].items:,} such rows" + (
            ", keys given" if "keys" in doing else ", keys made by the database"
        )
        yield Goal.at_most("flush", title, FLUSH_GOAL, found[doing].ratio(OURS, PLAIN))
    if UTILS_GCM in load.measured:
        text = "what an encrypted column adds to that load, to what sqlalchemy-utils' AES-GCM adds"
        yield Goal.at_most("load", text, SHARE_GOAL, load.added_share(OURS, UTILS_GCM, PLAIN))


def bench_growth(database: Database, chosen: Sequence[Kind], scale: Scale) -> Iterator[Figure | Goal]:
    """Show how the time of one row changes with the number of rows."""
    kinds = [kind for kind in chosen if kind.name in {PLAIN, OURS, UTILS_GCM}]
    models = make_models(database, kinds, 1, "growth").found
    per_row: dict[str, list[float]] = {name: [] for name in models}
    filled = 0
    for rows in scale.growth:
        work = f"{rows:,} rows"
        rounds = scale.growth_rounds if rows > scale.rows else scale.rounds
        measure = partial(race, items=rows, rounds=rounds)
        if rows <= scale.flushed_growth:
            peers = {name: flushing(model, rows, begin=filled + 1, has_keys=True) for name, model in models.items()}
            yield from figures_of(measure(peers), "growth of flush", work, database.name, PLAIN, size=rows)
        for model in models.values():
            fill(model, rows, filled)
        filled = rows
        found = measure({name: loading(model) for name, model in models.items()})
        yield from figures_of(found, "growth of load", work, database.name, PLAIN, size=rows)
        for name in models:
            per_row[name].append(found.amount(name).median)
        last = found
    text = f"growth: that ratio when loading {scale.growth[-1]:,} rows, to the one of {scale.growth[0]:,}"
    first = per_row[OURS][0] / per_row[PLAIN][0]
    ratio = last.ratio(OURS, PLAIN)
    yield Goal.at_most(
        "growth of load", text, GROWTH_GOAL, Spread(ratio.median / first, ratio.low / first, ratio.high / first)
    )


def loading(model: Model) -> Peer:
    """Load every row as an object, in a session of its own."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with Session(model.engine) as session:
            session.connection()
            yield lambda: model.texts(session.scalars(select(model.mapped)).all())

    return prepare


def flushing(model: Model, rows: int, *, begin: int = 1, has_keys: bool = False) -> Peer:
    """Flush new objects; it is rolled back, so that every measurement finds the same table."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        people = []
        for number in range(begin, begin + rows):
            person = model.mapped()
            for key, value in values_of(number, model.secrets).items():
                setattr(person, key, value)
            if has_keys:
                person.id = number
            people.append(person)
        with Session(model.engine) as session:
            session.connection()

            def work() -> None:
                session.add_all(people)
                session.flush()

            yield work

    return prepare
