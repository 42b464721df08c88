"""Every inner type, on every database: what goes in comes back, NULL and empty values included."""

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Engine,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    PickleType,
    SmallInteger,
    String,
    Table,
    Text,
    Time,
    Unicode,
    Uuid,
    insert,
    inspect,
    null,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Session, registry
from sqlalchemy.types import NullType, TypeDecorator
from support.leaks import marked

from sa_keyvault import ConfigurationError, EncodingError, Encrypted, KeyRing, storage_length

ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=45))


class Color(enum.Enum):
    """An enum whose stored names are not its values."""

    RED = 1
    ULTRAMARINE = 2


class Upper(TypeDecorator[str]):
    """A decorated type: stored in lower case, loaded in upper case."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """Store in lower case."""
        return None if value is None else value.lower()

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        """Load in upper case."""
        return None if value is None else value.upper()


class Lower(TypeDecorator[str]):
    """A decorated type with one direction only: what is loaded is what was stored."""

    impl = String(40)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """Store in lower case."""
        return None if value is None else value.lower()


class OrEmpty(TypeDecorator[dict[str, Any]]):
    """A decorated type with the other direction only: NULL is loaded as a value, a new one each time."""

    impl = String(40)
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: Any) -> dict[str, Any]:
        """Load as a dictionary."""
        return {} if value is None else {"stored": value}


VALUES: list[tuple[Any, list[Any]]] = [
    (String(200), ["", marked("text"), "ünïcödé 🔑", "a\x00b", " blanks  ", "x" * 200]),
    (Text(), ["", "long " * 50_000]),
    (Unicode(20), ["", "日本語"]),
    (LargeBinary(), [b"", b"\x00\xff", b"\xf8" * 40, b"b" * 300_000]),
    (LargeBinary(20), [b"", b"x" * 20]),
    (Integer(), [0, -1, 2**31 - 1]),
    (BigInteger(), [0, 2**63 - 1, -(2**63)]),
    (SmallInteger(), [0, 7]),
    (Float(), [0.0, -1.5, 1e300, 5e-324]),
    (Numeric(20, 5), [decimal.Decimal(0), decimal.Decimal("1.50"), decimal.Decimal("-123456789012.34567")]),
    (Numeric(10, 2, asdecimal=False), [0.0, 1.25]),
    (Boolean(), [True, False]),
    (Date(), [datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]),
    (Time(), [datetime.time(0, 0), datetime.time(23, 59, 59, 999_999), datetime.time(1, 2, tzinfo=ZONE)]),
    (DateTime(), [datetime.datetime(2026, 11, 23, 20, 49, 1, 2)]),  # noqa: DTZ001 - naive on purpose
    (
        DateTime(timezone=True),
        [datetime.datetime(2026, 11, 23, 20, 49, 1, 2, ZONE), datetime.datetime.now(datetime.UTC)],
    ),
    (Interval(), [datetime.timedelta(0), datetime.timedelta(-1, 2, 3), datetime.timedelta.max]),
    (Uuid(), [uuid.UUID(int=0), uuid.uuid4()]),
    (Uuid(as_uuid=False), [str(uuid.uuid4())]),
    (Enum(Color), [Color.RED, Color.ULTRAMARINE]),
    (Enum("a", "bb", name="letters"), ["a", "bb"]),
    (JSON(), [{}, [], {"a": [1, None, "ü"]}, "text", 0, False, 1.5]),
    (postgresql.JSONB(), [{"a": 1}]),
    (Upper(), ["", "SHOUT"]),
    (Lower(), ["", "quiet"]),
]


def table_of(inner: Any, ring: KeyRing, engine: Engine, **options: Any) -> Table:
    """Create a table with one encrypted column."""
    metadata = MetaData()
    table = Table(
        "typed", metadata, Column("id", Integer, primary_key=True), Column("value", Encrypted(inner, **options))
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    return table


@pytest.mark.parametrize(
    ("inner", "values"), VALUES, ids=lambda value: repr(value)[:30] if not isinstance(value, list) else ""
)
def test_values_come_back(engine: Engine, ring: KeyRing, inner: Any, values: list[Any]) -> None:
    """Values of this type come back equal and of the same class, and NULL stays NULL (R-18, A-58)."""
    table = table_of(inner, ring, engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"value": value} for value in values])
        connection.execute(insert(table), {"value": null()} if isinstance(inner, JSON) else {"value": None})
        found = list(connection.execute(select(table.c.value).order_by(table.c.id)).scalars())
    assert found == [*values, None]
    assert [type(value) for value in found[:-1]] == [type(value) for value in values]


def test_decorator_without_the_way_in(engine: Engine, ring: KeyRing) -> None:
    """A decorator that only says how values are loaded says so of NULL as well, each time anew."""
    table = table_of(OrEmpty(), ring, engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"value": "x"}, {"value": None}, {"value": None}])
        found = list(connection.execute(select(table.c.value).order_by(table.c.id)).scalars())
    assert (found, found[1] is found[2]) == ([{"stored": "x"}, {}, {}], False)


def test_time_zones_are_kept(engine: Engine, ring: KeyRing) -> None:
    """A time zone is kept as its offset, and a naive time stays naive."""
    table = table_of(DateTime(timezone=True), ring, engine)
    zoned, naive = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=ZONE), datetime.datetime(2026, 1, 2, 3, 4)  # noqa: DTZ001
    with engine.begin() as connection:
        connection.execute(insert(table), [{"value": zoned}, {"value": naive}])
        found = list(connection.execute(select(table.c.value).order_by(table.c.id)).scalars())
    assert [value.utcoffset() for value in found] == [ZONE.utcoffset(None), None]


def test_empty_values_are_distinct(engine: Engine, ring: KeyRing) -> None:
    """NULL, JSON null, "", 0, False, [] and {} are stored and loaded apart (R-18)."""
    table = table_of(JSON, ring, engine)
    with engine.begin() as connection:
        values = [null(), JSON.NULL, None, "", 0, False, [], {}]
        for value in values:
            connection.execute(insert(table).values(value=value))
        found = list(connection.execute(select(table.c.value).order_by(table.c.id)).scalars())
        stored = list(connection.execute(select(type_coerce(table.c.value, NullType())).order_by(table.c.id)).scalars())
    assert found == [None, None, None, "", 0, False, [], {}]
    assert [value is None for value in stored] == [True] + [False] * 7
    assert [type(value) for value in found[4:6]] == [int, bool]


def test_json_null_through_the_orm(engine: Engine, ring: KeyRing) -> None:
    """None given to a JSON attribute is JSON null, an attribute that is not given is NULL, as without encryption."""
    table = table_of(JSON, ring, engine)

    class Row:
        """A row."""

    registry().map_imperatively(Row, table)
    given, missing = Row(), Row()
    given.value = None  # type: ignore[attr-defined]
    with Session(engine) as session:
        session.add_all([given, missing])
        session.commit()
        assert session.scalar(select(table.c.id).where(table.c.value.is_(None))) == missing.id  # type: ignore[attr-defined]


def test_none_as_null(engine: Engine, ring: KeyRing) -> None:
    """`JSON(none_as_null=True)` stores None as NULL."""
    table = table_of(JSON(none_as_null=True), ring, engine)
    with engine.begin() as connection:
        connection.execute(insert(table).values(value=None))
        assert connection.execute(select(table.c.id).where(table.c.value.is_(None))).scalar() == 1


def test_mutable_json(engine: Engine, ring: KeyRing) -> None:
    """`MutableDict.as_mutable` notices a change inside the value."""
    metadata = MetaData()
    mutable = MutableDict.as_mutable(Encrypted(JSON))
    table = Table("mutable", metadata, Column("id", Integer, primary_key=True), Column("value", mutable))
    ring.initialize(engine, metadata)
    metadata.create_all(engine)

    class Row:
        """A row."""

    registry().map_imperatively(Row, table)
    row: Any = Row()
    row.value = {"a": 1}
    with Session(engine) as session:
        session.add(row)
        session.commit()
        row.value["b"] = 2
        session.commit()
        session.expire_all()
        assert row.value == {"a": 1, "b": 2}


def test_enum_makes_no_database_enum(engine: Engine, ring: KeyRing) -> None:
    """An encrypted Enum makes no database enum and no CHECK, and its names are padded to one length."""
    table = table_of(Enum(Color, create_constraint=True), ring, engine)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"value": Color.RED}, {"value": Color.ULTRAMARINE}])
        stored = connection.execute(select(type_coerce(table.c.value, LargeBinary))).scalars()
        assert len({len(value) for value in stored}) == 1
    assert inspect(engine).get_check_constraints("typed") == []
    if engine.dialect.name == "postgresql":
        assert inspect(engine).get_enums() == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("inner", "value"),
    [
        (Integer(), marked("text")),
        (Integer(), 2**63),
        (String(), 5),
        (LargeBinary(), marked("text")),
        (Boolean(), 2),
        (Date(), marked("day")),
        (Numeric(), marked("number")),
        (Uuid(), marked("uuid")),
        (Enum(Color), marked("green")),
        (JSON(), {marked("set")}),
        (Interval(), 5),
        (Time(), datetime.date(2026, 1, 1)),
        (Float(), marked("float")),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_other_values_are_refused(engine: Engine, ring: KeyRing, inner: Any, value: Any) -> None:
    """A value that the type cannot carry is refused, without being shown (R-38)."""
    table = table_of(inner, ring, engine)
    with engine.connect() as connection:
        for statement in (
            insert(table).values(id=1, value=value),
            update(table).where(table.c.id == 1).values(value=value),
        ):
            with pytest.raises(EncodingError, match="cannot be stored"):
                connection.execute(statement)


@pytest.mark.parametrize(
    ("inner", "remedy"),
    [
        (PickleType, "JSON or LargeBinary"),
        (ARRAY(Integer), r"Encrypted\(JSON\)"),
        (postgresql.ARRAY(Integer), r"Encrypted\(JSON\)"),
        (postgresql.INET, "TypeDecorator"),
        (NullType, "TypeDecorator"),
        (Encrypted(String), "Encrypted cannot be put into Encrypted"),
    ],
)
def test_types_that_cannot_be_carried(inner: Any, remedy: str) -> None:
    """A type that cannot be carried is refused when the column is declared, with the remedy."""
    with pytest.raises(ConfigurationError, match=remedy):
        Encrypted(inner)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"area": ""}, "area"),
        ({"area": "x" * 65}, "area"),
        ({"context": ""}, "context"),
        ({"bind_to": "tenant"}, "bind_to"),
        ({"bind_to": (1,)}, "bind_to"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], problem: str) -> None:
    """Arguments that cannot be used are refused when the column is declared."""
    with pytest.raises(ConfigurationError, match=problem):
        Encrypted(String, **arguments)


@pytest.mark.parametrize(
    ("inner", "size"),
    [
        (String(254), 9 + 4 * 254 + 64),
        (LargeBinary(16), 9 + 16 + 64),
        (Integer(), 9 + 8 + 64),
        (Boolean(), 9 + 1 + 64),
        (Uuid(), 9 + 16 + 64),
        (Enum(Color), 9 + 2 + 11 + 64),
        (Numeric(10, 2), 9 + 26 + 64),
        (Upper(), 9 + 160 + 64),
        (Interval, 9 + 12 + 64),
        (Text(), None),
        (JSON, None),
        (String, None),
    ],
    ids=repr,
)
def test_storage_length(inner: Any, size: int | None) -> None:
    """The stored size is header, longest encoding, and room for any suite."""
    assert storage_length(inner) == size


@pytest.mark.parametrize(
    ("inner", "ddl"),
    [
        (String(20), "VARBINARY(153)"),
        (String(254), "BLOB"),
        (String(20_000), "MEDIUMBLOB"),
        (Text(), "LONGBLOB"),
        (LargeBinary(2**25), "LONGBLOB"),
    ],
    ids=repr,
)
def test_storage_types(inner: Any, ddl: str) -> None:
    """MariaDB gets a type large enough; SQLite and PostgreSQL have one for all sizes."""
    assert Encrypted(inner).compile(dialect=mysql.dialect()) == ddl
    assert Encrypted(inner).compile(dialect=postgresql.dialect()) == "BYTEA"
    assert Encrypted(inner).compile(dialect=sqlite.dialect()) == "BLOB"


def test_repr_names_the_declaration() -> None:
    """The repr of a type is complete and names no key."""
    column = Encrypted(String(20), area="identities", context="mail", bind_to=("tenant",))
    expected = "Encrypted(String(length=20), area='identities', context='mail', bind_to=('tenant',))"
    assert repr(column) == expected
