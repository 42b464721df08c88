"""What a key must be like before a cipher is made of it."""

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.secret import Secret

__all__ = ["require_des_keys", "require_size"]

_DES_KEY_SIZE = 8  # bytes, parity bits included

# NIST SP 800-67 revision 2 section 3.3.2: the 4 weak and the 12 semi-weak DES keys, with odd parity
_WEAK_DES_KEYS = frozenset(
    bytes.fromhex(keys)[start : start + 8]
    for keys in (
        "0101010101010101 fefefefefefefefe e0e0e0e0f1f1f1f1 1f1f1f1f0e0e0e0e",
        "011f011f010e010e 1f011f010e010e01 01e001e001f101f1 e001e001f101f101",
        "01fe01fe01fe01fe fe01fe01fe01fe01 1fe01fe00ef10ef1 e01fe01ff10ef10e",
        "1ffe1ffe0efe0efe fe1ffe1ffe0efe0e e0fee0fef1fef1fe fee0fee0fef1fef1",
    )
    for start in range(0, 32, 8)
)


def require_size(key: Secret, size: int, suite: str) -> None:
    """Refuse a key of another size than the suite's.

    Raises:
        sa_keyvault.ConfigurationError: It is shorter or longer.
    """
    actual = len(key.expose())
    if actual != size:
        msg = f"a key of {actual} bytes is no {suite} key, which has {size}"
        raise ConfigurationError(msg, size=actual)


def require_des_keys(bundle: bytes) -> None:
    """Refuse three DES keys (24 bytes) that are not three, or weak; parity bits do not make a difference.

    OpenSSL takes them all, and would encrypt with single DES or with the identity.

    Raises:
        sa_keyvault.ConfigurationError: Two of them are the same, or one is weak or semi-weak.
    """
    keys = {_with_odd_parity(bundle[start : start + _DES_KEY_SIZE]) for start in range(0, len(bundle), _DES_KEY_SIZE)}
    if _DES_KEY_SIZE * len(keys) != len(bundle) or keys & _WEAK_DES_KEYS:
        msg = "two of the three DES keys are the same, or one of them is weak; make another key in its place"
        raise ConfigurationError(msg, size=len(bundle))


def _with_odd_parity(key: bytes) -> bytes:
    """Return a DES key with the lowest bit of each byte set so that the number of ones is odd."""
    return bytes(byte & 0xFE | (byte >> 1).bit_count() & 1 ^ 1 for byte in key)
