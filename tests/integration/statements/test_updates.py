"""UPDATE in every form, on every database: the WHERE clause gives the symbols, or they are read."""

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    func,
    insert,
    lambda_stmt,
    literal,
    null,
    select,
    type_coerce,
    update,
)
from sqlalchemy.orm import Session, registry, with_loader_criteria
from sqlalchemy.orm.exc import StaleDataError
from support.leaks import marked
from support.models import map_class

from sa_keyvault import Encrypted, KeyRing, UnsupportedOperatorError, UnsupportedStatementError

A, B, C = marked("a"), marked("b"), marked("c")


def emails(connection: Connection, table: Table) -> list[str | None]:
    """Return all emails, in order of the key."""
    return list(connection.execute(select(table.c.email).order_by(*table.primary_key)).scalars())


@pytest.fixture
def filled(engine: Engine, users: Table) -> Table:
    """Three users."""
    with engine.begin() as connection:
        rows = [{"id": number, "name": f"n{number}", "email": A, "picture": A.encode()} for number in (1, 2, 3)]
        connection.execute(insert(users), rows)
    return users


def test_where_forms_that_name_the_row(engine: Engine, filled: Table) -> None:
    """`id == 5`, `5 == id`, text for an integer, and a conjunction all name the row."""
    with engine.begin() as connection:
        connection.execute(update(filled).where(filled.c.id == 1).values(email=B))
        connection.execute(update(filled).where((filled.c.name == "n2") & (filled.c.id == 2)), {"email": C})
        connection.execute(update(filled).where(filled.c.id == bindparam("key")).values(email=B), {"key": 3})
        assert emails(connection, filled) == [B, C, B]
        assert list(connection.execute(select(filled.c.picture)).scalars()) == [A.encode()] * 3


def test_executemany(engine: Engine, filled: Table) -> None:
    """Each parameter set of an executemany is bound to the row that it names."""
    statement = update(filled).where(filled.c.id == bindparam("key")).values(email=bindparam("secret"))
    with engine.begin() as connection:
        connection.execute(statement, [{"key": 1, "secret": B}, {"key": 2, "secret": C}, {"key": 3, "secret": None}])
        assert emails(connection, filled) == [B, C, None]


def test_row_without_a_value_is_refused(engine: Engine, filled: Table) -> None:
    """A parameter set that gives no value where the first one does is refused; it is not taken for NULL."""
    by_name = update(filled).where(filled.c.id == bindparam("key")).values(email=bindparam("secret"))
    by_key = update(filled).where(filled.c.id == bindparam("key"))
    for statement, name in ((by_name, "secret"), (by_key, "email")):
        with engine.connect() as connection:
            with pytest.raises(UnsupportedStatementError, match="parameter set 1 has no value"):
                connection.execute(statement, [{"key": 1, name: B}, {"key": 2}])
            with pytest.raises(UnsupportedStatementError, match="parameter set 0 has no value"):
                connection.execute(by_name, {"key": 1})
            with pytest.raises(UnsupportedStatementError, match="parameter set 0 has no value"):
                connection.execute(update(filled).values(email=B, picture=bindparam("misspelt")))
            assert emails(connection, filled) == [A] * 3
            assert [A.encode()] * 3 == list(connection.execute(select(filled.c.picture)).scalars())


def test_rows_that_are_not_there(engine: Engine, filled: Table) -> None:
    """An UPDATE that matches nothing changes nothing and says so."""
    with engine.begin() as connection:
        assert connection.execute(update(filled).where(filled.c.id == 99).values(email=B)).rowcount == 0
        assert connection.execute(update(filled).where(filled.c.name == "none").values(email=B)).rowcount == 0
        assert connection.execute(update(filled).where(filled.c.id == 99).values(id=98)).rowcount == 0
        assert emails(connection, filled) == [A, A, A]


def test_several_rows(engine: Engine, filled: Table) -> None:
    """An UPDATE of several rows seals each, and keeps the row count (R-32, A-64)."""
    raw = type_coerce(filled.c.email, LargeBinary)
    with engine.begin() as connection:
        assert connection.execute(update(filled).where(filled.c.id > 1).values(email=B)).rowcount == 2
        assert connection.execute(update(filled).values({filled.c.name: "all", filled.c.picture: b"p"})).rowcount == 3
        assert emails(connection, filled) == [A, B, B]
        assert len(set(connection.execute(select(raw)).scalars())) == 3
        assert connection.execute(select(filled.c.name, filled.c.picture).distinct()).first() is not None


def test_where_on_null_of_the_same_column(engine: Engine, filled: Table) -> None:
    """An UPDATE of the rows where the encrypted column is NULL."""
    with engine.begin() as connection:
        connection.execute(update(filled).where(filled.c.id.in_([1, 3])).values(email=None))
        changed = connection.execute(update(filled).where(filled.c.email.is_(None)).values(email=B, name="was null"))
        assert (changed.rowcount, emails(connection, filled)) == (2, [B, A, B])


def test_null_needs_no_symbols(engine: Engine, filled: Table) -> None:
    """NULL is written to any rows, as None or as `null()`."""
    with engine.begin() as connection:
        connection.execute(update(filled).where(filled.c.id < 3).values(email=None))
        connection.execute(update(filled).where(filled.c.id == 3).values(email=null()))
        assert emails(connection, filled) == [None, None, None]


def test_null_beside_a_value(engine: Engine, filled: Table) -> None:
    """`null()` for one encrypted column beside a value for another: the one becomes NULL, the other is sealed."""
    statement = update(filled).where(filled.c.id == 1).values(email=null(), picture=B.encode())
    with engine.begin() as connection:
        connection.execute(statement)
        row = connection.execute(select(filled.c.email, filled.c.picture).where(filled.c.id == 1)).one()
        assert tuple(row) == (None, B.encode())


def test_returning_of_several_rows(engine: Engine, filled: Table) -> None:
    """RETURNING opens the values that were just written."""
    if not engine.dialect.update_returning:
        pytest.skip("the database has no UPDATE … RETURNING")
    with engine.begin() as connection:
        statement = update(filled).where(filled.c.id > 1).values(email=B).returning(filled.c.id, filled.c.email)
        assert sorted(tuple(row) for row in connection.execute(statement)) == [(2, B), (3, B)]


@pytest.mark.parametrize("strategy", ["auto", "evaluate", "fetch", False])
def test_orm_update_synchronizes(engine: Engine, filled: Table, user_class: Any, strategy: Any) -> None:
    """Every `synchronize_session` leaves objects in the session with the values that were written."""
    with Session(engine) as session:
        found = session.scalars(select(user_class).order_by(filled.c.id)).all()
        statement = update(user_class).where(user_class.id > 1).values(email=B)
        session.execute(statement, execution_options={"synchronize_session": strategy})
        expected = [A, A, A] if strategy is False else [A, B, B]
        assert [user.email for user in found] == expected
        session.commit()
        assert [user.email for user in found] == [A, B, B]


def test_orm_bulk_update_by_key(engine: Engine, filled: Table, user_class: Any) -> None:
    """ORM bulk UPDATE by primary key binds each row."""
    with Session(engine) as session:
        session.execute(update(user_class), [{"id": 1, "email": B}, {"id": 3, "email": C}])
        session.bulk_update_mappings(user_class, [{"id": 2, "email": C}])
        session.commit()
        assert list(session.scalars(select(user_class.email).order_by(filled.c.id))) == [B, C, C]


def test_loader_criteria_are_kept(engine: Engine, filled: Table, user_class: Any) -> None:
    """The rows of an ORM UPDATE are found with its options: rows that they exclude stay as they are."""
    with Session(engine) as session:
        option = with_loader_criteria(user_class, user_class.name != "n2")
        statement = update(user_class).where(user_class.id > 0).values(email=B).options(option)
        session.execute(statement, execution_options={"synchronize_session": False})
        session.commit()
        assert list(session.scalars(select(user_class.email).order_by(filled.c.id))) == [B, A, B]


def test_single_inheritance_criteria_are_kept(engine: Engine, ring: KeyRing) -> None:
    """An UPDATE of a subclass in a single table leaves the other classes' rows alone."""
    table = Table(
        "people",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("kind", String(10)),
        Column("email", Encrypted(String(100))),
    )
    ring.initialize(engine, table.metadata)
    table.create(engine)
    mapper_registry = registry()

    class Person:
        """A person."""

    class Manager(Person):
        """A person of one kind."""

    base = mapper_registry.map_imperatively(Person, table, polymorphic_on=table.c.kind, polymorphic_identity="person")
    mapper_registry.map_imperatively(Manager, inherits=base, polymorphic_identity="manager")
    people: Any = [Person(), Manager(), Manager()]
    with Session(engine) as session:
        for person in people:
            person.email = A
        session.add_all(people)
        session.commit()
        session.execute(update(Manager).values(email=B))
        session.commit()
        assert sorted(person.email for person in session.scalars(select(Person))) == [A, B, B]


def test_update_from_another_table(engine: Engine, ring: KeyRing, filled: Table) -> None:
    """An UPDATE that joins another table writes only the rows that match."""
    other = Table(
        "other",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("user_id", Integer),
        Column("note", String(20)),
    )
    other.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(other), [{"id": 1, "user_id": 2, "note": "from other"}])
        statement = update(filled).where(filled.c.id == other.c.user_id).values(email=B, name=other.c.note)
        connection.execute(statement)
        assert emails(connection, filled) == [A, B, A]
        assert connection.execute(select(filled.c.name).where(filled.c.id == 2)).scalar() == "from other"


def test_bound_column_change_seals_again(engine: Engine, ring: KeyRing) -> None:
    """A row whose `bind_to` column changes keeps its values, one row or many; JSON null stays JSON null (R-34)."""
    table = Table(
        "bound",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("tenant", String(20), nullable=False),
        Column("email", Encrypted(String(100), bind_to=("tenant",))),
        Column("phone", Encrypted(String(100), bind_to=("tenant",))),
    )
    ring.initialize(engine, table.metadata)
    table.create(engine)
    with engine.begin() as connection:
        rows = [{"id": number, "tenant": "one", "email": A, "phone": B} for number in (1, 2, 3)]
        connection.execute(insert(table), [*rows, {"id": 4, "tenant": "one", "email": None, "phone": None}])
        connection.execute(update(table).where(table.c.id == 1).values(tenant="two"))
        connection.execute(update(table).where(table.c.id > 2).values(tenant="three", email=C))
        assert emails(connection, table) == [A, A, C, C]
        assert list(connection.execute(select(table.c.phone).order_by(table.c.id)).scalars()) == [B, B, B, None]


def test_limit_of_rows(engine: Engine, make_ring: Any, make_engine: Any) -> None:
    """Above the limit an UPDATE of unnamed rows is refused."""
    ring = make_ring(update_limit=2)
    limited = make_engine(engine.url, ring)
    table = Table("many", MetaData(), Column("id", Integer, primary_key=True), Column("email", Encrypted(String(100))))
    ring.initialize(limited, table.metadata)
    table.create(limited)
    with limited.begin() as connection:
        connection.execute(insert(table), [{"email": A}] * 3)
        with pytest.raises(UnsupportedStatementError, match="more than 2 rows"):
            connection.execute(update(table).values(email=B))
        connection.execute(update(table).where(table.c.id != 1).values(email=B))
        assert emails(connection, table) == [A, B, B]


def test_limit_counts_rows(engine: Engine, make_ring: Any, make_engine: Any) -> None:
    """A row that is joined to several others counts once."""
    ring = make_ring(update_limit=2)
    limited = make_engine(engine.url, ring)
    metadata = MetaData()
    table = Table("many", metadata, Column("id", Integer, primary_key=True), Column("email", Encrypted(String(100))))
    notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("many_id", Integer))
    ring.initialize(limited, metadata)
    metadata.create_all(limited)
    with limited.begin() as connection:
        connection.execute(insert(table), [{"email": A}] * 3)
        connection.execute(insert(notes), [{"id": number, "many_id": 1} for number in range(1, 9)])
        connection.execute(update(table).where(table.c.id == notes.c.many_id, notes.c.id > 0).values(email=B))
        assert emails(connection, table) == [B, A, A]
        everybody = update(table).where(table.c.id != notes.c.many_id + 10, notes.c.id > 0).values(email=B)
        with pytest.raises(UnsupportedStatementError, match="more than 2 rows"):
            connection.execute(everybody)


def test_client_side_onupdate(engine: Engine, ring: KeyRing) -> None:
    """A client-side `onupdate` of an encrypted column is evaluated and sealed, in Core and in the ORM."""
    table = Table(
        "onupdate",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(20)),
        Column("email", Encrypted(String(100)), onupdate=lambda: B),
    )
    ring.initialize(engine, table.metadata)
    table.create(engine)

    class Row:
        """A row."""

    registry().map_imperatively(Row, table)
    with Session(engine) as session:
        session.execute(insert(table), [{"id": 1, "email": A}, {"id": 2, "email": A}])
        session.execute(update(table).where(table.c.id == 1).values(name="core"))
        row: Any = session.get(Row, 2)
        row.name = "orm"
        session.commit()
        assert list(session.scalars(select(table.c.email).order_by(table.c.id))) == [B, B]


def test_expressions_are_refused(engine: Engine, filled: Table) -> None:
    """A SQL expression is refused as the value of an encrypted column and of a symbol; nothing is written."""
    with engine.connect() as connection:
        for values in ({"email": func.lower("x")}, {"email": filled.c.name}, {"id": filled.c.id + 1}):
            with pytest.raises(UnsupportedStatementError, match="SQL expression"):
                connection.execute(update(filled).where(filled.c.id == 1).values(values))
        assert emails(connection, filled) == [A, A, A]


def test_several_parameter_sets_must_name_rows(engine: Engine, filled: Table) -> None:
    """An executemany UPDATE whose WHERE clause does not name rows by key is refused."""
    statement = update(filled).where(filled.c.name == bindparam("n")).values(email=bindparam("e"))
    with engine.connect() as connection, pytest.raises(UnsupportedStatementError, match="several parameter sets"):
        connection.execute(statement, [{"n": "n1", "e": B}, {"n": "n2", "e": B}])


def test_unchanged_value_is_not_written(engine: Engine, user_class: Any, users: Table) -> None:
    """Setting an attribute to the value it has sends no UPDATE."""
    with Session(engine) as session:
        session.add(user_class(id=1, email=A))
        session.commit()
        user: Any = session.get(user_class, 1)
        before = session.scalar(select(type_coerce(users.c.email, LargeBinary)))
        user.email = A
        session.commit()
        assert session.scalar(select(type_coerce(users.c.email, LargeBinary))) == before


def test_text_keys_that_compare_equal(engine: Engine, ring: KeyRing) -> None:
    """A text key found by another spelling is bound to the stored one (A-55)."""
    collation = {"sqlite": "NOCASE", "mysql": "utf8mb4_general_ci"}.get(engine.dialect.name)
    if collation is None:
        pytest.skip("the database compares text by its bytes")
    table = Table(
        "texts",
        MetaData(),
        Column("id", String(20, collation=collation), primary_key=True),
        Column("email", Encrypted(String(100))),
    )
    ring.initialize(engine, table.metadata)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": "abc", "email": A})
        connection.execute(update(table).where(table.c.id == "ABC").values(email=B))
        assert emails(connection, table) == [B]
        statement = update(table).where(table.c.id == bindparam("key")).values(email=bindparam("secret"))
        connection.execute(insert(table), {"id": "def", "email": A})
        connection.execute(statement, [{"key": "Abc", "secret": C}, {"key": "def", "secret": C}])
        assert emails(connection, table) == [C, C]


def test_rows_of_a_subquery_on_the_encrypted_column(engine: Engine, filled: Table) -> None:
    """Rows that a subquery on the encrypted columns names are chosen once: plain columns are set in the same ones."""
    other = filled.alias()
    unset = select(other.c.id).where(other.c.email.is_(None))
    if engine.dialect.name == "mysql":
        unset = select(unset.subquery().c.id)
    with engine.begin() as connection:
        connection.execute(update(filled).where(filled.c.id == 2).values(email=None))
        result = connection.execute(update(filled).where(filled.c.id.in_(unset)).values(email=B, name="changed"))
        rows = connection.execute(select(filled.c.name, filled.c.email).order_by(filled.c.id)).all()
        assert (result.rowcount, rows) == (1, [("n1", A), ("changed", B), ("n3", A)])


def test_rows_that_are_chosen_by_chance(engine: Engine, filled: Table) -> None:
    """Rows that `random()` names are chosen once: encrypted and plain columns are set in the same ones."""
    with engine.begin() as connection:
        connection.execute(insert(filled), [{"id": number, "name": "n", "email": A} for number in range(10, 60)])
        chance = {"sqlite": func.abs(func.random()) % 2 == 0, "mysql": func.rand() < 0.5}
        chosen = chance.get(engine.dialect.name, func.random() < 0.5)
        connection.execute(update(filled).where(chosen).values(email=B, name="changed"))
        rows = connection.execute(select(filled.c.name, filled.c.email)).all()
        assert {(name == "changed", email) for name, email in rows} == {(True, B), (False, A)}


@pytest.fixture
def bound(engine: Engine, ring: KeyRing, metadata: MetaData) -> Table:
    """A table whose values are bound to more than the primary key; a column is named as a parameter might be."""
    table = Table(
        "bound",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("tenant", String(20), nullable=False),
        Column("key_id", Integer),
        Column("sealed_email", String(20)),
        Column("email", Encrypted(String(100), bind_to=("tenant",))),
        Column("phone", Encrypted(String(100), bind_to=("tenant",))),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [{"id": number, "tenant": f"t{number}", "email": A, "phone": A} for number in (1, 2, 3)]
        connection.execute(insert(table), rows)
    return table


def test_flush_of_several_objects_bound_to_more(engine: Engine, bound: Table) -> None:
    """A flush changes several objects whose columns are bound to more than their key, and what they are bound to."""
    bound_class: Any = map_class(bound)
    with Session(engine) as session:
        loaded = session.scalars(select(bound_class).order_by(bound_class.id)).all()
        for one in loaded:
            one.email = B
        session.commit()
        assert list(session.execute(select(bound.c.email, bound.c.phone))) == [(B, A)] * 3
        for one in loaded:
            one.tenant = "other"
        session.commit()
        assert list(session.execute(select(bound.c.email, bound.c.phone))) == [(B, A)] * 3


def test_flush_of_a_deleted_row(engine: Engine, bound: Table) -> None:
    """A flush of several objects, one of whose rows is gone, says so as SQLAlchemy does."""
    bound_class: Any = map_class(bound)
    with Session(engine) as session:
        loaded = session.scalars(select(bound_class)).all()
        session.execute(delete(bound).where(bound.c.id == 2))
        for one in loaded:
            one.email = B
        with pytest.raises(StaleDataError):
            session.flush()


def test_parameter_sets_that_follow_one_another(engine: Engine, bound: Table) -> None:
    """A parameter set that finds a row by the key that one before it gives is refused: its change would be lost."""
    statement = (
        update(bound)
        .where(bound.c.id == bindparam("old"))
        .values(id=bindparam("new"), tenant="x", email=bindparam("secret"))
    )
    with engine.begin() as connection:
        with pytest.raises(UnsupportedStatementError, match="run them one by one"):
            connection.execute(statement, [{"old": 1, "new": 9, "secret": B}, {"old": 9, "new": 9, "secret": C}])
        connection.execute(statement, [{"old": 3, "new": 4, "secret": B}, {"old": 2, "new": 3, "secret": C}])
        assert emails(connection, bound) == [A, C, B]


def test_parameter_that_stands_for_two_things(engine: Engine, user_class: Any, filled: Table) -> None:
    """A named parameter, or a lambda's variable, may stand in SET and in WHERE: only what is set is sealed."""
    statement = (
        update(filled)
        .where(filled.c.id == bindparam("key"), filled.c.name == bindparam("x"))
        .values(email=bindparam("x"), picture=None)
    )
    crossed = update(filled).where(filled.c.id == 2).values(name=bindparam("email"), email=bindparam("name"))
    name = "n3"
    by_lambda = lambda_stmt(
        lambda: update(user_class).where(user_class.id == 3, user_class.name == name).values(email=name)
    )
    with Session(engine) as session:
        counts = [
            session.execute(statement, {"key": 1, "x": "n1"}).rowcount,  # type: ignore[attr-defined]
            session.execute(crossed, {"name": B, "email": A}).rowcount,  # type: ignore[attr-defined]
            session.execute(by_lambda).rowcount,  # type: ignore[attr-defined]
            session.execute(
                update(filled).where(filled.c.name == bindparam("x")).values(email=bindparam("x")), {"x": "n1"}
            ).rowcount,  # type: ignore[attr-defined]
        ]
        session.commit()
        found = session.execute(select(filled.c.name, filled.c.email).order_by(filled.c.id)).all()
    assert (counts, found) == ([1, 1, 1, 1], [("n1", "n1"), (A, B), ("n3", "n3")])


def test_option_with_criteria(engine: Engine, user_class: Any, filled: Table) -> None:
    """Criteria of an option choose the rows once, like those of the statement; and no value is sent beside a column."""
    statement = update(user_class).where(user_class.name != "x").values(email=B, name="changed")
    unsynchronized: Any = {"execution_options": {"synchronize_session": False}}
    with Session(engine) as session:
        session.execute(update(filled).where(filled.c.id == 2).values(email=None))
        unset = with_loader_criteria(user_class, user_class.email.is_(None))
        assert session.execute(statement.options(unset), **unsynchronized).rowcount == 1  # type: ignore[attr-defined]
        assert session.execute(select(filled.c.name, filled.c.email).order_by(filled.c.id)).all() == [
            ("n1", A),
            ("changed", B),
            ("n3", A),
        ]
        beside = with_loader_criteria(user_class, literal(A) == user_class.email)
        with pytest.raises(UnsupportedOperatorError, match="would be sent as it is"):
            session.execute(statement.options(beside), **unsynchronized)


def test_parameter_named_like_a_column(engine: Engine, filled: Table) -> None:
    """A parameter of the WHERE clause with the name of a column is refused: it would be taken for what is set."""
    statement = update(filled).where(filled.c.name != bindparam("name")).values(email=B)
    with engine.begin() as connection:
        with pytest.raises(UnsupportedStatementError, match="parameter 'name' in its WHERE clause"):
            connection.execute(statement, {"name": "x"})
        assert emails(connection, filled) == [A, A, A]
        # one that has its value already is none that is set
        connection.execute(update(filled).where(filled.c.name != bindparam("name", "n1")).values(email=B))
        assert emails(connection, filled) == [A, B, B]


def test_spellings_that_follow_one_another(engine: Engine, ring: KeyRing) -> None:
    """The same is refused where the later set spells the key differently; a row that is not there gives no key."""
    table = Table(
        "texts", MetaData(), Column("id", String(20), primary_key=True), Column("email", Encrypted(String(90)))
    )
    ring.initialize(engine, table.metadata)
    table.create(engine)
    statement = update(table).where(table.c.id == bindparam("old")).values(id=bindparam("new"))
    with engine.begin() as connection:
        connection.execute(insert(table), [{"id": "a", "email": A}, {"id": "c", "email": C}])
        with pytest.raises(UnsupportedStatementError, match="run them one by one"):
            connection.execute(statement, [{"old": "a", "new": "b"}, {"old": "B", "new": "d"}])
        connection.execute(statement, [{"old": "x", "new": "c"}, {"old": "c", "new": "z"}])
        assert connection.execute(select(table).order_by(table.c.id)).all() == [("a", A), ("z", C)]


def test_columns_named_like_parameters(engine: Engine, bound: Table) -> None:
    """A column may be called `key_id`: a matched UPDATE finds its rows all the same."""
    with engine.begin() as connection:
        connection.execute(update(bound).where(bound.c.tenant != "t1").values(email=B, key_id=7, sealed_email="x"))
        assert emails(connection, bound) == [A, B, B]


def test_columns_of_one_name_in_two_tables(engine: Engine, filled: Table, bound: Table) -> None:
    """An UPDATE of two tables sets columns of one name, each to its own value."""
    if engine.dialect.name != "mysql":
        pytest.skip("UPDATE of several tables is MariaDB's")
    statement = (
        update(filled)
        .where(filled.c.id == 1, bound.c.id == filled.c.id)
        .values({filled.c.email: B, bound.c.sealed_email: "plain"})
    )
    other = update(filled).where(filled.c.id == 1, bound.c.id == filled.c.id).values({bound.c.email: C})
    with engine.begin() as connection:
        connection.execute(statement)
        assert connection.execute(select(filled.c.email).where(filled.c.id == 1)).scalar() == B
        with pytest.raises(UnsupportedStatementError, match="not bound to a row"):
            connection.execute(other)
