"""An installation key that lives in a PKCS#11 token, and cannot leave it."""

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cryptography.hazmat.primitives.asymmetric import rsa

from sa_keyvault.errors import ConfigurationError, InstallationKeyError
from sa_keyvault.installation.algorithms import signature_scheme, wrapping_scheme
from sa_keyvault.installation.keys import InstallationKey, not_opened
from sa_keyvault.installation.passphrase import Passphrase
from sa_keyvault.secret import Secret

if TYPE_CHECKING:
    from sa_keyvault.installation.token_keys import TokenKey

__all__ = ["Pkcs11InstallationKey"]


class Pkcs11InstallationKey(InstallationKey):
    """An installation key in a PKCS#11 token; needs the extra `pkcs11`.

    All keys in one token share one session of the process, and one login: the PIN is fetched for the first key of
    a token, after a fork, and when the token was removed. A PIN that was refused is not tried again in this process.

    Args:
        module: Path of the token's library.
        token: Label of the token.
        pin: A function that fetches the PIN when it is needed (`passphrase_from_file` makes one), or the PIN.
        label: Label of the private key.
        key_id: Id of the private key; with or in place of its label.

    Raises:
        sa_keyvault.InstallationKeyError: Module, token, PIN or key is not acceptable.
        sa_keyvault.ConfigurationError: python-pkcs11 is not installed, or neither label nor id is given.
    """

    __slots__ = ("_key",)

    def __init__(
        self,
        *,
        module: str | os.PathLike[str],
        token: str,
        pin: Passphrase,
        label: str | None = None,
        key_id: bytes | None = None,
    ) -> None:
        fetch = _fetcher(pin)
        # the traceback of an error would keep it
        del pin
        if label is None and key_id is None:
            msg = "a key in a token is named by its label, its id or both; give label= or key_id="
            raise ConfigurationError(msg)
        self._key = _found(Path(module), token, (label, key_id), fetch)

    @staticmethod
    def generate(  # type: ignore[override]  # a factory: it is called on the class that is wanted
        *,
        module: str | os.PathLike[str],
        token: str,
        pin: Passphrase,
        label: str,
        key_id: bytes | None = None,
    ) -> "Pkcs11InstallationKey":
        """Make a new RSA-4096 pair in a token, sensitive and not extractable.

        Args:
            module: Path of the token's library.
            token: Label of the token.
            pin: A function that fetches the PIN, or the PIN.
            label: Label of the new key, which no other key in the token has.
            key_id: Id of the new key; random if it is not given.

        Raises:
            sa_keyvault.InstallationKeyError: The token is out of reach, has such a key, or does not make one.
            sa_keyvault.ConfigurationError: python-pkcs11 is not installed.
        """
        fetch, chosen = _fetcher(pin), key_id or secrets.token_bytes(16)
        del pin
        _require_driver()
        from sa_keyvault.installation.token_keys import make_key  # noqa: PLC0415 - needs the extra

        make_key(Path(module), token, label, chosen, fetch)
        return Pkcs11InstallationKey(
            module=module, token=token, label=label, key_id=chosen, pin=lambda: fetch().expose()
        )

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""
        return self._key.public_key

    @property
    def algorithms(self) -> frozenset[str]:
        """What the token can do with this key; asked when the object was made."""
        return self._key.algorithms

    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        """Return the secret in *wrapped* (as long as the modulus)."""
        wrapping_scheme(algorithm)
        self._require(algorithm, "unwrap by")
        secret = self._key.decrypt(wrapped, algorithm)
        if secret is None:
            raise not_opened(wrapped, self)
        return Secret(secret)

    def sign(self, message: bytes, algorithm: str) -> bytes:
        """Return a signature of *message* (as long as the modulus)."""
        signature_scheme(algorithm)
        self._require(algorithm, "sign with")
        signature = self._key.sign(message, algorithm)
        if signature is None:
            msg = f"{self._key} did not sign with {algorithm}, which it lists; see the log of the token's service"
            raise InstallationKeyError(msg)
        return signature

    def _require(self, algorithm: str, what: str) -> None:
        if algorithm not in self.algorithms:
            able = ", ".join(sorted(self.algorithms)) or "nothing that is needed"
            msg = f"{self._key} cannot {what} {algorithm}; it can do {able}"
            raise InstallationKeyError(msg)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.fingerprint[:16]}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "an installation key can be neither pickled nor copied; make one from the token in each process"
        raise TypeError(msg)


def _found(module: Path, token: str, name: tuple[str | None, bytes | None], pin: Callable[[], Secret]) -> "TokenKey":
    _require_driver()
    from sa_keyvault.installation.token_keys import TokenKey  # noqa: PLC0415 - needs the extra

    return TokenKey(module, token, name, pin)


def _require_driver() -> None:
    with suppress(ImportError):
        import pkcs11  # noqa: F401, PLC0415 - an extra, so that nobody else needs it

        return
    msg = "keys in tokens need python-pkcs11, which is not installed; install sa_keyvault[pkcs11]"
    raise ConfigurationError(msg)


def _fetcher(pin: Passphrase) -> Callable[[], Secret]:
    """Return a function that fetches the PIN, out of sight of whatever prints objects."""
    if callable(pin):
        return lambda: Secret(pin())
    secret = Secret(pin)
    return lambda: secret
