"""Installation keys that follow each other, servers with keys of their own, and certificates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, select
from sqlalchemy.orm import Session
from support.certificates import bundle
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import (
    CertificateExpiryWarning,
    ConfigurationError,
    InstallationKey,
    InstallationKeyError,
    KeyRing,
    KeyStateError,
    KeyStoreError,
    KeyVaultError,
    Provisioning,
    store,
)
from sa_keyvault import administration as administer
from sa_keyvault.installation import SoftwareInstallationKey, wrap_master_for
from sa_keyvault.records import new_master
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM

pytestmark = pytest.mark.alone

EMAIL = marked("ada@example.org")


def read(url: URL, ring: KeyRing, make_engine: EngineMaker) -> str:
    """Return what a server reads that is started with *ring*."""
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with Session(engine) as session:
        return session.scalars(select(Claimant.email)).one()


@pytest.fixture
def joined(application: Engine, plain: Engine, admin: KeyRing, other_key: InstallationKey) -> Engine:
    """A store that two installation keys open."""
    with plain.begin() as connection:
        administer.add_installation(connection, admin, other_key, "next key")
    return plain


# -- one follows the other ---------------------------------------------------------------------------------------------


def test_installation_key_is_changed(
    joined: Engine,
    application: Engine,
    url: URL,
    admin: KeyRing,
    other_key: InstallationKey,
    make_ring: RingMaker,
    make_engine: EngineMaker,
) -> None:
    """Both keys open the store until the old one is confirmed away; then it opens nothing, and the audit is clean."""
    assert read(url, make_ring(), make_engine) == EMAIL
    assert read(url, KeyRing(other_key), make_engine) == EMAIL
    changed = KeyRing(other_key, actor="ada")
    with joined.begin() as connection:
        administer.remove_installation(connection, changed, admin.installation_key.fingerprint, "changed over")
    assert read(url, KeyRing(other_key), make_engine) == EMAIL
    with pytest.raises(KeyStoreError, match="does not open this key store"):
        read(url, make_ring(), make_engine)
    with joined.begin() as connection:
        administer.rotate_master(connection, changed)
    with joined.connect() as connection:
        report = administer.verify_events(connection, [other_key.fingerprint])
    assert report.findings == ()
    assert read(url, KeyRing(other_key), make_engine) == EMAIL


def test_states_are_not_changed_for_one_only(joined: Engine, admin: KeyRing, other_key: InstallationKey) -> None:
    """While two keys open the store, nothing is changed that could not be signed for both (A-44, A-45)."""
    with (
        joined.connect() as connection,
        pytest.raises(KeyStoreError, match=f"opened by installation key {other_key.fingerprint}"),
    ):
        administer.rotate_area(connection, admin, "identities")


def test_states_are_changed_for_both(
    joined: Engine,
    url: URL,
    admin: KeyRing,
    other_key: InstallationKey,
    make_ring: RingMaker,
    make_engine: EngineMaker,
) -> None:
    """With both keys at hand everything is wrapped and signed for both."""
    both = KeyRing(admin.installation_key, also=[other_key], removal_delay=timedelta(0), refresh_seconds=0)
    with joined.begin() as connection:
        former = administer.rotate_master(connection, both).former
    with joined.begin() as connection:
        administer.remove_master(connection, both, former)
    assert read(url, make_ring(), make_engine) == read(url, KeyRing(other_key), make_engine) == EMAIL


@pytest.mark.parametrize("change", ["exchanged", "deleted"])
def test_nothing_is_signed_for_another_key_that_it_has_not_signed(
    joined: Engine, admin: KeyRing, other_key: SoftwareInstallationKey, change: str
) -> None:
    """A master key of somebody else's, wrapped for the other installation, is not signed for it in passing (A-44)."""
    both = KeyRing(admin.installation_key, also=[other_key])
    with joined.begin() as connection:
        record = store.masters(connection)[0]
        forger = InstallationKey.generate()
        forged = wrap_master_for(
            record,
            new_master(record.store_id, AES_256_GCM)[1],
            other_key.public_key,
            "rsa-oaep-sha256",
            forger,
            Provisioning.default(),
        )
        if change == "exchanged":
            store.replace_wraps(connection, [forged])
        else:
            store.delete_wraps(connection, other_key.fingerprint)
    with (
        joined.connect() as connection,
        pytest.raises(KeyVaultError, match=rf"is not signed by .* {other_key.fingerprint}|no wrap for"),
    ):
        administer.disable_master(connection, both, record.id)


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
def test_start_goes_on_where_a_master_key_is_due(
    joined: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a new master key could not be signed for both, a server starts with the old one, and logs it."""
    ring = make_ring(provisioning=Provisioning(master="3des"))
    assert read(url, ring, make_engine) == EMAIL
    assert any("a new master key is due" in record.getMessage() for record in caplog.records)


def test_key_that_joins_opens_disabled_and_removed_masters(
    application: Engine, plain: Engine, url: URL, admin: KeyRing, other_key: InstallationKey, make_engine: EngineMaker
) -> None:
    """A key that joins gets every master key in the state that it is in."""
    with plain.begin() as connection:
        former = administer.rotate_master(connection, admin).former
    with plain.begin() as connection:
        administer.remove_master(connection, admin, former)
        (active,) = [one.id for one in store.masters(connection) if one.state is KeyState.ACTIVE]
        administer.disable_master(connection, admin, active)
    with plain.begin() as connection:
        administer.add_installation(connection, admin, other_key)
    both = KeyRing(other_key, also=[admin.installation_key])
    with plain.begin() as connection:
        administer.enable_master(connection, both, active)
    assert read(url, KeyRing(other_key), make_engine) == EMAIL


def test_joins_once(joined: Engine, admin: KeyRing, other_key: InstallationKey) -> None:
    """A key that opens the store already does not join again."""
    both = KeyRing(admin.installation_key, also=[other_key])
    with joined.connect() as connection, pytest.raises(KeyStateError, match="opens this key store already"):
        administer.add_installation(connection, both, other_key)


def test_leaves_and_joins_again(
    joined: Engine, url: URL, admin: KeyRing, other_key: InstallationKey, make_engine: EngineMaker
) -> None:
    """A server that has left can join again."""
    with joined.begin() as connection:
        administer.remove_installation(connection, admin, other_key.fingerprint)
    with joined.begin() as connection:
        administer.add_installation(connection, admin, other_key)
    assert read(url, KeyRing(other_key), make_engine) == EMAIL


@pytest.mark.parametrize("who", ["own", "unknown"])
def test_who_cannot_leave(application: Engine, plain: Engine, admin: KeyRing, who: str) -> None:
    """The own key cannot leave, and neither can one that never joined."""
    fingerprint = admin.installation_key.fingerprint if who == "own" else "0" * 64
    with (
        plain.connect() as connection,
        pytest.raises(KeyStateError, match=r"itself leave|does not open this"),
    ):
        administer.remove_installation(connection, admin, fingerprint)


# -- certificates ------------------------------------------------------------------------------------------------------


def test_certificate_is_required(
    application: Engine,
    plain: Engine,
    url: URL,
    admin: KeyRing,
    tmp_path: Path,
    make_ring: RingMaker,
    make_engine: EngineMaker,
) -> None:
    """A ring that requires a certificate starts with one that its CA issued, without a warning, and not without."""
    issued, ca = bundle(admin.installation_key, 365, tmp_path)
    with pytest.raises(InstallationKeyError, match="has no certificate, and one is required; bind it with"):
        read(url, make_ring(require_certificate=ca), make_engine)
    with plain.begin() as connection:
        administer.bind_certificate(connection, admin, issued)
    assert read(url, make_ring(require_certificate=ca), make_engine) == EMAIL
    assert read(url, make_ring(), make_engine) == EMAIL
    _, other_ca = bundle(admin.installation_key, 366, tmp_path)
    with pytest.raises(InstallationKeyError):
        read(url, make_ring(require_certificate=other_ca), make_engine)
    # it stays through what is done with keys afterwards
    with plain.begin() as connection:
        administer.rotate_master(connection, admin)
    assert read(url, make_ring(require_certificate=ca), make_engine) == EMAIL


def test_expiry_is_warned_of(
    application: Engine,
    plain: Engine,
    url: URL,
    admin: KeyRing,
    tmp_path: Path,
    make_ring: RingMaker,
    make_engine: EngineMaker,
) -> None:
    """Sixty days ahead a start warns of the expiry."""
    issued, ca = bundle(admin.installation_key, 30, tmp_path)
    with plain.begin() as connection:
        administer.bind_certificate(connection, admin, issued)
    with pytest.warns(CertificateExpiryWarning, match="expires in (29|30) days"):
        assert read(url, make_ring(require_certificate=ca), make_engine) == EMAIL


def test_certificate_of_another_key(
    application: Engine, plain: Engine, admin: KeyRing, other_key: InstallationKey, tmp_path: Path
) -> None:
    """A certificate that was issued for another key, or has expired, is not bound."""
    issued, _ = bundle(other_key, 365, tmp_path)
    with plain.connect() as connection, pytest.raises(InstallationKeyError, match="not for installation key"):
        administer.bind_certificate(connection, admin, issued)
    expired, _ = bundle(admin.installation_key, 1, tmp_path, datetime.now(UTC) - timedelta(days=10))
    with plain.connect() as connection, pytest.raises(InstallationKeyError, match="the certificate expired on"):
        administer.bind_certificate(connection, admin, expired)


@pytest.mark.parametrize("content", [None, b""])
def test_bundle_that_is_none(make_ring: RingMaker, tmp_path: Path, content: bytes | None) -> None:
    """A bundle that is missing or empty is refused when the ring is made, and not taken for no requirement."""
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"the CA bundle .* (cannot be read|is empty)"):
        make_ring(require_certificate=tmp_path / "ca.pem")
