"""What cannot be honoured is refused before anything is sent, with an error that says what to do instead."""

from typing import Any

import pytest
from sqlalchemy import (
    CHAR,
    URL,
    Boolean,
    Column,
    Computed,
    DateTime,
    Engine,
    FetchedValue,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    create_engine,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql, oracle
from sqlalchemy.orm import Session, configure_mappers, registry
from sqlalchemy.types import TypeDecorator
from support.leaks import marked

from sa_keyvault import (
    BindingError,
    ConfigurationError,
    Encrypted,
    KeyRing,
    KeyStoreError,
    UnsupportedStatementError,
)

A, B = marked("a"), marked("b")


def declared(*columns: Column[Any], **options: Any) -> Table:
    """Return a table that is not created."""
    return Table("refused", MetaData(), *columns, **options)


def map_table(table: Table) -> None:
    """Configure a mapper of *table*."""

    class Row:
        """A row."""

    mapping = registry()
    mapping.map_imperatively(Row, table)
    mapping.configure()


KEY = {"primary_key": True}


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ([Column("id", Float, **KEY)], "round or reformat"),
        ([Column("id", Numeric(10, 2), **KEY)], "round or reformat"),
        ([Column("id", DateTime, **KEY)], "round or reformat"),
        ([Column("id", Boolean, **KEY)], "round or reformat"),
        ([Column("id", Integer, ForeignKey("parent.id", onupdate="CASCADE"), **KEY)], "ON UPDATE CASCADE"),
        ([Column("id", Integer, ForeignKey("parent.id", ondelete="SET NULL"), **KEY)], "ON DELETE SET NULL"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_keys_that_cannot_be_symbols(columns: list[Any], problem: str) -> None:
    """A key that the database reformats or changes by itself is refused when mappers are configured (R-17, A-57)."""
    fixed = []
    for column in columns:
        keys = [
            ForeignKey(key.target_fullname, onupdate=key.onupdate, ondelete=key.ondelete) for key in column.foreign_keys
        ]
        type_ = Integer() if keys else column.type
        fixed.append(Column(column.name, type_, *keys, primary_key=True))
    metadata = MetaData()
    Table("parent", metadata, Column("id", Integer, primary_key=True))
    table = Table("refused", metadata, *fixed, Column("email", Encrypted(String)))
    with pytest.raises(ConfigurationError, match=problem):
        map_table(table)


class Prefixed(TypeDecorator[str]):
    """A key that is stored in SQL of its own."""

    impl = String(20)
    cache_ok = True

    def bind_expression(self, bindparam: Any) -> Any:
        """Store with a prefix."""
        return literal("p-") + bindparam


class Reversed(String):
    """A key that is stored in a form of its own."""

    def bind_processor(self, dialect: Any) -> Any:
        """Store it reversed."""
        return lambda value: value[::-1]


class Wrapped(TypeDecorator[str]):
    """A key that is stored in a form of the type within."""

    impl = Reversed(20)
    cache_ok = True


@pytest.mark.parametrize("type_", [Prefixed(), Reversed(20), Wrapped()])
def test_keys_with_a_form_of_their_own(type_: Any) -> None:
    """A key whose type sends values in a form that only it knows cannot name a row, and is refused (R-17)."""
    table = declared(Column("id", type_, primary_key=True), Column("email", Encrypted(String)))
    with pytest.raises(ConfigurationError, match="in a form of its own"):
        map_table(table)


@pytest.mark.parametrize("options", [{"onupdate": func.now()}, {"server_onupdate": FetchedValue()}])
def test_symbol_that_the_database_updates(options: dict[str, Any]) -> None:
    """A symbol that the database changes at every UPDATE is refused."""
    stamp = Column("stamp", String(40), nullable=False, **options)
    table = declared(Column("id", Integer, **KEY), stamp, Column("email", Encrypted(String, bind_to=("stamp",))))
    with pytest.raises(ConfigurationError, match="change it unseen"):
        map_table(table)


def test_column_that_becomes_encrypted(engine: Engine, ring: KeyRing) -> None:
    """A column in whose place an encrypted one comes after a statement on its table was run is refused (R-35)."""
    metadata = MetaData()
    columns = [Column("id", Integer, primary_key=True), Column("email", String(200))]
    table = Table("late", metadata, *columns)
    ring.initialize(engine, metadata)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 1, "email": "plain"})
        Table("late", metadata, Column("email", Encrypted(String(50))), extend_existing=True)
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="was plain when a statement"):
                connection.execute(insert(table), {"id": 2, "email": A})


def test_column_that_comes_later(engine: Engine, ring: KeyRing) -> None:
    """An encrypted column that is added after a statement on its table was run is sealed like any other."""
    metadata = MetaData()
    table = Table("late", metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
    ring.initialize(engine, metadata)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE late (id INTEGER PRIMARY KEY, name VARCHAR(20))"))
        connection.execute(insert(table), {"id": 1, "name": "x"})
        email = Column("email", Encrypted(String(50)))
        table.append_column(email)
        kind = email.type.load_dialect_impl(engine.dialect).compile(engine.dialect)
        connection.execute(text(f"ALTER TABLE late ADD COLUMN email {kind}"))
        connection.execute(insert(table), {"id": 2, "name": "x", "email": A})
        assert list(connection.execute(select(email).order_by(table.c.id)).scalars()) == [None, A]


@pytest.mark.parametrize(
    ("bound", "problem"),
    [
        (Column("tenant", String(20)), "may be NULL"),
        (Column("tenant", Float, nullable=False), "round or reformat"),
        (Column("tenant", Encrypted(String), nullable=False), "encrypted itself"),
        (Column("tenant", Integer, Computed("id + 1"), nullable=False), "computed by the database"),
        (Column("other", Integer), "does not have"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_columns_that_cannot_be_bound_to(bound: Column[Any], problem: str) -> None:
    """`bind_to` names a plain column of the table that is never NULL."""
    email = Column("email", Encrypted(String, bind_to=("tenant",)))
    with pytest.raises(ConfigurationError, match=problem):
        map_table(declared(Column("id", Integer, primary_key=True), bound, email))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"unique": True}, "is unique"),
        ({"index": True}, "is indexed"),
        ({"server_default": "x"}, "server default"),
        ({"primary_key": True}, "primary key"),
    ],
)
def test_columns_that_cannot_be_encrypted(options: dict[str, Any], problem: str) -> None:
    """An encrypted column with a role that ciphertext cannot play is refused when mappers are configured."""
    with pytest.raises(ConfigurationError, match=problem):
        map_table(declared(Column("id", Integer, primary_key=True), Column("email", Encrypted(String), **options)))


def test_roles_in_a_mapper() -> None:
    """An encrypted column is neither discriminator nor version counter."""
    table = declared(Column("id", Integer, primary_key=True), Column("kind", Encrypted(String)))

    class Row:
        """A row."""

    mapping = registry()
    mapping.map_imperatively(Row, table, polymorphic_on=table.c.kind, polymorphic_identity="x")
    with pytest.raises(ConfigurationError, match="polymorphic_on"):
        mapping.configure()


def test_two_columns_under_one_label() -> None:
    """Two columns with one context are refused when mappers are configured (A-12)."""
    mapping = registry()
    classes = [type(name, (), {}) for name in ("one", "two")]  # a registry keeps no class alive
    for class_ in classes:
        email = Column("email", Encrypted(String, context="mail"))
        table = Table(class_.__name__, mapping.metadata, Column("id", Integer, primary_key=True), email)
        mapping.map_imperatively(class_, table)
    with pytest.raises(ConfigurationError, match="same label"):
        mapping.configure()
    mapping.dispose()
    configure_mappers()


def test_table_without_primary_key(engine: Engine, ring: KeyRing) -> None:
    """A table without a primary key needs `bind_to`, and works with it."""
    bare = declared(Column("number", Integer), Column("email", Encrypted(String)))
    with pytest.raises(ConfigurationError, match="bind_to"):
        ring.initialize(engine, bare.metadata)
    bound = declared(
        Column("number", Integer, nullable=False), Column("email", Encrypted(String(50), bind_to=("number",)))
    )
    ring.initialize(engine, bound.metadata)
    bound.create(engine)
    with engine.begin() as connection:
        connection.execute(insert(bound), [{"number": 1, "email": A}, {"number": 2, "email": A}])
        connection.execute(update(bound).where(bound.c.number == 2).values(email=B))
        assert list(connection.execute(select(bound.c.email).order_by(bound.c.number)).scalars()) == [A, B]
        with pytest.raises(UnsupportedStatementError, match="no primary key"):
            connection.execute(update(bound).values(email=A))


def test_null_symbol(engine: Engine, ring: KeyRing) -> None:
    """A symbol that is NULL names no row."""
    table = declared(Column("id", String(20), primary_key=True), Column("email", Encrypted(String(50))))
    ring.initialize(engine, table.metadata)
    table.create(engine)
    with engine.connect() as connection, pytest.raises(BindingError, match="is NULL"):
        connection.execute(insert(table), {"id": None, "email": A})


def test_dml_in_a_cte(engine: Engine, users: Table) -> None:
    """INSERT and UPDATE in a CTE are refused: their parameters are not seen together."""
    if engine.dialect.name != "postgresql":
        pytest.skip("DML in a CTE is PostgreSQL's")
    written = insert(users).values(id=1, email=A).returning(users.c.id).cte()
    moved = update(users).values(id=5).returning(users.c.id).cte()
    with engine.connect() as connection:
        for cte in (written, moved):
            with pytest.raises(UnsupportedStatementError, match="in a CTE"):
                connection.execute(select(cte.c.id))


def test_autocommit(engine: Engine, users: Table) -> None:
    """A statement that reads rows and seals them is refused on a connection that commits every statement."""
    with engine.begin() as connection:
        connection.execute(insert(users), {"id": 1, "email": A})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(users), {"id": 2, "email": A})
        connection.execute(update(users).where(users.c.id == 2).values(email=B))
        with pytest.raises(UnsupportedStatementError, match="AUTOCOMMIT"):
            connection.execute(update(users).values(email=B))


def test_delete_is_left_alone(engine: Engine, users: Table) -> None:
    """DELETE needs no symbols."""
    with engine.begin() as connection:
        connection.execute(insert(users), [{"email": A}, {"email": B}])
        assert connection.execute(delete(users).where(users.c.email.is_not(None))).rowcount == 2


def test_mariadb_pending_inserts(engine: Engine, users: Table, ring: KeyRing) -> None:
    """Where AUTO_INCREMENT makes the key, statements that cannot be followed by an UPDATE are refused (R-33, A-63)."""
    if engine.dialect.name != "mysql":
        pytest.skip("AUTO_INCREMENT is MariaDB's")
    plain = declared(
        Column("id", Integer, primary_key=True), Column("email", Encrypted(String(50))), mysql_engine="MyISAM"
    )
    ring.initialize(engine, plain.metadata)
    plain.create(engine)
    statements = [
        (insert(users).values(email=A).prefix_with("IGNORE"), "IGNORE"),
        (insert(users).values(email=A).returning(users.c.id), "RETURNING"),
        (mysql.insert(users).values(email=A).on_duplicate_key_update(name="x"), "ON DUPLICATE KEY"),
        (insert(plain).values(email=A), "without transactions"),
    ]
    with engine.connect() as connection:
        for statement, problem in statements:
            with pytest.raises(UnsupportedStatementError, match=problem):
                connection.execute(statement)
        mixed: Any = [{"id": 1, "email": A}, {"id": None, "email": A}]
        with pytest.raises(UnsupportedStatementError, match="leave it to AUTO_INCREMENT"):
            connection.execute(insert(users), mixed)
        assert connection.execute(select(func.count()).select_from(users)).scalar() == 0
        connection.commit()


def test_mariadb_rows_with_expressions(engine: Engine, users: Table) -> None:
    """Rows of one VALUES with SQL beside values are refused where MariaDB counts the keys; with keys they are not."""
    given: list[dict[str, Any]] = [{"name": func.lower("A"), "email": A}, {"name": "b", "email": B}]
    with engine.begin() as connection:
        if engine.dialect.name == "mysql":
            with pytest.raises(UnsupportedStatementError, match="cannot leave their keys to AUTO_INCREMENT"):
                connection.execute(insert(users).values(given))
        connection.execute(
            insert(users).values([{"name": func.lower("N"), "email": None}, {"name": "n", "email": None}])
        )
        connection.execute(insert(users).values([{"id": 7 + place, **row} for place, row in enumerate(given)]))
        found = connection.execute(select(users.c.name, users.c.email).order_by(users.c.id)).all()
    assert found == [("n", None), ("n", None), ("a", A), ("b", B)]


def test_mariadb_failed_insert_leaves_nothing(engine: Engine, users: Table) -> None:
    """A failed INSERT whose keys the database makes leaves no pending row, and the transaction goes on (A-63)."""
    if engine.dialect.name != "mysql":
        pytest.skip("AUTO_INCREMENT is MariaDB's")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE users ADD UNIQUE (name)"))
        connection.execute(insert(users), {"name": "n", "email": A})
        with pytest.raises(Exception, match="Duplicate"):
            connection.execute(insert(users), [{"name": "m", "email": A}, {"name": "n", "email": A}])
    with engine.connect() as connection:
        assert list(connection.execute(select(users.c.email)).scalars()) == [A]


def test_postgresql_sequence_without_usage(engine: Engine, users: Table, make_ring: Any, make_engine: Any) -> None:
    """A role that may not use the key's sequence gets an error that names the GRANT."""
    if engine.dialect.name != "postgresql":
        pytest.skip("sequences with privileges are PostgreSQL's")
    role = f"limited_{engine.url.database}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {role} LOGIN"))
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}"))
    try:
        ring = make_ring()
        limited = make_engine(engine.url.set(username=role), ring)
        ring.initialize(limited, users.metadata)
        with limited.connect() as connection, pytest.raises(UnsupportedStatementError, match="GRANT USAGE ON SEQUENCE"):
            connection.execute(insert(users), {"email": A})
        with limited.begin() as connection:
            connection.execute(insert(users), {"id": 5, "email": A})
    finally:
        limited.dispose()
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {role}"))
            connection.execute(text(f"DROP ROLE {role}"))


def test_other_databases_are_refused() -> None:
    """Oracle, SQL Server and others: not supported yet, said at the first use."""
    dialect = oracle.dialect()
    table = declared(Column("id", Integer, primary_key=True), Column("email", Encrypted(String)))
    with pytest.raises(ConfigurationError, match="oracle is not supported yet"):
        select(table).compile(dialect=dialect)
    with pytest.raises(ConfigurationError, match="oracle is not supported yet"):
        table.c.email.type.bind_processor(dialect)


def test_engine_without_ring(sqlite_url: Any) -> None:
    """An engine without a key ring neither writes nor reads encrypted columns."""
    engine = create_engine(sqlite_url)
    table = declared(Column("id", Integer, primary_key=True), Column("email", Encrypted(String)))
    table.create(engine)
    with engine.connect() as connection:
        with pytest.raises(UnsupportedStatementError, match="key ring"):
            connection.execute(insert(table), {"id": 1, "email": A})
        with pytest.raises(ConfigurationError, match="no key ring"):
            connection.execute(select(table.c.email)).all()
    engine.dispose()


def test_plugin_needs_a_ring() -> None:
    """The engine plugin without a ring says what is missing."""
    with pytest.raises(ConfigurationError, match="keyring=ring"):
        create_engine("sqlite://", plugins=["keyvault"])


def test_char_key_with_blanks(engine: Engine, ring: KeyRing) -> None:
    """Trailing blanks of a fixed-length key do not matter, whatever the database makes of them (A-56)."""
    table = declared(Column("id", CHAR(10), primary_key=True), Column("email", Encrypted(String(50))))
    ring.initialize(engine, table.metadata)
    table.create(engine)
    with Session(engine) as session:
        session.execute(insert(table), {"id": "ab  ", "email": A})
        assert session.scalar(select(table.c.email)) == A


def test_refused_commit_leaves_nothing_open(engine: Engine, ring: KeyRing) -> None:
    """After a refused commit the connection goes back to its pool with nothing left for its next user to commit."""
    table = declared(Column("id", Integer, primary_key=True), Column("email", Encrypted(String(50), area="late")))
    ring.initialize(engine)
    table.create(engine)
    with engine.connect() as connection:
        savepoint = connection.begin_nested()
        connection.execute(insert(table), {"id": 1, "email": A})
        savepoint.rollback()
        connection.execute(insert(table), {"id": 2, "email": None})
        with pytest.raises(KeyStoreError, match="is gone"):
            connection.commit()
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": 3, "email": A})
    with engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(select(table))] == [(3, A)]


def test_sqlite_of_another_encoding(sqlite_url: URL, ring: KeyRing, make_engine: Any) -> None:
    """A SQLite file that is not UTF-8 is refused at start-up: symbols would be read back in other bytes."""
    engine = make_engine(sqlite_url, ring)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA encoding = 'UTF-16le'")
        connection.exec_driver_sql("CREATE TABLE t (x)")
    with pytest.raises(ConfigurationError, match="UTF-16le"):
        ring.initialize(engine)


def test_comparison_with_a_subquery_is_allowed(engine: Engine, users: Table) -> None:
    """`=` between the column and a subquery, with a LIMIT of its own, is an ordinary expression."""
    with engine.connect() as connection:
        criterion = users.c.email == select(users.c.email).limit(1).scalar_subquery()
        assert connection.execute(select(users.c.id).where(criterion)).all() == []
