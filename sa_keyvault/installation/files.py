"""The file formats of an installation key: encrypted PEM (PKCS#8), and PKCS#12."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.suites import fips_status

__all__ = ["marked", "parse", "writer_for"]

_KDF_ROUNDS = 600_000  # OWASP ASVS 5.0 appendix C, PBKDF2-HMAC-SHA-256


_PKCS12_SUFFIXES = {".p12", ".pfx"}


def writer_for(path: Path) -> Callable[[rsa.RSAPrivateKey, bytes], bytes]:
    """Return the function that makes the bytes of a file of this name, from key and passphrase.

    Raises:
        sa_keyvault.InstallationKeyError: It would be PKCS#12, which could not be read again in FIPS mode.
    """
    if path.suffix not in _PKCS12_SUFFIXES:
        return _to_pem
    if fips_status().is_enabled:
        msg = f"{path} would be a PKCS#12 file, which cannot be read in FIPS mode; choose a name that ends in .pem"
        raise InstallationKeyError(msg)
    return _to_pkcs12


def marked(passphrase: bytes) -> bytes:
    """Return what the file of a non-exportable key is encrypted with.

    The mark is in the passphrase because neither format has an authenticated place for it that `cryptography`
    writes and reads, and because other programs that are given the passphrase alone do not open the file.
    """
    return passphrase + b"/non-exportable"


def _to_pem(key: rsa.RSAPrivateKey, passphrase: bytes) -> bytes:
    """Return *key* as encrypted PEM (PKCS#8)."""
    encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _to_pkcs12(key: rsa.RSAPrivateKey, passphrase: bytes) -> bytes:
    """Return *key* as PKCS#12."""
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_KDF_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
        .hmac_hash(hashes.SHA256())
        .build(passphrase)
    )
    return pkcs12.serialize_key_and_certificates(b"sa_keyvault", key, None, None, encryption)


def parse(data: bytes, passphrase: bytes, path: Path) -> tuple[rsa.RSAPrivateKey, bool]:
    """Return the private key in what was read from *path*, and whether it may be exported.

    Raises:
        sa_keyvault.InstallationKeyError: It does not open, is not encrypted, or holds no RSA key.
    """
    key = _opened(data, passphrase)
    is_exportable = key is not None
    # a passphrase of another type is refused like a wrong one
    if key is None and passphrase and isinstance(passphrase, bytes):
        key = _opened(data, marked(passphrase))
    if isinstance(key, rsa.RSAPrivateKey) and passphrase and not _shows_key(data, key):
        return key, is_exportable
    problem = f"{path} holds no RSA private key"
    if key is None:
        problem = f"{path} does not open: wrong passphrase, or no encrypted PEM (PKCS#8) or PKCS#12 file"
        status = fips_status()
        if status.is_enabled:
            problem = _problem_in_fips_mode(data, path)
        if not status.has_approved:
            problem = f"{path} does not open: no provider serves OpenSSL's FIPS mode (`sa-keyvault fips` says more)"
    if isinstance(key, rsa.RSAPrivateKey) or (b"PRIVATE KEY-----" in data and b"ENCRYPTED" not in data):
        problem = f"{path} is not encrypted; encrypt it with `openssl pkcs8 -topk8 -scrypt`"
    raise InstallationKeyError(problem)


def _opened(data: bytes, passphrase: bytes) -> object:
    """Return the private key, or nothing; parsing errors may quote the file, or hold the passphrase."""
    with suppress(ValueError, TypeError, UnsupportedAlgorithm, InternalError):
        if data.startswith(b"-----BEGIN"):
            return serialization.load_pem_private_key(data, passphrase)
        return pkcs12.load_key_and_certificates(data, passphrase)[0]
    return None


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
