"""What is put back, cut off or brought in: old records, old stores, forged and missing events."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, delete, insert, select, update
from sqlalchemy.orm import Session
from support.models import Base, Claimant

from sa_keyvault import ConfigurationError, InstallationKey, KeyRecordError, KeyRing, KeyStoreError, Provisioning, store
from sa_keyvault import administration as administer
from sa_keyvault.installation import sign_store
from sa_keyvault.keyring import Identity, load_keys
from sa_keyvault.records import new_working
from sa_keyvault.suites import AES_256_GCM

EVENTS = store.tables.tables["keyvault_event"]


def contents(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of the key store."""
    with engine.connect() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in store.tables.sorted_tables
        }


def put_back(engine: Engine, rows: dict[str, list[dict[str, Any]]], names: tuple[str, ...]) -> None:
    """Replace the rows of some tables by older ones, as whoever can write to the database can."""
    with engine.begin() as connection:
        for name in names:
            table = store.tables.tables[name]
            connection.execute(delete(table))
            if rows[name]:
                connection.execute(insert(table), rows[name])


@pytest.fixture
def disabled(application: Engine, plain: Engine, admin: KeyRing) -> dict[str, list[dict[str, Any]]]:
    """The rows from before a working key was disabled."""
    before = contents(plain)
    with plain.begin() as connection:
        record = store.working_in_area(connection, "identities")[0]
        administer.disable_working(connection, admin, record.number)
    return before


def start(url: URL, ring: KeyRing, make_engine: EngineMaker) -> None:
    """Start a server."""
    ring.initialize(make_engine(url, ring), Base.metadata)


@pytest.mark.parametrize("names", [("keyvault_working_key",), ("keyvault_store",), ("keyvault_installation",)])
def test_old_rows_are_noticed(
    disabled: dict[str, list[dict[str, Any]]],
    plain: Engine,
    url: URL,
    make_ring: RingMaker,
    make_engine: EngineMaker,
    names: tuple[str, ...],
) -> None:
    """An old record of a key that was disabled since, or of the store, is refused at the start (R-28, A-28)."""
    put_back(plain, disabled, names)
    with pytest.raises(KeyRecordError, match="put back"):
        start(url, make_ring(), make_engine)


def test_old_master_is_noticed(
    application: Engine, plain: Engine, url: URL, admin: KeyRing, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """The same for a master key with its validly signed wrap (R-28, A-28)."""
    before = contents(plain)
    with plain.begin() as connection:
        administer.disable_master(connection, admin, store.masters(connection)[0].id)
    put_back(plain, before, ("keyvault_master_key", "keyvault_master_wrap"))
    with pytest.raises(KeyRecordError, match="put back"):
        start(url, make_ring(), make_engine)


def test_whole_old_store_is_noticed_by_the_anchor(
    application: Engine,
    plain: Engine,
    url: URL,
    admin: KeyRing,
    make_ring: RingMaker,
    make_engine: EngineMaker,
    tmp_path: Path,
) -> None:
    """A key store that is put back as a whole starts without an anchor, and is refused with one (R-28, A-10)."""
    before, anchor = contents(plain), tmp_path / "anchor.json"
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "identities")
    start(url, make_ring(anchor=anchor), make_engine)
    put_back(plain, before, tuple(store.tables.tables))
    start(url, make_ring(), make_engine)
    with pytest.raises(KeyStoreError, match=r"has version 1, the anchor .* has seen version 2: an older one"):
        start(url, make_ring(anchor=anchor), make_engine)
    anchor.unlink()
    start(url, make_ring(anchor=anchor), make_engine)


def test_running_server_notices_an_older_store(
    disabled: dict[str, list[dict[str, Any]]], application: Engine, plain: Engine
) -> None:
    """A running server that has seen the newer version refuses the older one (R-28)."""
    with Session(application) as session:
        session.scalars(select(Claimant.voice_model)).all()
    put_back(plain, disabled, tuple(store.tables.tables))
    with Session(application) as session, pytest.raises(KeyStoreError, match="went back from version 2 to 1"):
        session.scalars(select(Claimant.voice_model)).all()


def _anchor(**fields: Any) -> str:
    return json.dumps({"store_id": "0" * 32, "version": 1, "digest": "", "events": 0, "head": ""} | fields)


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[1]", "nonsense", "[" * 100_000, _anchor(version="x"), _anchor(version=1.5), _anchor(events=True)],
)
def test_broken_anchor(
    application: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker, tmp_path: Path, content: str
) -> None:
    """A file that is no anchor is refused, and not taken for a missing one."""
    (tmp_path / "anchor.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"cannot be read .*; restore it, or delete it on purpose"):
        start(url, make_ring(anchor=tmp_path / "anchor.json"), make_engine)


def test_anchor_of_another_store(
    application: Engine, url: URL, sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker, tmp_path: Path
) -> None:
    """The anchor of another key store is refused."""
    start(url, make_ring(anchor=tmp_path / "anchor.json"), make_engine)
    other = sqlite_url.set(database=str(tmp_path / "other.db"))
    with pytest.raises(KeyStoreError, match=r"the anchor .* is of "):
        start(other, make_ring(anchor=tmp_path / "anchor.json"), make_engine)


def test_forked_history_is_noticed_by_the_anchor(
    application: Engine,
    plain: Engine,
    url: URL,
    admin: KeyRing,
    make_ring: RingMaker,
    make_engine: EngineMaker,
    tmp_path: Path,
) -> None:
    """An old store on which operations went on until it had a greater version is refused all the same (R-28)."""
    before, anchor = contents(plain), tmp_path / "anchor.json"
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "identities")
    start(url, make_ring(anchor=anchor), make_engine)
    put_back(plain, before, tuple(store.tables.tables))
    for _ in range(3):
        with plain.begin() as connection:
            administer.rotate_master(connection, admin)
    with pytest.raises(KeyStoreError, match=r"has another audit event number \d+ than the anchor"):
        start(url, make_ring(anchor=anchor), make_engine)


def test_server_that_cannot_refresh_stops(
    disabled: dict[str, list[dict[str, Any]]], application: Engine, plain: Engine
) -> None:
    """Spoiling the store does not keep a disabled key alive: a server that cannot refresh refuses every statement."""
    with plain.begin() as connection:
        connection.execute(update(store.tables.tables["keyvault_store"]).values(digest="0" * 64))
    for _ in range(5):
        with Session(application) as session, pytest.raises((KeyRecordError, KeyStoreError)):
            session.scalars(select(Claimant.voice_model)).all()


def test_store_that_was_made_in_place_of_a_lost_one(
    application: Engine, plain: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A store that was made without the models beside values of another one is refused as soon as they are declared."""
    store.tables.drop_all(plain)
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine)
    with pytest.raises(KeyStoreError, match="which the key store does not have: it is another one"):
        ring.initialize(engine, Base.metadata)


def test_forged_key_is_not_taken_over(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A working key that somebody made with a former master key is not wrapped anew: nobody has signed its birth."""
    with plain.connect() as connection:
        (master,) = load_keys(connection, admin.identity).masters()
    with plain.begin() as connection:
        administer.rotate_master(connection, admin)
    forged = new_working(master.record, master.require_secret(), "identities", AES_256_GCM)
    with plain.begin() as connection:
        store.add_working(connection, forged)
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    with plain.connect() as connection:
        (found,) = store.working(connection, [forged.number])
    assert found == forged


# -- audit -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lived(application: Engine, plain: Engine, admin: KeyRing) -> Engine:
    """A store with some events."""
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "identities", "yearly")
    with plain.begin() as connection:
        administer.rotate_master(connection, admin, reason="yearly")
    return plain


def findings(engine: Engine) -> tuple[str, ...]:
    """Return what the audit finds."""
    with engine.connect() as connection:
        return administer.verify_events(connection).findings


def test_nothing_is_found(lived: Engine, installation_key: InstallationKey) -> None:
    """A store that nobody tampered with has no findings; its events are linked but for those in passing."""
    with lived.connect() as connection:
        report = administer.verify_events(connection, [installation_key.fingerprint])
    # store, master, two working keys; then one retired; then a master made and one retired
    assert (report.events, report.unlinked, report.findings) == (7, 0, ())


@pytest.mark.parametrize(
    "column",
    ["id", "store_id", "created", "actor", "action", "subject", "reason", "fingerprint", "algorithm", "signature"],
)
def test_edited_event_is_found(lived: Engine, column: str) -> None:
    """An event with any column changed is found (R-25)."""
    with lived.begin() as connection:
        event = next(event for event in store.events(connection) if event.number == 3)
        value = getattr(event, column)
        changed = value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else "0" + value[1:]
        changed = "edited" if changed == value or not value else changed
        connection.execute(update(EVENTS).where(EVENTS.c.number == 3).values({column: changed}))
    assert any("event" in finding for finding in findings(lived))


@pytest.mark.parametrize("number", [1, 3, 5])
def test_removed_event_is_found(lived: Engine, number: int) -> None:
    """An event that was removed leaves a gap."""
    with lived.begin() as connection:
        connection.execute(delete(EVENTS).where(EVENTS.c.number == number))
    assert any("missing or were moved" in finding for finding in findings(lived))


def test_cut_tail_is_found(lived: Engine) -> None:
    """Events that were cut off at the end do not fit the signed number of events."""
    with lived.begin() as connection:
        connection.execute(delete(EVENTS).where(EVENTS.c.number >= 6))
    assert "the chain ends with event number 5, the key store was signed with 7" in findings(lived)


def test_reordered_events_are_found(lived: Engine) -> None:
    """Two events that exchanged their places are found."""
    with lived.begin() as connection:
        for old, new in ((3, 100), (4, 3), (100, 4)):
            connection.execute(update(EVENTS).where(EVENTS.c.number == old).values(number=new))
    assert any("changed or moved" in finding for finding in findings(lived))


def test_forged_event_is_found_and_never_linked(lived: Engine, admin: KeyRing) -> None:
    """An event that another key signed is found, before and after the next operation."""
    forger = Identity(InstallationKey.generate(), (), admin.identity.policy, "ada")
    with lived.begin() as connection:
        record = store.store_record(connection)
        assert record is not None
        store.add_event(connection, forger.event(record.store_id, "working-key-created", "5"))
    assert any("which is not trusted" in finding for finding in findings(lived))
    with lived.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    assert any("which is not trusted" in finding for finding in findings(lived))


def test_key_without_a_birth_is_found(lived: Engine) -> None:
    """A key whose birth nobody signed is found."""
    with lived.begin() as connection:
        record = store.working_in_area(connection, "models")[0]
        store.add_working(connection, replace(record, number=record.number ^ 1))
    assert any("has no event of its creation" in finding for finding in findings(lived))


def test_events_in_passing_are_linked_by_the_next_operation(application: Engine, plain: Engine, admin: KeyRing) -> None:
    """A key that a statement made has an event, which the next operation links."""
    with plain.connect() as connection:
        assert administer.verify_events(connection).unlinked == 2
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    with plain.connect() as connection:
        report = administer.verify_events(connection)
    assert (report.unlinked, report.findings) == (0, ())


def test_delay_is_a_timedelta(make_ring: RingMaker) -> None:
    """The removal delay is given as a timedelta, 24 hours by default."""
    assert make_ring().settings.removal_delay == timedelta(hours=24)


def test_forged_installation_is_no_member(lived: Engine, admin: KeyRing) -> None:
    """A row of an attacker's installation key stops no operation, and makes none of its events trusted."""
    attacker = InstallationKey.generate()
    with lived.begin() as connection:
        record = store.store_record(connection)
        assert record is not None
        store.add_installation(connection, sign_store(record, attacker, admin.identity.policy.provisioning))
        forger = Identity(attacker, (), admin.identity.policy, "ada")
        store.add_event(connection, forger.event(record.store_id, "working-key-created", "5"))
    with lived.begin() as connection:
        administer.rotate_area(connection, admin, "models")
    with lived.connect() as connection:
        found = administer.verify_events(connection)
        assert attacker.fingerprint not in administer.status(connection, admin).installations
    assert ["which is not trusted" in finding for finding in found.findings] == [True]


def test_key_that_left_signs_nothing_more(lived: Engine, admin: KeyRing) -> None:
    """An event that a former installation key signs after it has left is found; those from before are good."""
    following = InstallationKey.generate()
    with lived.begin() as connection:
        administer.add_installation(connection, admin, following)
    new_admin = KeyRing(following)
    with lived.begin() as connection:
        administer.remove_installation(connection, new_admin, admin.installation_key.fingerprint)
    assert findings(lived) == ()
    with lived.begin() as connection:
        record = store.store_record(connection)
        assert record is not None
        store.add_event(connection, admin.identity.event(record.store_id, "working-key-removed", "5"))
    with lived.begin() as connection:
        administer.rotate_area(connection, new_admin, "models")
    assert ["which is not trusted" in finding for finding in findings(lived)] == [True]


@pytest.mark.parametrize("who", ["first", "second"])
def test_every_member_can_verify(lived: Engine, admin: KeyRing, who: str) -> None:
    """Each installation key that opens the store is enough for the audit."""
    second = InstallationKey.generate()
    with lived.begin() as connection:
        administer.add_installation(connection, admin, second)
    key = admin.installation_key if who == "first" else second
    with lived.connect() as connection:
        assert administer.verify_events(connection, [key.fingerprint]).findings == ()


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
def test_store_that_is_signed_with_sha1(
    plain: Engine, admin: KeyRing, url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A ring with SHA-256 does not start where the store's own record is signed with SHA-1, its keys or not (A-31)."""
    sha1 = Provisioning(hash="sha1")
    with plain.begin() as connection:
        administer.rotate_area(connection, make_ring(provisioning=sha1), "identities")
    with pytest.raises(ConfigurationError, match=r"the record of key store .* is signed with SHA-1, .* signs it anew"):
        start(url, make_ring(), make_engine)
    with plain.begin() as connection:
        administer.provision(connection, admin)
    start(url, make_ring(), make_engine)
