"""Values that are bound otherwise than before are read both ways, written one way, and moved by a job (A-12, R-30)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, Engine, Integer, MetaData, String, Table, insert, select, text, update
from support.jobs import kinds, open_values, raw_values, rotate, set_raw
from support.leaks import marked

from sa_keyvault import AuthenticationError, Encrypted, KeyRing, ReencryptionError
from sa_keyvault.reencryption import Pace, examine, reencrypt, reencrypting

COUNT = 12
EMAILS = [(marked(f"{number}@example.org"),) for number in range(1, COUNT + 1)]


@dataclass(frozen=True)
class Rebinding:
    """One way in which a binding changes.

    Attributes:
        name: For the test's id.
        before: Arguments of the encrypted column before.
        after: The same as they shall be.
        formerly: What says in the new declaration how it was.
        code: Type of the column `code`, before and after.
        former_name: What the encrypted column was called before.
        statements: What alters the table in between, by name of the dialect.
    """

    name: str
    formerly: Any
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    code: tuple[Any, Any] = (Integer, Integer)
    former_name: str = "email"
    statements: Mapping[str, str] = field(default_factory=dict)

    def make_code(self, number: int) -> int | str:
        """Return a value of the column `code` before."""
        return number if self.code[0] is Integer else str(number)

    def table(self, *, is_after: bool, formerly: Any = None) -> Table:
        """Return the table as it is declared before or after."""
        name = "email" if is_after else self.former_name
        options = self.after if is_after else self.before
        return Table(
            "people",
            MetaData(),
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("tenant", Integer, nullable=False),
            Column("code", self.code[is_after], nullable=False),
            Column(name, Encrypted(String(100), area="identities", formerly=formerly, **options), key="email"),
            Column("phone", Encrypted(String(100), area="identities")),
        )


RENAME = "ALTER TABLE people RENAME COLUMN mail TO email"
REBINDINGS = [
    Rebinding("to a context", (("", "people", "email"), ()), after={"context": "person's address"}),
    Rebinding("from a context", ("old", ()), before={"context": "old"}),
    Rebinding("to another context", ("old", ()), before={"context": "old"}, after={"context": "new"}),
    Rebinding("to one more symbol", (None, ("id",)), after={"bind_to": ("tenant",)}),
    Rebinding("to one symbol less", (None, ("id", "tenant")), before={"bind_to": ("tenant",)}),
    Rebinding(
        "to another symbol", (None, ("id", "code")), before={"bind_to": ("code",)}, after={"bind_to": ("tenant",)}
    ),
    Rebinding(
        "to another type",
        (None, ("id", ("code", String(10)))),
        before={"bind_to": ("code",)},
        after={"bind_to": ("code",)},
        code=(String(10), Integer),
        statements={
            "postgresql": "ALTER TABLE people ALTER COLUMN code TYPE integer USING code::integer",
            "mysql": "ALTER TABLE people MODIFY code INTEGER NOT NULL",
        },
    ),
    Rebinding(
        "to another name",
        (("", "people", "mail"), ()),
        former_name="mail",
        statements={"sqlite": RENAME, "postgresql": RENAME, "mysql": RENAME},
    ),
]


@dataclass(frozen=True)
class Moving:
    """A table whose values are all bound as before, and which is declared as it shall be.

    Attributes:
        engine: Of the application.
        table: Reads both.
        final: Reads the new binding only.
        former: Reads the former only, where the column is called as before.
    """

    engine: Engine
    table: Table
    final: Table
    former: Table


@pytest.fixture(params=REBINDINGS, ids=lambda one: one.name)
def rebinding(request: pytest.FixtureRequest) -> Rebinding:
    """One way in which a binding changes."""
    result: Rebinding = request.param
    return result


@pytest.fixture
def moving(rebinding: Rebinding, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Moving:
    """Twelve rows that are bound as before."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    former = rebinding.table(is_after=False)
    ring.initialize(engine, former.metadata)
    former.metadata.create_all(engine)
    with engine.begin() as connection:
        rows = [
            {
                "id": number,
                "tenant": 100 + number % 3,
                "code": rebinding.make_code(number),
                "email": email,
                "phone": marked("phone"),
            }
            for number, (email,) in enumerate(EMAILS, 1)
        ]
        connection.execute(insert(former), rows)
        if statement := rebinding.statements.get(engine.dialect.name):
            connection.execute(text(statement))
    table = rebinding.table(is_after=True, formerly=rebinding.formerly)
    return Moving(engine, table, rebinding.table(is_after=True), former)


def test_reads_both_and_writes_one(moving: Moving) -> None:
    """Values bound as before are read, and what is written is bound anew."""
    with moving.engine.begin() as connection:
        assert open_values(connection, moving.table, "email") == EMAILS
        connection.execute(update(moving.table).where(moving.table.c.id <= 5).values(email=marked("new")))
        assert open_values(connection, moving.table, "email") == [(marked("new"),)] * 5 + EMAILS[5:]
        new = select(moving.final.c.email).where(moving.final.c.id <= 5)
        assert connection.execute(new).scalars().all() == [marked("new")] * 5
        with pytest.raises(AuthenticationError, match="do not open"):
            connection.execute(select(moving.final.c.email).where(moving.final.c.id == 6)).all()


def test_job_moves_all(rebinding: Rebinding, moving: Moving, admin: KeyRing, plain: Engine) -> None:
    """A job binds every value anew, under an active key; the former binding opens none of them then."""
    with moving.engine.begin() as connection:
        connection.execute(update(moving.table).where(moving.table.c.id == 4).values(email=EMAILS[3][0]))
    columns = ["email"]
    assert examine(moving.engine, reencrypting(moving.table, columns)).rows == COUNT - 1
    report = reencrypt(moving.engine, moving.table, columns, Pace(batch_size=4, part_size=6))
    assert (report.rows, report.is_finished) == (COUNT - 1, True)
    with moving.engine.connect() as connection:
        assert open_values(connection, moving.final, "email") == EMAILS
        if rebinding.former_name == "email" and rebinding.code[0] is rebinding.code[1]:
            with pytest.raises(AuthenticationError, match="do not open"):
                connection.execute(select(moving.former.c.email)).first()
    assert reencrypt(moving.engine, moving.table, columns).rows == 0
    rotate(plain, admin, "identities")
    assert reencrypt(moving.engine, moving.table).rows == COUNT
    with moving.engine.connect() as connection:
        assert kinds(connection, moving.final, "email") == {"active"}
        assert open_values(connection, moving.final, "email") == EMAILS


@pytest.mark.parametrize("rebinding", REBINDINGS[5:6], ids=lambda one: one.name, indirect=True)
def test_key_and_binding_at_once(moving: Moving, admin: KeyRing, plain: Engine) -> None:
    """One pass moves values under a retired key that are bound as before."""
    rotate(plain, admin, "identities")
    assert reencrypt(moving.engine, moving.table).rows == COUNT
    with moving.engine.connect() as connection:
        assert kinds(connection, moving.final, "email") == {"active"}
        assert open_values(connection, moving.final, "email") == EMAILS


@pytest.mark.parametrize("rebinding", REBINDINGS[5:6], ids=lambda one: one.name, indirect=True)
def test_stopped_and_resumed(moving: Moving) -> None:
    """A job that is stopped in the middle leaves a table that is read as a whole, and goes on where it was."""

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reencrypt(moving.engine, moving.table, ["email"], Pace(batch_size=5), stop)
    with moving.engine.connect() as connection:
        assert open_values(connection, moving.table, "email") == EMAILS
    assert reencrypt(moving.engine, moving.table, ["email"]).rows == COUNT - 5
    with moving.engine.connect() as connection:
        assert open_values(connection, moving.final, "email") == EMAILS


def test_foreign_values_are_refused(moving: Moving, plain: Engine) -> None:
    """A value of another row or column opens by neither binding, and no job takes it up (R-21, A-1, A-2)."""
    column = moving.table.c.email.name
    with plain.begin() as connection:
        stored = raw_values(connection, moving.table, "email")
        phone = raw_values(connection, moving.table, "phone")[2]
        for number, value in {1: stored[1], 2: stored[0], 3: phone}.items():
            set_raw(connection, moving.table, column, number, value)
    with moving.engine.connect() as connection:
        for number in (1, 2, 3):
            with pytest.raises(AuthenticationError, match="do not open"):
                connection.execute(select(moving.table.c.email).where(moving.table.c.id == number)).all()
    with pytest.raises(ReencryptionError, match="3 values do not open"):
        reencrypt(moving.engine, moving.table, ["email"], Pace(unreadable_limit=2))
    report = reencrypt(moving.engine, moving.table, ["email"], Pace(unreadable_limit=3))
    assert [one.key for one in report.unreadable] == [(1,), (2,), (3,)]
    with plain.connect() as connection:
        assert [stored[1], stored[0], phone] == raw_values(connection, moving.table, "email")[:3]
    # moved meanwhile: the same again with values that are bound anew
    with plain.begin() as connection:
        moved = raw_values(connection, moving.table, "email")
        set_raw(connection, moving.table, column, 5, moved[3])
    with moving.engine.connect() as connection, pytest.raises(AuthenticationError, match="do not open"):
        connection.execute(select(moving.table.c.email).where(moving.table.c.id == 5)).all()
