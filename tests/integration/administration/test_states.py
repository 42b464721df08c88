"""Keys over the years: every operation, its effect on a running application, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Connection, Engine, select, text
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified
from support.leaks import marked
from support.models import Base, Claimant, envelopes

from sa_keyvault import KeyNotFoundError, KeyRing, KeyStateError, store
from sa_keyvault import administration as administer
from sa_keyvault.envelope import key_number
from sa_keyvault.keyring import operation
from sa_keyvault.records import MasterRecord, WorkingRecord, timestamp_of
from sa_keyvault.states import KeyState

pytestmark = pytest.mark.alone

EMAIL = marked("ada@example.org")
VOICE = marked("voice").encode()


def read(engine: Engine) -> tuple[str, bytes | None]:
    """Return what the application reads."""
    with Session(engine) as session:
        claimant = session.scalars(select(Claimant)).one()
        return claimant.email, claimant.voice_model


def rewrite(engine: Engine) -> None:
    """Write all values again."""
    with Session(engine) as session, session.begin():
        claimant = session.scalars(select(Claimant)).one()
        flag_modified(claimant, "email")
        flag_modified(claimant, "voice_model")


def working(engine: Engine, area: str = "identities") -> list[WorkingRecord]:
    """Return the working keys of an area, the oldest epoch last."""
    with engine.connect() as connection:
        return sorted(store.working_in_area(connection, area), key=lambda record: -record.epoch)


def masters(engine: Engine) -> list[MasterRecord]:
    """Return the master keys, those that were changed most first."""
    with engine.connect() as connection:
        return sorted(store.masters(connection), key=lambda record: -record.epoch)


def events(engine: Engine) -> list[tuple[str, str, str]]:
    """Return actor, action and reason of the events after the start."""
    with engine.connect() as connection:
        found = [event for event in store.events(connection) if event.actor == "ada"]
    return [(event.actor, event.action, event.reason) for event in found]


def number_of(engine: Engine) -> int:
    """Return the working key that the email is under."""
    with engine.connect() as connection:
        return key_number(envelopes(connection)[0])


# -- working keys ------------------------------------------------------------------------------------------------------


def test_rotate_area(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A rotated area seals under a new key; what the former one sealed opens, and other areas are left alone."""
    (before,) = working(plain)
    with plain.begin() as connection:
        assert administer.rotate_area(connection, admin, "identities", "yearly") == (before.number,)
    assert read(application) == (EMAIL, VOICE)
    rewrite(application)
    retired, active = working(plain)
    assert (retired.state, active.state) == (KeyState.RETIRED, KeyState.ACTIVE)
    assert number_of(plain) == active.number != before.number
    assert [record.state for record in working(plain, "models")] == [KeyState.ACTIVE]
    assert events(plain) == [("ada", "working-key-retired", "yearly")]


def test_unknown_area(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """An area without keys is an error that names those that have."""
    with plain.begin() as connection, pytest.raises(KeyNotFoundError, match="the key store has: identities, models"):
        administer.rotate_area(connection, admin, "identites")


def test_disable_and_enable_working(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A disabled working key opens nothing; enabled again it is what it was (R-26, A-37)."""
    (record,) = working(plain)
    with plain.begin() as connection:
        administer.disable_working(connection, admin, record.number)
    with pytest.raises(KeyStateError, match="is disabled"):
        read(application)
    with plain.begin() as connection:
        administer.enable_working(connection, admin, record.number)
    assert read(application) == (EMAIL, VOICE)
    assert [one.state for one in working(plain)] == [KeyState.ACTIVE]


def test_retire_working(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A retired working key opens, and seals nothing any more."""
    (record,) = working(plain)
    with plain.begin() as connection:
        administer.retire_working(connection, admin, record.number)
    assert read(application) == (EMAIL, VOICE)
    rewrite(application)
    assert number_of(plain) != record.number


def test_enable_what_is_not_disabled(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """Only a disabled key can be enabled (R-25)."""
    (record,) = working(plain)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="is active, not disabled"):
        administer.enable_working(connection, admin, record.number)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="is active, not disabled"):
        administer.enable_master(connection, admin, record.master_id)


OPERATIONS: list[Callable[[Connection, KeyRing], object]] = [
    lambda connection, ring: administer.disable_working(connection, ring, 7),
    lambda connection, ring: administer.remove_working(connection, ring, 7),
    lambda connection, ring: administer.disable_master(connection, ring, "7"),
    lambda connection, ring: administer.rotate_master(connection, ring, "7"),
    lambda connection, ring: administer.remove_master(connection, ring, "7"),
]


@pytest.mark.parametrize("operate", OPERATIONS)
def test_unknown_key(
    application: Engine, plain: Engine, admin: KeyRing, operate: Callable[[Connection, KeyRing], object]
) -> None:
    """A key that is not there is an error that says where to look."""
    with (
        plain.connect() as connection,
        pytest.raises(KeyStateError, match=r"has no .* key '?7'?; `sa-keyvault status`"),
    ):
        operate(connection, admin)


# -- master keys -------------------------------------------------------------------------------------------------------


def test_rotate_master(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A rotated master key rewraps all working keys; no row is touched, and the former one is retired."""
    with plain.connect() as connection:
        before = envelopes(connection), envelopes(connection, Claimant.voice_model)
    with plain.begin() as connection:
        done = administer.rotate_master(connection, admin, reason="yearly")
    former, successor = masters(plain)
    assert (former.id, successor.id, 2, ()) == (done.former, done.successor, done.rewrapped, done.reencrypt)
    assert (former.state, successor.state) == (KeyState.RETIRED, KeyState.ACTIVE)
    assert former.lineage == successor.lineage
    assert {record.master_id for area in ("identities", "models") for record in working(plain, area)} == {successor.id}
    with plain.connect() as connection:
        assert before == (envelopes(connection), envelopes(connection, Claimant.voice_model))
    assert read(application) == (EMAIL, VOICE)
    rewrite(application)
    assert read(application) == (EMAIL, VOICE)
    assert events(plain) == [("ada", "master-key-created", "yearly"), ("ada", "master-key-retired", "yearly")]


def test_replace_master(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A replaced master key is followed by one of another lineage; its areas are named, and re-encrypted by writing."""
    with plain.begin() as connection:
        done = administer.replace_master(connection, admin)
    former, successor = masters(plain)
    assert (former.id, successor.id, 0, ("identities", "models")) == (
        done.former,
        done.successor,
        done.rewrapped,
        done.reencrypt,
    )
    assert former.lineage != successor.lineage
    assert read(application) == (EMAIL, VOICE)
    rewrite(application)
    assert {successor.id} == {
        record.master_id
        for area in ("identities", "models")
        for record in working(plain, area)
        if record.state is KeyState.ACTIVE
    }
    with plain.begin() as connection:
        for area in ("identities", "models"):
            administer.remove_working(connection, admin, working(plain, area)[0].number)
    with plain.begin() as connection:
        administer.remove_master(connection, admin, former.id)
    assert read(application) == (EMAIL, VOICE)


def test_only_active_master_is_not_retired(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """The last active master key is not retired, disabled or not: nothing could be written any more."""
    (master,) = masters(plain)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="; rotate or replace it instead"):
        administer.retire_master(connection, admin, master.id)
    with plain.begin() as connection:
        administer.disable_master(connection, admin, master.id)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="; enable it, then rotate or replace it"):
        administer.retire_master(connection, admin, master.id)
    with plain.begin() as connection:
        administer.enable_master(connection, admin, master.id)
        administer.rotate_master(connection, admin)
    rewrite(application)
    assert read(application) == (EMAIL, VOICE)


@pytest.fixture
def without_active(plain: Engine, application: Engine, admin: KeyRing) -> str:
    """The id of the only master key, which is retired by an operation that no command offers."""
    with plain.begin() as connection, operation(connection, admin.identity) as changing:
        (master,) = changing.active_masters()
        changing.move_master(master, KeyState.RETIRED, "master-key-retired")
    return master.record.id


@pytest.mark.parametrize("follow", [administer.rotate_master, administer.replace_master])
def test_retired_master_is_followed_where_none_is_active(
    application: Engine,
    plain: Engine,
    admin: KeyRing,
    without_active: str,
    follow: Callable[[Connection, KeyRing, str], administer.MasterFollowed],
) -> None:
    """Where no master key is active, one that is retired can be followed by another, and values are written again."""
    with pytest.raises(KeyStateError, match="let one that is retired be followed"):
        rewrite(application)
    with plain.begin() as connection:
        done = follow(connection, admin, without_active)
    rewrite(application)
    assert read(application) == (EMAIL, VOICE)
    with plain.connect() as connection:
        states = {record.id: record.state for record in store.masters(connection)}
    assert {without_active: KeyState.RETIRED, done.successor: KeyState.ACTIVE} == states
    with plain.connect() as connection, pytest.raises(KeyStateError, match="is retired; only an active one"):
        follow(connection, admin, without_active)


def test_start_without_active_master(
    plain: Engine, url: URL, admin: KeyRing, without_active: str, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Without an active master key a server starts and reads, a write is refused; `status` and the doctor say so."""
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    assert read(engine) == (EMAIL, VOICE)
    with pytest.raises(KeyStateError, match="no master key is active, so no working key can be made; enable"):
        rewrite(engine)
    with plain.connect() as connection:
        warnings = administer.status(connection, admin).warnings
        findings = {one.check: one.is_good for one in administer.examine(connection, admin)}
    assert ["no master key is active" in warning for warning in warnings if "values" not in warning] == [True]
    assert [check for check, is_good in findings.items() if not is_good] == ["master keys"]


def test_disable_and_enable_master(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """Under a disabled master key nothing is read or written; enabled again everything is (R-26)."""
    (master,) = masters(plain)
    with plain.begin() as connection:
        administer.disable_master(connection, admin, master.id, "incident 7")
    with pytest.raises(KeyStateError, match="is disabled"):
        read(application)
    with plain.begin() as connection:
        administer.enable_master(connection, admin, master.id)
    assert read(application) == (EMAIL, VOICE)
    rewrite(application)


def test_stray_working_key_is_rewrapped(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A working key of a transaction that was open during a rotation is wrapped anew by the next operation."""
    if plain.dialect.name == "sqlite":
        pytest.skip("one writer at a time")
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "identities")
    with Session(application) as session:
        session.add(Claimant(id=2, email=marked("late")))
        session.flush()
        with plain.begin() as connection:
            former = administer.rotate_master(connection, admin).former
        session.commit()
    assert former in {record.master_id for record in working(plain)}
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    assert former not in {record.master_id for record in working(plain)}
    with Session(application) as session:
        assert session.get_one(Claimant, 2).email == marked("late")


# -- removal -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def retired(application: Engine, plain: Engine, admin: KeyRing) -> int:
    """The number of a retired working key, which a value depends on."""
    with plain.begin() as connection:
        return administer.rotate_area(connection, admin, "identities")[0]


def test_removal(retired: int, application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A key that nothing depends on is removed: the secret is wiped, the record stays (R-25, R-31)."""
    rewrite(application)
    with plain.begin() as connection:
        administer.remove_working(connection, admin, retired, "done")
    (removed, _) = working(plain)
    assert (removed.state, removed.epoch) == (KeyState.REMOVED, 3)
    assert len(removed.wrapped) == 12 + 16
    assert read(application) == (EMAIL, VOICE)
    assert events(plain)[-1] == ("ada", "working-key-removed", "done")


def test_removal_with_values_is_refused(retired: int, plain: Engine, admin: KeyRing) -> None:
    """A key that values depend on is not removed; the error counts them by table and column (R-31, A-43)."""
    message = rf"1 values depend on working key {retired}: claimant.email \(1\)"
    with plain.connect() as connection, pytest.raises(KeyStateError, match=message):
        administer.remove_working(connection, admin, retired)


def test_forced_removal(retired: int, application: Engine, plain: Engine, admin: KeyRing) -> None:
    """Forced, with the number given again, the key is removed and its values are lost; other values open (A-43)."""
    with plain.connect() as connection, pytest.raises(KeyStateError, match="is not the number of working key"):
        administer.remove_working(connection, admin, retired, forced=retired + 1)
    with plain.begin() as connection:
        administer.remove_working(connection, admin, retired, forced=retired)
    with Session(application) as session:
        assert session.scalars(select(Claimant.voice_model)).one() == VOICE
        with pytest.raises(KeyStateError, match="is removed"):
            session.scalars(select(Claimant.email)).one()


def test_removal_without_known_columns_is_refused(
    url: URL, admin: KeyRing, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Where no start has declared the columns of an area, values cannot be counted, and no key is removed (R-31)."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL))
    plain = make_engine(url)
    with plain.begin() as connection:
        (number,) = administer.rotate_area(connection, admin, "identities")
    with plain.connect() as connection, pytest.raises(KeyStateError, match="the key store knows no column of it"):
        administer.remove_working(connection, admin, number)
    ring.initialize(engine, Base.metadata)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="1 values depend on working key"):
        administer.remove_working(connection, admin, number)


def test_removal_beside_a_table_that_is_gone_is_refused(
    retired: int, application: Engine, plain: Engine, admin: KeyRing
) -> None:
    """Where a table was renamed, its values cannot be counted, and the key stays (R-31)."""
    with plain.begin() as connection:
        connection.execute(text("ALTER TABLE claimant RENAME TO claimants"))
    with (
        plain.connect() as connection,
        pytest.raises(
            KeyStateError, match=r"in claimant\.email \(no such column of bytes is there\) cannot be counted"
        ),
    ):
        administer.remove_working(connection, admin, retired)


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_removal_beside_a_transaction_that_did_not_know(
    application: Engine, plain: Engine, url: URL, admin: KeyRing, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A transaction that began after the key was retired, on a server that had not noticed it, is waited for, too."""
    slow = make_ring()
    engine = make_engine(url, slow)
    slow.initialize(engine, Base.metadata)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=2, email=EMAIL))
    with plain.begin() as connection:
        (number,) = administer.rotate_area(connection, admin, "identities")
    with Session(engine) as session:
        session.add(Claimant(id=3, email=marked("late")))
        session.flush()
        with plain.connect() as connection, pytest.raises(KeyStateError, match="1 transactions are open that began"):
            administer.remove_working(connection, admin, number)
        session.commit()
    with plain.connect() as connection, pytest.raises(KeyStateError, match="3 values depend on working key"):
        administer.remove_working(connection, admin, number)


def test_caught_error_leaves_nothing_half_done(application: Engine, plain: Engine, admin: KeyRing, url: URL) -> None:
    """Who catches the error of an operation and commits all the same has changed nothing (A-39)."""
    (record,) = working(plain)
    with plain.begin() as connection:
        store.add_usage(connection, "0" * 32, str(record.number), 2**31)
    with plain.begin() as connection:
        for operate in OPERATIONS:
            with pytest.raises(KeyStateError):
                operate(connection, admin)
    assert [one.state for one in working(plain)] == [KeyState.ACTIVE]
    with plain.connect() as connection:
        assert administer.status(connection, admin).store.version == 1
    assert read(application) == (EMAIL, VOICE)


def test_key_of_a_replaced_master_is_retired(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A working key that a transaction made under a master key while that was replaced is retired by the next one."""
    if plain.dialect.name == "sqlite":
        pytest.skip("one writer at a time")
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "identities")
    with Session(application) as session:
        session.add(Claimant(id=2, email=marked("late")))
        session.flush()
        with plain.begin() as connection:
            former = administer.replace_master(connection, admin).former
        session.commit()
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    states = {one.state for area in ("identities", "models") for one in working(plain, area) if one.master_id == former}
    assert states == {KeyState.RETIRED}


def test_broken_row_does_not_stop_administration(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A working key whose master key or suite nobody knows is left alone by operations on others."""
    (record,) = working(plain)
    with plain.begin() as connection:
        store.add_working(connection, replace(record, number=1, master_id="0" * 32))
        store.add_working(connection, replace(record, number=2, suite="unknown"))
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    assert read(application) == (EMAIL, VOICE)


def test_removal_waits(retired: int, application: Engine, plain: Engine, make_ring: RingMaker) -> None:
    """A key is not removed before it has been retired for the delay, forced or not."""
    rewrite(application)
    slow = make_ring(removal_delay=timedelta(hours=1))
    for forced in (None, retired):
        with (
            plain.connect() as connection,
            pytest.raises(KeyStateError, match="less than the removal delay of 1:00"),
        ):
            administer.remove_working(connection, slow, retired, forced=forced)
    # never less than twice the time after which other processes know
    hasty = make_ring(removal_delay=timedelta(0), refresh_seconds=30)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="less than the removal delay"):
        administer.remove_working(connection, hasty, retired)


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_removal_beside_an_older_transaction(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """While a transaction is open that began before the key was retired, the key is not removed."""
    with plain.connect() as old:
        old.execute(text("SELECT 1 FROM claimant"))
        old.execute(text("UPDATE claimant SET id = id"))
        with plain.begin() as connection:
            (number,) = administer.rotate_area(connection, admin, "models")
        with plain.connect() as connection, pytest.raises(KeyStateError, match="1 transactions are open that began"):
            administer.remove_working(connection, admin, number, forced=number)
        old.rollback()
    with plain.begin() as connection:
        administer.remove_working(connection, admin, number, forced=number)


def test_active_key_is_not_removed(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """Only a retired key can be removed (R-25)."""
    (record,) = working(plain)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="is active; only a retired key"):
        administer.remove_working(connection, admin, record.number, forced=record.number)
    with plain.connect() as connection, pytest.raises(KeyStateError, match="is active; only a retired key"):
        administer.remove_master(connection, admin, record.master_id)


def test_master_with_working_keys_is_not_removed(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A master key that working keys depend on is not removed; the error counts them."""
    with plain.begin() as connection:
        former = administer.replace_master(connection, admin).former
    with plain.connect() as connection, pytest.raises(KeyStateError, match="2 working keys depend on master key"):
        administer.remove_master(connection, admin, former)


def test_removed_master_key_is_wiped(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """Of a removed master key the record stays, signed; its wrapped secret is gone (R-25)."""
    with plain.begin() as connection:
        former = administer.rotate_master(connection, admin).former
    with plain.begin() as connection:
        administer.remove_master(connection, admin, former)
    with plain.connect() as connection:
        wraps = {wrap.master_id: wrap for wrap in store.wraps(connection)}
    assert wraps[former].wrapped == b""
    assert read(application) == (EMAIL, VOICE)


# -- cryptoperiods -----------------------------------------------------------------------------------------------------


def test_worn_key_is_written_retired(application: Engine, plain: Engine, admin: KeyRing, make_ring: RingMaker) -> None:
    """A key whose use is spent is written retired by the next operation, whatever that one does."""
    (record,) = working(plain)
    limited = make_ring(usage_limit=1, removal_delay=timedelta(0), refresh_seconds=0)
    with plain.begin() as connection:
        administer.rotate_area(connection, limited, "models")
    assert [one.state for one in working(plain) if one.number == record.number] == [KeyState.RETIRED]


def started_long_ago(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Start a server whose clock is that many days late, and write a row."""
    then = timestamp_of(datetime.now(UTC) - timedelta(days=days))
    with monkeypatch.context() as patch:
        patch.setattr("sa_keyvault.records.timestamp", lambda: then)
        ring = make_ring()
        engine = make_engine(url, ring)
        ring.initialize(engine, Base.metadata)
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Claimant(id=1, email=EMAIL, voice_model=VOICE))


def test_working_key_at_the_end_of_its_cryptoperiod(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working key that is too old seals nothing, a new one follows it; the next operation writes it retired."""
    started_long_ago(url, make_ring, make_engine, monkeypatch, 31)
    plain = make_engine(url)
    (old,) = working(plain)
    young = make_ring(working_key_days=32)
    engine = make_engine(url, young)
    young.initialize(engine)
    rewrite(engine)
    assert number_of(plain) == old.number
    ring = make_ring(working_key_days=30)
    engine = make_engine(url, ring)
    ring.initialize(engine)
    rewrite(engine)
    assert number_of(plain) != old.number
    with plain.begin() as connection:
        administer.rotate_master(connection, ring)
    states = {record.number: record.state for record in working(plain)}
    assert (states[old.number], states[number_of(plain)]) == (KeyState.RETIRED, KeyState.ACTIVE)
    assert read(engine) == (EMAIL, VOICE)


def test_master_key_at_the_end_of_its_cryptoperiod(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A master key that is too old is followed at a start by one of its lineage, under which new keys are made."""
    started_long_ago(url, make_ring, make_engine, monkeypatch, 400)
    plain = make_engine(url)
    ring = make_ring(master_key_days=365, working_key_days=365)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    old, new = sorted(masters(plain), key=lambda record: record.created)
    assert old.lineage == new.lineage
    rewrite(engine)
    sealing = next(record for record in working(plain) if record.number == number_of(plain))
    assert sealing.master_id == new.id
    with plain.connect() as connection:
        warnings = administer.status(connection, ring).warnings
    assert warnings == (f"master key {old.id} is at the end of its cryptoperiod: rotate it, or restart a server",)
    assert read(engine) == (EMAIL, VOICE)


def test_events_are_logged(
    application: Engine, plain: Engine, admin: KeyRing, caplog: pytest.LogCaptureFixture
) -> None:
    """Every event goes to the logger `sa_keyvault`, too: who, what, which key, why."""
    with plain.begin() as connection:
        (number,) = administer.rotate_area(connection, admin, "identities", "yearly")
    assert f"ada: working-key-retired {number} yearly" in [record.getMessage() for record in caplog.records]


def test_status(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """The status has every key with its use, its values by column, and what keeps it from being removed."""
    with plain.begin() as connection:
        (retired,) = administer.rotate_area(connection, admin, "identities")
    with plain.connect() as connection:
        found = administer.status(connection, admin)
    (key,) = [key for key in found.working if key.area == "identities"]
    assert (retired, "retired", {"claimant.email": 1}, "1 values depend on it") == (
        key.number,
        key.state,
        key.values,
        key.obstacle,
    )
    assert found.warnings == (f"1 values are under working key {retired}, which is retired: re-encrypt them",)
    assert [(master.state, master.working_keys) for master in found.masters] == [("active", 2)]
    rewrite(application)
    with plain.connect() as connection:
        found = administer.status(connection, admin)
    assert next(key.obstacle for key in found.working if key.number == retired) == ""
