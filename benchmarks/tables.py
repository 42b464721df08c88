"""The tables that are measured: a key, a plain text, and texts of one kind; and their classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, insert, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import registry

from benchmarks.databases import Database
from benchmarks.figures import OURS
from benchmarks.peers import PGCRYPTO, Kind

__all__ = ["Model", "Models", "fill", "make_models", "require_texts", "secret_text", "values_of"]

_CHUNK = 10_000  # rows of one statement


@dataclass(frozen=True)
class Model:
    """A table of one kind, with its class.

    Attributes:
        kind: How its texts are declared.
        table: The table.
        mapped: The class.
        engine: The engine that its statements run on.
        secrets: Keys of the texts.
    """

    kind: Kind
    table: Table
    mapped: type[Any]
    engine: Engine
    secrets: tuple[str, ...]

    def texts(self, loaded: Sequence[Any]) -> list[Any]:
        """Return what was loaded, after each text of a kind that decrypts late was taken out."""
        take = self.kind.take
        if take is not None:
            for one in loaded:
                for key in self.secrets:
                    take(getattr(one, key))
        return list(loaded)


@dataclass(frozen=True)
class Models:
    """The same table in every kind.

    Attributes:
        found: The models, by kind.
        reasons: Why other kinds are missing.
    """

    found: dict[str, Model]
    reasons: dict[str, str]

    def only(self, *names: str) -> dict[str, Model]:
        """Return the models of these kinds that are there."""
        return {name: self.found[name] for name in names if name in self.found}


def secret_text(number: int, column: int = 1) -> str:
    """Return a text of the size of an address, 26 bytes; another one for each row and column."""
    return f"person{column:02}{number:06}@example.org"


def values_of(number: int, secrets: Sequence[str]) -> dict[str, Any]:
    """Return the values of a row without its key."""
    return {
        "city": f"city {number % 500}",
        **{key: secret_text(number, column) for column, key in enumerate(secrets, 1)},
    }


def make_models(database: Database, chosen: Sequence[Kind], columns: int, title: str) -> Models:
    """Make a table of each kind in an empty database.

    Args:
        database: Where.
        chosen: The kinds.
        columns: How many texts of the kind a row has.
        title: What the names of the tables begin with.
    """
    found: dict[str, Model] = {}
    reasons: dict[str, str] = {}
    for kind in chosen:
        reason = _unusable(kind, database)
        if reason:
            reasons[kind.name] = reason
        else:
            found[kind.name] = _make(database, kind, columns, f"{title}_{len(found)}_{columns}")
    return Models(found, reasons)


def fill(model: Model, rows: int, filled: int = 0) -> None:
    """Insert rows until there are that many, with the keys from 1 on."""
    with model.engine.begin() as connection:
        for chunk in _chunks(filled + 1, rows + 1):
            connection.execute(
                insert(model.table), [{"id": number, **values_of(number, model.secrets)} for number in chunk]
            )


def require_texts(model: Model) -> None:
    """Make sure that a kind gives back what was stored: whoever does not is not measured.

    Raises:
        AssertionError: It does not.
    """
    take = model.kind.take or str
    with model.engine.connect() as connection:
        first = connection.execute(select(model.table).where(model.table.c.id == 1)).one()
    if [take(first._mapping[key]) for key in model.secrets] != list(values_of(1, model.secrets).values())[1:]:  # noqa: SLF001 - the public view of a row
        msg = f"{model.kind.name} does not load what was stored"
        raise AssertionError(msg)


def _chunks(first: int, end: int) -> Iterator[range]:
    for begin in range(first, end, _CHUNK):
        yield range(begin, min(begin + _CHUNK, end))


def _unusable(kind: Kind, database: Database) -> str:
    if kind.only_on and kind.only_on != database.name:
        return f"works on {kind.only_on} only"
    if kind.name != PGCRYPTO:
        return ""
    try:
        with database.bare.begin() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pgcrypto"))
    except SQLAlchemyError as error:
        return f"the extension cannot be created ({type(error).__name__})"
    return ""


def _make(database: Database, kind: Kind, columns: int, name: str) -> Model:
    secrets = tuple(f"secret_{number}" for number in range(1, columns + 1))
    metadata = MetaData()
    table = Table(
        name,
        metadata,
        Column("id", Integer, primary_key=True),
        Column("city", String(40), nullable=False),
        *(Column(key, kind.make(), nullable=False) for key in secrets),
    )
    engine = database.ringed if kind.name == OURS else database.bare
    if kind.name == OURS:
        database.ring.initialize(engine, metadata)
    metadata.create_all(engine, tables=[table])
    mapped = type(f"Row{name}", (), {})
    registry(metadata=metadata).map_imperatively(mapped, table)
    return Model(kind, table, mapped, engine, secrets)
