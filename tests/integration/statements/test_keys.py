"""Every kind of primary key, on every database: written, read, updated, and bound."""

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, LargeBinary, MetaData, Table, and_, insert, select, type_coerce, update
from sqlalchemy.orm import Session, registry
from support.keys import KEYS, KeyCase, key_table
from support.leaks import marked

from sa_keyvault import AuthenticationError, KeyRing

EMAIL, PHONE = marked("email"), marked("phone")


@pytest.fixture(params=KEYS, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> KeyCase:
    """One kind of key."""
    result: KeyCase = request.param
    return result


@pytest.fixture
def table(case: KeyCase, engine: Engine, ring: KeyRing) -> Table:
    """A table with that key, on an initialized engine."""
    metadata = MetaData()
    result = key_table(case, metadata)
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    return result


def where(table: Table, key: dict[str, Any]) -> Any:
    """Return the criterion for one row."""
    return and_(*(table.c[name] == value for name, value in key.items()))


def values(connection: Connection, table: Table, key: dict[str, Any]) -> tuple[Any, ...]:
    """Return the encrypted values of one row."""
    return tuple(connection.execute(select(table.c.email, table.c.phone).where(where(table, key))).one())


def test_values_come_back(case: KeyCase, table: Table, engine: Engine) -> None:
    """Values written under a key of this kind come back, with single and with many parameter sets (A-54, A-61)."""
    with engine.begin() as connection:
        connection.execute(insert(table), {**case.first, "email": EMAIL, "phone": PHONE})
        connection.execute(insert(table), [{**case.second, "email": PHONE, "phone": None}])
        assert values(connection, table, case.first) == (EMAIL, PHONE)
        assert values(connection, table, case.second) == (PHONE, None)


def test_executemany_binds_each_row(case: KeyCase, table: Table, engine: Engine) -> None:
    """Each row of an executemany is bound to its own key (R-32)."""
    with engine.begin() as connection:
        connection.execute(insert(table), [{**case.first, "email": EMAIL}, {**case.second, "email": PHONE}])
        assert (values(connection, table, case.first)[0], values(connection, table, case.second)[0]) == (EMAIL, PHONE)


def test_update_by_key(case: KeyCase, table: Table, engine: Engine) -> None:
    """An UPDATE by key binds the new value to the same row."""
    with engine.begin() as connection:
        connection.execute(insert(table), [{**case.first, "email": EMAIL}, {**case.second, "email": EMAIL}])
        connection.execute(update(table).where(where(table, case.first)).values(email=PHONE, note="changed"))
        assert values(connection, table, case.first) == (PHONE, None)
        assert values(connection, table, case.second) == (EMAIL, None)


def test_update_of_many_rows(case: KeyCase, table: Table, engine: Engine) -> None:
    """One UPDATE of several rows gives each its own envelope (R-32, A-64)."""
    raw = type_coerce(table.c.email, LargeBinary)
    with engine.begin() as connection:
        connection.execute(insert(table), [{**case.first, "email": EMAIL}, {**case.second, "email": EMAIL}])
        changed = connection.execute(update(table).where(table.c.note.is_(None)).values(email=PHONE, note="all"))
        assert changed.rowcount == 2
        assert values(connection, table, case.first)[0] == values(connection, table, case.second)[0] == PHONE
        assert len({bytes(stored) for stored in connection.execute(select(raw)).scalars()}) == 2
        assert connection.execute(select(table.c.note)).scalars().all() == ["all", "all"]


def test_swapped_rows_do_not_open(case: KeyCase, table: Table, engine: Engine) -> None:
    """Two envelopes of one column exchanged between rows open in neither (R-21, A-1)."""
    raw = type_coerce(table.c.email, LargeBinary)
    with engine.begin() as connection:
        connection.execute(insert(table), [{**case.first, "email": EMAIL}, {**case.second, "email": EMAIL}])
        stored = [
            connection.execute(select(raw).where(where(table, key))).scalar() for key in (case.first, case.second)
        ]
        plain = Table("keyed", MetaData(), *(column._copy() for column in table.columns if column.name != "email"))
        plain.append_column(table.c.email._copy())
        plain.c.email.type = LargeBinary()
        for key, envelope in zip((case.second, case.first), stored, strict=True):
            connection.execute(update(plain).where(where(plain, key)).values(email=envelope))
        for key in (case.first, case.second):
            with pytest.raises(AuthenticationError, match="email"):
                values(connection, table, key)


def test_swapped_columns_do_not_open(case: KeyCase, table: Table, engine: Engine) -> None:
    """Two envelopes of one row exchanged between columns open in neither (R-21, A-2)."""
    with engine.begin() as connection:
        connection.execute(insert(table), {**case.first, "email": EMAIL, "phone": PHONE})
        names = [column.name for column in table.columns if column.name not in ("email", "phone")]
        bare = Table("keyed", MetaData(), *(table.c[name]._copy() for name in names))
        for name in ("email", "phone"):
            bare.append_column(table.c[name]._copy())
            bare.c[name].type = LargeBinary()
        row = connection.execute(select(bare.c.email, bare.c.phone)).one()
        connection.execute(update(bare).values(email=row.phone, phone=row.email))
        for column in (table.c.email, table.c.phone):
            with pytest.raises(AuthenticationError, match="keyed"):
                connection.execute(select(column)).all()


def test_orm_life_of_a_row(case: KeyCase, table: Table, engine: Engine) -> None:
    """The ORM inserts, loads, updates, refreshes and deletes a row with a key of this kind."""

    class Keyed:
        """A row."""

    registry().map_imperatively(Keyed, table)
    with Session(engine) as session:
        one = Keyed()
        for name, value in {**case.first, "email": EMAIL, "phone": PHONE}.items():
            setattr(one, name, value)
        session.add(one)
        session.commit()
        identity = tuple(case.first.values())
        loaded: Any = session.get(Keyed, identity)
        assert (loaded.email, loaded.phone) == (EMAIL, PHONE)
        loaded.email = PHONE
        session.commit()
        session.refresh(loaded)
        assert loaded.email == PHONE
        session.delete(loaded)
        session.commit()
        assert session.get(Keyed, identity) is None


def test_primary_key_change_seals_again(case: KeyCase, table: Table, engine: Engine) -> None:
    """A row whose key changes keeps its values: they are sealed again in the same flush (R-34, A-59)."""

    class Keyed:
        """A row."""

    registry().map_imperatively(Keyed, table)
    with Session(engine) as session:
        one: Any = Keyed()
        for name, value in {**case.first, "email": EMAIL, "phone": PHONE}.items():
            setattr(one, name, value)
        session.add(one)
        session.commit()
        for name, value in case.second.items():
            setattr(one, name, value)
        one.email = PHONE
        session.commit()
        session.expire_all()
        moved: Any = session.get(Keyed, tuple(case.second.values()))
        assert (moved.email, moved.phone) == (PHONE, PHONE)
