"""Installation keys that join without being at hand: by a request, an invitation, and its acceptance."""

import base64
from collections.abc import Callable

import pytest
from conftest import EngineMaker, RingMaker
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import CertificateSigningRequestBuilder, Name, NameAttribute, NameOID
from sqlalchemy import URL, Connection, Engine, delete, select, update
from sqlalchemy.orm import Session
from support.models import Base, Claimant

from sa_keyvault import (
    InstallationKey,
    InstallationKeyError,
    KeyRecordError,
    KeyRing,
    KeyStateError,
    KeyStoreError,
    store,
)
from sa_keyvault import administration as administer
from sa_keyvault.installation import SoftwareInstallationKey, certificate_request, wrap_master
from sa_keyvault.records import new_master
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM, Provisioning

pytestmark = pytest.mark.alone

_WRAPS, _INSTALLATIONS = (store.tables.tables[f"keyvault_{name}"] for name in ("master_wrap", "installation"))


@pytest.fixture
def other(other_key: InstallationKey) -> KeyRing:
    """The other server's ring; the key of the first one is not at hand."""
    return KeyRing(other_key, refresh_seconds=0)


@pytest.fixture
def invited(application: Engine, plain: Engine, admin: KeyRing, other_key: InstallationKey) -> Engine:
    """A store to which the other key is invited, with a master key in every state."""
    with plain.begin() as connection:
        former = administer.rotate_master(connection, admin).former
    with plain.begin() as connection:
        administer.remove_master(connection, admin, former)
        former = administer.rotate_master(connection, admin).former
        administer.disable_master(connection, admin, former)
    with plain.begin() as connection:
        request = certificate_request(other_key, "other server")
        found = administer.invite_installation(connection, admin, request, reason="second server")
    assert found == other_key.fingerprint
    return plain


def start(url: URL, ring: KeyRing, make_engine: EngineMaker) -> str:
    """Return what a server reads that is started with *ring*."""
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with Session(engine) as session:
        return session.scalars(select(Claimant.email)).one()


def join(engine: Engine, ring: KeyRing, inviter: InstallationKey) -> None:
    """Accept the invitation."""
    with engine.begin() as connection:
        administer.join_installation(connection, ring, inviter.fingerprint)


def test_joins_without_being_at_hand(
    invited: Engine,
    application: Engine,
    url: URL,
    admin: KeyRing,
    other: KeyRing,
    make_ring: RingMaker,
    make_engine: EngineMaker,
) -> None:
    """No process has both private keys, and both servers run; the first goes on meanwhile, without a restart."""
    inviter = admin.installation_key
    with Session(application) as session:
        before = session.scalars(select(Claimant.email)).one()
    join(invited, other, inviter)
    assert before == start(url, other, make_engine) == start(url, make_ring(), make_engine)
    with Session(application) as session:
        assert session.scalars(select(Claimant.email)).one() == before
    with invited.connect() as connection:
        keys = [inviter.fingerprint, other.installation_key.fingerprint]
        assert [administer.verify_events(connection, one).findings for one in ([], keys)] == [(), ()]
        actions = [event.action for event in store.events(connection) if event.subject == keys[1]]
    assert actions == ["installation-invited", "installation-accepted"]


def test_first_key_leaves_afterwards(
    invited: Engine, url: URL, admin: KeyRing, other: KeyRing, make_engine: EngineMaker
) -> None:
    """The key that joined lets the other one leave, changes keys in every state alone, and the audit is clean."""
    join(invited, other, admin.installation_key)
    with invited.begin() as connection:
        administer.remove_installation(connection, other, admin.installation_key.fingerprint)
        (disabled,) = [one.id for one in store.masters(connection) if one.state is KeyState.DISABLED]
        administer.enable_master(connection, other, disabled)
    with invited.connect() as connection:
        assert administer.verify_events(connection).findings == ()
    assert start(url, KeyRing(other.installation_key), make_engine)


def test_nothing_is_changed_between_invitation_and_acceptance(
    invited: Engine, url: URL, admin: KeyRing, other: KeyRing, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Meanwhile the first server starts, the second does not, keys are not changed, and an audit for it says why."""
    assert start(url, make_ring(), make_engine)
    with pytest.raises(KeyStoreError, match="is invited to this key store, and has not joined it yet"):
        start(url, other, make_engine)
    with invited.connect() as connection:
        with pytest.raises(KeyStoreError, match="is also opened by installation key"):
            administer.rotate_area(connection, admin, "identities")
        connection.rollback()
        assert administer.verify_events(connection).findings == ()
        found = administer.verify_events(connection, [other.installation_key.fingerprint]).findings
    problem = "is invited, and has not joined yet: it has signed nothing"
    assert found == (f"installation key {other.installation_key.fingerprint} {problem}",)


def test_invitation_is_withdrawn(invited: Engine, admin: KeyRing, other: KeyRing) -> None:
    """An invited key that leaves has not joined, cannot do so any more, and can be invited again."""
    with invited.begin() as connection:
        administer.remove_installation(connection, admin, other.installation_key.fingerprint)
        administer.rotate_area(connection, admin, "identities")
    with pytest.raises(KeyStoreError, match="is not invited to this key store"):
        join(invited, other, admin.installation_key)
    with invited.begin() as connection:
        administer.invite_installation(connection, admin, certificate_request(other.installation_key, "again"))
    join(invited, other, admin.installation_key)
    with invited.connect() as connection:
        assert administer.verify_events(connection).findings == ()


def test_joins_once(invited: Engine, admin: KeyRing, other: KeyRing) -> None:
    """A key that is invited, or has joined, is neither invited nor joins again."""
    request = certificate_request(other.installation_key, "again")
    both = KeyRing(admin.installation_key, also=[other.installation_key])
    with invited.connect() as connection, pytest.raises(KeyStateError, match="or is invited"):
        administer.invite_installation(connection, both, request)
    join(invited, other, admin.installation_key)
    with pytest.raises(KeyStateError, match="opens this key store already"):
        join(invited, other, admin.installation_key)


def test_key_that_unwraps_otherwise(
    application: Engine, plain: Engine, url: URL, admin: KeyRing, other: KeyRing, make_engine: EngineMaker
) -> None:
    """The invitation says how the other key unwraps."""
    request = certificate_request(other.installation_key, "other")
    with plain.begin() as connection:
        administer.invite_installation(connection, admin, request, "rsa-oaep-sha1")
        wraps = [one for one in store.wraps(connection) if one.fingerprint == other.installation_key.fingerprint]
    assert {one.algorithm for one in wraps} == {"rsa-oaep-sha1+rsa-pss-sha256"}
    join(plain, other, admin.installation_key)
    assert start(url, other, make_engine)


# -- attacks -----------------------------------------------------------------------------------------------------------


def test_inviter_is_named(invited: Engine, other: KeyRing, stranger: InstallationKey) -> None:
    """An invitation of another key than the one that is trusted is not accepted, be that in the store or not (A-28)."""
    for fingerprint in (stranger.fingerprint, other.installation_key.fingerprint):
        with invited.connect() as connection, pytest.raises(KeyRecordError, match="the invitation is not as"):
            administer.join_installation(connection, other, fingerprint)


Attack = Callable[[Connection, KeyRing, InstallationKey], None]


def _forged_wrap(connection: Connection, other: KeyRing, stranger: InstallationKey) -> None:
    """Put a known secret in the place of a master key, wrapped for the other key's public half, signed by another."""
    master = next(one for one in store.masters(connection) if one.state is KeyState.ACTIVE)
    _, secret = new_master(master.store_id, AES_256_GCM)
    wrap = wrap_master(master, secret, stranger, Provisioning.default())
    own = (_WRAPS.c.master_id == master.id) & (_WRAPS.c.fingerprint == other.installation_key.fingerprint)
    connection.execute(update(_WRAPS).where(own).values(wrapped=wrap.wrapped, signature=wrap.signature))


def _missing_wrap(connection: Connection, other: KeyRing, stranger: InstallationKey) -> None:
    master = next(one for one in store.masters(connection) if one.state is KeyState.ACTIVE)
    own = (_WRAPS.c.master_id == master.id) & (_WRAPS.c.fingerprint == other.installation_key.fingerprint)
    connection.execute(delete(_WRAPS).where(own))


def _changed_state(connection: Connection, other: KeyRing, stranger: InstallationKey) -> None:
    connection.exec_driver_sql("UPDATE keyvault_master_key SET state = 'active', former_state = ''")


def _changed_store(connection: Connection, other: KeyRing, stranger: InstallationKey) -> None:
    connection.exec_driver_sql("UPDATE keyvault_store SET version = version + 1")


def _removed_event(connection: Connection, other: KeyRing, stranger: InstallationKey) -> None:
    connection.exec_driver_sql("DELETE FROM keyvault_event WHERE number = 2")


def _exchanged_inviter(connection: Connection, other: KeyRing, stranger: InstallationKey) -> None:
    der = stranger.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    others = _INSTALLATIONS.c.fingerprint != other.installation_key.fingerprint
    connection.execute(update(_INSTALLATIONS).where(others).values(public_key=der))


@pytest.mark.parametrize(
    "attack", [_forged_wrap, _missing_wrap, _changed_state, _changed_store, _removed_event, _exchanged_inviter]
)
def test_changed_invitation(
    invited: Engine, admin: KeyRing, other: KeyRing, stranger: InstallationKey, attack: Attack
) -> None:
    """What was changed since the trusted key has signed it is not signed by the one that joins (A-28)."""
    with invited.begin() as connection:
        attack(connection, other, stranger)
    with invited.connect() as connection, pytest.raises((KeyRecordError, KeyStoreError)):
        administer.join_installation(connection, other, admin.installation_key.fingerprint)
    with invited.connect() as connection:
        assert store.installations(connection)[other.installation_key.fingerprint].signature == b""


def _request(signer: rsa.RSAPrivateKey) -> bytes:
    name = Name([NameAttribute(NameOID.COMMON_NAME, "other")])
    request = CertificateSigningRequestBuilder().subject_name(name).sign(signer, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def _pem(der: bytes) -> bytes:
    lines = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{lines}-----END CERTIFICATE REQUEST-----\n".encode()


def test_request_that_proves_nothing(
    application: Engine, plain: Engine, admin: KeyRing, other_key: SoftwareInstallationKey, stranger: InstallationKey
) -> None:
    """A request whose key was exchanged after it was signed is refused, and so are weak keys and nonsense."""
    theirs, ours = (
        key.public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        for key in (other_key, stranger)
    )
    signed = _request(other_key._private_key)
    assert signed.count(theirs) == 1
    weak = _request(rsa.generate_private_key(65537, 2048))
    cases = ((signed.replace(theirs, ours), "no request"), (b"", "no request"), (weak, "has 2048 bits"))
    for der, problem in cases:
        with plain.connect() as connection, pytest.raises(InstallationKeyError, match=problem):
            administer.invite_installation(connection, admin, _pem(der))
    with plain.begin() as connection:
        assert administer.invite_installation(connection, admin, _pem(signed)) == other_key.fingerprint
