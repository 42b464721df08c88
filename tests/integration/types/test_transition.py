"""A column that is on its way: values that are not encrypted yet are read until a date, and written encrypted."""

import datetime
import warnings
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import (
    JSON,
    URL,
    Column,
    Date,
    Engine,
    Integer,
    Interval,
    MetaData,
    Numeric,
    String,
    Table,
    insert,
    text,
)
from sqlalchemy.types import TypeEngine
from support.jobs import kinds, open_values, set_raw
from support.leaks import marked

from sa_keyvault import (
    AuthenticationError,
    ConfigurationError,
    Encrypted,
    KeyRing,
    MalformedEnvelopeError,
    PlaintextAcceptedWarning,
)
from sa_keyvault.reencryption import reencrypt

TODAY = datetime.datetime.now(datetime.UTC).date()
TOMORROW, YESTERDAY = TODAY + datetime.timedelta(days=1), TODAY - datetime.timedelta(days=1)
OLD, NEW = marked("old ünï"), marked("new")


def table_of(type_: TypeEngine[Any]) -> Table:
    """Return the table with one column of that type."""
    return Table(
        "moving",
        MetaData(),
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("value", type_),
    )


def until(date: datetime.date | None, inner: TypeEngine[Any] | None = None) -> Table:
    """Return the table that accepts plaintexts until that date."""
    return table_of(Encrypted(inner or String(60), area="identities", accept_plaintext_until=date))


@pytest.fixture
def ring(make_ring: RingMaker) -> KeyRing:
    """A ring that sees at once what others do."""
    return make_ring(refresh_seconds=0)


@pytest.fixture
def moving(url: URL, ring: KeyRing, make_engine: EngineMaker, plain: Engine) -> Engine:
    """A column of bytes with two texts, one of them empty, and NULL, as a migration leaves it."""
    engine = make_engine(url, ring)
    table = until(None)
    ring.initialize(engine, table.metadata)
    table.metadata.create_all(engine)
    with plain.begin() as connection:
        connection.execute(text("INSERT INTO moving (id) VALUES (1), (2), (3)"))
        set_raw(connection, table, "value", 1, OLD.encode())
        set_raw(connection, table, "value", 2, b"")
    return engine


@pytest.fixture
def plain(url: URL, make_engine: EngineMaker) -> Engine:
    """An engine without a ring."""
    return make_engine(url)


@pytest.mark.parametrize("date", [TODAY, TOMORROW])
def test_both_are_read(moving: Engine, date: datetime.date) -> None:
    """Until the date, that day included, plaintexts are read beside envelopes, and what is written is encrypted."""
    table = until(date)
    with moving.begin() as connection:
        connection.execute(insert(table).values(id=4, value=NEW))
        connection.execute(table.update().where(table.c.id == 2).values(value=NEW))
        assert open_values(connection, table, "value") == [(OLD,), (NEW,), (None,), (NEW,)]
        assert kinds(connection, table, "value") == {"plain", "active", "null"}


def test_refused_afterwards(moving: Engine) -> None:
    """After the date, and without one, a plaintext is refused like any stored bytes that are no envelope (A-19)."""
    with moving.connect() as connection:
        for table in (until(YESTERDAY), until(None)):
            with pytest.raises(MalformedEnvelopeError, match="moving"):
                open_values(connection, table, "value")


def test_the_end_comes_while_the_process_runs(moving: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plaintext that was read before is refused on the day after the date, by the same process (A-19)."""
    table = until(TODAY)
    with moving.connect() as connection:
        open_values(connection, table, "value")
        monkeypatch.setattr("sa_keyvault.types.values._today", lambda: TOMORROW)
        with pytest.raises(MalformedEnvelopeError, match=f"plaintexts were accepted until {TODAY} only"):
            open_values(connection, table, "value")


def test_job_takes_them_up(moving: Engine) -> None:
    """A re-encryption encrypts what is not encrypted yet; then the column is read without the date."""
    report = reencrypt(moving, until(TOMORROW))
    assert (report.rows, report.is_finished) == (2, True)
    with moving.connect() as connection:
        assert open_values(connection, until(None), "value") == [(OLD,), ("",), (None,)]
        assert kinds(connection, until(None), "value") == {"active", "null"}
    assert reencrypt(moving, until(TOMORROW)).rows == 0


def test_envelopes_stay_bound(moving: Engine, plain: Engine) -> None:
    """Accepting plaintexts loosens nothing for envelopes: one of another row does not open (R-21, A-1)."""
    table = until(TOMORROW)
    reencrypt(moving, table)
    with plain.begin() as connection:
        connection.execute(
            text("UPDATE moving SET value = (SELECT value FROM (SELECT * FROM moving) m WHERE m.id = 1)")
        )
    with moving.connect() as connection, pytest.raises(AuthenticationError, match="moving"):
        open_values(connection, table, "value")


@pytest.mark.parametrize(
    ("inner", "stored", "value"),
    [
        (Integer(), b"-5", -5),
        (Date(), b"2026-11-24", datetime.date(2026, 11, 24)),
        (JSON(), b'{"a": [1, null]}', {"a": [1, None]}),
    ],
    ids=["integer", "date", "json"],
)
def test_texts_of_other_types(moving: Engine, plain: Engine, inner: TypeEngine[Any], stored: bytes, value: Any) -> None:
    """The text of a value of any type is read as that value."""
    table = until(TODAY, inner)
    with plain.begin() as connection:
        connection.execute(text("DELETE FROM moving WHERE id > 1"))
        set_raw(connection, table, "value", 1, stored)
    with moving.connect() as connection:
        assert open_values(connection, table, "value") == [(value,)]


def test_bytes_that_are_no_such_text(moving: Engine) -> None:
    """Stored bytes that are neither an envelope nor a text of the type are refused, and not shown (R-38)."""
    with (
        moving.connect() as connection,
        pytest.raises(MalformedEnvelopeError, match=r"moving.*neither an envelope nor"),
    ):
        open_values(connection, until(TODAY, Integer()), "value")


def test_warning_at_each_start(moving: Engine, ring: KeyRing) -> None:
    """Each start warns by the column's name and the date; without such a column none does."""
    with pytest.warns(PlaintextAcceptedWarning, match=rf"moving\.value \(until {TOMORROW}\)"):
        ring.initialize(moving, until(TOMORROW).metadata)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ring.initialize(moving, until(None).metadata)


@pytest.mark.parametrize("inner", [Numeric(10, 2), Interval()])
def test_types_that_databases_round(inner: TypeEngine[Any]) -> None:
    """A type whose values are rounded when they become text is refused when it is declared."""
    with pytest.raises(ConfigurationError, match="accept_plaintext_until does not work with"):
        Encrypted(inner, accept_plaintext_until=TODAY)
