"""The file formats of an installation key: encrypted PEM (PKCS#8), and PKCS#12."""

from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.suites import fips_status

__all__ = ["parse", "to_pem", "to_pkcs12"]

_KDF_ROUNDS = 600_000  # OWASP ASVS 5.0 appendix C, PBKDF2-HMAC-SHA-256


def to_pem(key: rsa.RSAPrivateKey, passphrase: bytes) -> bytes:
    """Return *key* as encrypted PEM (PKCS#8)."""
    encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def to_pkcs12(key: rsa.RSAPrivateKey, passphrase: bytes) -> bytes:
    """Return *key* as PKCS#12."""
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_KDF_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(passphrase)
    )
    return pkcs12.serialize_key_and_certificates(b"sa_keyvault", key, None, None, encryption)


def parse(data: bytes, passphrase: bytes, path: Path) -> rsa.RSAPrivateKey:
    """Return the private key in what was read from *path*.

    Raises:
        sa_keyvault.InstallationKeyError: It does not open, is not encrypted, or holds no RSA key.
    """
    # each except clause ends before the raise: parsing errors may quote the file, or hold the passphrase
    problem = f"{path} does not open: wrong passphrase, or no encrypted PEM (PKCS#8) or PKCS#12 file"
    status = fips_status()
    if status.is_enabled:
        problem = _problem_in_fips_mode(data, path)
    if not status.has_approved:
        problem = f"{path} does not open: no provider serves OpenSSL's FIPS mode (`sa-keyvault fips` says more)"
    with suppress(ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        key: object
        if data.startswith(b"-----BEGIN"):
            key = serialization.load_pem_private_key(data, passphrase)
        else:
            key = pkcs12.load_key_and_certificates(data, passphrase)[0]
        if isinstance(key, rsa.RSAPrivateKey) and passphrase and not _shows_key(data, key):
            return key
        problem = f"{path} holds no RSA private key"
        if isinstance(key, rsa.RSAPrivateKey):
            problem = f"{path} is not encrypted; encrypt it with `openssl pkcs8 -topk8 -scrypt`"
    if b"PRIVATE KEY-----" in data and b"ENCRYPTED" not in data:
        problem = f"{path} is not encrypted; encrypt it with `openssl pkcs8 -topk8 -scrypt`"
    raise InstallationKeyError(problem)


def _problem_in_fips_mode(data: bytes, path: Path) -> str:
    """Return what is said of a file that does not open there, where OpenSSL does not say it."""
    if not data.startswith(b"-----BEGIN"):
        return (
            f"{path} does not open: PKCS#12 files cannot be read in FIPS mode, whatever the passphrase; "
            "outside it, read the key and write it with to_file to a name that ends in .pem"
        )
    return (
        f"{path} does not open: wrong passphrase, or encrypted in a way that FIPS does not approve (scrypt, a salt "
        "under 16 bytes); outside FIPS mode, read the key and write it with to_file to a name that ends in .pem"
    )


def _shows_key(data: bytes, key: rsa.RSAPrivateKey) -> bool:
    """Whether a file that opened has the private key unencrypted: PEM without the mark, PKCS#12 with a MAC only."""
    if data.startswith(b"-----BEGIN"):
        return b"ENCRYPTED" not in data
    prime = key.private_numbers().p
    return prime.to_bytes((prime.bit_length() + 7) // 8, "big") in data
