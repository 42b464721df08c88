"""Tables with every kind of primary key that can name a row."""

import datetime
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CHAR,
    VARBINARY,
    BigInteger,
    Column,
    Date,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Unicode,
    Uuid,
)

from sa_keyvault import Encrypted

__all__ = ["KEYS", "Color", "KeyCase", "key_table"]


class Color(enum.Enum):
    """An enum whose stored names are not its values."""

    RED = 1
    GREEN = 2


@dataclass(frozen=True)
class KeyCase:
    """One kind of primary key.

    Attributes:
        name: For the test's id.
        columns: Make the key's columns.
        first: Key of one row, by column name.
        second: Key of another.
    """

    name: str
    columns: Callable[[], list[Column[Any]]]
    first: dict[str, Any]
    second: dict[str, Any]


def _one(type_: Any) -> Callable[[], list[Column[Any]]]:
    return lambda: [Column("id", type_, primary_key=True, autoincrement=False)]


KEYS = [
    KeyCase("integer", _one(Integer), {"id": 1}, {"id": -23}),
    KeyCase("bigint", _one(BigInteger), {"id": 2**62}, {"id": 0}),
    KeyCase("string", _one(String(40)), {"id": "ab:2"}, {"id": "ünï ©∂é 🔑"}),
    KeyCase("unicode", _one(Unicode(40)), {"id": ""}, {"id": ":0"}),
    KeyCase("char", _one(CHAR(10)), {"id": "ab"}, {"id": "abcdefghij"}),
    KeyCase("uuid", _one(Uuid), {"id": uuid.UUID(int=5)}, {"id": uuid.UUID(int=2**127 + 1)}),
    KeyCase("uuid-text", _one(Uuid(as_uuid=False)), {"id": str(uuid.UUID(int=5))}, {"id": str(uuid.UUID(int=7))}),
    KeyCase("uuid-char", _one(Uuid(native_uuid=False)), {"id": uuid.UUID(int=5)}, {"id": uuid.UUID(int=7)}),
    KeyCase("bytes", _one(LargeBinary(16)), {"id": b"\x00\xff:1"}, {"id": b"\xf8"}),
    KeyCase("date", _one(Date), {"id": datetime.date(2026, 11, 23)}, {"id": datetime.date(1, 1, 1)}),
    KeyCase("enum", _one(Enum(Color)), {"id": Color.RED}, {"id": Color.GREEN}),
    KeyCase(
        "composite",
        lambda: [
            Column("tenant", String(20), primary_key=True),
            Column("number", Integer, primary_key=True, autoincrement=False),
        ],
        {"tenant": "1", "number": 23},
        {"tenant": "12", "number": 3},
    ),
]


def key_table(case: KeyCase, metadata: MetaData) -> Table:
    """Return a table with that key, a plain and two encrypted columns."""
    columns = case.columns()
    if case.name == "bytes":
        # MariaDB cannot index a BLOB without a length
        columns[0].type = LargeBinary(16).with_variant(VARBINARY(16), "mysql", "mariadb")
    return Table(
        "keyed",
        metadata,
        *columns,
        Column("note", String(40)),
        Column("email", Encrypted(String(100), area="identities")),
        Column("phone", Encrypted(String(40), area="identities")),
    )
