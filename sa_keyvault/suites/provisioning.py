"""The choice of algorithms for an installation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.suites.aes_gcm import AES_256_GCM
from sa_keyvault.suites.derivation import random_secret
from sa_keyvault.suites.protocol import AUTHENTICATION_FAILURES, MAX_BODY_OVERHEAD, Suite
from sa_keyvault.suites.triple_des import TRIPLE_DES_SHA1, TRIPLE_DES_SHA256, TripleDesCbcHmac

__all__ = ["HashName", "Provisioning"]

HashName = Literal["sha256", "sha1"]

_TRIPLE_DES: Mapping[HashName, Suite] = {"sha256": TRIPLE_DES_SHA256, "sha1": TRIPLE_DES_SHA1}
_BUILT_IN: Mapping[str, Suite] = {suite.name: suite for suite in (AES_256_GCM, TRIPLE_DES_SHA256, TRIPLE_DES_SHA1)}

_TEST_SIZES = (0, 1, 63, 1000)  # bytes
_MAX_NAME = 32  # characters, the width of the column `suite`
_MAX_KEY_SIZE = 128  # bytes; wrapped, it fits the column `wrapped`


@dataclass(frozen=True)
class Provisioning:
    """Choice of algorithms for the keys that an installation makes from now on.

    Keys of every choice can live side by side in one key store, because each key's record names its suite.

    Attributes:
        master: `"aes"` (AES-256-GCM), `"3des"` (3DES-CBC, encrypt-then-MAC), or the name of one of *suites*.
        working: The same choice for the working keys.
        hash: Hash of the signatures over master keys, and of the HMAC of 3DES: `"sha256"` or `"sha1"`.
        suites: Suites of one's own, which keys may name beside the built-in ones.

    Raises:
        sa_keyvault.ConfigurationError: A choice that is not offered, or an own suite that cannot be used.
    """

    master: str = "aes"
    working: str = "aes"
    hash: HashName = "sha256"
    suites: tuple[Suite, ...] = ()

    def __post_init__(self) -> None:
        _require_offered("hash", self.hash, get_args(HashName))
        _require_usable(self.suites)
        offered = ("aes", "3des", *(suite.name for suite in self.suites))
        _require_offered("master", self.master, offered)
        _require_offered("working", self.working, offered)

    @classmethod
    def default(cls) -> "Provisioning":
        """Return AES-256-GCM for master and working keys, with SHA-256."""
        return cls()

    @classmethod
    def original(cls) -> "Provisioning":
        """Return AES-256 for master keys, 3DES for working keys, with SHA-1."""
        return cls(master="aes", working="3des", hash="sha1")

    @property
    def master_suite(self) -> Suite:
        """Suite of new master keys, which wraps working keys."""
        return self._chosen(self.master)

    @property
    def working_suite(self) -> Suite:
        """Suite of new working keys, which seals values."""
        return self._chosen(self.working)

    def suite_named(self, name: str) -> Suite:
        """Return the suite that a key's record names.

        Raises:
            sa_keyvault.ConfigurationError: There is no such suite.
        """
        if suite := self._named.get(name):
            return suite
        msg = f"no cipher suite {name!r}; this installation has {', '.join(sorted(self._named))}"
        raise ConfigurationError(msg)

    def weaknesses(self) -> Iterator[str]:
        """Yield what is outdated about the choice, each with the dates that NIST has set."""
        chosen = self.master_suite, self.working_suite
        if any(isinstance(suite, TripleDesCbcHmac) for suite in chosen):
            yield (
                "3DES has 112 bits of strength, and so has all that is under a 3DES key, AES keys included; "
                "NIST disallows it for encryption after 2023 (SP 800-131A revision 2); "
                "`sa-keyvault provision` leads to AES-256"
            )
        if self.hash == "sha1":
            yield (
                "SHA-1 signatures can be forged at some expense; NIST disallows them since 2014 (SP 800-131A) "
                "and withdraws SHA-1 by the end of 2030; `sa-keyvault provision` leads to SHA-256"
            )

    @cached_property
    def _named(self) -> Mapping[str, Suite]:
        return {**_BUILT_IN, **{suite.name: suite for suite in self.suites}}

    def _chosen(self, choice: str) -> Suite:
        if choice == "aes":
            return AES_256_GCM
        if choice == "3des":
            return _TRIPLE_DES[self.hash]
        return self._named[choice]


def _require_offered(name: str, chosen: object, offered: tuple[str, ...]) -> None:
    if chosen not in offered:
        *others, last = (repr(choice) for choice in offered)
        msg = f"provisioning {name}={chosen!r} is not offered; choose {', '.join(others)} or {last}"
        raise ConfigurationError(msg)


def _require_usable(suites: tuple[Suite, ...]) -> None:
    taken = {*_BUILT_IN, "aes", "3des"}
    for suite in suites:
        problem = None
        if suite.name != str(suite.name):
            problem = "has a name that is no text"
        elif suite.name in taken:
            problem = "has a name that is taken"
        elif not 0 < len(suite.name) <= _MAX_NAME or not suite.name.isascii():
            problem = f"has a name that is not 1 to {_MAX_NAME} ASCII characters long"
        elif not 0 < suite.key_size <= _MAX_KEY_SIZE:
            problem = f"has keys of {suite.key_size} bytes; 1 to {_MAX_KEY_SIZE} are possible"
        elif max(suite.body_size(size) - size for size in range(MAX_BODY_OVERHEAD)) > MAX_BODY_OVERHEAD:
            problem = f"adds more than {MAX_BODY_OVERHEAD} bytes to a value"
        elif suite.usage(0) < 1 or suite.usage_limit // 2 < suite.usage(suite.key_size):
            problem = f"has a limit of {suite.usage_limit}, half of which does not cover one message"
        else:
            problem = _self_test(suite)
        if problem:
            msg = f"the cipher suite {suite.name!r} {problem}"
            raise ConfigurationError(msg)
        taken.add(suite.name)


def _self_test(suite: Suite) -> str | None:
    """Return what is wrong with a suite that is tried out once, before values are stored that would never open."""
    cipher, aad = suite.cipher(random_secret(suite.key_size)), b":1"
    for size in _TEST_SIZES:
        nonce, plaintext = random_secret(suite.nonce_size).expose(), bytes(size)
        sealed = cipher.seal(nonce, plaintext, aad)
        if len(nonce) + len(sealed) != suite.body_size(size):
            return f"makes bodies of {len(nonce) + len(sealed)} bytes, and not the {suite.body_size(size)} that it says"
        if cipher.open(nonce, sealed, aad) != plaintext:
            return "does not open what it has sealed"
        forged = sealed[:-1] + bytes([sealed[-1] ^ 1])
        for attempt in ((nonce, forged, aad), (nonce, sealed, b":2"), (nonce, sealed[:-1], aad)):
            try:
                cipher.open(*attempt)
            except AUTHENTICATION_FAILURES:
                continue
            return "opens what was forged, or was sealed for another row"
    return None
