"""Where keys come from, the operating system's generator and HKDF; and the hash of records."""

import os

from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sa_keyvault.binding import length_prefixed
from sa_keyvault.secret import Secret

__all__ = ["derive", "random_secret", "sha256_hex"]


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


def sha256_hex(data: bytes) -> str:
    """Return SHA-256 (FIPS 180-4) of *data*, 64 hex digits."""
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize().hex()
