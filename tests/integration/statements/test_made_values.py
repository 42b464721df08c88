"""Client-side defaults: made before a row is sealed, told to the ORM, and made for nobody else's statement."""

import itertools
import traceback
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, func, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, Session, mapped_column, registry
from support.leaks import marked, own_locals
from support.models import map_class

from sa_keyvault import ConfigurationError, Encrypted, KeyRing

A, B = marked("a"), marked("b")

_IS_2_0 = sqlalchemy.__version__.startswith("2.0")


@pytest.fixture
def notes(engine: Engine, ring: KeyRing, metadata: MetaData) -> Table:
    """A table whose encrypted column makes its own values."""
    table = Table(
        "notes",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("text", Encrypted(String(100)), default=lambda: A, onupdate=lambda: B),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    return table


def test_flush_gives_the_object_its_default(engine: Engine, notes: Table) -> None:
    """After a flush an object carries the value that was made for it, and nothing is read for it."""
    note_class = map_class(notes)
    with Session(engine) as session:
        made = [note_class(name=str(number)) for number in range(3)]
        session.add_all(made)
        session.flush()
        assert [note.__dict__["text"] for note in made] == [A] * 3


def test_result_names_what_was_made(engine: Engine, notes: Table) -> None:
    """A result names the columns whose values were made, as SQLAlchemy's own does, each time the statement runs."""
    with engine.begin() as connection:
        for number in (1, 2):
            result = connection.execute(insert(notes), {"id": number})
            assert (result.prefetch_cols(), result.last_inserted_params()["text"]) == ([notes.c.text], A)
        result = connection.execute(insert(notes), {"id": 3, "text": B})
        assert result.prefetch_cols() == []


@pytest.mark.parametrize("by_key", [True, False], ids=["by key", "matched"])
@pytest.mark.parametrize("strategy", ["evaluate", "fetch"])
def test_update_gives_objects_the_made_value(engine: Engine, notes: Table, strategy: Any, *, by_key: bool) -> None:
    """An ORM-enabled UPDATE puts the value that `onupdate` made into the objects of the session."""
    note_class = map_class(notes)
    with Session(engine) as session:
        note = note_class(id=1, name="before")
        session.add(note)
        session.flush()
        chosen = note_class.id == 1 if by_key else note_class.name == "before"
        statement = update(note_class).where(chosen).values(name="after")
        session.execute(statement, execution_options={"synchronize_session": strategy})
        assert (note.name, note.text, session.scalar(select(notes.c.text))) == ("after", B, B)


def test_each_object_makes_its_own_value(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """In a flush of several rows each object carries the value that was made and stored for it."""
    numbers = itertools.count()
    table = Table(
        "drafts",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("text", Encrypted(String(100)), onupdate=lambda: f"{A}{next(numbers)}"),
    )
    draft_class = map_class(table)
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with Session(engine) as session:
        drafts = [draft_class(id=number, name="x", text=B) for number in (1, 2, 3)]
        session.add_all(drafts)
        session.flush()
        for draft in drafts:
            draft.name = "y"
        session.flush()
        carried = [draft.text for draft in drafts]
        stored = session.scalars(select(table.c.text).order_by(table.c.id)).all()
    assert (sorted(carried), carried) == ([f"{A}{number}" for number in range(3)], stored)


def seen(context: Any) -> str:
    """Return what a context-sensitive default sees of an encrypted value."""
    return f"{context.dialect.name} {context.get_current_parameters()['text']}"


@pytest.fixture
def hashed(engine: Engine, ring: KeyRing, metadata: MetaData) -> Table:
    """A table with a plain column whose value is made of an encrypted one."""
    table = Table(
        "hashed",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("hash", String(100), default=seen, onupdate=seen),
        Column("text", Encrypted(String(100))),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    return table


def test_default_of_a_plain_column_sees_the_value(engine: Engine, hashed: Table) -> None:
    """A context-sensitive default or `onupdate` is given the value, not its envelope, in every form of writing."""
    name = engine.dialect.name
    with engine.begin() as connection:
        connection.execute(insert(hashed), [{"text": A}, {"text": B}])
        connection.execute(insert(hashed), {"id": 11, "text": A})
        connection.execute(insert(hashed), [{"id": 12, "text": A}, {"id": 13, "text": B}])
        connection.execute(insert(hashed).values([{"id": 14, "text": A}, {"id": 15, "text": B}]))
        texts = select(hashed.c.hash).order_by(hashed.c.id)
        assert list(connection.execute(texts).scalars()) == [f"{name} {text}" for text in (A, B, A, A, B, A, B)]
        connection.execute(update(hashed).where(hashed.c.id == 11).values(text=B))
        connection.execute(update(hashed).where(hashed.c.id.in_([12, 14])).values(text=B))
        assert set(connection.execute(texts.where(hashed.c.id.in_([11, 12, 14]))).scalars()) == {f"{name} {B}"}


def test_flush_gives_objects_the_plain_default(engine: Engine, hashed: Table) -> None:
    """After a flush each object carries what was made of its own value."""
    hashed_class = map_class(hashed)
    with Session(engine) as session:
        made = [hashed_class(text=text) for text in (A, B)]
        session.add_all(made)
        session.flush()
        assert [one.hash for one in made] == [f"{engine.dialect.name} {text}" for text in (A, B)]
        made[0].text = B
        session.flush()
        assert made[0].hash == f"{engine.dialect.name} {B}"


def test_context_of_a_default(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """A context-sensitive default is given the connection, the options and the column, row by row, column by column."""
    numbers = itertools.count(1)

    def described(context: Any) -> str:
        assert (context.root_connection, context.engine.dialect) == (context.connection, context.dialect)
        options = context.execution_options["tenant"]
        kind = "insert" if context.isinsert and not context.isupdate else "update"
        return f"{options} {context.current_column.key} {kind} {next(numbers)}"

    table = Table(
        "described",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("one", String(40), default=described, onupdate=described),
        Column("two", String(40), default=described),
        Column("text", Encrypted(String(100))),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.execution_options(tenant="t").begin() as connection:
        connection.execute(insert(table), [{"id": 1, "text": A}, {"id": 2, "text": A}])
        connection.execute(update(table).where(table.c.id == 2).values(text=B))
        found = connection.execute(select(table.c.one, table.c.two).order_by(table.c.id)).all()
    assert found == [("t one insert 1", "t two insert 2"), ("t one update 5", "t two insert 4")]


def test_result_names_made_columns_in_order(engine: Engine, hashed: Table) -> None:
    """The columns whose values were made are named in the order of the table."""
    with engine.begin() as connection:
        result = connection.execute(insert(hashed), {"id": 1, "text": A})
        assert result.prefetch_cols() == [hashed.c.hash]


def test_failing_default(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """What a default raises comes with where it was raised, and without frames of the library that hold values."""

    def fail(context: Any) -> str:
        raise LookupError(context.current_column.key)

    table = Table(
        "failing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40), default=fail),
        Column("text", Encrypted(String(100))),
    )
    ring.initialize(engine, metadata)
    with engine.connect() as connection, pytest.raises(LookupError, match="name") as caught:
        connection.execute(insert(table), {"id": 1, "text": A})
    assert [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.tb)][-1] == "fail"
    assert [name for _, name, held in own_locals(caught.value) if A in repr(held)] == []


def test_failing_onupdate_of_an_object(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """The same in a flush: the values of the object are in no frame of the library's."""

    def fail() -> str:
        raise LookupError

    table = Table(
        "failing",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Encrypted(String(100))),
        Column("text", Encrypted(String(100)), onupdate=fail),
    )
    failing = map_class(table)
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with Session(engine) as session:
        one = failing(id=1, name=A, text=A)
        session.add(one)
        session.flush()
        one.name = f"{A}!"
        with pytest.raises(LookupError) as caught:
            session.flush()
    assert [frame.f_code.co_name for frame, _ in traceback.walk_tb(caught.tb)][-1] == "fail"
    assert [name for _, name, held in own_locals(caught.value) if A in repr(held)] == []


def test_onupdate_that_was_taken_away(engine: Engine, hashed: Table) -> None:
    """A default that a model loses while it is in use is no longer made."""
    with engine.begin() as connection:
        connection.execute(insert(hashed), {"id": 1, "text": A})
        connection.execute(update(hashed).where(hashed.c.id == 1).values(text=B))
        hashed.c.hash.onupdate = None
        hashed.c.hash.default = None
        connection.execute(update(hashed).where(hashed.c.id == 1).values(text=A))
        connection.execute(insert(hashed), {"id": 2, "text": A})
        made = connection.execute(select(hashed.c.hash).order_by(hashed.c.id)).scalars().all()
    assert made == [f"{engine.dialect.name} {B}", None]


def test_symbol_with_onupdate(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """A symbol that changes with every UPDATE takes the encrypted values of its row along."""
    versions = itertools.count(2)
    table = Table(
        "versions",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("version", Integer, nullable=False, default=1, onupdate=lambda: next(versions)),
        Column("text", Encrypted(String(100), bind_to=("version",))),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "text": A})
        connection.execute(update(table).where(table.c.id == 1).values(name="x"))
        connection.execute(update(table).where(table.c.name == "x").values(name="y"))
        assert connection.execute(select(table.c.version, table.c.text)).one() == (3, A)


def test_sealing_makes_no_value_of_another_column(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """The statements by which a key is taken or a row is sealed run no `onupdate`: only the user's own UPDATE does."""
    calls = itertools.count(1)
    table = Table(
        "pages",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("text", Encrypted(String(100))),
        Column("title", Encrypted(String(100)), onupdate=lambda: B),
        Column("changes", Integer, onupdate=lambda: next(calls)),
        Column("changed", Integer, onupdate=func.length("12345")),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"name": "n", "text": A})
        row = connection.execute(select(table.c.text, table.c.title, table.c.changes, table.c.changed)).one()
        assert (tuple(row), next(calls)) == ((A, None, None, None), 1)
        connection.execute(update(table).where(table.c.name == "n").values(text=B))
        row = connection.execute(select(table.c.text, table.c.title, table.c.changes, table.c.changed)).one()
        assert (tuple(row), next(calls)) == ((B, B, 2, 5), 3)


@pytest.mark.parametrize("options", [{"default": literal("x")}, {"onupdate": func.lower("X")}])
def test_sql_defaults_are_refused(options: dict[str, Any]) -> None:
    """A default that the database evaluates would be stored unencrypted, so it is refused when mappers are made."""
    mapping = registry()
    column = Column("email", Encrypted(String), **options)
    table = Table("t", mapping.metadata, Column("id", Integer, primary_key=True), column)
    row_class = type("Row", (), {})
    mapping.map_imperatively(row_class, table)
    with pytest.raises(ConfigurationError, match="that is SQL"):
        mapping.configure()
    mapping.dispose()


@pytest.mark.skipif(_IS_2_0, reason="SQLAlchemy 2.0 has no defaults of properties")
def test_default_of_a_subclass(engine: Engine, ring: KeyRing) -> None:
    """The default of a dataclass's property is stored and carried, not that of the column it shares."""

    class Base(MappedAsDataclass, DeclarativeBase): ...

    class Parent(Base):
        __tablename__ = "parent"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "parent"}  # noqa: RUF012 - SQLAlchemy's way
        id: Mapped[int] = mapped_column(primary_key=True, init=False)
        kind: Mapped[str] = mapped_column(String(20), init=False)
        text: Mapped[str | None] = mapped_column(Encrypted(String(100)), default=A)

    class Child(Parent):
        __mapper_args__ = {"polymorphic_identity": "child"}  # noqa: RUF012
        text: Mapped[str | None] = mapped_column(Encrypted(String(100)), default=B, use_existing_column=True)

    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        parent, child = Parent(), Child()
        session.add_all([parent, child])
        session.flush()
        carried = parent.text, child.text
        session.expire_all()
        assert (carried, (parent.text, child.text)) == ((A, B), (A, B))
    Base.registry.dispose()


def test_failed_statement_leaves_nothing(engine: Engine, notes: Table) -> None:
    """What was made for a statement that failed is not told of the next one on its connection."""
    with engine.begin() as connection:
        connection.execute(insert(notes), {"id": 1})
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(insert(notes), {"id": 1})
        result = connection.execute(insert(notes).values([{"id": 2, "text": B}, {"id": 3, "text": B}]))
        assert result.prefetch_cols() == []
