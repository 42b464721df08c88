"""Parameters by any name: each stands for what the statement says, and for nothing that is added to it."""

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table, bindparam, func, insert, select, update
from sqlalchemy.orm import Session
from support.leaks import marked

from sa_keyvault import UnsupportedStatementError

A, B = marked("a"), marked("b")

Row = tuple[int, str, str | None]


def rows(connection: Connection, table: Table) -> list[Row]:
    """Return key, name and email of all users, in order of the key."""
    found = connection.execute(select(table.c.id, table.c.name, table.c.email).order_by(table.c.id))
    return [(row.id, row.name, row.email) for row in found]


@pytest.fixture
def filled(engine: Engine, users: Table) -> Table:
    """Three users."""
    with engine.begin() as connection:
        given = [{"id": number, "name": f"n{number}", "email": A} for number in (1, 2, 3)]
        connection.execute(insert(users), given)
    return users


def test_named_like_the_list_of_keys(engine: Engine, filled: Table) -> None:
    """A parameter that only the WHERE clause of a matched UPDATE has does not choose the rows of what is sent of it."""
    chosen = filled.c.id.in_(bindparam("id_1", expanding=True)) & (filled.c.name == "n2")
    with engine.begin() as connection:
        connection.execute(update(filled).where(chosen).values(email=B, name="new"), {"id_1": [1, 2]})
        assert rows(connection, filled) == [(1, "n1", A), (2, "new", B), (3, "n3", A)]


@pytest.mark.parametrize("name", ["param_1", "name_1", "lower_1", "sa_keyvault", "n"])
def test_named_like_what_a_matched_update_sets(engine: Engine, filled: Table, name: str) -> None:
    """Nor does it replace what SET says, or how many rows are read at most."""
    statement = update(filled).where(filled.c.name == bindparam(name)).values(email=B, name=func.lower("NEW"))
    with engine.begin() as connection:
        connection.execute(statement, {name: "n2"})
        assert rows(connection, filled) == [(1, "n1", A), (2, "new", B), (3, "n3", A)]


def test_needed_on_both_sides(engine: Engine, filled: Table) -> None:
    """A parameter that SET has as well as the WHERE clause is passed on."""
    statement = update(filled).where(filled.c.name == bindparam("n")).values(email=B, name=func.upper(bindparam("n")))
    with engine.begin() as connection:
        connection.execute(statement, {"n": "n2"})
        assert rows(connection, filled) == [(1, "n1", A), (2, "N2", B), (3, "n3", A)]


def test_value_named_like_a_criterion(engine: Engine, filled: Table) -> None:
    """The parameter of an encrypted value does not replace another one of an UPDATE that names its row (R-35)."""
    for criteria in ((filled.c.id == 2, filled.c.name == "n2"), (filled.c.name == "n2",)):
        statement = update(filled).where(*criteria).values(email=bindparam("name_1"))
        with engine.begin() as connection:
            connection.execute(statement, {"name_1": B})
            assert rows(connection, filled) == [(1, "n1", A), (2, "n2", B), (3, "n3", A)]
            connection.execute(update(filled).where(filled.c.id == 2).values(email=A))


def test_value_named_like_an_expression(engine: Engine, users: Table) -> None:
    """Nor one of an INSERT (R-35)."""
    statement = insert(users).values(id=1, email=bindparam("lower_1"), name=func.lower("NEW"))
    with engine.begin() as connection:
        connection.execute(statement, {"lower_1": B})
        assert rows(connection, users) == [(1, "new", B)]


def test_value_named_like_another_column(engine: Engine, filled: Table) -> None:
    """The parameter of an encrypted value is not named like another column, which SQLAlchemy would set to it (R-35)."""
    statements: list[Any] = [
        insert(filled).values(id=4, email=bindparam("name")),
        insert(filled).values(id=4, email=bindparam("name"), name="n4"),
        update(filled).where(filled.c.id == 3).values(email=bindparam("name")),
        update(filled).where(filled.c.name == "n3").values(email=bindparam("name")),
        update(filled).where(filled.c.id == 3).values(id=bindparam("name")),
    ]
    with engine.begin() as connection:
        for statement in statements:
            with pytest.raises(UnsupportedStatementError, match="would set the column 'name' too"):
                connection.execute(statement, {"name": B})
        connection.execute(update(filled).where(filled.c.id == 3).values(email=bindparam("email")), {"email": B})
        assert rows(connection, filled) == [(1, "n1", A), (2, "n2", A), (3, "n3", B)]


def test_rows_in_several_parameter_sets(engine: Engine, users: Table) -> None:
    """`.values([…, …])` with several parameter sets inserts the rows of each of them."""
    named = [{"id": bindparam(f"id{n}"), "name": f"n{n}", "email": bindparam(f"email{n}")} for n in (1, 2)]
    sets = [{"id1": 1, "email1": A, "id2": 2, "email2": B}, {"id1": 3, "email1": B, "id2": 4, "email2": None}]
    with engine.begin() as connection:
        connection.execute(insert(users).values(named), sets)
        assert rows(connection, users) == [(1, "n1", A), (2, "n2", B), (3, "n1", B), (4, "n2", None)]
        connection.execute(insert(users).values(named), [{"id1": 5, "email1": A, "id2": 6, "email2": B}])
        assert rows(connection, users)[4:] == [(5, "n1", A), (6, "n2", B)]


def test_rows_with_generated_keys_in_several_parameter_sets(engine: Engine, users: Table) -> None:
    """The same where the database makes the keys, and where nothing is sealed."""
    with engine.begin() as connection:
        connection.execute(insert(users).values([{"email": bindparam("one")}, {"email": B}]), [{"one": A}, {"one": B}])
        connection.execute(
            insert(users).values([{"name": bindparam("one")}, {"name": "z"}]), [{"one": "x"}, {"one": "y"}]
        )
        connection.execute(insert(users).values([{"name": "w"}]), [{}, {}])
        emails = [email for _, _, email in rows(connection, users)[:4]]
        assert sorted(filter(None, emails)) == [A, B, B, B]
        assert [name for _, name, _ in rows(connection, users)[4:]] == ["x", "z", "y", "z", "w", "w"]


def test_rows_with_a_parameter_named_like_another_one(engine: Engine, users: Table) -> None:
    """The parameter of a value in one row does not replace another row's."""
    given = [{"id": 1, "name": "n1", "email": bindparam("name_m1")}, {"id": 2, "name": "n2", "email": B}]
    with engine.begin() as connection:
        connection.execute(insert(users).values(given), {"name_m1": A})
        assert rows(connection, users) == [(1, "n1", A), (2, "n2", B)]


def test_rows_with_expressions_in_several_parameter_sets(engine: Engine, users: Table) -> None:
    """An expression has the parameters of one set only: several are refused, one is not."""
    statement = insert(users).values([{"id": bindparam("key"), "name": func.lower(bindparam("n")), "email": A}])
    with engine.begin() as connection:
        connection.execute(statement, {"key": 1, "n": "N1"})
        with pytest.raises(UnsupportedStatementError, match="has 'n' in a SQL expression; run it once"):
            connection.execute(statement, [{"key": 2, "n": "N2"}, {"key": 3, "n": "N3"}])
        assert rows(connection, users) == [(1, "n1", A)]


def test_rows_beside_other_values(engine: Engine, users: Table) -> None:
    """A row whose parameter is not given, and a parameter that no row has room for, are refused: nothing is lost."""
    statement = insert(users).values([{"email": bindparam("one")}, {"email": B}])
    with engine.begin() as connection:
        with pytest.raises(UnsupportedStatementError, match="leaves the value of 'email' to a parameter that is not"):
            connection.execute(statement, {"other": A})
        with pytest.raises(
            UnsupportedStatementError, match="a parameter 'name', the name of a column, beside its rows"
        ):
            connection.execute(statement, {"one": A, "name": "n"})
        assert rows(connection, users) == []


def test_rows_of_a_session(engine: Engine, user_class: Any) -> None:
    """A session, which takes parameter sets for rows of its own, is refused what SQLAlchemy refuses as well."""
    statement = insert(user_class).values([{"email": bindparam("one")}, {"email": B}])
    with Session(engine) as session:
        with pytest.raises(UnsupportedStatementError, match="leaves the value of 'email' to a parameter that is not"):
            session.execute(statement, [{"one": A}, {"one": B}])
        assert session.scalars(select(user_class)).all() == []
