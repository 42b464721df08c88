"""The door for raw pipelines, and the attack on the binding with every stored tail."""

from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import (
    URL,
    Column,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    event,
    insert,
    select,
    text,
)
from support.leaks import marked
from support.models import Base, Claimant, change_state

from sa_keyvault import (
    AuthenticationError,
    ConfigurationError,
    EncodingError,
    Encrypted,
    InstallationKey,
    KeyRing,
    KeyStateError,
    MalformedEnvelopeError,
    store,
)
from sa_keyvault.envelope import key_number
from sa_keyvault.keyring.usage import _FIRST_PORTION
from sa_keyvault.states import KeyState


@pytest.fixture
def table(engine: Engine, ring: KeyRing) -> Table:
    """A table with a text key and two symbols."""
    result = Table(
        "door",
        MetaData(),
        Column("id", String(40), primary_key=True),
        Column("tenant", Integer, nullable=False),
        Column("email", Encrypted(String(100), bind_to=("tenant",))),
        Column("data", Encrypted(LargeBinary)),
    )
    ring.initialize(engine, result.metadata)
    result.create(engine)
    return result


def raw(engine: Engine, statement: str, **parameters: Any) -> Any:
    """Run raw SQL."""
    with engine.begin() as connection:
        prepared = text(statement)
        if "stored" in parameters:
            prepared = prepared.bindparams(bindparam("stored", type_=LargeBinary))
        result = connection.execute(prepared, parameters)
        return result.scalar() if result.returns_rows else None


def test_sealed_outside_and_read_inside(engine: Engine, table: Table, ring: KeyRing) -> None:
    """A value that the door sealed is stored by raw SQL and read by the ORM's query."""
    stored = ring.seal(table.c.email, {"id": "a", "tenant": 5}, marked("x"))
    raw(engine, "INSERT INTO door (id, tenant, email) VALUES ('a', 5, :stored)", stored=stored)
    with engine.connect() as connection:
        assert connection.execute(select(table.c.email)).scalar() == marked("x")


def test_sealed_inside_and_opened_outside(engine: Engine, table: Table, ring: KeyRing) -> None:
    """A value that an INSERT sealed is read by raw SQL and opened by the door."""
    with engine.begin() as connection:
        connection.execute(insert(table), {"id": "a", "tenant": 5, "email": marked("x"), "data": b""})
    stored = raw(engine, "SELECT email FROM door")
    assert ring.open(table.c.email, ("a", 5), stored) == marked("x")
    with pytest.raises(AuthenticationError):
        ring.open(table.c.email, ("a", 6), stored)
    with pytest.raises(AuthenticationError):
        ring.open(table.c.data, "a", stored)


def test_wrong_use(table: Table, ring: KeyRing) -> None:
    """Missing symbols, other columns and None are refused with what to give."""
    with pytest.raises(ConfigurationError, match="id, tenant"):
        ring.seal(table.c.email, "a", marked("x"))
    with pytest.raises(ConfigurationError, match="no encrypted column"):
        ring.seal(table.c.id, "a", marked("x"))
    with pytest.raises(EncodingError, match="NULL"):
        ring.seal(table.c.data, "a", None)


@pytest.mark.parametrize("state", [KeyState.DISABLED, KeyState.RETIRED])
def test_states_reach_a_raw_pipeline(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, installation_key: InstallationKey, state: KeyState
) -> None:
    """A process that has no statements, but seals and opens, notices what becomes of keys elsewhere, too (R-29)."""
    ring, plain = make_ring(refresh_seconds=0), make_engine(url)
    ring.initialize(make_engine(url, ring), Base.metadata)
    stored = ring.seal(Claimant.email, 1, marked("x"))
    with plain.begin() as connection:
        change_state(connection, installation_key, "identities", state)
    assert key_number(stored) != key_number(ring.seal(Claimant.email, 2, marked("y")))
    if state is KeyState.RETIRED:
        assert marked("x") == ring.open(Claimant.email, 1, stored)
        return
    with pytest.raises(KeyStateError, match="is disabled"):
        ring.open(Claimant.email, 1, stored)


def test_raw_pipeline_makes_one_key(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Values that are sealed one after the other share a key, also one that the first of them has made."""
    ring, plain = make_ring(), make_engine(url)
    ring.initialize(make_engine(url, ring))
    stored = [ring.seal(Claimant.email, number, marked("x")) for number in range(5)]
    with plain.connect() as connection:
        assert {key_number(one) for one in stored} == {record.number for record in store.working(connection)}
    assert len({key_number(one) for one in stored}) == 1


def test_use_of_a_failed_transaction_counts(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """What was reserved for a value whose transaction failed is spent, and written down at the next chance (R-19)."""
    ring, plain = make_ring(), make_engine(url)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    event.listen(engine, "do_execute", fail)
    with pytest.raises(RuntimeError):
        ring.seal(Claimant.email, 1, marked("x"))
    event.remove(engine, "do_execute", fail)
    number = key_number(ring.seal(Claimant.email, 2, marked("x")))
    ring.initialize(engine)
    with plain.connect() as connection:
        assert store.usage(connection, str(number)) == _FIRST_PORTION


def fail(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
    """Be a database that fails when a transaction's reservations are looked at, before its commit."""
    if statement.startswith("SELECT keyvault_usage.id"):
        raise RuntimeError


@pytest.mark.parametrize("stored", [5, 1.5, "text", None])
def test_what_is_no_bytes_is_no_envelope(table: Table, ring: KeyRing, stored: Any) -> None:
    """Only bytes are opened; a number is an error, and does not become that many bytes."""
    with pytest.raises(
        MalformedEnvelopeError, match=r"door\.data: an envelope is bytes, and .* is none; give the bytes"
    ):
        ring.open(table.c.data, "a", stored)


def test_no_stored_tail_opens_in_another_row(engine: Engine, table: Table, ring: KeyRing) -> None:
    """Stored bytes that run on into a symbol open in no other row, for every tail of the symbols (A-53).

    With a length in front of a symbol, a value of row `x5:admin` opened in row `admin`.
    """
    victims = ["admin", "n", "5:admin", "", "admin:5"]
    for number, source in enumerate(("x5:admin", "admin:5:admin", ":", "a:1n", "x5:admin:5")):
        with engine.begin() as connection:
            connection.execute(table.delete())
            connection.execute(
                insert(table), {"id": source, "tenant": number, "email": None, "data": marked("x").encode()}
            )
        envelope = bytes(raw(engine, "SELECT data FROM door"))
        symbols = f"{source}:{len(source)}".encode()
        for victim in victims:
            with engine.begin() as connection:
                connection.execute(table.delete())
                connection.execute(insert(table), {"id": victim, "tenant": 1})
            for cut in range(len(symbols) + 1):
                raw(engine, "UPDATE door SET data = :stored", stored=envelope + symbols[:cut])
                with engine.connect() as connection, pytest.raises(AuthenticationError):
                    connection.execute(select(table.c.data)).all()
