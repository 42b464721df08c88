"""Rows of the key store with values of other types, which SQLite keeps in any column: refused, and never used."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Connection, Engine, LargeBinary, String, Table, text
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import KeyRecordError, store
from sa_keyvault import administration as administer

READERS: dict[str, Callable[[Connection], Any]] = {
    "keyvault_column": store.columns,
    "keyvault_event": lambda connection: list(store.events(connection)),
    "keyvault_installation": store.installations,
    "keyvault_job": lambda connection: store.job_parts(connection, "job"),
    "keyvault_master_key": store.masters,
    "keyvault_master_wrap": store.wraps,
    "keyvault_store": store.store_record,
    "keyvault_working_key": store.working,
}
NOT_READ = {"keyvault_job.job_id", "keyvault_job.is_finished", "keyvault_store.id"}


def fields() -> Iterator[Any]:
    """Yield every column of the key store that is read, with values of each type that it must not have."""
    for name in READERS:
        table = store.tables.tables[name]
        for column in table.columns:
            if f"{name}.{column.name}" not in NOT_READ:
                yield from ((table, column.name, odd) for odd in _odd(column.type))


def _odd(type_: Any) -> tuple[str, ...]:
    if isinstance(type_, LargeBinary):
        return ("'text'", "''", "-5", "1500000000", "9223372036854775807", "1.5")
    # an integer in a column of texts becomes a text
    return ("x'ff00'",) if isinstance(type_, String) else ("'text'", "''", "1.5", "x'ff00'")


@pytest.fixture
def filled(sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """An engine without a ring, on a key store with a row in every table."""
    ring = make_ring()
    engine = make_engine(sqlite_url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=marked("ada@example.org")))
    plain = make_engine(sqlite_url)
    with plain.begin() as connection:
        store.add_parts(connection, [store.JobPart("job", 0, "a job", "", "", 0, False, "", "")])
    return plain


def change(connection: Connection, table: Table, name: str, value: str) -> None:
    """Write an SQL expression into one field of a table's first row, whatever its type is."""
    connection.execute(
        text(f"UPDATE {table.name} SET {name} = {value} WHERE rowid IN (SELECT min(rowid) FROM {table.name})")
    )


def test_a_field_of_another_type_is_refused(filled: Engine) -> None:
    """A field of another type is an error that names table and field, and shows no value (A-44)."""
    seen = []
    for table, name, odd in fields():
        with filled.connect() as connection:
            change(connection, table, name, odd)
            with pytest.raises(KeyRecordError) as caught:
                READERS[table.name](connection)
            connection.rollback()
        seen.append(str(caught.value))
        assert table.name in seen[-1]
        assert name in seen[-1]
        assert not any(value in seen[-1] for value in ("text'", "1500000000", "1.5", "ff00"))
    assert len(seen) == len(list(fields()))


@pytest.mark.parametrize("number", ["0", "-5", "4294967296", "9223372036854775807"])
def test_a_number_out_of_range_is_refused(filled: Engine, number: str) -> None:
    """A working key's number that no envelope has room for is refused, by operations and starts (A-44)."""
    with filled.connect() as connection:
        change(connection, store.tables.tables["keyvault_working_key"], "number", number)
        for read in (store.working, lambda connection: store.working_in_area(connection, "identities")):
            with pytest.raises(
                KeyRecordError, match="a row of keyvault_working_key has a number that is none from 1 to"
            ):
                read(connection)


def test_states_of_another_type_are_refused(filled: Engine) -> None:
    """What is read of the keys that are not active, and how many there are, is as strict (A-44)."""
    table = store.tables.tables["keyvault_working_key"]
    cases = {"state": "x'ff'", "epoch": "1.5", "number": "'text'"}
    for (name, odd), state in itertools.product(cases.items(), ["retired"]):
        with filled.connect() as connection:
            change(connection, table, "state", f"'{state}'")
            change(connection, table, name, odd)
            with pytest.raises(KeyRecordError, match=rf"{name} .*of type"):
                store.inactive(connection)
    for name in ("state", "suite", "master_id"):
        with filled.connect() as connection:
            change(connection, table, name, "x'ff'")
            with pytest.raises(KeyRecordError, match=rf"{name} of type bytes, not str"):
                store.working_counts(connection)


@pytest.mark.parametrize("amount", ["1.5", "9e999"])
def test_an_amount_that_is_no_integer_is_refused(filled: Engine, amount: str) -> None:
    """A reservation of another amount than a whole one is an error, and not rounded."""
    with filled.connect() as connection:
        (number,) = (one.number for one in store.working_in_area(connection, "identities"))
        change(connection, store.tables.tables["keyvault_usage"], "key_id", f"'{number}'")
        change(connection, store.tables.tables["keyvault_usage"], "amount", amount)
        with pytest.raises(KeyRecordError, match="a row of keyvault_usage has an amount that is no integer"):
            store.usage(connection, str(number))
        with pytest.raises(KeyRecordError, match="a row of keyvault_usage has an amount that is no integer"):
            store.total_usage(connection)


def test_a_fraction_is_no_signed_version(
    filled: Engine, sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Version 1.5 has the signed bytes of version 1, and starts no server (A-44)."""
    with filled.begin() as connection:
        change(connection, store.tables.tables["keyvault_store"], "version", "version + 0.5")
    ring = make_ring()
    with pytest.raises(KeyRecordError, match="version of a row of keyvault_store is of type float"):
        ring.initialize(make_engine(sqlite_url, ring), Base.metadata)


def test_a_second_record_of_the_store_is_refused(filled: Engine) -> None:
    """A second row beside the store's own is an error that says so."""
    with filled.begin() as connection:
        connection.execute(
            text("INSERT INTO keyvault_store SELECT 2, store_id, version, digest, events, head FROM keyvault_store")
        )
        with pytest.raises(KeyRecordError, match="keyvault_store has 2 rows, and the library writes one"):
            store.store_record(connection)


@pytest.mark.parametrize(
    "der", ["3013300d06072a8648ce3d020106022a03030200ff", "300c300706032a03040500030100"], ids=["curve", "algorithm"]
)
def test_a_public_key_of_an_unknown_algorithm_is_reported(filled: Engine, make_ring: RingMaker, der: str) -> None:
    """An installation's public key whose algorithm nobody knows is found by the audit, and stops operations (A-44)."""
    ring = make_ring()
    with filled.begin() as connection:
        change(connection, store.tables.tables["keyvault_installation"], "public_key", f"x'{der}'")
        report = administer.verify_events(connection, [ring.installation_key.fingerprint])
        assert any("is not signed by installation key" in finding for finding in report.findings)
        with pytest.raises(KeyRecordError, match=r"the public key of installation key .* was changed outside"):
            administer.rotate_area(connection, ring, "identities")
