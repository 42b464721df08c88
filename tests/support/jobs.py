"""What tests of jobs begin with and look at: rows, their stored bytes, and the keys that these are under."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    Table,
    bindparam,
    column,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy import table as clause_table
from sqlalchemy.types import NullType

from sa_keyvault import KeyRing, store
from sa_keyvault import administration as administer
from sa_keyvault.envelope import FORMAT, key_number
from sa_keyvault.states import KeyState
from sa_keyvault.store.schema import job_table
from support.leaks import marked
from support.models import Claimant

__all__ = [
    "CLAIMANTS",
    "add_claimants",
    "all_done",
    "claimant",
    "job_parts",
    "kinds",
    "open_values",
    "raw_values",
    "rotate",
    "set_raw",
]

CLAIMANTS = cast("Table", Claimant.__table__)
AREAS = {"email": "identities", "voice_model": "models"}


def claimant(number: int) -> tuple[str, bytes | None]:
    """Return the values of the claimant of that number; each third has no voice model."""
    return marked(f"{number}@example.org"), marked(str(number)).encode() if number % 3 else None


def add_claimants(engine: Engine, numbers: Iterable[int]) -> None:
    """Insert claimants as the application does."""
    rows = [(number, *claimant(number)) for number in numbers]
    with engine.begin() as connection:
        connection.execute(insert(CLAIMANTS), [dict(zip(("id", *AREAS), row, strict=True)) for row in rows])


def rotate(engine: Engine, ring: KeyRing, *areas: str) -> None:
    """Give areas a new working key, as an administrator does."""
    with engine.begin() as connection:
        for area in areas:
            administer.rotate_area(connection, ring, area)


def raw_values(connection: Connection, table: Table, name: str) -> list[Any]:
    """Return what is stored in a column, in the order of the primary key, as the driver hands it out."""
    keys = [type_coerce(key, NullType()) for key in table.primary_key.columns]
    found = connection.execute(select(type_coerce(table.c[name], NullType())).order_by(*keys)).scalars()
    return [bytes(value) if isinstance(value, (bytearray, memoryview)) else value for value in found]


def open_values(connection: Connection, table: Table, *names: str) -> list[tuple[Any, ...]]:
    """Return the values of columns as the application reads them, in the order of the primary key."""
    keys = [type_coerce(key, NullType()) for key in table.primary_key.columns]
    return [tuple(row) for row in connection.execute(select(*(table.c[name] for name in names)).order_by(*keys))]


def set_raw(connection: Connection, table: Table, name: str, key: object, value: object) -> None:
    """Set a column of one row past the library, as raw SQL does."""
    key_name = table.primary_key.columns[0].name
    bare = clause_table(str(table.name), column(name), column(key_name))
    stored = bindparam(None, value, type_=NullType(), unique=True)
    connection.execute(update(bare).where(bare.c[key_name] == key).values({name: stored}))


def kinds(connection: Connection, table: Table, name: str) -> set[str]:
    """Return what the values of a column are: "active", "retired" …, the state of their key; "plain", "null"."""
    states = {record.number: record.state for record in store.working(connection)}
    return {_state(value, states) for value in raw_values(connection, table, name)}


def _state(value: Any, states: Mapping[int, KeyState]) -> str:
    if value is None:
        return "null"
    return str(states[key_number(value)]) if isinstance(value, bytes) and value[:1] == bytes([FORMAT]) else "plain"


def job_parts(connection: Connection) -> list[RowMapping]:
    """Return the checkpoints of all jobs, by part."""
    return list(connection.execute(select(job_table).order_by(job_table.c.part)).mappings())


def all_done(engine: Engine) -> bool:
    """Whether all hundred claimants are what they were, under active keys, and no job is left."""
    with engine.connect() as connection:
        values = open_values(connection, CLAIMANTS, "email", "voice_model")
        return (
            values == [claimant(number) for number in range(1, 101)]
            and kinds(connection, CLAIMANTS, "email") == {"active"}
            and kinds(connection, CLAIMANTS, "voice_model") == {"active", "null"}
            and job_parts(connection) == []
        )
