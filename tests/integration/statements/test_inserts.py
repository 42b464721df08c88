"""INSERT in every form, on every database: the statement's own parameters give the symbols."""

import itertools
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Engine,
    FetchedValue,
    Identity,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    Uuid,
    bindparam,
    func,
    insert,
    null,
    select,
    text,
    true,
    type_coerce,
    union_all,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, registry
from support.leaks import marked, own_locals

from sa_keyvault import Encrypted, KeyRing, UnsupportedStatementError

A, B, C = marked("a"), marked("b"), marked("c")


def emails(engine: Engine, table: Table) -> list[str | None]:
    """Return all emails, in order of the key."""
    with engine.connect() as connection:
        return list(connection.execute(select(table.c.email).order_by(*table.primary_key)).scalars())


def create(table: Table, engine: Engine, ring: KeyRing) -> None:
    """Create one more table."""
    ring.initialize(engine, table.metadata)
    table.create(engine, checkfirst=True)


def refused(engine: Engine, table: Table, statement: Any, parameters: Any = None) -> str:
    """Return the refusal of *statement*; nothing was written."""
    with engine.connect() as connection:
        with pytest.raises(UnsupportedStatementError) as caught:
            connection.execute(statement, parameters)
        connection.rollback()
        assert connection.execute(select(func.count()).select_from(table)).scalar() == 0
    return str(caught.value)


def test_values_in_the_statement(engine: Engine, users: Table) -> None:
    """`.values()` with one row, with and without the key."""
    with engine.begin() as connection:
        first = connection.execute(insert(users).values(email=A))
        assert first.inserted_primary_key is not None
        connection.execute(insert(users).values({users.c.id: 50, users.c.email: B}))
        connection.execute(insert(users).values((51, "name", C, None)))
    assert emails(engine, users) == [A, B, C]


def test_last_inserted_params_are_plain(engine: Engine, users: Table) -> None:
    """What a statement says it inserted is what the application gave, not the envelope."""
    with engine.begin() as connection:
        result = connection.execute(insert(users).values(id=1, email=A))
        assert result.last_inserted_params()["email"] == A


def test_multiple_rows_in_values(engine: Engine, users: Table) -> None:
    """`.values([…, …])`, with and without keys."""
    with engine.begin() as connection:
        connection.execute(insert(users).values([{"email": A}, {"email": None}]))
        connection.execute(insert(users).values([{"id": 100, "email": B}, {"id": 200, "email": C}]))
    assert emails(engine, users) == [A, None, B, C]


def test_executemany_without_keys(engine: Engine, users: Table) -> None:
    """Many rows whose keys the database makes: each value belongs to its row (R-33, A-65)."""
    count = 2500
    with engine.begin() as connection:
        rows = [{"name": str(number), "email": marked(str(number))} for number in range(count)]
        connection.execute(insert(users), rows)
        found = connection.execute(select(users.c.name, users.c.email)).all()
    assert sorted((row.name, row.email) for row in found) == sorted((row["name"], row["email"]) for row in rows)


def test_caller_parameters_are_not_changed(engine: Engine, users: Table) -> None:
    """The caller's dictionaries are copied, never changed."""
    rows = [{"email": A}, {"email": B}]
    with engine.begin() as connection:
        connection.execute(insert(users), rows)
    assert rows == [{"email": A}, {"email": B}]


def test_bind_parameters_of_other_names(engine: Engine, users: Table) -> None:
    """`bindparam` under another name, and literal values beside executemany parameters."""
    with engine.begin() as connection:
        connection.execute(
            insert(users).values(id=bindparam("key"), email=bindparam("secret")),
            [{"key": 1, "secret": A}, {"key": 2, "secret": B}],
        )
        connection.execute(insert(users).values(email=C), [{"id": 3}, {"id": 4}])
    assert emails(engine, users) == [A, B, C, C]


def test_returning(engine: Engine, users: Table) -> None:
    """RETURNING opens the values of the rows that were just inserted (A-65)."""
    with engine.begin() as connection:
        statement = insert(users).returning(users.c.id, users.c.email)
        rows = connection.execute(statement, [{"id": 7, "email": A}, {"id": 8, "email": B}]).all()
        assert sorted(tuple(row) for row in rows) == [(7, A), (8, B)]


def test_orm_flush_and_bulk(engine: Engine, user_class: Any) -> None:
    """Flush, `insert(Entity)` with rows, `.values()`, and the legacy bulk methods."""
    with Session(engine) as session:
        session.add_all([user_class(name=str(number), email=marked(str(number))) for number in range(20)])
        session.flush()
        session.execute(
            insert(user_class), [{"name": "20", "email": marked("20")}, {"name": "21", "email": marked("21")}]
        )
        session.execute(insert(user_class).values(name="22", email=marked("22")))
        session.execute(insert(user_class).values([{"name": "23", "email": marked("23")}]))
        session.bulk_insert_mappings(user_class, [{"name": "24", "email": marked("24")}])
        session.bulk_save_objects([user_class(name="25", email=marked("25"))])
        session.commit()
        session.expire_all()
        found = session.scalars(select(user_class)).all()
        assert {user.name: user.email for user in found} == {str(number): marked(str(number)) for number in range(26)}


def test_objects_keep_their_plaintext(engine: Engine, user_class: Any) -> None:
    """After a flush an object has its value, its key, and no pending change."""
    with Session(engine) as session:
        one = user_class(email=A)
        session.add(one)
        session.flush()
        assert (one.email, one.id is not None, one in session.dirty) == (A, True, False)


def test_client_side_defaults(engine: Engine, ring: KeyRing) -> None:
    """Client-side defaults of a symbol and of an encrypted column are evaluated before the row is sealed."""
    table = Table(
        "defaults",
        MetaData(),
        Column("id", String(32), primary_key=True, default=lambda: "made"),
        Column("name", String(40)),
        Column("email", Encrypted(String(100)), default=A),
        Column("copy", Encrypted(String(100)), default=lambda context: context.get_current_parameters()["name"]),
    )
    create(table, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(table), {"name": B})
        connection.execute(insert(table).values(id="given", name=C))
        rows = connection.execute(select(table.c.id, table.c.email, table.c.copy).order_by(table.c.id)).all()
    assert [tuple(row) for row in rows] == [("given", A, C), ("made", A, B)]


def test_server_default_of_the_key(engine: Engine, ring: KeyRing) -> None:
    """A key with a default that the database evaluates is selected before the row is sealed."""
    default = {
        "sqlite": text("(lower(hex(randomblob(16))))"),
        "postgresql": text("gen_random_uuid()"),
        "mysql": text("(uuid())"),
    }[engine.dialect.name]
    type_: Any = String(40) if engine.dialect.name == "sqlite" else Uuid()
    table = Table(
        "server_default",
        MetaData(),
        Column("id", type_, primary_key=True, server_default=default),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"email": A}, {"email": A}, {"email": A}])
        connection.execute(insert(table).values(email=A))
        assert connection.execute(select(func.count(table.c.id.distinct()))).scalar() == 4
    assert emails(engine, table) == [A] * 4


@pytest.mark.parametrize("always", [False, True])
def test_identity(engine: Engine, ring: KeyRing, *, always: bool) -> None:
    """An IDENTITY key, GENERATED BY DEFAULT and ALWAYS."""
    table = Table(
        "identity_key",
        MetaData(),
        Column("id", Integer, Identity(always=always), primary_key=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"email": A}, {"email": B}])
        connection.execute(insert(table).values(email=C))
    assert emails(engine, table) == [A, B, C]


def test_identity_through_the_orm(engine: Engine, ring: KeyRing, metadata: MetaData) -> None:
    """The ORM flushes rows with a GENERATED ALWAYS key, one and many."""
    table = Table(
        "identity_key",
        metadata,
        Column("id", Integer, Identity(always=True), primary_key=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)

    class Row:
        """A row."""

    registry().map_imperatively(Row, table)
    with Session(engine) as session:
        rows: list[Any] = [Row() for _ in range(3)]
        for row in rows:
            row.email = A
        session.add_all(rows)
        session.commit()
        assert [row.email for row in rows] == [A] * 3


def test_sequence(engine: Engine, ring: KeyRing) -> None:
    """A key that a Sequence makes."""
    if not engine.dialect.supports_sequences:
        pytest.skip("the database has no sequences")
    table = Table(
        "sequence_key",
        MetaData(),
        Column("id", Integer, Sequence("key_sequence", start=100), primary_key=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"email": A}, {"email": B}])
        assert connection.execute(select(func.min(table.c.id))).scalar() == 100
    assert emails(engine, table) == [A, B]


def test_optional_sequence(engine: Engine, ring: KeyRing) -> None:
    """A Sequence that is optional gives way to what the database counts by itself."""
    table = Table(
        "optional_key",
        MetaData(),
        Column("id", Integer, Sequence("optional_sequence", optional=True), primary_key=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(table), [{"email": A}, {"email": B}])
    assert emails(engine, table) == [A, B]


def test_null_needs_no_symbols(engine: Engine, ring: KeyRing) -> None:
    """A row whose encrypted columns are NULL is inserted as it is."""
    table = Table(
        "nulls",
        MetaData(),
        Column("id", Integer, FetchedValue(), primary_key=True, autoincrement=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(table).values(id=1, email=None))
        connection.execute(insert(table).values(id=2, email=null()))
        connection.execute(insert(table).values(id=3))
    assert emails(engine, table) == [None, None, None]


def test_opaque_server_key_is_refused(engine: Engine, ring: KeyRing) -> None:
    """A key that only a trigger knows is refused before anything is sent."""
    table = Table(
        "opaque",
        MetaData(),
        Column("id", String(40), FetchedValue(), primary_key=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    assert "cannot tell it before the row is inserted" in refused(engine, table, insert(table), {"email": A})


def test_expression_as_value_is_refused(engine: Engine, users: Table) -> None:
    """A SQL expression cannot be the value of an encrypted column."""
    assert "SQL expression" in refused(engine, users, insert(users).values(id=1, email=func.lower("x")))


def test_expression_as_symbol_is_refused(engine: Engine, users: Table) -> None:
    """A SQL expression cannot be the value of a symbol."""
    statement = insert(users).values(id=select(func.max(users.c.id)).scalar_subquery(), email=A)
    assert "names the row" in refused(engine, users, statement)


def test_insert_from_select(engine: Engine, users: Table, ring: KeyRing) -> None:
    """INSERT … SELECT is refused where the envelope would not open, and allowed where label and key stay (A-6)."""
    same = Table(
        "users",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("email", Encrypted(String(100), area="identities", context="mail")),
    )
    copied = Table(
        "copied",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("email", Encrypted(String(100), area="identities", context="mail")),
    )
    create(copied, engine, ring)
    with engine.begin() as connection:
        connection.execute(insert(same).values(id=1, email=A))
        connection.execute(insert(copied).from_select(["id", "email"], select(same.c.id, same.c.email)))
    assert emails(engine, copied) == [A]
    kept = select(same.c.id, same.c.email)
    for source in (
        select(users.c.id, users.c.email),
        select(same.c.id + 1, same.c.email),
        # every member of a UNION: one of plain texts would be stored as it is
        union_all(kept, select(same.c.id + 1, same.c.email)),
        union_all(kept, select(users.c.id, users.c.name)),
        union_all(kept, union_all(kept, select(users.c.id, users.c.name)).subquery().select()),
    ):
        with engine.connect() as connection, pytest.raises(UnsupportedStatementError, match="would not open"):
            connection.execute(insert(copied).from_select(["id", "email"], source))


def test_alembic_batch_copy(engine: Engine, users: Table) -> None:
    """The copy that Alembic's batch mode makes of a table keeps its values."""
    temporary = users.to_metadata(MetaData(), name="_alembic_tmp_users")
    with engine.begin() as connection:
        connection.execute(insert(users), [{"email": A}, {"email": B}])
    temporary.create(engine)
    with engine.begin() as connection:
        names = [column.name for column in users.columns]
        connection.execute(insert(temporary).from_select(names, select(users)))
        connection.execute(text("DROP TABLE users"))
        connection.execute(text("ALTER TABLE _alembic_tmp_users RENAME TO users"))
    assert emails(engine, users) == [A, B]


def upsert(engine: Engine, table: Table, *, to: Any) -> Any:
    """Return an upsert statement of the engine's dialect that sets email to what *to* makes of the new row."""
    if engine.dialect.name == "mysql":
        statement = mysql.insert(table)
        return statement.on_duplicate_key_update(email=to(statement.inserted))
    module = postgresql if engine.dialect.name == "postgresql" else sqlite
    insertion: Any = module.insert(table)  # type: ignore[attr-defined]
    return insertion.on_conflict_do_update(index_elements=["id"], set_={"email": to(insertion.excluded)})


def test_upsert(engine: Engine, users: Table) -> None:
    """An upsert by primary key replaces the value, keeps it with coalesce, or sets NULL."""
    with engine.begin() as connection:
        connection.execute(insert(users), [{"id": 1, "email": A}, {"id": 2, "email": A}, {"id": 3, "email": A}])
        connection.execute(
            upsert(engine, users, to=lambda new: new.email), [{"id": 1, "email": B}, {"id": 4, "email": C}]
        )
        keep = upsert(engine, users, to=lambda new: func.coalesce(new.email, users.c.email))
        connection.execute(keep, [{"id": 2, "email": None}, {"id": 5, "email": None}])
        connection.execute(upsert(engine, users, to=lambda _: null()), {"id": 3, "email": B})
    assert emails(engine, users) == [B, A, None, C, None]


@pytest.fixture
def spelled(engine: Engine, ring: KeyRing) -> Table:
    """A table whose keys the database compares without case and accents; SQLite only without case."""
    collation = {"sqlite": "NOCASE", "mysql": "utf8mb4_general_ci"}.get(engine.dialect.name)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(
                text("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)")
            )
        collation = "loose"
    table = Table(
        "spelled",
        MetaData(),
        Column("id", String(20, collation=collation), primary_key=True),
        Column("number", Integer),
        Column("email", Encrypted(String(90))),
    )
    create(table, engine, ring)
    return table


def test_upsert_with_two_spellings(engine: Engine, spelled: Table) -> None:
    """Two spellings of one key in one upsert are refused: the second would update the row of the first (A-55)."""
    statement = upsert(engine, spelled, to=lambda new: new.email)
    pairs = [("abc", "ABC")]
    if engine.dialect.name != "sqlite":
        pairs.append(("\u00c4", "a"))
    if engine.dialect.name == "mysql":
        pairs.append(("\U0001f600", "\U0001f601"))
    for one, other in pairs:
        rows: Any = [{"id": one, "email": A}, {"id": other, "email": B}]
        assert "in two ways" in refused(engine, spelled, statement, rows)
    rows = [{"id": "abc", "email": A}, {"id": "abd", "email": B}, {"id": "abc", "email": C}]
    if engine.dialect.name == "postgresql":
        # what such a collation takes for one cannot be asked
        assert "in two ways" in refused(engine, spelled, statement, rows)
        return
    with engine.begin() as connection:
        connection.execute(statement, rows)
    assert emails(engine, spelled) == [C, B]


def test_upsert_that_moves_no_envelope(engine: Engine, spelled: Table) -> None:
    """Two spellings are no matter where a conflict sets plain columns only."""
    if engine.dialect.name == "mysql":
        statement: Any = mysql.insert(spelled)
        statement = statement.on_duplicate_key_update(number=statement.inserted.number)
    else:
        module = postgresql if engine.dialect.name == "postgresql" else sqlite
        statement = module.insert(spelled)  # type: ignore[attr-defined]
        statement = statement.on_conflict_do_update(index_elements=["id"], set_={"number": statement.excluded.number})
    rows = [{"id": "abc", "email": A, "number": 1}, {"id": "ABC", "email": B, "number": 2}]
    with engine.begin() as connection:
        connection.execute(statement, rows)
        assert connection.execute(select(spelled.c.number, spelled.c.email)).all() == [(2, A)]


def test_upsert_with_keys_that_differ(engine: Engine, ring: KeyRing) -> None:
    """Keys that only another collation would take for one are two rows where the database compares their bytes."""
    collation = {"mysql": "utf8mb4_bin"}.get(engine.dialect.name)
    identifier = Column("id", String(20, collation=collation), primary_key=True)
    table = Table("spelled", MetaData(), identifier, Column("email", Encrypted(String(90))))
    create(table, engine, ring)
    rows = [{"id": "abc", "email": A}, {"id": "ABC", "email": B}]
    with engine.begin() as connection:
        connection.execute(upsert(engine, table, to=lambda new: new.email), rows)
        found = connection.execute(select(table.c.id, table.c.email)).all()
    assert dict(map(tuple, found)) == {"abc": A, "ABC": B}


def test_upsert_with_many_spellings(engine: Engine, ring: KeyRing) -> None:
    """A thousand keys that differ by case alone are a thousand rows where the database compares their bytes."""
    collation = {"mysql": "utf8mb4_bin"}.get(engine.dialect.name)
    identifier = Column("id", String(20, collation=collation), primary_key=True)
    table = Table("spelled", MetaData(), identifier, Column("email", Encrypted(String(90))))
    create(table, engine, ring)
    keys = ["".join(letters) for letters in itertools.product("aA", repeat=10)]
    statement = upsert(engine, table, to=lambda new: new.email)
    with engine.begin() as connection:
        connection.execute(statement, [{"id": key, "email": A} for key in keys])
        connection.execute(statement, [{"id": key, "email": B} for key in keys])
    assert emails(engine, table) == [B] * len(keys)


def test_upsert_of_ciphertext_into_a_plain_column(engine: Engine, users: Table) -> None:
    """An upsert does not set a plain column to the ciphertext of the new row, nor does INSERT … SELECT."""
    name = upsert(engine, users, to=lambda new: new.email)
    if engine.dialect.name == "mysql":
        name = mysql.insert(users)
        name = name.on_duplicate_key_update(name=name.inserted.email)
    else:
        module = postgresql if engine.dialect.name == "postgresql" else sqlite
        name = module.insert(users)  # type: ignore[attr-defined]
        name = name.on_conflict_do_update(index_elements=["id"], set_={"name": name.excluded.email})
    assert "name cannot be set to" in refused(engine, users, name, {"id": 1, "email": A})
    copied = insert(users).from_select(["id", "name"], select(users.c.id + 10, users.c.email))
    assert "name cannot be set to" in refused(engine, users, copied)


def test_rows_of_one_statement_that_give_different_columns(engine: Engine, ring: KeyRing) -> None:
    """Each row of a multi-row VALUES keeps what it gives, and has a default for what it does not give."""
    table = Table(
        "rowwise",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("city", String(20), default="Rom"),
        Column("length", Integer, default=lambda context: len(context.get_current_parameters()["email"])),
        Column("email", Encrypted(String(90))),
    )
    create(table, engine, ring)
    rows = [
        {"id": 1, "email": A, "length": 0},
        {"id": 2, "email": f"{A}b", "city": "Wien"},
        {"id": 3, "email": B, "length": 7, "city": "Ulm"},
    ]
    with engine.begin() as connection:
        connection.execute(insert(table).values(rows))
        found = connection.execute(select(table.c.city, table.c.length, table.c.email).order_by(table.c.id)).all()
    assert list(map(tuple, found)) == [("Rom", 0, A), ("Wien", len(A) + 1, f"{A}b"), ("Ulm", 7, B)]


def test_keys_given_and_left_to_the_database(engine: Engine, users: Table) -> None:
    """Rows that give a key and rows that leave it to the database do not meet in one statement on SQLite."""
    if engine.dialect.name != "sqlite":
        pytest.skip("elsewhere a key that is NULL is none that the database makes")
    with engine.begin() as connection:
        connection.execute(insert(users), [{"id": None, "email": A}, {"id": 1, "email": B}, {"id": None, "email": C}])
    assert emails(engine, users) == [B, A, C]


def test_upsert_with_a_value_is_refused(engine: Engine, users: Table) -> None:
    """An upsert that sets an encrypted column to a value of its own is refused."""
    assert "excluded" in refused(engine, users, upsert(engine, users, to=lambda _: A), {"id": 1, "email": B})


def test_upsert_on_another_target_is_refused(engine: Engine, ring: KeyRing) -> None:
    """An upsert whose conflict may be with another row than the key's is refused."""
    table = Table(
        "unique_name",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(40), unique=True),
        Column("email", Encrypted(String(100))),
    )
    create(table, engine, ring)
    if engine.dialect.name == "mysql":
        statement: Any = upsert(engine, table, to=lambda new: new.email)
    else:
        module = postgresql if engine.dialect.name == "postgresql" else sqlite
        statement = module.insert(table)  # type: ignore[attr-defined]
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"email": statement.excluded.email})
    assert "conflict" in refused(engine, table, statement, {"id": 1, "name": "n", "email": A})


def test_upsert_from_select_on_another_target_is_refused(engine: Engine, users: Table, ring: KeyRing) -> None:
    """An upsert of selected rows is held to the same: another row's envelope would take the place of a value (A-6)."""
    table = Table(
        "unique_name",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(40), unique=True),
        Column("email", Encrypted(String(100), area="identities", context="mail")),
    )
    source = Table(
        "source",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String(40)),
        Column("email", Encrypted(String(100), area="identities", context="mail")),
    )
    create(table, engine, ring)
    create(source, engine, ring)
    names = ["id", "name", "email"]
    if engine.dialect.name == "mysql":
        statement: Any = mysql.insert(table).from_select(names, select(source))
        statement = statement.on_duplicate_key_update(email=statement.inserted.email)
    else:
        module = postgresql if engine.dialect.name == "postgresql" else sqlite
        statement = module.insert(table).from_select(names, select(source).where(true()))  # type: ignore[attr-defined]
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"email": statement.excluded.email})
    assert "conflict" in refused(engine, table, statement)


def test_row_without_a_value_is_refused(engine: Engine, users: Table) -> None:
    """A row that gives no value where the first one does is refused; it is not taken for NULL."""
    rows = [{"id": 1, "email": A}, {"id": 2}]
    assert "parameter set 1 has no value" in refused(engine, users, insert(users), rows)
    assert "parameter set 1 has no value" in refused(engine, users, insert(users).values(rows))
    misspelt = insert(users).values(id=1, email=bindparam("misspelt"))
    assert "parameter set 0 has no value" in refused(engine, users, misspelt)
    rows = [{"id": 1, "name": "x"}, {"id": 2, "name": "x", "email": A}]
    assert "parameter set 0 has no value" in refused(engine, users, insert(users), rows)
    assert "parameter set 0 has no value" in refused(engine, users, insert(users).values(rows))


def test_parameter_that_is_not_given_has_no_default(engine: Engine, ring: KeyRing) -> None:
    """A parameter that a row does not give is refused; the column's default does not take its place."""
    email = Column("email", Encrypted(String(90)), default=lambda: A)
    table = Table("defaulted", MetaData(), Column("id", Integer, primary_key=True), email)
    create(table, engine, ring)
    statement = insert(table).values(email=bindparam("secret"))
    for rows in ([{"id": 1}], [{"id": 1}, {"id": 2, "secret": B}]):
        assert "has no value" in refused(engine, table, statement, rows)


def test_parameter_that_stands_for_two_things(engine: Engine, users: Table) -> None:
    """A named parameter may stand for several columns: an encrypted one has an envelope, a plain one the value."""
    statement = insert(users).values(
        id=bindparam("number"), email=bindparam("x"), name=bindparam("x"), picture=bindparam("y")
    )
    crossed = insert(users).values(id=3, name=bindparam("email"), email=bindparam("name"))
    with engine.begin() as connection:
        connection.execute(statement, [{"number": n, "x": A, "y": B.encode()} for n in (1, 2)])
        connection.execute(crossed, {"name": B, "email": A})
        found = connection.execute(select(users.c.name, users.c.email).order_by(users.c.id)).all()
    assert found == [(A, A), (A, A), (A, B)]


def test_parameter_of_a_row_that_the_database_numbers(engine: Engine, users: Table) -> None:
    """A named parameter is sealed where the database makes the key, too, with one row and with several."""
    statement = insert(users).values(name=bindparam("x"), email=bindparam("x"))
    with engine.begin() as connection:
        connection.execute(statement, {"x": A})
        connection.execute(statement, [{"x": B}, {"x": C}])
    assert sorted(filter(None, emails(engine, users))) == sorted([A, B, C])


def test_expression_beside_a_parameter_of_its_name(engine: Engine, users: Table) -> None:
    """A SQL expression as value is refused, whatever parameter there is beside it."""
    statement = insert(users).values(id=1, email=func.lower(A))
    assert "a SQL expression cannot be the value" in refused(engine, users, statement, {"email": B})


def test_null_in_one_of_several_rows(engine: Engine, users: Table) -> None:
    """`null()` is NULL in a multi-row VALUES, too."""
    with engine.begin() as connection:
        connection.execute(insert(users).values([{"id": 1, "email": null()}, {"id": 2, "email": A}]))
    assert emails(engine, users) == [None, A]


def test_upsert_with_a_parameter_in_set(engine: Engine, users: Table) -> None:
    """A parameter in SET is refused unless it is the NULL that the statement has: its value would not be sealed."""
    for parameter in (bindparam("x", type_=String), bindparam("x", None, String), bindparam("x", callable_=lambda: A)):
        statement = upsert(engine, users, to=lambda _, given=parameter: given)
        assert "to nothing else" in refused(engine, users, statement, {"id": 1, "email": B, "x": A})


def test_refused_update_behind_an_insert(engine: Engine, users: Table) -> None:
    """An error of the database while a row is sealed carries no plaintext in frames of the library."""
    if engine.dialect.name != "mysql":
        pytest.skip("AUTO_INCREMENT is MariaDB's")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER stop BEFORE UPDATE ON users FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'"
        )
    with engine.connect() as connection, pytest.raises(OperationalError, match="no") as caught:
        connection.execute(insert(users), [{"email": A}, {"email": B}])
    assert [name for _, name, held in own_locals(caught.value) if A in repr(held)] == []


def test_stored_value_is_an_envelope(engine: Engine, users: Table) -> None:
    """What is stored begins with the format byte and does not contain the value."""
    with engine.begin() as connection:
        connection.execute(insert(users).values(email=A))
        stored = bytes(connection.execute(select(type_coerce(users.c.email, LargeBinary))).scalar() or b"")
    assert (stored[0], A.encode() in stored) == (0xF8, False)
