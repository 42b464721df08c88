"""INSERT and UPDATE inside what SQLAlchemy can put around them: lambdas, and loads of objects from RETURNING."""

from typing import Any

import pytest
from sqlalchemy import Engine, String, Table, bindparam, insert, lambda_stmt, literal, select, update
from sqlalchemy.orm import Session
from support.leaks import marked

A, B = marked("a"), marked("b")


def test_lambda(engine: Engine, users: Table) -> None:
    """A lambda that makes an INSERT or UPDATE is sealed, with the values of each call."""
    with engine.begin() as connection:
        for number, email in ((1, A), (2, B)):
            connection.execute(lambda_stmt(lambda: insert(users).values(id=number, email=email)))  # noqa: B023
        connection.execute(lambda_stmt(lambda: update(users).where(users.c.id == 1).values(email=B)))
        assert connection.scalars(select(users.c.email)).all() == [B, B]


@pytest.mark.parametrize("strategy", ["evaluate", "fetch"])
def test_lambda_synchronizes(engine: Engine, user_class: Any, strategy: Any) -> None:
    """An ORM-enabled UPDATE in a lambda still changes the objects of the session."""
    with Session(engine) as session:
        user = user_class(id=1, name="n", email=A)
        session.add(user)
        session.flush()
        statement = lambda_stmt(
            lambda: update(user_class).where(user_class.id == 1).values(email=B),
        )
        session.execute(statement, execution_options={"synchronize_session": strategy})
        assert user.email == B


def test_objects_from_returning(engine: Engine, user_class: Any) -> None:
    """Objects are loaded from the RETURNING of an INSERT or UPDATE."""
    if not engine.dialect.update_returning:
        pytest.skip("this database has no UPDATE … RETURNING")
    with Session(engine) as session:
        statement = insert(user_class).values(id=1, email=A).returning(user_class)
        inserted = session.scalars(select(user_class).from_statement(statement)).one()
        assert inserted.email == A
        changed = update(user_class).where(user_class.id == 1).values(email=B).returning(user_class)
        options = {"populate_existing": True}
        updated = session.scalars(select(user_class).from_statement(changed).execution_options(**options)).one()
        assert updated.email == B


def test_ordered_values(engine: Engine, users: Table) -> None:
    """An UPDATE with ordered values that names its row is sealed."""
    with engine.begin() as connection:
        connection.execute(insert(users), {"id": 1, "email": A})
        changed = update(users).where(users.c.id == 1).ordered_values((users.c.email, B), (users.c.name, "n"))
        connection.execute(changed)
        assert connection.execute(select(users.c.email, users.c.name)).all() == [(B, "n")]


def test_literals(engine: Engine, users: Table) -> None:
    """A bind parameter with a type of its own is sealed as the column's value."""
    with engine.begin() as connection:
        connection.execute(insert(users).values(id=1, email=literal(A)))
        connection.execute(
            update(users).where(users.c.id == 1).values(email=bindparam("new", type_=String)), {"new": B}
        )
        assert connection.scalars(select(users.c.email)).all() == [B]
