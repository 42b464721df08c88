"""Working keys that are made in passing: on the caller's connection, in the caller's transaction, and with its fate."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Connection, Engine, Insert, event, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from support.leaks import marked
from support.models import Base, Claimant, envelopes

from sa_keyvault import KeyRing, KeyStoreError, store
from sa_keyvault.envelope import key_number
from sa_keyvault.records import WorkingRecord
from sa_keyvault.states import KeyState

EMAIL, OTHER = marked("email"), marked("other")

SERVERS = pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
"""Where two transactions can write at once; SQLite has one writer."""


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring, with the claimants' table."""
    engine = make_engine(url)
    Base.metadata.create_all(engine)
    return engine


@pytest.fixture
def ready(engine: Engine, ring: KeyRing, plain: Engine) -> Engine:
    """An engine whose key store has no working key yet."""
    ring.initialize(engine)
    return engine


@pytest.fixture
def second(url: URL, make_engine: EngineMaker, make_ring: RingMaker, ready: Engine) -> Engine:
    """An engine with a ring of its own, initialized before the first working key was made."""
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine)
    return engine


def claimant(number: int, email: str = EMAIL) -> Insert:
    """Return an INSERT that needs a key of the area identities, and no generated one."""
    return insert(Claimant).values(id=number, email=email)


def keys(bind: Engine | Connection, area: str = "identities") -> list[WorkingRecord]:
    """Return the working keys of an area, as that connection sees them."""
    if isinstance(bind, Connection):
        return store.working_in_area(bind, area)
    with bind.connect() as connection:
        return store.working_in_area(connection, area)


def emails(engine: Engine) -> list[str]:
    """Return the values as they are opened, in the order of the rows."""
    with engine.connect() as connection:
        return list(connection.execute(select(Claimant.email).order_by(Claimant.id)).scalars())


def key_numbers(engine: Engine) -> list[int]:
    """Return the key number of each stored envelope, in the order of the rows."""
    with engine.connect() as connection:
        return [key_number(stored) for stored in envelopes(connection)]


# -- no second connection ----------------------------------------------------------------------------------------------


def test_pool_of_one(url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine) -> None:
    """The first value of an area is written and read on the only connection of the pool (R-36)."""
    engine = make_engine(url, ring, pool_size=1, max_overflow=0, pool_timeout=1)
    ring.initialize(engine)
    with Session(engine) as session:
        session.add(Claimant(email=EMAIL))
        session.flush()
        session.expire_all()
        assert session.scalars(select(Claimant.email)).one() == EMAIL
        session.commit()
        assert session.scalars(select(Claimant.email)).one() == EMAIL
    assert len(keys(plain)) == 1


def test_pool_of_one_with_every_refresh(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine
) -> None:
    """The version is read before every statement without a second connection of the pool (R-36)."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring, pool_size=1, max_overflow=0, pool_timeout=1)
    ring.initialize(engine)
    with engine.connect() as connection:
        connection.execute(claimant(1))
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL
        connection.commit()
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL


@pytest.mark.parametrize("refresh_seconds", [0, 30])
@pytest.mark.parametrize("options", [{}, {"poolclass": StaticPool}], ids=["default", "static"])
def test_in_memory(
    make_ring: RingMaker, make_engine: EngineMaker, options: dict[str, Any], refresh_seconds: int
) -> None:
    """A database in memory has one connection, and it is enough."""
    ring = make_ring(refresh_seconds=refresh_seconds)
    engine = make_engine("sqlite://", ring, **options)
    ring.initialize(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Claimant(email=EMAIL), Claimant(email=OTHER, voice_model=EMAIL.encode())])
        session.flush()
        session.expire_all()
        assert session.scalars(select(Claimant.email).order_by(Claimant.id)).all() == [EMAIL, OTHER]
        session.commit()
    assert emails(engine) == [EMAIL, OTHER]
    assert len(keys(engine)) == len(keys(engine, "models")) == 1


@pytest.mark.parametrize("lock", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_write_locked_file(url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, lock: str) -> None:
    """A caller that holds SQLite's write lock is not kept out by the library's own connection."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql(lock)
        connection.exec_driver_sql("DELETE FROM claimant")
        connection.execute(claimant(1))
        connection.commit()
    assert emails(engine) == [EMAIL]
    assert len(keys(plain)) == 1


@SERVERS
def test_two_first_keys(ready: Engine, second: Engine, plain: Engine) -> None:
    """Two transactions that both make the first key of an area both commit, and both keys stay active (A-30)."""
    with ready.connect() as one, ready.connect() as two:
        one.execute(claimant(1))
        two.execute(claimant(2, OTHER))
        one.commit()
        two.commit()
    assert [record.state for record in keys(plain)] == [KeyState.ACTIVE, KeyState.ACTIVE]
    assert {record.number for record in keys(plain)} == set(key_numbers(plain))
    assert emails(ready) == emails(second) == [EMAIL, OTHER]
    with ready.begin() as connection:
        connection.execute(claimant(3))
    assert len(keys(plain)) == 2


# -- committed ---------------------------------------------------------------------------------------------------------


def test_committed(ready: Engine, second: Engine, plain: Engine) -> None:
    """The ring that made a key reads its values before and after the commit; a ring that did not know it, after."""
    with ready.connect() as connection:
        connection.execute(claimant(1))
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL
        connection.commit()
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL
    assert emails(ready) == emails(second) == [EMAIL]
    assert [record.number for record in keys(plain)] == key_numbers(plain)


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_not_seen_before_commit(ready: Engine, plain: Engine) -> None:
    """A key made in an open transaction is part of that transaction: nobody else sees it."""
    with ready.connect() as connection:
        connection.execute(claimant(1))
        assert len(keys(connection)) == 1
        assert keys(plain) == []
        connection.commit()
    assert len(keys(plain)) == 1


def test_used_again_after_commit(ready: Engine, second: Engine, plain: Engine) -> None:
    """Later transactions, of this ring and of others, seal under the key that the first one made."""
    for number, engine in enumerate((ready, ready, second), start=1):
        with engine.begin() as connection:
            connection.execute(claimant(number))
    assert len(keys(plain)) == 1
    assert key_numbers(plain) == [keys(plain)[0].number] * 3


@SERVERS
def test_committed_by_autocommit(url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine) -> None:
    """On a connection that commits every statement the key is there as soon as the value is."""
    engine = make_engine(url, ring, isolation_level="AUTOCOMMIT")
    ring.initialize(engine)
    with engine.connect() as connection:
        connection.execute(claimant(1))
    assert emails(engine) == [EMAIL]
    assert [record.number for record in keys(plain)] == key_numbers(plain)


def test_committed_by_a_raw_string(ready: Engine, second: Engine) -> None:
    """A COMMIT that is sent as a string, past all events, loses no key."""
    with ready.connect() as connection:
        connection.execute(claimant(1))
        connection.exec_driver_sql("COMMIT")
    assert emails(ready) == emails(second) == [EMAIL]


# -- rolled back -------------------------------------------------------------------------------------------------------


def _rollback(connection: Connection) -> None:
    connection.rollback()


def _close(connection: Connection) -> None:
    connection.close()


def _invalidate(connection: Connection) -> None:
    connection.invalidate()
    connection.rollback()


def _raw(connection: Connection) -> None:
    connection.exec_driver_sql("ROLLBACK")
    connection.rollback()


@pytest.mark.parametrize("end", [_rollback, _close, _invalidate, _raw])
def test_rolled_back(ready: Engine, ring: KeyRing, plain: Engine, end: Callable[[Connection], None]) -> None:
    """A key made in a transaction that ends without a commit is gone; the next transaction makes another."""
    with ready.connect() as connection:
        connection.execute(claimant(1))
        (gone,) = keys(connection)
        end(connection)
    assert keys(plain) == []
    assert not ring._uncommitted
    with ready.begin() as connection:
        connection.execute(claimant(2, OTHER))
    assert [record.number for record in keys(plain)] == key_numbers(plain)
    assert gone.number not in key_numbers(plain)
    assert emails(ready) == [OTHER]


def test_rolled_back_by_a_failing_statement(ready: Engine, plain: Engine) -> None:
    """A statement that fails takes the keys of its transaction along."""
    with ready.begin() as connection:
        connection.execute(claimant(1))
    with Session(ready) as session:
        session.add_all([Claimant(id=2, email=EMAIL, voice_model=b"first"), Claimant(id=1, email=EMAIL)])
        with pytest.raises(IntegrityError):
            session.commit()
    assert len(keys(plain)) == 1
    assert keys(plain, "models") == []
    with ready.begin() as connection:
        connection.execute(insert(Claimant).values(id=2, email=OTHER, voice_model=b"second"))
    assert emails(ready) == [EMAIL, OTHER]
    assert len(keys(plain, "models")) == 1


DEFERRED = """CREATE TABLE pair (
    id INTEGER PRIMARY KEY, other INTEGER REFERENCES pair (id) DEFERRABLE INITIALLY DEFERRED
)"""


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_commit_that_fails(ready: Engine, ring: KeyRing, plain: Engine) -> None:
    """A COMMIT that the database refuses publishes nothing: the next transaction makes a key of its own."""
    with plain.begin() as connection:
        connection.exec_driver_sql(DEFERRED)
    with ready.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys = ON")
            connection.rollback()
        transaction = connection.begin()
        connection.execute(claimant(1))
        connection.execute(text("INSERT INTO pair VALUES (1, 2)"))
        (gone,) = keys(connection)
        with pytest.raises(IntegrityError):
            transaction.commit()
        # SQLite leaves a transaction open whose COMMIT failed, and SQLAlchemy takes it for ended
        connection.connection.rollback()
    with ready.begin() as connection:
        connection.execute(claimant(2, OTHER))
    assert [record.number for record in keys(plain)] == key_numbers(plain)
    assert gone.number not in key_numbers(plain)
    assert emails(ready) == [OTHER]
    assert not ring._uncommitted


# -- savepoints --------------------------------------------------------------------------------------------------------


def seal_under_gone_key(connection: Connection) -> None:
    """Make a key in a savepoint, roll back to it, and seal one more value under that key."""
    connection.execute(claimant(1))
    savepoint = connection.begin_nested()
    connection.execute(insert(Claimant).values(id=2, email=EMAIL, voice_model=b"first"))
    savepoint.rollback()
    connection.execute(insert(Claimant).values(id=3, email=EMAIL, voice_model=b"second"))


def test_rolled_back_to_savepoint(ready: Engine) -> None:
    """A commit is refused when a value was sealed under a key that went with its savepoint."""
    with ready.connect() as connection:
        seal_under_gone_key(connection)
        assert keys(connection, "models") == []
        with pytest.raises(KeyStoreError, match="rolled back to a savepoint") as caught:
            connection.commit()
    assert caught.value.key_number is not None


def _connection_commits(engine: Engine) -> None:
    with engine.connect() as connection:
        seal_under_gone_key(connection)
        connection.commit()


def _block_commits(engine: Engine) -> None:
    with engine.begin() as connection:
        seal_under_gone_key(connection)


def _session_commits(engine: Engine) -> None:
    with Session(engine) as session:
        seal_under_gone_key(session.connection())
        session.commit()


@pytest.mark.parametrize("commit", [_connection_commits, _block_commits, _session_commits])
def test_refused_commit_leaves_nothing(
    url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine, commit: Callable[[Engine], None]
) -> None:
    """What a refused commit was about is rolled back: the next user of the pooled connection commits none of it."""
    engine = make_engine(url, ring, pool_size=1, max_overflow=0, pool_timeout=1)
    ring.initialize(engine)
    with pytest.raises(KeyStoreError, match="rolled back to a savepoint"):
        commit(engine)
    with engine.begin() as connection:
        connection.execute(claimant(9, OTHER))
    assert key_numbers(plain) == [record.number for record in keys(plain)]
    assert emails(engine) == [OTHER]


def test_retry_after_refused_commit(ready: Engine, plain: Engine) -> None:
    """As the error says, the transaction can be rolled back and run again, on the same connection."""
    with ready.connect() as connection:
        seal_under_gone_key(connection)
        with pytest.raises(KeyStoreError, match="roll back and run the transaction again"):
            connection.commit()
        connection.rollback()
        connection.execute(insert(Claimant).values(id=3, email=OTHER, voice_model=b"third"))
        connection.commit()
        assert connection.execute(select(Claimant.id, Claimant.email, Claimant.voice_model)).all() == [
            (3, OTHER, b"third")
        ]
    assert len(keys(plain, "models")) == 1


def test_released_savepoint(ready: Engine, second: Engine) -> None:
    """A key made in a savepoint that is released is committed with the transaction."""
    with ready.begin() as connection:
        connection.execute(claimant(1))
        with connection.begin_nested():
            connection.execute(insert(Claimant).values(id=2, email=OTHER, voice_model=b"first"))
    with second.connect() as connection:
        assert connection.execute(select(Claimant.voice_model).where(Claimant.id == 2)).scalar() == b"first"


@pytest.mark.parametrize("is_prepared", [True, False], ids=["prepared", "one phase"])
@pytest.mark.parametrize("url", ["mariadb"], indirect=True)
def test_two_phase_commit(ready: Engine, second: Engine, *, is_prepared: bool) -> None:
    """A key made in a two-phase transaction is there after its commit."""
    with ready.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(claimant(1))
        if is_prepared:
            transaction.prepare()
        transaction.commit()
    assert emails(ready) == emails(second) == [EMAIL]


@pytest.mark.parametrize("is_prepared", [True, False], ids=["prepared", "one phase"])
@pytest.mark.parametrize("url", ["mariadb"], indirect=True)
def test_two_phase_commit_of_a_gone_key(ready: Engine, plain: Engine, *, is_prepared: bool) -> None:
    """A two-phase transaction is refused, too, when a value was sealed under a key that went with its savepoint."""
    with ready.connect() as connection:
        transaction = connection.begin_twophase()
        savepoint = connection.begin_nested()
        connection.execute(claimant(1))
        savepoint.rollback()
        connection.execute(claimant(2))
        end = transaction.prepare if is_prepared else transaction.commit
        with pytest.raises(KeyStoreError, match="rolled back to a savepoint"):
            end()
        transaction.rollback()
    assert key_numbers(plain) == []


# -- the caller's execution options ------------------------------------------------------------------------------------


@pytest.fixture
def archive(ready: Engine, plain: Engine) -> Iterator[str]:
    """The name of a second schema with the claimants' table, and without a key store."""
    name = "archive"
    if plain.dialect.name == "sqlite":

        @event.listens_for(ready, "connect")
        def attach(connection: Any, record: Any) -> None:
            connection.execute("ATTACH ':memory:' AS archive")

        ready.dispose()
    else:
        name = f"{plain.url.database}_archive"
        with plain.begin() as connection:
            connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    with ready.begin() as connection:
        Base.metadata.create_all(connection.execution_options(schema_translate_map={None: name}))
    yield name
    if plain.dialect.name != "sqlite":
        with plain.begin() as connection:
            connection.exec_driver_sql(f"DROP SCHEMA {name}{' CASCADE' * (plain.dialect.name == 'postgresql')}")


def test_schema_translation(ready: Engine, archive: str, plain: Engine) -> None:
    """A caller that works in another schema finds the key store where it is."""
    with ready.connect() as connection:
        connection.execution_options(schema_translate_map={None: archive})
        connection.execute(claimant(1))
        connection.commit()
        assert connection.execute(select(Claimant.email)).scalar() == EMAIL
    assert len(keys(plain)) == 1
    assert emails(ready) == []


@pytest.mark.parametrize("url", ["sqlite", "mariadb"], indirect=True)
@pytest.mark.parametrize(
    "options", [{"stream_results": True}, {"yield_per": 1}], ids=lambda options: next(iter(options))
)
def test_streaming_connection(ready: Engine, options: dict[str, Any], plain: Engine) -> None:
    """A connection that streams everything makes keys like any other (PostgreSQL streams no INSERT)."""
    with ready.connect() as connection:
        connection.execution_options(**options)
        for number in (1, 2, 3):
            connection.execute(claimant(number))
        connection.commit()
        assert list(connection.execute(select(Claimant.email)).scalars()) == [EMAIL] * 3
    assert len(keys(plain)) == 1


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_between_streamed_rows(ready: Engine, plain: Engine) -> None:
    """A key is made while the caller is in the middle of a streamed result (MariaDB has room for one result)."""
    with ready.begin() as connection:
        connection.execute(insert(Claimant), [{"id": number, "email": EMAIL} for number in range(1, 6)])
    with ready.begin() as connection:
        rows = connection.execute(select(Claimant.id, Claimant.email), execution_options={"yield_per": 1})
        first = rows.fetchone()
        connection.execute(insert(Claimant).values(id=9, email=OTHER, voice_model=b"new"))
        rest = rows.fetchmany(4)
        rows.close()
    assert [tuple(row) for row in (first, *rest) if row] == [(number, EMAIL) for number in range(1, 6)]
    assert len(keys(plain, "models")) == 1
