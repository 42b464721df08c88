"""Rows of working keys and audit events that somebody without a key has altered, deleted, or put there."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import RingMaker
from sqlalchemy import Connection, Engine, delete, func, select, update

from sa_keyvault import InstallationKey, KeyRecordError, KeyRing, KeyStateError, Provisioning, store
from sa_keyvault import administration as administer
from sa_keyvault.installation import SoftwareInstallationKey
from sa_keyvault.records import WorkingRecord
from sa_keyvault.states import KeyState
from sa_keyvault.store.schema import event_table, usage_table, working_table

JUNK = 7  # the number of a key that nobody has made


@pytest.fixture(scope="module")
def following_key() -> SoftwareInstallationKey:
    """The installation key that comes after the first one."""
    return InstallationKey.generate()


@pytest.fixture
def key(plain: Engine) -> WorkingRecord:
    """The working key of the area identities."""
    with plain.connect() as connection:
        (record,) = store.working_in_area(connection, "identities")
    return record


@pytest.fixture
def linked(plain: Engine, admin: KeyRing) -> Engine:
    """A store all of whose events are linked."""
    with plain.begin() as connection:
        master = store.masters(connection)[0].id
        administer.disable_master(connection, admin, master)
        administer.enable_master(connection, admin, master)
    return plain


def alter(connection: Connection, number: int, /, **values: object) -> None:
    """Change the row of a working key."""
    connection.execute(update(working_table).where(working_table.c.number == number).values(values))


def findings(engine: Engine) -> tuple[str, ...]:
    """Return what the audit finds."""
    with engine.connect() as connection:
        return administer.verify_events(connection).findings


# -- a key that hides --------------------------------------------------------------------------------------------------

ALTERATIONS: dict[str, Callable[[Connection, int], object]] = {
    "area": lambda connection, number: alter(connection, number, area="x"),
    "store": lambda connection, number: alter(connection, number, store_id="0" * 32, area="x"),
    "master key": lambda connection, number: alter(connection, number, master_id="0" * 32),
    "number": lambda connection, number: alter(connection, number, number=JUNK),
    "deleted": lambda connection, number: connection.execute(
        delete(working_table).where(working_table.c.number == number)
    ),
}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS)
def test_hidden_key_is_not_passed_over(
    change: Callable[[Connection, int], object], linked: Engine, admin: KeyRing, key: WorkingRecord
) -> None:
    """A key whose row is altered or deleted while its area is rotated does not stay active unnoticed (A-44)."""
    with linked.begin() as connection:
        change(connection, key.number)
    with linked.connect() as connection, pytest.raises(KeyRecordError, match=f"working key {key.number}, ") as caught:
        administer.rotate_area(connection, admin, "identities")
    assert caught.value.key_number == key.number
    with linked.begin() as connection:
        connection.execute(delete(working_table).where(working_table.c.number.in_((JUNK, key.number))))
        store.add_working(connection, key)
    with linked.begin() as connection:
        assert administer.rotate_area(connection, admin, "identities") == (key.number,)


def test_key_of_another_area_that_is_gone(linked: Engine, admin: KeyRing, key: WorkingRecord) -> None:
    """A deleted row of one area keeps no other area from being rotated, and is found by the audit."""
    with linked.begin() as connection:
        connection.execute(delete(working_table).where(working_table.c.number == key.number))
    with linked.begin() as connection:
        assert len(administer.rotate_area(connection, admin, "models")) == 1
    assert f"working key {key.number} was made (for area identities), and its row is gone" in findings(linked)


def test_broken_chain_is_warned_of(
    linked: Engine, admin: KeyRing, key: WorkingRecord, caplog: pytest.LogCaptureFixture
) -> None:
    """Where row and event of a key are both gone, a rotation says that it cannot tell."""
    with linked.begin() as connection:
        connection.execute(delete(working_table).where(working_table.c.number == key.number))
        connection.execute(delete(event_table).where(event_table.c.subject == str(key.number)))
    with linked.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    assert "audit events were changed or deleted" in caplog.text
    assert any("missing or were moved" in finding for finding in findings(linked))


@pytest.fixture
def followed(linked: Engine, admin: KeyRing, following_key: InstallationKey) -> KeyRing:
    """The ring of the installation key that came after the one whose keys there are."""
    with linked.begin() as connection:
        administer.add_installation(connection, admin, following_key)
    ring = KeyRing(following_key, refresh_seconds=0, actor="ada")
    with linked.begin() as connection:
        administer.remove_installation(connection, ring, admin.installation_key.fingerprint)
    return ring


def test_keys_of_an_installation_key_that_left(linked: Engine, followed: KeyRing, key: WorkingRecord) -> None:
    """What an installation key has made that left since is wrapped anew, and looked after, like any other."""
    with linked.begin() as connection:
        done = administer.rotate_master(connection, followed)
    assert (done.rewrapped, done.left) == (2, ())
    with linked.begin() as connection:
        alter(connection, key.number, area="x")
    with linked.connect() as connection, pytest.raises(KeyRecordError, match=f"working key {key.number}, now of"):
        administer.rotate_area(connection, followed, "identities")


def test_altered_chain_vouches_for_nobody(
    linked: Engine, admin: KeyRing, followed: KeyRing, key: WorkingRecord, caplog: pytest.LogCaptureFixture
) -> None:
    """With an altered chain only events count that a key signed which opens the store; who stays behind is named."""
    with linked.begin() as connection:
        connection.execute(update(event_table).where(event_table.c.number == 2).values(reason="x"))
    with linked.begin() as connection:
        done = administer.rotate_master(connection, followed)
    assert (done.rewrapped, len(done.left), key.number in done.left) == (0, 2, True)
    assert f"2 working keys ({min(done.left)} the first) stay under master key {done.former}" in caplog.text


# -- what nobody has made ----------------------------------------------------------------------------------------------


@pytest.fixture
def junk(linked: Engine, key: WorkingRecord) -> Engine:
    """A store with an active working key that nobody has made, and that seems to be worn out."""
    with linked.begin() as connection:
        store.add_working(connection, replace(key, number=JUNK, wrapped=b"junk"))
        store.add_usage(connection, "0" * 32, str(JUNK), 2**40)
    return linked


OPERATIONS: dict[str, Callable[[Connection, KeyRing, WorkingRecord], object]] = {
    "rotate area": lambda connection, ring, _: administer.rotate_area(connection, ring, "identities"),
    "disable": lambda connection, ring, key: administer.disable_working(connection, ring, key.number),
    "retire": lambda connection, ring, key: administer.retire_working(connection, ring, key.number),
    "rotate master": lambda connection, ring, _: administer.rotate_master(connection, ring),
    "replace master": lambda connection, ring, _: administer.replace_master(connection, ring),
}


@pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS)
def test_row_that_nobody_has_made_stops_nothing(
    operate: Callable[[Connection, KeyRing, WorkingRecord], object],
    junk: Engine,
    admin: KeyRing,
    key: WorkingRecord,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Operations leave such a row alone and say so, this one and those that follow; the audit names it (A-44)."""
    with junk.begin() as connection:
        operate(connection, admin, key)
    with junk.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    assert f"1 rows of working keys ({JUNK} the first) are not as they were wrapped" in caplog.text
    with junk.connect() as connection:
        (found,) = store.working(connection, [JUNK])
    assert (found.state, found.wrapped) == (KeyState.ACTIVE, b"junk")
    assert f"working key {JUNK} of area 'identities' has no event of its creation" in findings(junk)


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
@pytest.mark.parametrize("above", ["known", "unknown"])
def test_row_that_nobody_has_made_stops_no_move(
    above: str, junk: Engine, key: WorkingRecord, make_ring: RingMaker
) -> None:
    """A change of the provisioning leaves such a row alone, too, whatever master key it names."""
    if above == "unknown":
        with junk.begin() as connection:
            alter(connection, JUNK, master_id="0" * 32)
    with junk.begin() as connection:
        done = administer.provision(connection, make_ring(provisioning=Provisioning(working="3des")))
    assert (len(done.retired), key.number in done.retired, JUNK in done.retired) == (2, True, False)


def test_row_that_nobody_has_made_is_named(junk: Engine, admin: KeyRing) -> None:
    """Whoever wants to change such a key is told what it is; a rotated master key tells that it stays behind."""
    with junk.connect() as connection, pytest.raises(KeyStateError, match=r"working key 7 was made by no .* delete"):
        administer.disable_working(connection, admin, JUNK)
    with junk.begin() as connection:
        done = administer.rotate_master(connection, admin)
    assert (done.rewrapped, done.left) == (2, (JUNK,))


def test_altered_row_stops_no_other_key(
    linked: Engine, admin: KeyRing, key: WorkingRecord, caplog: pytest.LogCaptureFixture
) -> None:
    """A genuine key whose row is altered and seems to be worn out keeps no operation from other keys."""
    with linked.begin() as connection:
        alter(connection, key.number, wrapped=b"junk")
        store.add_usage(connection, "0" * 32, str(key.number), 2**40)
        (other,) = store.working_in_area(connection, "models")
    with linked.begin() as connection:
        administer.disable_working(connection, admin, other.number)
    assert "are not as they were wrapped" in caplog.text
    with linked.connect() as connection, pytest.raises(KeyRecordError, match=f"working key {key.number}, now of"):
        administer.disable_working(connection, admin, key.number)


@pytest.mark.parametrize("place", [-1, 0, 1, 10**6], ids=["negative", "zero", "next", "far"])
def test_event_outside_the_chain_stops_nothing(place: int, linked: Engine, admin: KeyRing) -> None:
    """An event with a number that was not signed is found, and keeps no operation from linking the next ones (A-44)."""
    with linked.begin() as connection:
        record = store.store_record(connection)
        assert record is not None
        number = record.events + 1 if place == 1 else place
        event = next(store.events(connection))
        store.add_event(connection, replace(event, id="0" * 32, number=number))
    assert any(f"has number {number}, and the key store was signed" in finding for finding in findings(linked))
    with linked.begin() as connection:
        administer.rotate_area(connection, admin, "identities")
    found = findings(linked)
    assert [f"event {'0' * 32} " in finding for finding in found] == [True]
    with linked.connect() as connection:
        after = store.store_record(connection)
        assert after is not None
        numbers = [one.number for one in store.events(connection) if one.number is not None]
    assert numbers == list(range(1, after.events + 1))


def test_births_of_many_keys(plain: Engine) -> None:
    """More keys than a statement may have parameters are asked for in portions."""
    with plain.connect() as connection:
        (known,) = store.working_in_area(connection, "identities")
        found = store.births(connection, [*range(1, 70_000), known.number])
    assert str(known.number) in {event.subject for event in found}


def test_no_use_is_written_where_there_is_none(junk: Engine, admin: KeyRing) -> None:
    """An operation that wraps no key, because those that are left were made by nobody, reserves no use for it."""
    rows = select(func.count()).select_from(usage_table)
    with junk.begin() as connection:
        administer.rotate_master(connection, admin)
        administer.rotate_area(connection, admin, "models")
    with junk.begin() as connection:
        before = connection.execute(rows).scalar_one()
        administer.rotate_area(connection, admin, "models")
        assert connection.execute(rows).scalar_one() == before
