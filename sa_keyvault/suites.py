"""The algorithms: every symmetric primitive that the library uses, and how they are chosen."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sa_keyvault.binding import length_prefixed
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.secret import Secret

__all__ = [
    "AES_256_GCM",
    "AUTHENTICATION_FAILURES",
    "MAX_BODY_OVERHEAD",
    "Aes256Gcm",
    "Cipher",
    "Provisioning",
    "Suite",
    "derive",
    "random_secret",
    "suite_named",
]

MAX_BODY_OVERHEAD = 64
"""Bytes that any suite may add to a plaintext; columns are made wide enough for it, so that a change
of suite never needs a wider column."""


AUTHENTICATION_FAILURES: tuple[type[Exception], ...] = (InvalidTag, ValueError)
"""What a cipher's `open` may raise; callers make one indistinguishable error of it."""


class Cipher(Protocol):
    """One key, ready to use; stateless and safe to share between threads."""

    @property
    def seal(self) -> Callable[[bytes, bytes, bytes], bytes]:
        """(nonce, plaintext, AAD) -> ciphertext and tag."""

    @property
    def open(self) -> Callable[[bytes, bytes, bytes], bytes]:
        """(nonce, ciphertext and tag, AAD) -> plaintext; raises one of `AUTHENTICATION_FAILURES`."""


class Suite(Protocol):
    """The algorithms of one working key, named in the key's record."""

    @property
    def name(self) -> str:
        """Name in records and derivations; never changes its meaning."""

    @property
    def key_size(self) -> int:
        """Size of the key in bytes."""

    @property
    def usage_limit(self) -> int:
        """How many messages one key may seal; the library stops at half of it."""

    @property
    def nonce_size(self) -> int:
        """Size in bytes of the nonce, or IV, that a body begins with."""

    def body_size(self, plaintext_size: int) -> int:
        """Return the size in bytes of the body of a plaintext of that size."""

    def cipher(self, key: Secret) -> Cipher:
        """Return the cipher of *key*."""


class _GcmCipher:
    """AES-GCM under one key; the primitive's own bound methods, because a frame more would be felt."""

    __slots__ = ("open", "seal")

    def __init__(self, key: Secret) -> None:
        aead = AESGCM(key.expose())
        self.seal: Callable[[bytes, bytes, bytes], bytes] = aead.encrypt
        self.open: Callable[[bytes, bytes, bytes], bytes] = aead.decrypt


@dataclass(frozen=True)
class Aes256Gcm:
    """AES-256-GCM with random 96-bit nonces and 128-bit tags.

    Source:
        NIST SP 800-38D section 8.2.2 (nonce), section 8.3 (2^32 messages per key), section 5.2.1.2 (tag).
    """

    name: str = "aes-256-gcm"
    key_size: int = 32
    nonce_size: int = 12
    usage_limit: int = 2**32

    def body_size(self, plaintext_size: int) -> int:
        """Return nonce (12) + ciphertext + tag (16)."""
        return 12 + plaintext_size + 16

    def cipher(self, key: Secret) -> Cipher:
        """Return AES-256-GCM under *key* (32 bytes)."""
        size = len(key.expose())
        if size != self.key_size:
            # AESGCM itself would take 16 and 24 bytes, and be AES-128 or AES-192
            msg = f"a key of {size} bytes is no {self.name} key, which has {self.key_size}"
            raise ConfigurationError(msg, size=size)
        return _GcmCipher(key)


AES_256_GCM = Aes256Gcm()

_SUITES: dict[str, Suite] = {AES_256_GCM.name: AES_256_GCM}


def suite_named(name: str) -> Suite:
    """Return the suite that a key's record names.

    Raises:
        sa_keyvault.ConfigurationError: This version has no such suite.
    """
    if suite := _SUITES.get(name):
        return suite
    msg = f"no cipher suite {name!r}; this version has {', '.join(sorted(_SUITES))}"
    raise ConfigurationError(msg)


def random_secret(size: int) -> Secret:
    """Return *size* bytes from the operating system's generator."""
    return Secret(os.urandom(size))


def derive(secret: Secret, *, salt: Secret, purpose: tuple[bytes, ...], size: int) -> Secret:
    """Derive a key of *size* bytes from *secret*.

    Args:
        secret: Key material to derive from.
        salt: Second key; without it the result cannot be computed.
        purpose: Fields of the `info` input, length-prefixed before use.
        size: Size of the result in bytes.

    Source:
        RFC 5869 (HKDF) with SHA-256.
    """
    kdf = HKDF(algorithm=SHA256(), length=size, salt=salt.expose(), info=length_prefixed(*purpose))
    return Secret(kdf.derive(secret.expose()))


@dataclass(frozen=True)
class Provisioning:
    """Choice of algorithms for the keys that an installation makes from now on.

    Attributes:
        master: Cipher of the master keys.
        working: Cipher of the working keys.
        hash: Hash of signatures and derivations.

    Raises:
        sa_keyvault.ConfigurationError: A choice that this version does not offer.
    """

    master: str = "aes"
    working: str = "aes"
    hash: str = "sha256"

    def __post_init__(self) -> None:
        for name, offered in (("master", "aes"), ("working", "aes"), ("hash", "sha256")):
            chosen = getattr(self, name)
            if chosen != offered:
                msg = f"provisioning {name}={chosen!r} is not offered; choose {offered!r}"
                raise ConfigurationError(msg)

    @classmethod
    def default(cls) -> "Provisioning":
        """Return AES-256-GCM for master and working keys, with SHA-256."""
        return cls()

    @property
    def working_suite(self) -> Suite:
        """Suite of new working keys."""
        return AES_256_GCM
