"""Columns that another library encrypts are moved over, and no plaintext is stored at any moment."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, Engine, Integer, MetaData, String, Table, Unicode, insert, text
from sqlalchemy.exc import SADeprecationWarning
from sqlalchemy.types import TypeEngine
from sqlalchemy_utils import StringEncryptedType
from sqlalchemy_utils.types.encrypted.encrypted_type import AesEngine, AesGcmEngine, FernetEngine
from support.jobs import kinds, open_values, raw_values
from support.leaks import MARK, marked

from sa_keyvault import Encrypted
from sa_keyvault.reencryption import Pace, Progress, decrypt, encrypt

with warnings.catch_warnings():
    # its mixins are marked for a plug-in of mypy that SQLAlchemy 2.1 no longer has
    warnings.simplefilter("ignore", SADeprecationWarning)
    from advanced_alchemy.types import EncryptedString, EncryptedText

KEY = "a passphrase of the other library"
VALUES = [marked(f"{number} ünï 🔑") for number in range(25)]


@dataclass(frozen=True)
class Library:
    """A type of another library.

    Attributes:
        name: For the test's id.
        make: Makes the type, as an application declares it.
    """

    name: str
    make: Callable[[], TypeEngine[Any]]


LIBRARIES = [
    Library("sqlalchemy-utils AES", lambda: StringEncryptedType(Unicode, KEY, AesEngine, "pkcs5", length=255)),
    Library("sqlalchemy-utils AES-GCM", lambda: StringEncryptedType(Unicode, KEY, AesGcmEngine, length=255)),
    Library("sqlalchemy-utils Fernet", lambda: StringEncryptedType(Unicode, KEY, FernetEngine, length=255)),
    Library("advanced-alchemy string", lambda: EncryptedString(key=KEY)),
    Library("advanced-alchemy text", lambda: EncryptedText(key=KEY)),
]
STATEMENTS = {
    "postgresql": (
        "ALTER TABLE kept ALTER COLUMN value TYPE bytea USING convert_to(value, 'UTF8')",
        "ALTER TABLE kept ALTER COLUMN value TYPE text USING convert_from(value, 'UTF8')",
    ),
    "mysql": ("ALTER TABLE kept MODIFY value BLOB", "ALTER TABLE kept MODIFY value TEXT"),
}
"""What makes the column one of bytes, and one of text again, by name of the dialect; SQLite alters nothing."""


def table_of(type_: TypeEngine[Any]) -> Table:
    """Return the table with one column of that type."""
    return Table(
        "kept", MetaData(), Column("id", Integer, primary_key=True, autoincrement=False), Column("value", type_)
    )


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda one: one.name)
def test_moved_over_and_back(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, library: Library
) -> None:
    """Values of another library are taken over and given back, and no other connection ever sees one of them."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    before, after = table_of(library.make()), table_of(Encrypted(String(60)))
    ring.initialize(engine, after.metadata)
    before.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(before), [{"id": number, "value": value} for number, value in enumerate(VALUES)])
    seen: list[set[str]] = []

    def look(_: Progress | None = None) -> None:
        with plain.connect() as connection:
            stored = raw_values(connection, after, "value")
            seen.append(kinds(connection, after, "value"))
        texts = [value if isinstance(value, str) else value.decode("latin-1") for value in stored]
        assert [value for value in texts if MARK in value] == []
        assert len(set(texts)) == len(VALUES)

    def alter(step: int) -> None:
        if statements := STATEMENTS.get(engine.dialect.name):
            with plain.begin() as connection:
                connection.execute(text(statements[step]))
        look()

    look()
    alter(0)
    report = encrypt(engine, after, {"value": library.make()}, Pace(batch_size=10), look)
    assert (report.rows, report.is_finished) == (25, True)
    with engine.connect() as connection:
        assert [(value,) for value in VALUES] == open_values(connection, after, "value")
    report = decrypt(engine, after, {"value": library.make()}, Pace(batch_size=10), look)
    assert (report.rows, report.is_finished) == (25, True)
    alter(1)
    with engine.connect() as connection:
        assert [(value,) for value in VALUES] == open_values(connection, before, "value")
    mixed = {"plain", "active"}
    assert seen == [{"plain"}, {"plain"}, mixed, mixed, {"active"}, mixed, mixed, {"plain"}, {"plain"}]
