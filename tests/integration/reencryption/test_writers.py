"""An application that writes while a job runs always wins, and what the database stores is what was written."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, DateTime, Engine, Integer, MetaData, Table, event, func, select, text
from support.jobs import CLAIMANTS, claimant, kinds, open_values, raw_values, rotate, set_raw
from support.leaks import marked

from sa_keyvault import Encrypted, KeyRing, ReencryptionError
from sa_keyvault.reencryption import Pace, reencrypt

WRITERS, ROWS_EACH, JOBS = 8, 1, 2


@contextmanager
def between_read_and_write(engine: Engine, act: Callable[[], object], times: int = 1) -> Iterator[None]:
    """Act each time when a job has read rows of the claimants, and has not yet written them."""
    left = iter(range(times))
    verbs: list[str] = []

    def see(conn: object, cursor: object, statement: str, *_: object) -> None:
        # to count rows, or to look where parts end, is no reading of them
        if statement.startswith(("SELECT claimant.", "UPDATE claimant")) and "email" in statement:
            verbs.append(statement[:6])

    def commit(conn: object) -> None:
        has_only_read = set(verbs) == {"SELECT"}
        verbs.clear()
        if has_only_read and next(left, None) is not None:
            act()

    event.listen(engine, "after_cursor_execute", see)
    event.listen(engine, "commit", commit)
    yield
    event.remove(engine, "after_cursor_execute", see)
    event.remove(engine, "commit", commit)


def lockless(engine: Engine) -> Engine:
    """Return the engine, on SQLite in a mode in which a job has no lock: with one, nobody writes in between."""
    return engine.execution_options(isolation_level="AUTOCOMMIT") if engine.dialect.name == "sqlite" else engine


@pytest.fixture
def other(rotated: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """Another server of the application."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine)
    return engine


# -- compare and swap --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"email": marked("changed")}, (marked("changed"), marked("7").encode())),
        ({"voice_model": marked("changed").encode()}, (claimant(7)[0], marked("changed").encode())),
        ({"voice_model": None}, (claimant(7)[0], None)),
        ({"email": marked("both"), "voice_model": b""}, (marked("both"), b"")),
    ],
    ids=["one value", "the other", "to NULL", "both"],
)
def test_write_in_between_wins(
    rotated: Engine, other: Engine, values: dict[str, Any], expected: tuple[str, bytes | None]
) -> None:
    """What the application writes between a job's SELECT and its UPDATE stays; the rest of the row moves (A-41)."""

    def write() -> None:
        with other.begin() as connection:
            connection.execute(CLAIMANTS.update().where(CLAIMANTS.c.id == 7).values(values))

    with between_read_and_write(rotated, write):
        report = reencrypt(lockless(rotated), CLAIMANTS)
    assert report.is_finished
    with other.connect() as connection:
        found = open_values(connection, CLAIMANTS, "email", "voice_model")
        assert [expected if number == 7 else claimant(number) for number in range(1, 101)] == found
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
        assert kinds(connection, CLAIMANTS, "voice_model") == {"active", "null"}


def test_row_deleted_in_between(rotated: Engine, other: Engine) -> None:
    """A row that is deleted between SELECT and UPDATE stays deleted."""

    def delete() -> None:
        with other.begin() as connection:
            connection.execute(CLAIMANTS.delete().where(CLAIMANTS.c.id == 7))

    with between_read_and_write(rotated, delete):
        report = reencrypt(lockless(rotated), CLAIMANTS)
    assert (report.rows, report.is_finished) == (99, True)
    with other.connect() as connection:
        assert [claimant(number) for number in range(1, 101) if number != 7] == open_values(
            connection, CLAIMANTS, "email", "voice_model"
        )


def test_row_moved_in_between(rotated: Engine, other: Engine) -> None:
    """A row that gets another primary key between SELECT and UPDATE is neither lost nor doubled."""

    def move() -> None:
        with other.begin() as connection:
            connection.execute(
                CLAIMANTS.update()
                .where(CLAIMANTS.c.id == 7)
                .values(id=1007, email=claimant(7)[0], voice_model=claimant(7)[1])
            )

    with between_read_and_write(rotated, move):
        assert reencrypt(lockless(rotated), CLAIMANTS).is_finished
    with other.connect() as connection:
        found = open_values(connection, CLAIMANTS, "id", "email")
        assert [(number, claimant(number)[0]) for number in range(1, 101) if number != 7] == found[:-1]
        assert found[-1] == (1007, claimant(7)[0])


def test_row_that_never_rests(rotated: Engine, plain: Engine) -> None:
    """A row that is another one whenever it is written stops the job; run again, it is done."""
    with plain.connect() as connection:
        old = raw_values(connection, CLAIMANTS, "voice_model")[6]
    versions = cycle([None, old])

    def write() -> None:
        with plain.begin() as connection:
            set_raw(connection, CLAIMANTS, "voice_model", 7, next(versions))

    with (
        between_read_and_write(rotated, write, 100),
        pytest.raises(ReencryptionError, match=r"1 rows of claimant are written too often; run the job again"),
    ):
        reencrypt(lockless(rotated), CLAIMANTS)
    assert reencrypt(lockless(rotated), CLAIMANTS).is_finished
    with plain.connect() as connection:
        assert kinds(connection, CLAIMANTS, "email") == {"active"}


def _append(engine: Engine, writer: int, stop: threading.Event, appended: dict[int, int]) -> None:
    """Read a value of each own row, append to it and write it, again and again."""
    own = [1 + writer + WRITERS * number for number in range(ROWS_EACH)]
    while not stop.is_set() or own[0] not in appended:
        for number in own:
            row = CLAIMANTS.c.id == number
            with engine.begin() as connection:
                before = connection.execute(select(CLAIMANTS.c.email).where(row)).scalar_one()
                connection.execute(CLAIMANTS.update().where(row).values(email=f"{before}+"))
            appended[number] = appended.get(number, 0) + 1


def test_eight_writers(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, admin: KeyRing, rotated: Engine
) -> None:
    """Eight threads append to values while keys are rotated and jobs run: no append is lost (A-38, A-41)."""
    options = {"connect_args": {"timeout": 60}} if url.get_backend_name() == "sqlite" else {}
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring, pool_size=WRITERS + 2, **options)
    ring.initialize(engine)
    administrator = make_engine(url, **options)
    stop, appended = threading.Event(), dict[int, int]()
    with ThreadPoolExecutor(WRITERS) as executor:
        writers = [executor.submit(_append, engine, number, stop, appended) for number in range(WRITERS)]
        for _ in range(JOBS):
            rotate(administrator, admin, "identities")
            assert reencrypt(engine, CLAIMANTS, pace=Pace(batch_size=25)).is_finished
        stop.set()
        for writer in writers:
            writer.result()
    assert reencrypt(engine, CLAIMANTS).is_finished
    with engine.connect() as connection:
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
        assert [(claimant(number)[0] + "+" * appended.get(number, 0),) for number in range(1, 101)] == open_values(
            connection, CLAIMANTS, "email"
        )


# -- what is stored ----------------------------------------------------------------------------------------------------

AFTER_UPDATE = "CREATE TRIGGER spoil AFTER UPDATE ON claimant"
ON_UPDATE = "CREATE TRIGGER spoil BEFORE UPDATE ON claimant FOR EACH ROW"
FUNCTION = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS"
TRIGGERS = {
    ("alters", "sqlite"): (
        f"{AFTER_UPDATE} WHEN NEW.id = 7 BEGIN UPDATE claimant SET email = x'f800' WHERE id = 7; END",
    ),
    ("alters", "postgresql"): (
        rf"{FUNCTION} $$ BEGIN NEW.email := NEW.email || '\x00'::bytea; RETURN NEW; END $$",
        f"{ON_UPDATE} WHEN (NEW.id = 7) EXECUTE FUNCTION spoil()",
    ),
    ("alters", "mysql"): (f"{ON_UPDATE} SET NEW.email = IF(NEW.id = 7, CONCAT(NEW.email, x'00'), NEW.email)",),
    ("keeps", "sqlite"): (f"{ON_UPDATE} WHEN NEW.id = 7 BEGIN SELECT RAISE(IGNORE); END",),
    ("keeps", "postgresql"): (
        f"{FUNCTION} $$ BEGIN RETURN NULL; END $$",
        f"{ON_UPDATE} WHEN (NEW.id = 7) EXECUTE FUNCTION spoil()",
    ),
    ("keeps", "mysql"): (f"{ON_UPDATE} SET NEW.email = IF(NEW.id = 7, OLD.email, NEW.email)",),
}
"""A trigger that alters what is written to one row, and one that lets the row as it was; by name of the dialect."""


@pytest.mark.parametrize("kind", ["alters", "keeps"])
def test_trigger_is_noticed(rotated: Engine, plain: Engine, kind: str) -> None:
    """A trigger that alters or drops what is written stops the job, and nothing of that batch is kept."""
    with plain.begin() as connection:
        for statement in TRIGGERS[kind, connection.dialect.name]:
            connection.exec_driver_sql(statement)
        before = [raw_values(connection, CLAIMANTS, name) for name in ("email", "voice_model")]
    with pytest.raises(ReencryptionError, match=r"1 rows of claimant (do not read back|are written too often)"):
        reencrypt(rotated, CLAIMANTS, ["email"], Pace(batch_size=5))
    with plain.begin() as connection:
        after = raw_values(connection, CLAIMANTS, "email")
        # the first batch has no row that the trigger is about
        assert (set(before[0][:5]) & set(after), before[0][6]) == (set(), after[6])
        assert before[1] == raw_values(connection, CLAIMANTS, "voice_model")
        assert before[0][10:] == after[10:]
        connection.execute(text("DROP TRIGGER spoil" + (" ON claimant" if plain.dialect.name == "postgresql" else "")))
    assert reencrypt(rotated, CLAIMANTS).is_finished
    with rotated.connect() as connection:
        assert [claimant(number) for number in range(1, 101)] == open_values(
            connection, CLAIMANTS, "email", "voice_model"
        )


def test_time_of_change(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, plain: Engine, admin: KeyRing
) -> None:
    """A job is no change of a row: neither a column's `onupdate` nor MariaDB's ON UPDATE sets its time."""
    ring, metadata = make_ring(refresh_seconds=0), MetaData()
    engine = make_engine(url, ring)
    dated = Table(
        "dated",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("email", Encrypted(area="identities")),
        Column("changed", DateTime, onupdate=func.now()),
    )
    ring.initialize(engine, metadata)
    metadata.create_all(engine)
    old = "2001-02-03 04:05:06"
    columns = ["changed"]
    with engine.begin() as connection:
        if engine.dialect.name == "mysql":
            connection.execute(
                text("ALTER TABLE dated ADD COLUMN touched TIMESTAMP(6) NULL ON UPDATE CURRENT_TIMESTAMP(6)")
            )
            columns.append("touched")
        connection.execute(dated.insert(), [{"id": number, "email": marked(str(number))} for number in range(1, 21)])
        connection.execute(text(f"UPDATE dated SET {', '.join(f'{name} = :old' for name in columns)}"), {"old": old})
        before = connection.execute(text(f"SELECT {', '.join(columns)} FROM dated ORDER BY id")).all()
    rotate(plain, admin, "identities")
    assert reencrypt(engine, dated).rows == 20
    with plain.connect() as connection:
        assert before == connection.execute(text(f"SELECT {', '.join(columns)} FROM dated ORDER BY id")).all()
        assert {str(value)[:19] for row in before for value in row} == {old}
