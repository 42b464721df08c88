"""Reading in every shape: the row's symbols travel with the envelope, whatever the query puts around it."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import (
    Engine,
    MetaData,
    String,
    Table,
    case,
    cast,
    func,
    insert,
    lateral,
    literal,
    literal_column,
    null,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.orm import (
    Session,
    aliased,
    defer,
    joinedload,
    selectin_polymorphic,
    selectinload,
    subqueryload,
    with_polymorphic,
)
from support.leaks import marked
from support.zoo import (
    Animal,
    Base,
    Car,
    Cat,
    Company,
    DataclassBase,
    Dog,
    Employee,
    Engineer,
    Manager,
    Note,
    Point,
    Truck,
    Vehicle,
)

from sa_keyvault import DecryptionError, Encrypted, KeyRing, UnsupportedOperatorError, UnsupportedStatementError

NAMES = [marked(f"name {number}") for number in range(4)]


@pytest.fixture
def session(engine: Engine, ring: KeyRing) -> Iterator[Session]:
    """A session on a filled zoo."""
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as result:
        acme = Company(name=marked("acme"))
        result.add_all(
            [
                acme,
                Engineer(name=NAMES[0], machine=marked("lathe"), company=acme, phone=marked("1")),
                Manager(name=NAMES[1], budget=marked("much"), company=acme),
                Employee(name=NAMES[2], company=acme, phone=marked("3")),
                Engineer(name=NAMES[3], machine=marked("press")),
                Dog(name=marked("rex"), bark=marked("wuff")),
                Cat(name=marked("tom")),
                Car(plate=marked("car"), seats=marked("4")),
                Truck(plate=marked("truck"), load=marked("10 t").encode()),
                Vehicle(plate=marked("cart")),
            ]
        )
        result.flush()
        first = result.scalars(select(Employee).order_by(Employee.id)).first()
        assert first is not None
        result.add_all([Note(employee_id=first.id, id=number, text=marked(f"note {number}")) for number in (1, 2)])
        result.commit()
        yield result


def test_entities_and_columns(session: Session) -> None:
    """Entities, single columns and labelled columns open."""
    assert sorted(employee.name for employee in session.scalars(select(Employee))) == NAMES
    assert sorted(session.scalars(select(Employee.name))) == NAMES
    assert sorted(session.scalars(select(Employee.name.label("other")))) == NAMES


def test_polymorphic_load(session: Session) -> None:
    """A polymorphic query, with its subclass columns loaded in each of the three ways."""
    everyone = with_polymorphic(Employee, "*")
    for statement in (
        select(everyone).order_by(everyone.id),
        select(Employee).order_by(Employee.id),
        select(Employee).options(selectin_polymorphic(Employee, [Engineer, Manager])).order_by(Employee.id),
    ):
        session.expunge_all()
        found: Any = session.scalars(statement).all()
        assert [employee.name for employee in found] == NAMES
        assert (found[0].machine, found[1].budget, found[3].machine) == (
            marked("lathe"),
            marked("much"),
            marked("press"),
        )


def test_flat_and_aliased_polymorphic(session: Session) -> None:
    """A polymorphic selectable as a flat alias, and as a subquery."""
    for options in ({"flat": True}, {"aliased": True}):
        everyone = with_polymorphic(Employee, [Engineer], **options)
        rows = session.execute(select(everyone.name, everyone.Engineer.machine).order_by(everyone.id)).all()
        assert [tuple(row) for row in rows] == [
            (NAMES[0], marked("lathe")),
            (NAMES[1], None),
            (NAMES[2], None),
            (NAMES[3], marked("press")),
        ]


def test_joined_subclass_with_limit(session: Session) -> None:
    """Joined inheritance with LIMIT and joined eager loading: the subquery carries half of two equal keys."""
    session.expunge_all()
    statement = select(Engineer).options(joinedload(Engineer.notes)).order_by(Engineer.id).limit(1)
    engineer = session.scalars(statement).unique().one()
    assert (engineer.name, engineer.machine) == (NAMES[0], marked("lathe"))
    assert [note.text for note in engineer.notes] == [marked("note 1"), marked("note 2")]


@pytest.mark.parametrize("loader", [joinedload, selectinload, subqueryload])
def test_eager_loading(session: Session, loader: Any) -> None:
    """Eager loading of a collection, two levels deep, with and without LIMIT."""
    for limit in (None, 1):
        session.expunge_all()
        options = (
            loader(Company.employees).selectin_polymorphic([Engineer, Manager]),
            loader(Company.employees, Employee.notes),
        )
        company = session.scalars(select(Company).options(*options).limit(limit)).unique().one()
        assert company.name == marked("acme")
        assert [employee.name for employee in company.employees] == NAMES[:3]
        assert [note.text for note in company.employees[0].notes] == [marked("note 1"), marked("note 2")]


def test_lazy_loading_and_refresh(session: Session) -> None:
    """Lazy loads, deferred columns, refresh, expire and populate_existing (A-68)."""
    session.expunge_all()
    employee = session.scalars(select(Employee).options(defer(Employee.name)).order_by(Employee.id)).first()
    assert employee is not None
    assert (employee.name, employee.company and employee.company.name) == (NAMES[0], marked("acme"))
    session.refresh(employee, ["name"])
    session.expire(employee, ["phone"])
    assert (employee.name, employee.phone) == (NAMES[0], marked("1"))


def test_self_join(session: Session) -> None:
    """Two aliases of one table in a subquery: each value is opened with its own row's key (A-70)."""
    left, right = aliased(Employee), aliased(Employee)
    pairs = (
        select(left.id.label("a"), left.name.label("one"), right.id.label("b"), right.name.label("other"))
        .where(left.id < right.id)
        .subquery()
    )
    rows = session.execute(select(pairs.c.one, pairs.c.other).order_by(pairs.c.a, pairs.c.b)).all()
    assert [tuple(row) for row in rows] == [
        (NAMES[first], NAMES[second]) for first in range(4) for second in range(first + 1, 4)
    ]


def test_subqueries_ctes_and_lateral(session: Session) -> None:
    """Nested subqueries, CTEs, recursive CTEs and LATERAL (A-70)."""
    inner = select(Employee.id.label("x"), Employee.name.label("y")).limit(10).subquery()
    outer = select(inner.c.y.label("z"), inner.c.x).where(inner.c.x > 0).cte()
    assert sorted(session.scalars(select(outer.c.z))) == NAMES
    entity = aliased(Employee, select(Employee).order_by(Employee.id).limit(2).subquery())
    assert sorted(employee.name for employee in session.scalars(select(entity))) == NAMES[:2]


def test_recursive_cte(session: Session) -> None:
    """A recursive CTE that carries key and value."""
    first = select(Employee.id, Employee.name, literal(0).label("depth")).cte("walk", recursive=True)
    walk = first.union_all(select(first.c.id, first.c.name, first.c.depth + 1).where(first.c.depth < 1))
    rows = session.execute(select(walk.c.name, walk.c.depth)).all()
    assert sorted(tuple(row) for row in rows) == [(name, depth) for name in NAMES for depth in (0, 1)]


def test_lateral(session: Session) -> None:
    """A LATERAL subquery that carries its key."""
    if session.get_bind().dialect.name != "postgresql":
        pytest.skip("LATERAL is tried on PostgreSQL")
    notes = lateral(select(Note.employee_id, Note.id, Note.text).where(Note.employee_id == Employee.id).limit(1))
    rows = session.execute(select(Employee.name, notes.c.text).join(notes, true())).all()
    assert [tuple(row) for row in rows] == [(NAMES[0], marked("note 1"))]


def test_unions(session: Session) -> None:
    """Unions of one column, as the statement itself and as a subquery, with NULL fillers."""
    whole = union_all(
        select(Employee.id, Employee.name).where(Employee.id < 2),
        select(Employee.id, Employee.name).where(Employee.id > 2),
    )
    everyone = session.scalars(select(Employee.name).order_by(Employee.id)).all()
    rows = session.execute(whole).all()
    assert sorted(row.name for row in rows) == sorted(name for name in everyone if name in {row.name for row in rows})
    filled = union_all(
        select(Employee.id, Employee.name), select(Note.id, cast(null(), Employee.__table__.c.name.type))
    )
    nested = filled.subquery()
    assert sorted(filter(None, session.scalars(select(nested.c.name)))) == NAMES


def test_concrete_inheritance(session: Session) -> None:
    """Concrete inheritance: columns that meet in the union share a context."""
    session.expunge_all()
    found: Any = {type(vehicle).__name__: vehicle for vehicle in session.scalars(select(Vehicle))}
    assert {kind: vehicle.plate for kind, vehicle in found.items()} == {
        "Car": marked("car"),
        "Truck": marked("truck"),
        "Vehicle": marked("cart"),
    }
    assert (found["Car"].seats, found["Truck"].load) == (marked("4"), marked("10 t").encode())


def test_single_table_inheritance(session: Session) -> None:
    """Single-table inheritance with a column of a subclass."""
    session.expunge_all()
    found = session.scalars(select(Animal).order_by(Animal.id)).all()
    assert [(animal.name, getattr(animal, "bark", None)) for animal in found] == [
        (marked("rex"), marked("wuff")),
        (marked("tom"), None),
    ]


def test_dataclass_mapping(engine: Engine, ring: KeyRing) -> None:
    """A mapped dataclass with a default for an encrypted attribute."""
    ring.initialize(engine, DataclassBase.metadata)
    DataclassBase.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Point(label=marked("p")), Point(label=marked("q"), color=marked("blue"))])
        session.commit()
        assert [(point.label, point.color) for point in session.scalars(select(Point).order_by(Point.id))] == [
            (marked("p"), marked("red")),
            (marked("q"), marked("blue")),
        ]


def test_merge_and_rollback(session: Session) -> None:
    """`merge` writes and loads; after a rollback the attribute is what is stored (A-68, A-69)."""
    employee = session.scalars(select(Employee).where(Employee.name.is_not(None)).order_by(Employee.id)).first()
    assert employee is not None
    merged = session.merge(Employee(id=employee.id, kind=employee.kind, name=marked("merged")))
    session.flush()
    assert merged.name == marked("merged")
    session.rollback()
    assert employee.name == NAMES[0]


def test_yield_per_and_stream(session: Session) -> None:
    """Rows that are streamed open as they are fetched."""
    found = session.scalars(select(Employee.name).execution_options(yield_per=1))
    assert sorted(found) == NAMES


def test_is_null(session: Session) -> None:
    """IS NULL, IS NOT NULL, `== None` and `is_(None)` work."""
    assert session.scalar(select(func.count()).where(Employee.phone.is_(None))) == 2
    assert session.scalar(select(func.count()).where(Employee.phone == None)) == 2  # noqa: E711
    assert session.scalar(select(func.count()).where(Employee.phone.is_not(None))) == 2


@pytest.mark.parametrize(
    "build",
    [
        lambda column: column == "x",
        lambda column: column != "x",
        lambda column: column < "x",
        lambda column: column.like("x%"),
        lambda column: column.in_(["x"]),
        lambda column: column + "x",
        lambda column: "x" + column,
        lambda column: column.asc(),
        lambda column: column.desc(),
        lambda column: column.contains("x"),
        lambda column: column.between("a", "b"),
        lambda column: column.is_("x"),
        lambda column: column.op("%")("x"),
        lambda column: column.collate("x"),
    ],
)
def test_operators_with_a_value_are_refused(build: Any) -> None:
    """An operator with a value is refused when the expression is built (R-35)."""
    with pytest.raises(UnsupportedOperatorError, match="encrypted column"):
        build(Employee.name)


def test_value_on_the_left_is_refused(session: Session) -> None:
    """A value compared with the column from its left is refused before it is sent (R-35)."""
    for criterion in (literal(NAMES[0]) == Employee.name, func.lower(NAMES[0]) == Employee.name):
        with pytest.raises(UnsupportedOperatorError, match="would be sent as it is"):
            session.execute(select(Employee.id).where(criterion))


def test_refused_statement_is_refused_again(session: Session) -> None:
    """A statement is refused each time: that SQLAlchemy has its compiled form by then says nothing."""
    statement = select(Employee.id).where(literal(NAMES[0]) == Employee.name)
    refused = []
    for _ in range(3):
        with pytest.raises(UnsupportedOperatorError) as caught:
            session.execute(statement)
        refused.append("would be sent as it is" in str(caught.value))
    assert refused == [True, True, True]


@pytest.mark.parametrize(
    "expression",
    [
        lambda: func.max(Employee.name),
        lambda: func.coalesce(Employee.name, Employee.phone),
        lambda: case((Employee.id > 0, Employee.name)),
        lambda: select(Note.text).where(Note.employee_id == Employee.id).limit(1).scalar_subquery(),
    ],
)
def test_computed_values_are_refused(session: Session, expression: Any) -> None:
    """Something computed from the column has no row: refused when the statement is compiled (A-67)."""
    with pytest.raises(UnsupportedStatementError, match="computed"):
        session.execute(select(expression()))


def test_unknown_functions_give_no_plaintext(session: Session) -> None:
    """A function whose type SQLAlchemy does not know gets the envelope, never the value."""
    assert set(session.scalars(select(func.length(Employee.name)))) != {len(NAMES[0])}


def test_subquery_without_its_key_is_refused(session: Session) -> None:
    """A subquery that does not carry the key is refused, with the column to add."""
    inner = select(Employee.name).subquery()
    with pytest.raises(UnsupportedStatementError, match=r"select employee\.id in the subquery"):
        session.execute(select(inner.c.name))


def test_union_of_two_labels_is_refused(session: Session) -> None:
    """Columns of two tables in one union column are refused unless they share a context (A-3)."""
    parts = select(Employee.id, Employee.name), select(Company.id, Company.name)
    for statement in (union_all(*parts), select(union_all(*parts).subquery())):
        with pytest.raises(UnsupportedStatementError, match="one label"):
            session.execute(statement)


def test_raw_sql_gets_envelopes(session: Session) -> None:
    """Raw SQL sees envelopes; read through the column's type it is refused with the remedy."""
    stored = session.execute(text("SELECT name FROM employee")).scalars().all()
    assert {bytes(value)[0] for value in stored} == {0xF8}
    raw = text("SELECT name FROM employee").columns(Employee.name)
    with pytest.raises(DecryptionError, match=r"ring\.open"):
        session.execute(raw).all()


def test_textual_statement_with_symbols(session: Session) -> None:
    """A textual statement that names key and column opens when it is a subquery."""
    inner = text("SELECT id, name FROM employee").columns(Employee.__table__.c.id, Employee.__table__.c.name).subquery()
    assert sorted(session.scalars(select(inner.c.name))) == NAMES


def test_literal_binds_are_refused(session: Session) -> None:
    """A value is never written into the text of a statement (A-66)."""
    statement = insert(Company).values(id=9, name=marked("x"))
    with pytest.raises(UnsupportedStatementError, match="literal_binds"):
        statement.compile(session.get_bind(), compile_kwargs={"literal_binds": True})  # type: ignore[arg-type]


def test_tables_in_a_schema(engine: Engine, ring: KeyRing) -> None:
    """Tables in a schema, and two schemas that do not open each other's values (A-5)."""
    if engine.dialect.name != "postgresql":
        pytest.skip("schemas are tried on PostgreSQL")
    metadata = MetaData()
    tables = [
        Table(
            "person",
            metadata,
            *(column._copy() for column in Company.__table__.columns),
            schema=schema,
        )
        for schema in ("one", "two")
    ]
    ring.initialize(engine, metadata)
    with engine.begin() as connection:
        for schema in ("one", "two"):
            connection.execute(text(f"CREATE SCHEMA {schema}"))
        metadata.create_all(connection)
        for table in tables:
            connection.execute(insert(table), {"name": marked("x")})
            assert connection.execute(select(table.c.name)).scalar() == marked("x")
        connection.execute(text("UPDATE two.person SET name = (SELECT name FROM one.person)"))
        with pytest.raises(DecryptionError, match=r"two\.person\.name"):
            connection.execute(select(tables[1].c.name)).all()


def test_schema_translate_map(engine: Engine, ring: KeyRing) -> None:
    """A translated schema is written, updated and read, while the key store stays where it is."""
    if engine.dialect.name != "postgresql":
        pytest.skip("schemas are tried on PostgreSQL")
    metadata = MetaData()
    table = Table("person", metadata, *(column._copy() for column in Company.__table__.columns))
    ring.initialize(engine, metadata)
    translated = engine.execution_options(schema_translate_map={None: "tenant"})
    with translated.begin() as connection:
        connection.execute(text("CREATE SCHEMA tenant"))
        metadata.create_all(connection)
        connection.execute(insert(table), [{"name": marked("x")}, {"name": marked("y")}])
        connection.execute(table.update().where(table.c.name.is_not(None)).values(name=marked("z")))
        assert list(connection.execute(select(table.c.name)).scalars()) == [marked("z")] * 2


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
def test_schema_translate_map_of_a_statement(engine: Engine, ring: KeyRing, name: str) -> None:
    """A schema that only the statement translates to is where keys are taken, rows are locked and values are read."""
    if engine.dialect.name != name:
        pytest.skip(f"tried on {name} here")
    metadata = MetaData()
    table = Table("person", metadata, *(column._copy() for column in Company.__table__.columns))
    ring.initialize(engine, metadata)
    options: Any = {"execution_options": {"schema_translate_map": {None: "tenant"}}}
    with engine.connect() as connection:
        if name == "sqlite":
            connection.execute(text("ATTACH ':memory:' AS tenant"))
        else:
            connection.execute(text("CREATE SCHEMA tenant"))
        translated = connection.execution_options(schema_translate_map={None: "tenant"})
        metadata.create_all(translated)
        connection.execution_options(schema_translate_map=None)
        connection.execute(insert(table), [{"name": marked("x")}, {"name": marked("y")}], **options)
        connection.execute(table.update().where(table.c.name.is_not(None)).values(name=marked("z")), **options)
        assert list(connection.execute(select(table.c.name), **options).scalars()) == [marked("z")] * 2


def test_statement_cache_is_used(session: Session) -> None:
    """The same statement is compiled once, and settings of a type are part of its key (T1, T2)."""
    names = [Encrypted(String(5), area=area)._static_cache_key for area in ("one", "two")]
    assert names[0] != names[1]
    bind: Any = session.get_bind()
    session.execute(select(Company.name)).all()
    size = len(bind._compiled_cache)
    session.execute(select(Company.name)).all()
    assert len(bind._compiled_cache) == size


def test_literal_column_is_left_alone(session: Session) -> None:
    """A literal column beside an encrypted one is none of the library's business."""
    assert session.execute(select(literal_column("1"), Company.name)).one() == (1, marked("acme"))
