"""ORM rows with one encrypted column, loaded and flushed, against the same rows without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import Engine, String, delete, insert, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.measure import Comparison, Peer, compare
from sa_keyvault import Encrypted, KeyRing

__all__ = ["FLUSH_GOAL", "LOAD_GOAL", "compare_orm"]

LOAD_GOAL = 1.5
FLUSH_GOAL = 1.25

_COUNT = 20_000
_AREA = "benchmark_rows"


class Base(DeclarativeBase):
    """Root of the models."""


class Person(Base):
    """What the models have in common; a table of it does not exist."""

    __abstract__ = True

    id: Mapped[int] = mapped_column(primary_key=True)
    city: Mapped[str] = mapped_column(String(40))


class Plain(Person):
    """A row whose second text is stored as it is."""

    __tablename__ = "benchmark_plain"

    email: Mapped[str] = mapped_column(String(254))


class Sealed(Person):
    """A row whose second text is encrypted."""

    __tablename__ = "benchmark_sealed"

    email: Mapped[str] = mapped_column(Encrypted(String(254), area=_AREA))


def compare_orm(bare: Engine, engine: Engine, ring: KeyRing, rounds: int) -> Iterator[Comparison]:
    """Compare what the ORM does to rows with an encrypted column, and to rows without.

    Args:
        bare: An engine without a key ring, for the plain rows.
        engine: An engine of the same database with *ring*.
        ring: The key ring.
        rounds: How many measurements of each.
    """
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine, tables=[Sealed.metadata.tables[Sealed.__tablename__]])
    Base.metadata.create_all(bare, tables=[Plain.metadata.tables[Plain.__tablename__]])
    measure = partial(compare, items=_COUNT, rounds=rounds)
    for title, numbered in (("flush rows", False), ("flush rows that have keys", True)):
        plain, sealed = _flush(bare, Plain, numbered=numbered), _flush(engine, Sealed, numbered=numbered)
        yield measure(title, plain, sealed, goal=FLUSH_GOAL)
    _fill(bare, Plain)
    _fill(engine, Sealed)
    yield measure("load rows", _load(bare, Plain), _load(engine, Sealed), goal=LOAD_GOAL)


def _values(number: int) -> dict[str, str]:
    return {"city": f"city {number % 500}", "email": f"person{number:08}@example.org"}


def _fill(engine: Engine, model: type[Person]) -> None:
    rows = [{"id": number, **_values(number)} for number in range(1, _COUNT + 1)]
    with Session(engine) as session, session.begin():
        session.execute(delete(model))
        session.execute(insert(model), rows)


def _load(engine: Engine, model: type[Person]) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with Session(engine) as session:
            session.connection()
            yield lambda: session.scalars(select(model)).all()

    return prepare


def _flush(engine: Engine, model: type[Person], *, numbered: bool) -> Peer:
    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        keys = [{"id": number} if numbered else {} for number in range(1, _COUNT + 1)]
        people = [model(**key, **_values(number)) for number, key in enumerate(keys)]
        with Session(engine) as session:
            session.connection()

            def work() -> None:
                session.add_all(people)
                session.flush()

            # never committed: every measurement finds an empty table
            yield work

    return prepare
