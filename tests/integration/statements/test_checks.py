"""What only the whole statement shows is refused before it is sent, and nothing else is."""

from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    and_,
    case,
    cast,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, with_loader_criteria
from support.leaks import marked
from support.models import map_class

from sa_keyvault import Encrypted, KeyRing, UnsupportedOperatorError, UnsupportedStatementError

NAMES = [marked(f"name {number}") for number in range(3)]

people = Table(
    "people",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("city", String(20)),
    Column("name", Encrypted(String(80))),
    Column("other", Encrypted(String(80), context="other")),
    Column("adult", Encrypted(Boolean)),
)


@pytest.fixture(autouse=True)
def filled(engine: Engine, ring: KeyRing) -> None:
    """Three rows."""
    ring.initialize(engine, people.metadata)
    people.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            insert(people),
            [{"id": number, "city": "x", "name": name, "adult": True} for number, name in enumerate(NAMES, 1)],
        )


def value() -> Any:
    """A plaintext in the statement."""
    return literal(NAMES[0])


@pytest.mark.parametrize(
    "build",
    [
        lambda: value() == people.c.name,
        lambda: func.lower(value()) == people.c.name,
        lambda: value().in_(select(people.c.name)),
        lambda: value().in_([people.c.name, people.c.other]),
        lambda: value().between(people.c.name, people.c.other),
        lambda: value() == select(people.c.name).limit(1).scalar_subquery(),
        lambda: value() == func.coalesce(people.c.name, people.c.other),
        lambda: tuple_(people.c.id, people.c.name) == tuple_(literal(1), value()),
        lambda: case({NAMES[0]: 1}, value=people.c.name) == 1,
        lambda: func.nullif(people.c.name, NAMES[0]).is_(None),
        lambda: people.c.id.in_(select(people.c.id).where(value() == people.c.name)),
        lambda: select(func.count().filter(value() == people.c.name)).scalar_subquery() == 1,
    ],
)
def test_values_beside_an_encrypted_column(engine: Engine, build: Any) -> None:
    """A value that would stand beside an encrypted column in a statement is refused before it is sent (R-35)."""
    with engine.connect() as connection, pytest.raises(UnsupportedOperatorError, match="would be sent as it is"):
        connection.execute(select(people.c.id).where(build()))


@pytest.mark.parametrize(
    "build",
    [
        lambda: select(people.c.id).where(people.c.adult),
        lambda: select(people.c.id).where(and_(people.c.id > 0, people.c.adult)),
        lambda: select(people.c.id).where(or_(people.c.id > 0, people.c.adult)),
        lambda: select(people.c.city).group_by(people.c.city, people.c.adult).having(people.c.adult),
        lambda: select(case((people.c.adult, 1), else_=0)),
        lambda: select(func.count().filter(people.c.adult)),
        lambda: select(people.c.id).select_from(people.join(people.alias("p"), people.c.adult)),
        lambda: update(people).where(people.c.adult).values(city="y"),
        lambda: update(people).where(people.c.adult).values(other=NAMES[0]),
        lambda: delete(people).where(people.c.adult),
    ],
)
def test_encrypted_booleans_as_criteria(engine: Engine, build: Any) -> None:
    """An encrypted boolean is no criterion: to the database it is neither true nor false."""
    with engine.connect() as connection, pytest.raises(UnsupportedOperatorError, match="neither true nor false"):
        connection.execute(build())


def test_matched_update_is_looked_at_before_rows_are(engine: Engine) -> None:
    """An UPDATE of matched rows is refused before anything of it is sent or written."""
    statements: list[Any] = [
        update(people).where(value() == people.c.name).values(other=NAMES[1]),
        update(people).where(people.c.city == "x", value().in_([people.c.name])).values(other=NAMES[1]),
        update(people).where(people.c.city == "x").values(other=NAMES[1], city=people.c.name),
    ]
    with engine.begin() as connection:
        for statement in statements:
            with pytest.raises((UnsupportedOperatorError, UnsupportedStatementError)):
                connection.execute(statement)
        assert set(connection.execute(select(people.c.other)).scalars()) == {None}


def test_criteria_of_options(engine: Engine) -> None:
    """Criteria that an option brings are looked at like those of the statement itself."""
    person = map_class(people)
    with Session(engine) as session:
        for criterion in (person.adult, value() == person.name):
            with pytest.raises(UnsupportedOperatorError):
                session.scalars(select(person).options(with_loader_criteria(person, criterion))).all()
        assert len(session.scalars(select(person).options(with_loader_criteria(person, person.id > 1))).all()) == 2


def test_criterion_of_an_upsert(engine: Engine) -> None:
    """The WHERE clause of an upsert is looked at, too."""
    if engine.dialect.name == "mysql":
        pytest.skip("MariaDB's has none")
    module: Any = postgresql if engine.dialect.name == "postgresql" else sqlite
    statement = module.insert(people)
    statement = statement.on_conflict_do_update(
        index_elements=["id"], set_={"name": statement.excluded.name}, where=value() == people.c.name
    )
    with engine.connect() as connection, pytest.raises(UnsupportedOperatorError, match="would be sent as it is"):
        connection.execute(statement, {"id": 1, "name": NAMES[0]})


@pytest.mark.parametrize("build", [lambda flag: flag == true(), lambda flag: flag != false(), lambda flag: ~flag])
def test_encrypted_booleans_compared(build: Any) -> None:
    """An encrypted boolean is not compared with SQL's true and false, nor negated."""
    with pytest.raises(UnsupportedOperatorError, match="encrypted column"):
        build(people.c.adult)


@pytest.mark.parametrize(
    "build",
    [
        lambda: people.c.name.is_not(None),
        lambda: case((people.c.name.is_(None), 1), else_=0) == 0,
        lambda: people.c.id.in_(select(people.c.id).where(people.c.name == people.c.name).limit(3)),
        lambda: exists(select(people.c.name).where(people.c.id == 1)),
        lambda: func.coalesce(people.c.city, "nowhere") == "x",
    ],
)
def test_criteria_without_plaintext_are_allowed(engine: Engine, build: Any) -> None:
    """What asks for NULL, or compares stored bytes with stored bytes, goes through."""
    if engine.dialect.name == "mysql" and "LIMIT" in str(build()):
        pytest.skip("MariaDB has no LIMIT in a subquery of IN")
    with engine.connect() as connection:
        assert len(connection.execute(select(people.c.id).where(build())).all()) == len(NAMES)


def test_count_of_encrypted_values(engine: Engine) -> None:
    """How many values there are may be compared with a number."""
    counted = select(people.c.city).group_by(people.c.city).having(func.count(people.c.name) > 2)
    with engine.connect() as connection:
        assert list(connection.execute(counted).scalars()) == ["x"]


@pytest.mark.parametrize("first", [null(), people.c.city, literal("x")], ids=["null", "plain", "literal"])
def test_union_with_another_column_first(engine: Engine, first: Any) -> None:
    """A union whose first SELECT has no encrypted column, and a later one has, is refused: nothing would open it."""
    with engine.connect() as connection:
        for column in (people.c.name, people.c.name.label("named")):
            with pytest.raises(UnsupportedStatementError, match="put the SELECT with the encrypted column first"):
                connection.execute(union_all(select(first), select(column)))


def test_union_with_another_column_first_inside(engine: Engine) -> None:
    """The same inside a subquery or a CTE; a NULL of the encrypted type is no other column."""
    first, second = select(people.c.id, null().label("v")), select(people.c.id, people.c.name)
    filler = select(people.c.id, type_coerce(null(), people.c.name.type).label("name"))
    with engine.connect() as connection:
        for united in (union_all(first, second).subquery(), union_all(first, second).cte()):
            with pytest.raises(UnsupportedStatementError, match="put the SELECT with the encrypted column first"):
                connection.execute(select(united))
        found = connection.execute(select(union_all(filler, second).subquery().c.name)).scalars()
        assert {*found} == {None, *NAMES}


def nested() -> Any:
    """A subquery over a union that begins with another column."""
    first, second = select(people.c.id, people.c.city.label("v")), select(people.c.id, people.c.name)
    return union_all(first, second).subquery().c.v


@pytest.mark.parametrize(
    "build",
    [
        lambda: nested().label("w"),
        lambda: func.coalesce(nested(), "x"),
        lambda: select(nested()).limit(1).scalar_subquery(),
        lambda: func.coalesce(people.c.city, people.c.name),
        lambda: func.concat(people.c.city, people.c.name),
        lambda: people.c.city + people.c.name,
        lambda: cast(people.c.name, String),
        lambda: case((people.c.id > 0, people.c.city), else_=people.c.name),
        lambda: func.max(func.coalesce(people.c.city, people.c.name)).over(),
        lambda: func.aggregate_strings(people.c.name, ","),
        lambda: func.coalesce(people.c.city == "x", people.c.adult).label("w"),
        lambda: select(func.coalesce(people.c.city, people.c.name).label("w")).subquery().c.w,
        lambda: select(select(people.c.city + people.c.name).scalar_subquery().label("w")).cte().c.w,
    ],
)
def test_ciphertext_as_another_value(engine: Engine, build: Any) -> None:
    """Ciphertext is not handed out as a value of another type, however deep it stands."""
    with engine.connect() as connection, pytest.raises(UnsupportedStatementError, match="would not be opened"):
        connection.execute(select(build()))


@pytest.mark.parametrize(
    "build",
    [
        lambda: func.count(people.c.name),
        lambda: case((people.c.name.is_(None), "none"), else_="some"),
        lambda: people.c.name == people.c.other,
        lambda: func.row_number().over(order_by=people.c.name),
        lambda: func.max(case((people.c.name.is_not(None), people.c.city))),
        lambda: select(func.count(people.c.name)).scalar_subquery(),
        lambda: type_coerce(people.c.name, LargeBinary),
        lambda: exists(select(people.c.name)),
    ],
)
def test_values_that_have_no_ciphertext(engine: Engine, build: Any) -> None:
    """What is counted, compared or asked for NULL is a value of its own; `type_coerce` gives the stored bytes."""
    with engine.connect() as connection:
        assert connection.execute(select(build()).select_from(people)).first() is not None


def test_union_loaded_as_objects(engine: Engine) -> None:
    """A union that objects are loaded from is looked at like one of its own."""
    person = map_class(people)
    some, second = select(person.id, person.city, person.name), select(person.id, person.city, person.name)
    first = select(person.id, person.city, null().label("name"))
    with Session(engine) as session:
        united = union_all(some.where(person.id < 2), second.where(person.id > 1))
        assert sorted(one.name for one in session.scalars(select(person).from_statement(united))) == NAMES
        with pytest.raises(UnsupportedStatementError, match="put the SELECT with the encrypted column first"):
            session.scalars(select(person).from_statement(union_all(first, second))).all()


def test_returning_ciphertext(engine: Engine) -> None:
    """RETURNING hands out no ciphertext either."""
    returned = func.coalesce(people.c.city, people.c.name)
    statements: list[Any] = [insert(people).values(id=9, name=NAMES[0]), delete(people).where(people.c.id == 1)]
    with engine.connect() as connection:
        for statement in statements:
            with pytest.raises(UnsupportedStatementError, match="would not be opened"):
                connection.execute(statement.returning(returned))


def test_union_of_labelled_columns(engine: Engine) -> None:
    """Labelled columns of a union are opened, or refused where they are not under one label."""
    one, other = (select(column.label("named")) for column in (people.c.name, people.c.other))
    with engine.connect() as connection:
        assert sorted(connection.execute(union_all(one, one.where(people.c.id == 1))).scalars()) == sorted(
            [*NAMES, NAMES[0]]
        )
        with pytest.raises(UnsupportedStatementError, match="not under one label"):
            connection.execute(union_all(one, other))


def test_plain_column_set_to_an_encrypted_one(engine: Engine) -> None:
    """A plain column is not set to an encrypted one: it would hold ciphertext that nothing opens."""
    source = people.alias()
    stored = select(source.c.name).where(source.c.id == people.c.id).scalar_subquery()
    with engine.connect() as connection:
        for value in (
            people.c.name,
            func.coalesce(people.c.name, people.c.name),
            func.coalesce(people.c.city, people.c.name),
            people.c.city + people.c.name,
            cast(people.c.name, String),
            stored,
        ):
            with pytest.raises(UnsupportedStatementError, match="city cannot be set to"):
                connection.execute(update(people).values(city=value))
            with pytest.raises(UnsupportedStatementError, match="city cannot be set to"):
                connection.execute(insert(people).values([{"id": 7, "city": "x"}, {"id": 8, "city": value}]))


def test_union_that_is_not_read(engine: Engine) -> None:
    """A union whose encrypted column nobody reads may begin with another one; an INSERT keeps to the rule of copies."""
    first, second = select(people.c.id, null().label("v")), select(people.c.id, people.c.name)
    united = union_all(first, second).subquery()
    filler = type_coerce(null(), people.c.name.type)
    nobody = [select(people.c.id, people.c.city, part).where(people.c.id < 0) for part in (null(), people.c.name)]
    with engine.begin() as connection:
        assert len(connection.execute(select(united.c.id)).all()) == 2 * len(NAMES)
        assert connection.execute(select(people.c.id).where(exists(union_all(first, second)))).first() is not None
        connection.execute(insert(people).from_select(["id", "city", "name"], union_all(*nobody)))
        with pytest.raises(UnsupportedStatementError, match="put the SELECT with the encrypted column first"):
            connection.execute(union_all(select(people.c.id, filler), second))
        with pytest.raises(UnsupportedStatementError, match="city cannot be set to"):
            connection.execute(insert(people).from_select(["id", "city"], union_all(first, second)))
