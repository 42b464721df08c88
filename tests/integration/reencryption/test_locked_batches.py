"""On SQLite a plain re-encryption writes each batch with one UPDATE, under the write lock, and says the same things."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, Engine, Integer, MetaData, String, Table, event, insert, select, text
from sqlalchemy.exc import OperationalError
from support.jobs import CLAIMANTS, claimant, kinds, open_values, raw_values, rotate, set_raw
from support.leaks import marked

from sa_keyvault import Encrypted, KeyRing, ReencryptionError, store
from sa_keyvault.envelope import key_number
from sa_keyvault.reencryption import Pace, reencrypt

pytestmark = pytest.mark.parametrize("url", ["sqlite"], indirect=True)

NAMES = ("email", "voice_model")
ALL = [claimant(number) for number in range(1, 101)]


@contextmanager
def updates(engine: Engine) -> Iterator[list[str]]:
    """Collect how the values of a job are written: at once for a batch, or row by row."""
    found: list[str] = []

    def see(conn: object, cursor: object, statement: str, parameters: object, context: object, many: bool) -> None:
        if statement.startswith("UPDATE") and "email=" in statement:
            found.append("rows" if many else "batch" if "sa_keyvault_new_0" in statement else "other")

    event.listen(engine, "before_cursor_execute", see)
    yield found
    event.remove(engine, "before_cursor_execute", see)


def test_one_update_for_each_batch(rotated: Engine, plain: Engine) -> None:
    """Every batch is one UPDATE, and leaves every value of both columns under an active key, as it opened before."""
    with updates(rotated) as found:
        report = reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=40))
    assert (found, report.rows, report.is_finished) == (["batch"] * 3, 100, True)
    with rotated.connect() as connection:
        assert open_values(connection, CLAIMANTS, *NAMES) == ALL
    with plain.connect() as connection:
        assert [{"active"}, {"active", "null"}] == [kinds(connection, CLAIMANTS, name) for name in NAMES]


def test_connection_is_left_as_it_was(rotated: Engine) -> None:
    """The functions of the UPDATE find nothing any more when the connection goes back to its pool."""
    reencrypt(rotated, CLAIMANTS)
    # what a driver without its function says differs between versions of Python
    failure = re.compile("no such function|user-defined function raised exception")
    with rotated.connect() as connection, pytest.raises(OperationalError, match=failure):
        connection.execute(text("SELECT sa_keyvault_new_0(1)"))


def test_current_values_between_others(rotated: Engine, plain: Engine) -> None:
    """Rows between those of a batch, and the other value of a row, keep their bytes where they are current."""
    with rotated.begin() as connection:
        # a row that is all current, and one that is half so
        for number in (7, 8):
            values = {"email": marked("new"), **({"voice_model": None} if number == 7 else {})}
            connection.execute(CLAIMANTS.update().where(CLAIMANTS.c.id == number).values(values))
    with plain.connect() as connection:
        before = [raw_values(connection, CLAIMANTS, name) for name in NAMES]
    with updates(rotated) as found:
        report = reencrypt(rotated, CLAIMANTS)
    assert (99, {"batch"}) == (report.rows, set(found))
    with plain.connect() as connection:
        after = [raw_values(connection, CLAIMANTS, name) for name in NAMES]
    kept = [number for number, (old, new) in enumerate(zip(before[0], after[0], strict=True), 1) if old == new]
    assert kept == [7, 8]
    kept = [number for number, (old, new) in enumerate(zip(before[1], after[1], strict=True), 1) if old == new]
    assert kept == sorted({7, *range(3, 101, 3)})


def test_key_is_worn_within_a_batch(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, rotated: Engine, admin: KeyRing, plain: Engine
) -> None:
    """A batch of more values than a key may seal is under several keys, each used no more than was reserved."""
    ring = make_ring(refresh_seconds=0, usage_limit=30)
    engine = make_engine(url, ring)
    ring.initialize(engine)
    rotate(plain, admin, "identities")
    with updates(engine) as found:
        report = reencrypt(engine, CLAIMANTS, ["email"], Pace(batch_size=100))
    assert (100, True, {"batch"}) == (report.rows, report.is_finished, set(found))
    with plain.connect() as connection:
        numbers = [key_number(value) for value in raw_values(connection, CLAIMANTS, "email")]
        used = {number: numbers.count(number) for number in set(numbers)}
        reserved = {number: store.usage(connection, str(number)) for number in used}
    assert len(used) >= 4
    assert [number for number in used if not used[number] <= reserved[number] <= 30] == []
    with engine.connect() as connection:
        assert open_values(connection, CLAIMANTS, *NAMES) == ALL


def test_unreadable_value_in_a_batch(rotated: Engine, plain: Engine) -> None:
    """A batch with a value that does not open is done row by row, and the value reported; the other batches are not."""
    with plain.begin() as connection:
        set_raw(connection, CLAIMANTS, "email", 50, b"no envelope")
    with updates(rotated) as found:
        report = reencrypt(rotated, CLAIMANTS, ["email"], Pace(batch_size=40, unreadable_limit=1))
    assert (
        found,
        [(one.column, one.key) for one in report.unreadable],
        report.rows,
    ) == (["batch", "rows", "batch"], [("email", (50,))], 99)


def test_altering_trigger(rotated: Engine, plain: Engine) -> None:
    """A trigger that alters one row after the UPDATE is noticed by what is read back, and nothing of it is kept."""
    with plain.begin() as connection:
        before = raw_values(connection, CLAIMANTS, "email")
        connection.execute(
            text(
                "CREATE TRIGGER spoil AFTER UPDATE ON claimant WHEN NEW.id = 7 AND NEW.email <> x'f800' "
                "BEGIN UPDATE claimant SET email = x'f800' WHERE id = 7; END"
            )
        )
    with updates(rotated) as found, pytest.raises(ReencryptionError, match="1 rows of claimant do not read back"):
        reencrypt(rotated, CLAIMANTS, ["email"])
    with plain.connect() as connection:
        after = raw_values(connection, CLAIMANTS, "email")
    assert (found[0], before[6]) == ("batch", after[6])


def test_trigger_of_the_application(rotated: Engine, plain: Engine) -> None:
    """An UPDATE trigger of the table is run once for each row that is written, and for no other one."""
    with plain.begin() as connection:
        connection.execute(text("CREATE TABLE seen (id INTEGER)"))
        connection.execute(
            text("CREATE TRIGGER see AFTER UPDATE ON claimant BEGIN INSERT INTO seen VALUES (NEW.id); END")
        )
    with rotated.begin() as connection:
        connection.execute(CLAIMANTS.update().where(CLAIMANTS.c.id == 7).values(email=marked("new"), voice_model=None))
        connection.execute(text("DELETE FROM seen"))
    reencrypt(rotated, CLAIMANTS)
    with plain.connect() as connection:
        seen = connection.execute(text("SELECT id FROM seen ORDER BY id")).scalars().all()
    assert [number for number in range(1, 101) if number != 7] == seen


@pytest.mark.parametrize("kind", [{}, {"sqlite_with_rowid": False}], ids=["rowid", "without rowid"])
def test_composite_key_and_other_symbols(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, admin: KeyRing, kind: dict[str, bool]
) -> None:
    """Rows with a key of two columns, and with symbols that are none of the key, are written at once, and open."""
    metadata, ring = MetaData(), make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    table = Table(
        "tenants",
        metadata,
        Column("tenant", String(20), primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("case", String(20), nullable=False),
        Column("email", Encrypted(area="identities", bind_to=("case",))),
        **kind,
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    rows = [
        {"tenant": tenant, "number": number, "case": f"{tenant}:{number}", "email": marked(f"{tenant}{number}")}
        for tenant in ("a", "ü:1", "🔑")
        for number in range(-2, 8)
    ]
    with engine.begin() as connection:
        connection.execute(insert(table), rows)
    rotate(plain, admin, "identities")
    with updates(engine) as found:
        report = reencrypt(engine, table, pace=Pace(batch_size=7, part_size=12))
    assert (30, True, {"batch"}) == (report.rows, report.is_finished, set(found))
    with engine.connect() as connection:
        found_rows = connection.execute(select(table).order_by(table.c.tenant, table.c.number)).mappings()
        assert sorted(rows, key=lambda row: (row["tenant"].encode(), row["number"])) == [
            dict(row) for row in found_rows
        ]
        assert kinds(connection, table, "email") == {"active"}


def test_engine_that_commits_every_statement(rotated: Engine, plain: Engine) -> None:
    """An engine in AUTOCOMMIT mode has no lock that outlives a statement: there each row is compared and written."""
    engine = rotated.execution_options(isolation_level="AUTOCOMMIT")
    with updates(rotated) as found:
        report = reencrypt(engine, CLAIMANTS)
    assert (100, True, {"rows"}) == (report.rows, report.is_finished, set(found))
    with plain.connect() as connection:
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
