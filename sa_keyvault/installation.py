"""Level 1, the installation key: an RSA pair that wraps and signs master keys, and the file it is kept in."""

import base64
import hashlib
import os
import re
import secrets
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from math import isqrt
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from sa_keyvault.errors import InstallationKeyError, KeyRecordError, PassphraseWarning
from sa_keyvault.private_file import read_private_file, write_private_file
from sa_keyvault.records import MasterRecord, MasterSecret, Wrap, signed_bytes
from sa_keyvault.secret import Secret

__all__ = [
    "ALGORITHM",
    "InstallationKey",
    "Passphrase",
    "fingerprint",
    "new_passphrase",
    "passphrase_from_file",
    "unwrap_master",
    "wrap_master",
]

ALGORITHM = "rsa-oaep-sha256+rsa-pss-sha256"
"""RSAES-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017 section 7.1); RSASSA-PSS with SHA-256, MGF1-SHA-256
and a salt of 32 bytes (section 8.1)."""

KEY_SIZE = 4096  # bits
MIN_KEY_SIZE = 3072  # bits; NIST SP 800-57 part 1 table 2: 128 bits of strength
PUBLIC_EXPONENT = 65537  # FIPS 186-5 appendix A.1.1 asks for more than 2^16

_KDF_ROUNDS = 600_000  # OWASP ASVS 5.0 appendix C, PBKDF2-HMAC-SHA-256
_FERMAT_STEPS = 100

Passphrase = bytes | Callable[[], bytes]
"""A passphrase, or a function that fetches it when it is needed."""

_MADE_PASSPHRASE = re.compile(rb"(?:[A-Z2-7]{4}-){6}[A-Z2-7]{2}")

_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)


class InstallationKey(ABC):
    """The root of all keys: unwraps master keys and signs their records.

    A key of another kind, for instance one in a token, implements the four abstract members.
    Wrapping and verifying need only the public half and are functions of this module.
    """

    @property
    @abstractmethod
    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""

    @property
    @abstractmethod
    def algorithms(self) -> frozenset[str]:
        """What this key can do."""

    @abstractmethod
    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        """Return the secret in *wrapped*.

        Raises:
            sa_keyvault.KeyRecordError: It was not wrapped for this key.
        """

    @abstractmethod
    def sign(self, message: bytes, algorithm: str) -> bytes:
        """Return a signature of *message*."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, 64 hex digits."""
        return fingerprint(self.public_key)

    @staticmethod
    def generate() -> "SoftwareInstallationKey":
        """Make a new RSA-4096 pair in this process."""
        return SoftwareInstallationKey(rsa.generate_private_key(PUBLIC_EXPONENT, KEY_SIZE))

    @staticmethod
    def from_file(path: str | os.PathLike[str], passphrase: Passphrase) -> "SoftwareInstallationKey":
        """Read a key from an encrypted PEM (PKCS#8) or PKCS#12 file.

        Args:
            path: A regular file that others may neither read nor write; a symlink is not followed.
            passphrase: What the file is encrypted with, or a function that fetches it.

        Raises:
            sa_keyvault.InstallationKeyError: File, passphrase or key is not acceptable.
        """
        data = read_private_file(Path(path))
        secret = passphrase() if callable(passphrase) else passphrase
        try:
            return SoftwareInstallationKey(_parse(data, secret, Path(path)))
        except InstallationKeyError as error:
            # the frames that it passed, and this one, would keep the passphrase in its traceback
            refusal = error.with_traceback(None)
            del secret, passphrase
        raise refusal


class SoftwareInstallationKey(InstallationKey):
    """An installation key in this process's memory.

    Args:
        private_key: RSA, at least 3072 bits, e = 65537.

    Raises:
        sa_keyvault.InstallationKeyError: The key is weak.
    """

    __slots__ = ("_private_key",)

    def __init__(self, private_key: rsa.RSAPrivateKey) -> None:
        _refuse_weak(private_key)
        self._private_key = private_key

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""
        return self._private_key.public_key()

    @property
    def algorithms(self) -> frozenset[str]:
        """RSA-OAEP and RSA-PSS, both with SHA-256."""
        return frozenset({ALGORITHM})

    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        """Return the secret in *wrapped* (as long as the modulus)."""
        _require_known(algorithm)
        try:
            return Secret(self._private_key.decrypt(wrapped, _OAEP))
        except ValueError:
            pass
        msg = f"a wrapped master key of {len(wrapped)} bytes does not open with installation key {self.fingerprint}"
        raise KeyRecordError(msg, size=len(wrapped))

    def sign(self, message: bytes, algorithm: str) -> bytes:
        """Return a signature of *message* (as long as the modulus)."""
        _require_known(algorithm)
        return self._private_key.sign(message, _PSS, hashes.SHA256())

    def to_file(self, path: str | os.PathLike[str], passphrase: Passphrase) -> None:
        """Write the key to *path*, encrypted: PKCS#12 for the suffixes `.p12` and `.pfx`, else PEM (PKCS#8).

        The file appears whole or not at all, with mode 0600. Both formats protect a passphrase weakly
        (2,048 iterations; PKCS#12: of its MAC), so use one that `new_passphrase` made.

        Raises:
            sa_keyvault.InstallationKeyError: The file exists already, or cannot be written.
        """
        secret = passphrase() if callable(passphrase) else passphrase
        _warn_of_own(secret)
        target = Path(path)
        data = self._pkcs12(secret) if target.suffix in {".p12", ".pfx"} else self._pem(secret)
        write_private_file(target, data)

    def _pem(self, passphrase: bytes) -> bytes:
        encryption = serialization.BestAvailableEncryption(passphrase)
        return self._private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )

    def _pkcs12(self, passphrase: bytes) -> bytes:
        encryption = (
            serialization.PrivateFormat.PKCS12.encryption_builder()
            .kdf_rounds(_KDF_ROUNDS)
            .key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC)
            .hmac_hash(hashes.SHA256())
            .build(passphrase)
        )
        return pkcs12.serialize_key_and_certificates(b"sa_keyvault", self._private_key, None, None, encryption)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.fingerprint[:16]}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "an installation key can be neither pickled nor copied; write it with to_file"
        raise TypeError(msg)


def fingerprint(public_key: rsa.RSAPublicKey) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo (RFC 5280 section 4.1), 64 hex digits."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def wrap_master(record: MasterRecord, secret: MasterSecret, key: InstallationKey) -> Wrap:
    """Wrap a master key's secret for *key* and sign record and wrap with it."""
    wrapped = key.public_key.encrypt(secret.to_secret().expose(), _OAEP)
    signature = key.sign(signed_bytes(record, key.fingerprint, ALGORITHM, wrapped), ALGORITHM)
    return Wrap(record.id, key.fingerprint, ALGORITHM, wrapped, signature)


def unwrap_master(record: MasterRecord, wrap: Wrap, key: InstallationKey) -> MasterSecret:
    """Return a master key's secret; the signature is verified before the private key is used.

    Raises:
        sa_keyvault.KeyRecordError: Record or wrap was not signed by *key*, or was changed since.
    """
    _require_known(wrap.algorithm)
    message = signed_bytes(record, wrap.fingerprint, wrap.algorithm, wrap.wrapped)
    try:
        key.public_key.verify(wrap.signature, message, _PSS, hashes.SHA256())
    except InvalidSignature:
        msg = (
            f"the record of master key {record.id} is not signed by installation key {key.fingerprint}; "
            "it was changed outside the library, or another installation wrote it"
        )
        raise KeyRecordError(msg) from None
    return MasterSecret.from_secret(key.unwrap(wrap.wrapped, wrap.algorithm))


def _require_known(algorithm: str) -> None:
    if algorithm != ALGORITHM:
        msg = f"no installation key algorithm {algorithm!r}; this version has {ALGORITHM}"
        raise KeyRecordError(msg)


def new_passphrase() -> bytes:
    """Return 128 random bits as base32 in groups of four: `ABCD-EFGH-…`, 32 characters.

    Source:
        RFC 4648 section 6.
    """
    text = base64.b32encode(secrets.token_bytes(16)).rstrip(b"=")
    return b"-".join(text[start : start + 4] for start in range(0, len(text), 4))


def passphrase_from_file(path: str | os.PathLike[str]) -> Passphrase:
    """Return a function that reads a passphrase from the first line of a file of one's own."""
    return lambda: read_private_file(Path(path)).partition(b"\n")[0].rstrip(b"\r")


def _warn_of_own(passphrase: bytes) -> None:
    if not passphrase:
        msg = "an installation key is never written without a passphrase; make one with new_passphrase()"
        raise InstallationKeyError(msg)
    if not _MADE_PASSPHRASE.fullmatch(passphrase):
        msg = (
            "this passphrase was not made by sa_keyvault: the file formats stretch it by 2,048 iterations only, "
            "so whoever has the file can try millions a second; prefer new_passphrase()"
        )
        warnings.warn(msg, PassphraseWarning, stacklevel=3)


def _parse(data: bytes, passphrase: bytes, path: Path) -> rsa.RSAPrivateKey:
    # each except clause ends before the raise: parsing errors may quote the file, or hold the passphrase
    problem = f"{path} does not open: wrong passphrase, or no encrypted PEM (PKCS#8) or PKCS#12 file"
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
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


def _shows_key(data: bytes, key: rsa.RSAPrivateKey) -> bool:
    """Whether a file that opened has the private key unencrypted: PEM without the mark, PKCS#12 with a MAC only."""
    if data.startswith(b"-----BEGIN"):
        return b"ENCRYPTED" not in data
    prime = key.private_numbers().p
    return prime.to_bytes((prime.bit_length() + 7) // 8, "big") in data


def _refuse_weak(key: rsa.RSAPrivateKey) -> None:
    public, primes = key.public_key().public_numbers(), key.private_numbers()
    bits = key.key_size
    problem = None
    if bits < MIN_KEY_SIZE:
        problem = f"has {bits} bits; at least {MIN_KEY_SIZE} are needed"
    elif public.e != PUBLIC_EXPONENT:
        problem = f"has the public exponent {public.e}; {PUBLIC_EXPONENT} is needed"
    elif abs(primes.p - primes.q) >> (bits // 2 - 100) == 0 or _fermat_factors(public.n):
        problem = "has primes that are too close to each other"
    elif _has_roca_fingerprint(public.n):
        problem = "was made by a generator whose keys can be factored (ROCA, CVE-2017-15361)"
    if problem:
        msg = f"the RSA key {problem}; make one with InstallationKey.generate()"
        raise InstallationKeyError(msg)


def _fermat_factors(modulus: int) -> bool:
    """Whether Fermat's method factors *modulus* in a few steps (OWASP ASVS 5.0, 11.6.1)."""
    start = isqrt(modulus) + 1
    squares = ((start + step) ** 2 - modulus for step in range(_FERMAT_STEPS))
    return any(isqrt(square) ** 2 == square for square in squares)


_ROCA_PRIMES = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83),
    *(89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)


def _has_roca_fingerprint(modulus: int) -> bool:
    """Whether *modulus* is a power of 65537 modulo every one of the first odd primes.

    Source:
        Nemec et al., "The Return of Coppersmith's Attack", ACM CCS 2017, section 2.3.
    """
    return all(modulus % prime in {pow(PUBLIC_EXPONENT, n, prime) for n in range(prime)} for prime in _ROCA_PRIMES)
