"""FIPS: what is refused at configuration time, and what works where a FIPS provider is active."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import ConfigurationError, InstallationKey, Provisioning, new_passphrase
from sa_keyvault.administration import provision
from sa_keyvault.installation import SoftwareInstallationKey
from sa_keyvault.suites import Aes256Gcm

pytestmark = pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")

Script = Callable[..., str]

EMAIL = marked("ada@example.org")


@pytest.fixture
def in_fips_mode(fips_environment: dict[str, str], installation_key: SoftwareInstallationKey, tmp_path: Path) -> Script:
    """Run a script in a new process with a FIPS provider, the installation key in `key`; return what it prints."""
    passphrase = new_passphrase()
    installation_key.to_file(tmp_path / "key.pem", passphrase)
    prelude = f"""
import warnings
warnings.simplefilter("ignore")
from sa_keyvault import *
key = InstallationKey.from_file({str(tmp_path / "key.pem")!r}, {passphrase!r})
"""

    def run(source: str) -> str:
        environment = {**os.environ, **fips_environment}
        done = subprocess.run(  # noqa: S603 - the tests' own scripts
            [sys.executable, "-c", prelude + source],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout + done.stderr

    return run


# -- configuration -----------------------------------------------------------------------------------------------------

NOT_APPROVED = [
    Provisioning(*choice)
    for choice in product(("aes", "3des"), ("aes", "3des"), ("sha256", "sha1"))
    if choice != ("aes", "aes", "sha256")
]


@pytest.mark.parametrize("provisioning", NOT_APPROVED, ids=lambda one: f"{one.master}-{one.working}-{one.hash}")
def test_what_is_not_approved_is_refused(provisioning: Provisioning, make_ring: RingMaker) -> None:
    """A ring that requires FIPS refuses 3DES and SHA-1 when it is made, whatever OpenSSL would let through (R-4)."""
    with pytest.raises(
        ConfigurationError, match=r"^FIPS is required, and .* is not approved; provision AES and SHA-256"
    ):
        make_ring(provisioning=provisioning, fips="require")


def test_own_suite_is_refused(make_ring: RingMaker) -> None:
    """An own suite that does not say that it is approved is refused, too (R-4)."""
    own = Provisioning(working="own", suites=(Aes256Gcm(name="own", is_fips_approved=False),))
    with pytest.raises(ConfigurationError, match="and own is not approved"):
        make_ring(provisioning=own, fips="require")


def test_no_provider(make_ring: RingMaker) -> None:
    """Without an active FIPS provider the ring refuses to start, and says how to activate one (R-46)."""
    with pytest.raises(ConfigurationError, match=r"runs no FIPS provider; activate one, .*`sa-keyvault fips`"):
        make_ring(fips="require")


@pytest.mark.parametrize("fips", ["", "on", "REQUIRE", None, True])
def test_unknown_mode(make_ring: RingMaker, fips: object) -> None:
    """A mode that is not offered is refused, naming those that are."""
    with pytest.raises(ConfigurationError, match="is not offered; choose 'off' or 'require'"):
        make_ring(fips=fips)


# -- with a provider ---------------------------------------------------------------------------------------------------

MODEL = """
from sqlalchemy import String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
class Base(DeclarativeBase): ...
class Claimant(Base):
    __tablename__ = "claimant"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Encrypted(String(254), area="identities"))
"""
WRITE_AND_READ = f"""{MODEL}
ring = KeyRing(key, fips="require")
engine = create_engine("sqlite://", plugins=["keyvault"], keyring=ring)
ring.initialize(engine, Base.metadata)
Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add_all([Claimant(email="ada@example.org"), Claimant(email="")])
with Session(engine) as session:
    print(session.scalars(select(Claimant.email)).all())
"""


def test_default_works(in_fips_mode: Script) -> None:
    """The default provisioning makes a store, writes and reads where a FIPS provider does the work (R-4)."""
    assert in_fips_mode(WRITE_AND_READ) == "['ada@example.org', '']\n"


def test_triple_des_is_refused_with_a_provider(in_fips_mode: Script) -> None:
    """3DES is refused, although the provider lets it through (R-4)."""
    script = """
from sa_keyvault.suites import TRIPLE_DES_SHA256, random_secret
cipher = TRIPLE_DES_SHA256.cipher(random_secret(56))
print(cipher.open(bytes(8), cipher.seal(bytes(8), b"works", b""), b""))
try:
    KeyRing(key, Provisioning(working="3des"), fips="require")
except ConfigurationError as error:
    print(error)
"""
    refusal = "FIPS is required, and 3des-cbc-hmac-sha256 is not approved; provision AES and SHA-256\n"
    assert in_fips_mode(script) == "b'works'\n" + refusal


@pytest.mark.parametrize(
    "former", [Provisioning(working="3des"), Provisioning(master="3des")], ids=["working", "master"]
)
def test_store_with_triple_des_keys_is_refused(
    in_fips_mode: Script, sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker, former: Provisioning
) -> None:
    """A store that still uses 3DES keys is refused at the start, with the way out (R-4)."""
    ring = make_ring(provisioning=former)
    ring.initialize(make_engine(sqlite_url, ring), Base.metadata)
    script = f"""
from sqlalchemy import create_engine
try:
    KeyRing(key, fips="require").initialize(create_engine({str(sqlite_url)!r}))
except ConfigurationError as error:
    print(error)
"""
    found = in_fips_mode(script)
    assert found.startswith("FIPS is required, and ")
    assert "is a key of 3des-cbc-hmac-sha256, which is not approved; leave it with `sa-keyvault provision`" in found


def test_values_under_retired_triple_des_keys_are_refused(
    in_fips_mode: Script, sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Behind `provision`, a store starts; values under 3DES keys are refused with the way out, others open (R-4)."""
    former, ring = make_ring(provisioning=Provisioning(working="3des")), make_ring()
    first = make_engine(sqlite_url, former)
    former.initialize(first, Base.metadata)
    Base.metadata.create_all(first)
    with Session(first) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL))
    second = make_engine(sqlite_url, ring)
    with second.begin() as connection:
        provision(connection, ring)
    ring.initialize(second, Base.metadata)
    with Session(second) as session, session.begin():
        session.add(Claimant(id=2, email=EMAIL))
    script = f"""{MODEL}
ring = KeyRing(key, fips="require")
engine = create_engine({str(sqlite_url)!r}, plugins=["keyvault"], keyring=ring)
ring.initialize(engine, Base.metadata)
for number in 1, 2:
    try:
        with Session(engine) as session:
            print(session.scalar(select(Claimant.email).where(Claimant.id == number)))
    except ConfigurationError as error:
        print(error)
"""
    refusal = (
        "claimant.email: FIPS is required, and working key N of area 'identities' is a key of 3des-cbc-hmac-sha256, "
        "which is not approved; leave it with `sa-keyvault provision` and re-encrypt its values first\n"
    )
    assert refusal + f"{EMAIL}\n" == re.sub(r"key \d+ of", "key N of", in_fips_mode(script))


def test_key_that_turns_up_later_is_refused(in_fips_mode: Script) -> None:
    """A running ring that requires FIPS refuses single keys that are not approved (R-4)."""
    script = """
from sa_keyvault.keyring import Policy
from sa_keyvault.records import new_master
from sa_keyvault.suites import AES_256_GCM, TRIPLE_DES_SHA256
policy = Policy(Provisioning.default(), "require")
print(policy.suite_of(new_master("0" * 32, AES_256_GCM)[0]).name)
try:
    policy.suite_of(new_master("0" * 32, TRIPLE_DES_SHA256)[0])
except ConfigurationError as error:
    print(error)
"""
    found = in_fips_mode(script).splitlines()
    assert found[0] == "aes-256-gcm"
    assert "is a key of 3des-cbc-hmac-sha256, which is not approved" in found[1]


# -- files of the installation key -------------------------------------------------------------------------------------

READ = """
try:
    print(InstallationKey.from_file({path!r}, {passphrase!r}).fingerprint)
except InstallationKeyError as error:
    print(str(error).partition(" does not open: ")[2])
"""


def test_pem_is_read(in_fips_mode: Script, installation_key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """A PEM that the library wrote is read in FIPS mode."""
    path, passphrase = tmp_path / "own.pem", new_passphrase()
    installation_key.to_file(path, passphrase)
    assert in_fips_mode(READ.format(path=str(path), passphrase=passphrase)) == installation_key.fingerprint + "\n"


@pytest.mark.parametrize("is_right", [True, False])
def test_pkcs12_is_not_read(
    in_fips_mode: Script, installation_key: SoftwareInstallationKey, tmp_path: Path, is_right: bool
) -> None:
    """A PKCS#12 file cannot be read in FIPS mode, and the error says so in place of a wrong passphrase (A-81)."""
    path, passphrase = tmp_path / "own.p12", new_passphrase()
    installation_key.to_file(path, passphrase)
    given = passphrase if is_right else new_passphrase()
    expected = (
        "PKCS#12 files cannot be read in FIPS mode, whatever the passphrase; "
        "outside it, read the key and write it with to_file to a name that ends in .pem\n"
    )
    assert in_fips_mode(READ.format(path=str(path), passphrase=given)) == expected


def test_wrong_passphrase_of_a_pem(
    in_fips_mode: Script, installation_key: SoftwareInstallationKey, tmp_path: Path
) -> None:
    """A PEM that does not open may have a wrong passphrase, or a derivation that FIPS does not approve."""
    path = tmp_path / "own.pem"
    installation_key.to_file(path, new_passphrase())
    found = in_fips_mode(READ.format(path=str(path), passphrase=new_passphrase()))
    assert found.startswith("wrong passphrase, or encrypted in a way that FIPS does not approve (scrypt, ")


def test_scrypt_is_not_read(in_fips_mode: Script, installation_key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """A PEM whose passphrase is stretched by scrypt is such a one."""
    plain, path, passphrase = tmp_path / "own.pem", tmp_path / "scrypt.pem", new_passphrase()
    installation_key.to_file(plain, passphrase)
    # one file for both: its second line is the passphrase of what is written
    (tmp_path / "pass").write_bytes(passphrase + b"\n" + passphrase)
    convert = ["openssl", "pkcs8", "-topk8", "-scrypt", "-in", str(plain), "-out", str(path)]
    secrets = ["-passin", f"file:{tmp_path}/pass", "-passout", f"file:{tmp_path}/pass"]
    subprocess.run([*convert, *secrets], check=True, capture_output=True)  # noqa: S603 - the test's own
    path.chmod(0o600)
    assert InstallationKey.from_file(path, passphrase).fingerprint == installation_key.fingerprint
    found = in_fips_mode(READ.format(path=str(path), passphrase=passphrase))
    assert "scrypt" in found


@pytest.mark.parametrize("write", ["key.to_file", "InstallationKey.generate_non_exportable"])
def test_pkcs12_is_not_written(in_fips_mode: Script, tmp_path: Path, write: str) -> None:
    """A PKCS#12 file, which could not be read there, is not written in FIPS mode; the error names PEM (R-41)."""
    path = tmp_path / "own.p12"
    script = f"""
try:
    {write}({str(path)!r}, new_passphrase())
except InstallationKeyError as error:
    print(error)
"""
    refusal = "would be a PKCS#12 file, which cannot be read in FIPS mode; choose a name that ends in .pem\n"
    assert (in_fips_mode(script), path.exists()) == (f"{path} {refusal}", False)


def test_non_exportable_pem(in_fips_mode: Script, tmp_path: Path) -> None:
    """A non-exportable key is written and read as PEM in FIPS mode."""
    path = str(tmp_path / "own.pem")
    script = f"""
passphrase = new_passphrase()
made = InstallationKey.generate_non_exportable({path!r}, passphrase)
read = InstallationKey.from_file({path!r}, passphrase)
print(read.fingerprint == made.fingerprint)
try:
    read.to_file({path + "2"!r}, passphrase)
except InstallationKeyError as error:
    print("was generated non-exportable" in str(error))
"""
    assert in_fips_mode(script) == "True\nTrue\n"


def test_request_and_certificate(in_fips_mode: Script) -> None:
    """A certificate is requested, read and verified in FIPS mode (RFC 2986)."""
    script = """
from datetime import UTC, datetime, timedelta
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from sa_keyvault.installation import InstallationCertificate, certificate_request, verify_certificate
now = datetime(2026, 6, 1, tzinfo=UTC)
request = x509.load_pem_x509_csr(certificate_request(key, "claims"))
ca, name = rsa.generate_private_key(65537, 3072), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "CA")])
def issue(subject, public_key, is_ca):
    builder = x509.CertificateBuilder(name, subject, public_key, 1, now, now + timedelta(days=1))
    return builder.add_extension(x509.BasicConstraints(is_ca, None), True).sign(ca, hashes.SHA256())
root, own = (
    issue(*one).public_bytes(serialization.Encoding.PEM)
    for one in ((name, ca.public_key(), True), (request.subject, request.public_key(), False))
)
print(verify_certificate(InstallationCertificate.from_bytes(own), key, root, now))
"""
    assert in_fips_mode(script) == "2026-06-02 00:00:00+00:00\n"
