"""What a cipher suite is: the small protocol through which own suites plug in."""

from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag

from sa_keyvault.secret import Secret

__all__ = ["AUTHENTICATION_FAILURES", "MAX_BODY_OVERHEAD", "Cipher", "Operation", "Suite"]

MAX_BODY_OVERHEAD = 64
"""Bytes that any suite may add to a plaintext; columns are made wide enough for it, so that a change
of suite never needs a wider column."""

AUTHENTICATION_FAILURES: tuple[type[Exception], ...] = (InvalidTag, InvalidSignature, ValueError)
"""What a cipher's `open` may raise; callers make one indistinguishable error of it."""


Operation = Callable[[bytes, bytes, bytes], bytes]
"""One cipher call: nonce, text and AAD -> text."""


class Cipher(Protocol):
    """One key, ready to use; stateless and safe to share between threads."""

    @property
    def seal(self) -> Operation:
        """(nonce, plaintext, AAD) -> ciphertext and tag."""

    @property
    def open(self) -> Operation:
        """(nonce, ciphertext and tag, AAD) -> plaintext; raises one of `AUTHENTICATION_FAILURES`."""


class Suite(Protocol):
    """The algorithms of one key: authenticated encryption with associated data, named in the key's record."""

    @property
    def name(self) -> str:
        """Name in records and derivations, at most 32 characters; never changes its meaning."""

    @property
    def key_size(self) -> int:
        """Size of the key in bytes, at most 128."""

    @property
    def nonce_size(self) -> int:
        """Size in bytes of the nonce, or IV, that a body begins with; the library draws it at random."""

    @property
    def usage_limit(self) -> int:
        """How much one key may be used, in the unit of `usage`; the library stops at half of it."""

    @property
    def is_fips_approved(self) -> bool:
        """Whether FIPS 140-3 lets the suite protect new data; the others are refused where FIPS is required."""

    def usage(self, plaintext_size: int) -> int:
        """Return how much of the limit a message of that size spends, at least 1."""

    def body_size(self, plaintext_size: int) -> int:
        """Return the size in bytes of nonce, ciphertext and tag; at most `MAX_BODY_OVERHEAD` more than given."""

    def cipher(self, key: Secret) -> Cipher:
        """Return the cipher of *key*; raises a `ConfigurationError` if it is no key of this suite."""
