"""Who opens the key store: what becomes of rows about that which somebody without a key has altered."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Connection, Engine, delete, update
from support.models import Base

from sa_keyvault import InstallationKey, KeyRecordError, KeyRing, KeyStoreError, store
from sa_keyvault import administration as administer
from sa_keyvault.installation import public_record, sign_store
from sa_keyvault.keyring import Identity, load_keys
from sa_keyvault.ledger import Event, StoreRecord, chained
from sa_keyvault.store.schema import event_table, installation_table

ID = event_table.c.id


@pytest.fixture
def joined(application: Engine, plain: Engine, admin: KeyRing, other_key: InstallationKey) -> Engine:
    """A store that two installation keys open."""
    with plain.begin() as connection:
        administer.add_installation(connection, admin, other_key)
    return plain


@pytest.fixture
def both(admin: KeyRing, other_key: InstallationKey) -> KeyRing:
    """The ring of an administrator who has both keys at hand."""
    return KeyRing(admin.installation_key, also=[other_key], actor="ada")


def record_of(connection: Connection) -> StoreRecord:
    """Return the store's own record."""
    found = store.store_record(connection)
    assert found is not None
    return found


def event_of(connection: Connection, action: str) -> Event:
    """Return the first event of an action."""
    return next(event for event in store.events(connection) if event.action == action)


def findings(engine: Engine, key: InstallationKey) -> tuple[str, ...]:
    """Return what the audit finds that trusts one key."""
    with engine.connect() as connection:
        return administer.verify_events(connection, [key.fingerprint]).findings


def test_forged_member_stops_nothing(
    application: Engine, plain: Engine, admin: KeyRing, stranger: InstallationKey
) -> None:
    """An event outside the chain lets nobody in: operations go on, link nothing of his, and the audit tells (A-44)."""
    forger = Identity(stranger, (), admin.identity.policy, "ada")
    with plain.begin() as connection:
        record = record_of(connection)
        store.add_installation(connection, public_record(stranger.public_key))
        bait = forger.event(record.store_id, "installation-joined", stranger.fingerprint)
        store.add_event(connection, replace(bait, number=-1))
        store.add_event(connection, forger.event(record.store_id, "working-key-created", "99"))
    with plain.begin() as connection:
        administer.rotate_area(connection, admin, "identities")
        assert administer.status(connection, admin).installations == (admin.installation_key.fingerprint,)
        assert {one.fingerprint for one in store.events(connection) if one.number is not None and one.number > 0} == {
            admin.installation_key.fingerprint
        }
    found = findings(plain, admin.installation_key)
    assert [stranger.fingerprint in finding for finding in found].count(True) == 2


ALTERATIONS: list[Callable[[Connection], object]] = [
    lambda connection: connection.execute(
        update(event_table).where(event_table.c.action == "installation-joined").values(action="x")
    ),
    lambda connection: connection.execute(
        update(event_table).where(event_table.c.action == "installation-joined").values(number=10**6)
    ),
    lambda connection: connection.execute(
        update(event_table).where(event_table.c.action == "store-created").values(action="x")
    ),
    lambda connection: connection.execute(
        update(event_table).where(event_table.c.action == "installation-joined").values(subject="0" * 64)
    ),
]


@pytest.mark.parametrize("alter", ALTERATIONS, ids=["other action", "moved away", "first key", "other key"])
def test_altered_member_is_noticed(
    alter: Callable[[Connection], object],
    joined: Engine,
    admin: KeyRing,
    both: KeyRing,
    url: URL,
    make_ring: RingMaker,
    make_engine: EngineMaker,
) -> None:
    """Whoever alters the events of who opens the store leaves no server out: operation, status and start refuse it."""
    with joined.begin() as connection:
        alter(connection)
    for ring in (admin, both):
        with joined.connect() as connection, pytest.raises(KeyRecordError, match="audit events"):
            administer.rotate_area(connection, ring, "identities")
    with joined.connect() as connection, pytest.raises(KeyRecordError, match="audit events"):
        administer.status(connection, admin)
    with pytest.raises(KeyRecordError, match="audit events"):
        make_ring().initialize(make_engine(url), Base.metadata)
    assert findings(joined, admin.installation_key) != ()


def test_deleted_installation_is_noticed(joined: Engine, admin: KeyRing, other_key: InstallationKey) -> None:
    """An installation key whose row was deleted is not left out of the next operation."""
    with joined.begin() as connection:
        connection.execute(delete(installation_table).where(installation_table.c.fingerprint == other_key.fingerprint))
    with joined.connect() as connection, pytest.raises(KeyRecordError, match=r"was deleted; restore it from a backup"):
        administer.rotate_area(connection, admin, "identities")


def test_key_that_left_changes_nothing(
    joined: Engine, admin: KeyRing, both: KeyRing, other_key: InstallationKey
) -> None:
    """An installation key that has left opens nothing, also where its rows are put back and it signs the store."""
    with joined.begin() as connection:
        wraps = [wrap for wrap in store.wraps(connection) if wrap.fingerprint == other_key.fingerprint]
        administer.remove_installation(connection, both, other_key.fingerprint)
        store.add_wraps(connection, wraps)
        signed = sign_store(record_of(connection), other_key, admin.identity.policy.provisioning)
        store.replace_installation(connection, signed)
    with joined.connect() as connection, pytest.raises(KeyStoreError, match="has left this key store"):
        administer.rotate_area(connection, KeyRing(other_key), "identities")


def test_event_of_departure_counts_once(
    joined: Engine, admin: KeyRing, both: KeyRing, other_key: InstallationKey
) -> None:
    """An old event that a key has left, whose place in the chain was taken away, does not let it leave once more."""
    with joined.begin() as connection:
        administer.remove_installation(connection, both, other_key.fingerprint)
    with joined.begin() as connection:
        administer.add_installation(connection, admin, other_key)
    with joined.begin() as connection:
        left = event_of(connection, "installation-left")
        connection.execute(update(event_table).where(left.id == ID).values(number=None, link=""))
    with joined.begin() as connection:
        administer.rotate_area(connection, both, "identities")
    with joined.connect() as connection:
        members = administer.status(connection, admin).installations
    assert members == tuple(sorted((admin.installation_key.fingerprint, other_key.fingerprint)))
    assert any("missing or were moved" in finding for finding in findings(joined, other_key))


def test_server_whose_clock_is_ahead_leaves(
    joined: Engine, admin: KeyRing, both: KeyRing, other_key: InstallationKey
) -> None:
    """What a server has signed before it left is good, whatever its clock said."""
    other = Identity(other_key, (), admin.identity.policy, "ada")
    with joined.begin() as connection:
        event = other.event(record_of(connection).store_id, "working-key-created", "99")
        ahead = replace(event, id="f" * 32, created="2999-01-01T00:00:00Z")
        signature = other_key.sign(ahead.signed_bytes(), ahead.algorithm)
        store.add_event(connection, replace(ahead, signature=signature))
    with joined.begin() as connection:
        administer.remove_installation(connection, both, other_key.fingerprint)
    with joined.connect() as connection:
        assert [one.id for one in store.events(connection) if one.number is None] == []
    assert [one for one in findings(joined, admin.installation_key) if "trusted" in one] == []


def test_event_of_no_member_at_its_place_is_found(
    application: Engine, plain: Engine, admin: KeyRing, stranger: InstallationKey
) -> None:
    """A linked event whose signer did not open the store at its place in the chain is found, signed end or not."""
    forger = Identity(stranger, (), admin.identity.policy, "ada")
    own = admin.identity.key
    with plain.begin() as connection:
        record = record_of(connection)
        record, event = chained(record, forger.event(record.store_id, "master-key-removed", "5"))
        store.add_event(connection, event)
        store.add_installation(connection, public_record(stranger.public_key))
        store.replace_store(connection, record)
        store.replace_installation(connection, sign_store(record, own, admin.identity.policy.provisioning))
        load_keys(connection, admin.identity)
    assert ["which is not trusted" in finding for finding in findings(plain, own)] == [True]


def test_forged_invitation_exempts_nobody(
    application: Engine, plain: Engine, admin: KeyRing, stranger: InstallationKey
) -> None:
    """A key that a stranger's event calls invited has to have signed the store all the same."""
    forger, own = Identity(stranger, (), admin.identity.policy, "ada"), admin.installation_key.fingerprint
    with plain.begin() as connection:
        store.add_event(connection, forger.event(record_of(connection).store_id, "installation-invited", own))
        connection.execute(update(installation_table).values(signature=b"forged"))
    with plain.connect() as connection:
        found = administer.verify_events(connection).findings
    assert f"the record of the key store is not signed by installation key {own}" in found
