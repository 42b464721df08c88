"""A real database, encrypted in place by a migration that autogenerate wrote, and decrypted by its downgrade.

The data is not part of the project; where the folder beside it is absent, these tests are skipped.
"""

from pathlib import Path
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, LargeBinary, MetaData, create_engine, insert, inspect, select, type_coerce
from support.migrations import Migrations

from sa_keyvault import Encrypted

_CHINOOK = Path(__file__).parents[4] / "shared" / "data" / "chinook.sqlite"
_PERSONAL = {
    "Customer": {"SupportRepId", "CustomerId"},
    "Employee": {"EmployeeId", "ReportsTo", "Title"},
    "Invoice": {"InvoiceId", "CustomerId", "InvoiceDate", "Total"},
}
"""The tables with personal columns, and which of their columns are none."""

pytestmark = pytest.mark.skipif(not _CHINOOK.is_file(), reason="shared/data is not beside the repository")

Tables = dict[str, list[tuple[Any, ...]]]


def _declared() -> MetaData:
    """Return all eleven tables as an application declares them."""
    metadata, source = MetaData(), create_engine(f"sqlite:///{_CHINOOK}")
    metadata.reflect(source)
    source.dispose()
    for table in metadata.sorted_tables:
        for column in table.columns:
            column.type = column.type.as_generic()
    return metadata


def _encrypted() -> MetaData:
    """Return the same tables, their personal columns encrypted."""
    metadata = _declared()
    for name, others in _PERSONAL.items():
        for column in metadata.tables[name].columns:
            if column.name not in others:
                column.type = Encrypted(column.type, area=name.lower())
    return metadata


def _contents(engine: Engine, metadata: MetaData) -> Tables:
    """Return every row of every table, in the order of its primary key."""
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
        }


def _fill(url: URL) -> None:
    """Put the real rows into an empty database."""
    metadata = _declared()
    source, target = create_engine(f"sqlite:///{_CHINOOK}"), create_engine(url)
    rows = _contents(source, metadata)
    metadata.create_all(target)
    with target.begin() as connection:
        for table in metadata.sorted_tables:
            names = [column.name for column in table.columns]
            connection.execute(insert(table), [dict(zip(names, row, strict=True)) for row in rows[table.name]])
    source.dispose()
    target.dispose()


def test_a_migration_encrypts_and_its_downgrade_decrypts(
    url: URL, migrations: Migrations, make_engine: EngineMaker, make_ring: RingMaker
) -> None:
    """The application reads the same values after the upgrade, and the tables are the same after the downgrade."""
    plain, encrypted = _declared(), _encrypted()
    _fill(url)
    bare = make_engine(url)
    original = _contents(bare, plain)
    types = {table: [str(one["type"]) for one in inspect(bare).get_columns(table)] for table in _PERSONAL}

    script = migrations.revise(encrypted)
    migrations.upgrade()

    columns = [column for table in encrypted.tables.values() for column in table.columns]
    names = {(column.table.name, column.name) for column in columns if isinstance(column.type, Encrypted)}
    assert script.count("op.encrypt_column(") == len(names) == 28
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine, encrypted)
    assert _contents(engine, encrypted) == original
    with engine.connect() as connection:
        for table, name in names:
            column = encrypted.tables[table].c[name]
            stored = connection.execute(select(type_coerce(column, LargeBinary)).where(column.is_not(None))).scalars()
            assert {bytes(value)[:1] for value in stored} <= {b"\xf8"}
    assert migrations.differences(encrypted) == []

    migrations.downgrade()

    assert _contents(bare, plain) == original
    assert {table: [str(one["type"]) for one in inspect(bare).get_columns(table)] for table in _PERSONAL} == types
    assert [name for name in inspect(bare).get_table_names() if name.startswith("keyvault")] == []
