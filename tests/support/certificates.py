"""Certificates of installation keys, and the CA that issues them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sa_keyvault import InstallationKey
from sa_keyvault.installation import certificate_request

__all__ = ["bundle", "certificate_for"]


def certificate_for(key: InstallationKey) -> bytes:
    """Return a certificate for *key* that is good for a year."""
    return _issued(key, 365, None)[0]


def bundle(key: InstallationKey, days: int, folder: Path, start: datetime | None = None) -> tuple[bytes, Path]:
    """Return a certificate for *key* that is good for so many days, and the file of the CA that issued it."""
    issued, ca = _issued(key, days, start)
    path = folder / f"ca{days}.pem"
    path.write_bytes(ca)
    return issued, path


def _issued(key: InstallationKey, days: int, start: datetime | None) -> tuple[bytes, bytes]:
    ca_key, now = ec.generate_private_key(ec.SECP256R1()), start or datetime.now(UTC) - timedelta(days=1)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the test")])
    ca = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    request = x509.load_pem_x509_csr(certificate_request(key, "claims"))
    issued = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(name)
        .public_key(request.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=days + 1))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return issued.public_bytes(serialization.Encoding.PEM), ca.public_bytes(serialization.Encoding.PEM)
