"""A re-encryption leaves every value under an active key, and touches nothing else (R-30)."""

import datetime
import uuid
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, Engine, Integer, MetaData, Table, and_, insert, select, update
from support.jobs import (
    CLAIMANTS,
    add_claimants,
    all_done,
    claimant,
    job_parts,
    kinds,
    open_values,
    raw_values,
    rotate,
)
from support.keys import KEYS, KeyCase, key_table
from support.leaks import marked
from support.models import Base

from sa_keyvault import ConfigurationError, Encrypted, KeyRing, Provisioning, store
from sa_keyvault.administration import provision
from sa_keyvault.envelope import key_number
from sa_keyvault.reencryption import Pace, examine, reencrypt, reencrypting

ALL = [claimant(number) for number in range(1, 101)]
NAMES = ("email", "voice_model")


def test_every_value_moves(rotated: Engine, plain: Engine) -> None:
    """Every value opens to what it was, and is under an active key; nothing is left in the list of jobs."""
    report = reencrypt(rotated, CLAIMANTS)
    with rotated.connect() as connection:
        assert open_values(connection, CLAIMANTS, *NAMES) == ALL
    with plain.connect() as connection:
        assert [{"active"}, {"active", "null"}] == [kinds(connection, CLAIMANTS, name) for name in NAMES]
        assert job_parts(connection) == []
    assert (report.rows, report.is_finished, report.others, report.unreadable) == (100, True, 0, ())


def test_current_values_are_not_touched(rotated: Engine, plain: Engine) -> None:
    """A value that is under an active key keeps its bytes, beside others of its row that do not."""
    with rotated.begin() as connection:
        connection.execute(update(CLAIMANTS).where(CLAIMANTS.c.id <= 40).values(email=marked("new")))
    with plain.connect() as connection:
        before = raw_values(connection, CLAIMANTS, "email")
    assert reencrypt(rotated, CLAIMANTS, ["email"]).rows == 60
    with plain.connect() as connection:
        after = raw_values(connection, CLAIMANTS, "email")
    assert before[:40] == after[:40]
    assert set(before[40:]).isdisjoint(after[40:])
    assert reencrypt(rotated, CLAIMANTS).rows == 67  # those with a voice model
    with plain.connect() as connection:
        assert after == raw_values(connection, CLAIMANTS, "email")


def test_second_run_does_nothing(rotated: Engine, plain: Engine) -> None:
    """A job over a table that is current writes nothing."""
    reencrypt(rotated, CLAIMANTS)
    with plain.connect() as connection:
        before = [raw_values(connection, CLAIMANTS, name) for name in NAMES]
    report = reencrypt(rotated, CLAIMANTS)
    with plain.connect() as connection:
        assert before == [raw_values(connection, CLAIMANTS, name) for name in NAMES]
    assert (report.rows, report.is_finished) == (0, True)


def test_only_the_named_column(rotated: Engine, plain: Engine) -> None:
    """A job over one column leaves the others as they are."""
    with plain.connect() as connection:
        before = raw_values(connection, CLAIMANTS, "voice_model")
    reencrypt(rotated, CLAIMANTS, ["email"])
    with plain.connect() as connection:
        assert before == raw_values(connection, CLAIMANTS, "voice_model")
        assert {"active"} == kinds(connection, CLAIMANTS, "email")


def test_empty_table(rotated: Engine) -> None:
    """A table without rows is done."""
    with rotated.begin() as connection:
        connection.execute(CLAIMANTS.delete())
    report = reencrypt(rotated, CLAIMANTS)
    assert (report.rows, report.is_finished) == (0, True)


def test_rotated_while_it_runs(rotated: Engine, plain: Engine, admin: KeyRing) -> None:
    """Where the key is rotated in the middle, the job goes through the table again until all is under the newest."""
    rotations = iter([None])

    def rotate_once(_: object) -> None:
        if next(rotations, 0) is None:
            rotate(plain, admin, "identities")

    report = reencrypt(rotated, CLAIMANTS, ["email"], Pace(batch_size=30), rotate_once)
    with plain.connect() as connection:
        assert {"active"} == kinds(connection, CLAIMANTS, "email")
    assert (report.rows, report.is_finished) == (130, True)


def test_dry_run(rotated: Engine, plain: Engine) -> None:
    """An examination changes no byte and says how many rows are to be written."""
    with rotated.begin() as connection:
        connection.execute(update(CLAIMANTS).where(CLAIMANTS.c.id <= 10).values(email=marked(), voice_model=None))
    with plain.connect() as connection:
        before = [raw_values(connection, CLAIMANTS, name) for name in NAMES]
    report = examine(rotated, reencrypting(CLAIMANTS), Pace(batch_size=7))
    with plain.connect() as connection:
        assert before == [raw_values(connection, CLAIMANTS, name) for name in NAMES]
        assert job_parts(connection) == []
    assert (report.rows, report.is_finished) == (90, False)
    reencrypt(rotated, CLAIMANTS)
    report = examine(rotated, reencrypting(CLAIMANTS))
    assert (report.rows, report.is_finished) == (0, True)


def test_in_the_callers_transaction(rotated: Engine, plain: Engine) -> None:
    """On a connection, all that the job writes is part of its transaction: rolled back, nothing has happened."""
    with plain.connect() as connection:
        before = raw_values(connection, CLAIMANTS, "email")
    with rotated.connect() as connection:
        assert reencrypt(connection, CLAIMANTS).rows == 100
        assert {"active"} == kinds(connection, CLAIMANTS, "email")
        connection.rollback()
    with plain.connect() as connection:
        assert before == raw_values(connection, CLAIMANTS, "email")
    with rotated.begin() as connection:
        assert reencrypt(connection, CLAIMANTS).is_finished
    with plain.connect() as connection:
        assert {"active"} == kinds(connection, CLAIMANTS, "email")


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
@pytest.mark.parametrize("following", [Provisioning.original(), Provisioning.default()], ids=["original", "default"])
def test_values_of_the_original(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, following: Provisioning
) -> None:
    """Values under the original's 3DES keys move to new ones of 3DES, and to AES behind a change of provisioning."""
    former, ring = (make_ring(refresh_seconds=0, provisioning=one) for one in (Provisioning.original(), following))
    first = make_engine(url, former)
    former.initialize(first, Base.metadata)
    Base.metadata.create_all(first)
    add_claimants(first, range(1, 101))
    if following == Provisioning.original():
        rotate(plain, ring, "identities", "models")
    else:
        with plain.begin() as connection:
            provision(connection, ring)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with plain.connect() as connection:
        assert [{"retired"}, {"retired", "null"}] == [kinds(connection, CLAIMANTS, name) for name in NAMES]
    report = reencrypt(engine, CLAIMANTS)
    assert (report.rows, report.is_finished, all_done(engine)) == (100, True, True)
    with plain.connect() as connection:
        suites = {record.number: record.suite for record in store.working(connection)}
        stored = [*raw_values(connection, CLAIMANTS, "email"), *raw_values(connection, CLAIMANTS, "voice_model")]
    assert {following.working_suite.name} == {suites[key_number(value)] for value in stored if value is not None}


# -- primary keys ------------------------------------------------------------------------------------------------------

_MANY: dict[str, Callable[[int], Any]] = {
    "integer": lambda number: number - 12,
    "bigint": lambda number: (number - 12) * 2**55,
    "string": lambda number: f"{'aZé🔑:_%'[number % 7]}{number}",
    "unicode": lambda number: f"{number}{'aZé🔑:_%'[number % 7]}",
    "char": lambda number: f"{number:x}k",
    "uuid": lambda number: uuid.uuid5(uuid.NAMESPACE_DNS, str(number)),
    "uuid-text": lambda number: str(uuid.uuid5(uuid.NAMESPACE_DNS, str(number))),
    "uuid-char": lambda number: uuid.uuid5(uuid.NAMESPACE_DNS, str(number)),
    "bytes": lambda number: uuid.uuid5(uuid.NAMESPACE_DNS, str(number)).bytes[: 1 + number % 15] + bytes([number]),
    "date": lambda number: datetime.date(1 + number * 150, 1 + number % 12, 1 + number % 28),
}


def _keys(case: KeyCase) -> list[dict[str, Any]]:
    """Return 24 keys of that kind, or the two that an enum has."""
    if case.name == "composite":
        return [{"tenant": tenant, "number": number} for tenant, number in product("b1ü🔑Z ", range(-2, 2))]
    many = _MANY.get(case.name)
    return [case.first, case.second] if many is None else [{"id": many(number)} for number in range(24)]


@pytest.mark.parametrize("case", KEYS, ids=lambda case: case.name)
def test_every_kind_of_key(
    case: KeyCase, url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, admin: KeyRing
) -> None:
    """Rows of every kind of key are walked through in small batches and parts, none left out, none done twice."""
    metadata, ring = MetaData(), make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    table = key_table(case, metadata)
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    rows = [{**key, "email": marked(f"{key}"), "phone": None} for key in _keys(case)]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    rotate(plain, admin, "identities")
    report = reencrypt(engine, table, pace=Pace(batch_size=5, part_size=10))
    assert (report.rows, report.is_finished) == (len(rows), True)
    with engine.connect() as connection:
        for row in rows:
            where = and_(*(table.c[name] == row[name] for name in case.first))
            assert [row["email"]] == connection.execute(select(table.c.email).where(where)).scalars().all()
        assert {"active"} == kinds(connection, table, "email")


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_unknown_column(rotated: Engine) -> None:
    """A column that is not encrypted is refused by name, with those that are."""
    with pytest.raises(ConfigurationError, match=r"no encrypted column 'id'; it has: email, voice_model"):
        reencrypt(rotated, CLAIMANTS, ["email", "id"])


def test_table_without_encrypted_columns(rotated: Engine) -> None:
    """A table with nothing to do is refused."""
    bare = Table("bare", MetaData(), Column("id", Integer, primary_key=True))
    with pytest.raises(ConfigurationError, match="bare has no encrypted column"):
        reencrypt(rotated, bare)


def test_table_without_key(rotated: Engine) -> None:
    """A table without a primary key cannot be walked through, and is refused."""
    keyless = Table(
        "keyless",
        MetaData(),
        Column("number", Integer, nullable=False),
        Column("email", Encrypted(bind_to=("number",))),
    )
    with pytest.raises(ConfigurationError, match="keyless has no primary key"):
        reencrypt(rotated, keyless)


def test_engine_without_ring(rotated: Engine, plain: Engine) -> None:
    """An engine without a key ring is refused."""
    with pytest.raises(ConfigurationError, match="this engine has no key ring"):
        reencrypt(plain, CLAIMANTS)
