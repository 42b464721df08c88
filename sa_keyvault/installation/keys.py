"""The installation key: an RSA pair that unwraps and signs master keys."""

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sa_keyvault.errors import InstallationKeyError, KeyRecordError
from sa_keyvault.installation.algorithms import SIGNATURES, WRAPPINGS, signature_scheme, wrapping_scheme
from sa_keyvault.installation.files import marked, parse, writer_for
from sa_keyvault.installation.passphrase import Passphrase, warn_of_own
from sa_keyvault.installation.strength import KEY_SIZE, PUBLIC_EXPONENT, refuse_weak
from sa_keyvault.private_file import read_private_file, write_private_file
from sa_keyvault.secret import Secret

__all__ = ["InstallationKey", "NonExportableInstallationKey", "SoftwareInstallationKey", "fingerprint", "not_opened"]


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
        """What this key can do, some of `WRAPPINGS` and some of `SIGNATURES`."""

    @abstractmethod
    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        """Return the secret in *wrapped*.

        Raises:
            sa_keyvault.KeyRecordError: It was not wrapped for this key, or by an algorithm that is not there.
            sa_keyvault.InstallationKeyError: This key cannot unwrap so, or is out of reach.
        """

    @abstractmethod
    def sign(self, message: bytes, algorithm: str) -> bytes:
        """Return a signature of *message*.

        Raises:
            sa_keyvault.InstallationKeyError: This key, or its library, cannot sign so, or is out of reach.
        """

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, 64 hex digits."""
        return fingerprint(self.public_key)

    @staticmethod
    def generate() -> "SoftwareInstallationKey":
        """Make a new RSA-4096 pair in this process."""
        return SoftwareInstallationKey(rsa.generate_private_key(PUBLIC_EXPONENT, KEY_SIZE))

    @staticmethod
    def generate_non_exportable(path: str | os.PathLike[str], passphrase: Passphrase) -> "NonExportableInstallationKey":
        """Make a new RSA-4096 pair and write it to its one file, as `SoftwareInstallationKey.to_file` does.

        The mark is kept in the file: it is encrypted with the passphrase followed by `/non-exportable`.

        Raises:
            sa_keyvault.InstallationKeyError: The file exists already, or cannot be written.
        """
        target = Path(path)
        try:
            write = writer_for(target)
            secret = passphrase() if callable(passphrase) else passphrase
            warn_of_own(secret)
            private_key = rsa.generate_private_key(PUBLIC_EXPONENT, KEY_SIZE)
            write_private_file(target, write(private_key, marked(secret)))
            return NonExportableInstallationKey(private_key)
        except Exception as error:  # noqa: BLE001 - raised again
            # the frames that it passed, and this one, would keep passphrase and key in its traceback
            refusal = error.with_traceback(None)
            secret = passphrase = b""
            private_key = None
        raise refusal

    @staticmethod
    def from_file(path: str | os.PathLike[str], passphrase: Passphrase) -> "SoftwareInstallationKey":
        """Read a key from an encrypted PEM (PKCS#8) or PKCS#12 file.

        Args:
            path: A regular file that others may neither read nor write; a symlink is not followed.
            passphrase: What the file is encrypted with, or a function that fetches it.

        Raises:
            sa_keyvault.InstallationKeyError: File, passphrase or key is not acceptable.
        """
        try:
            data = read_private_file(Path(path))
            secret = passphrase() if callable(passphrase) else passphrase
            private_key, is_exportable = parse(data, secret, Path(path))
            return (SoftwareInstallationKey if is_exportable else NonExportableInstallationKey)(private_key)
        except Exception as error:  # noqa: BLE001 - raised again
            # the frames that it passed, and this one, would keep passphrase and key in its traceback
            refusal = error.with_traceback(None)
            secret = passphrase = b""
            private_key = None
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
        refuse_weak(private_key)
        self._private_key = private_key

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        """The public half."""
        return self._private_key.public_key()

    @property
    def algorithms(self) -> frozenset[str]:
        """All that the library knows."""
        return frozenset({*WRAPPINGS, *SIGNATURES.values()})

    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        """Return the secret in *wrapped* (as long as the modulus)."""
        scheme = wrapping_scheme(algorithm)
        try:
            return Secret(self._private_key.decrypt(wrapped, scheme))
        except ValueError:
            pass
        raise not_opened(wrapped, self)

    def sign(self, message: bytes, algorithm: str) -> bytes:
        """Return a signature of *message* (as long as the modulus)."""
        try:
            return self._private_key.sign(message, *signature_scheme(algorithm))
        except UnsupportedAlgorithm:
            pass
        msg = f"the linked OpenSSL does not sign with {algorithm} (FIPS mode); provision hash='sha256'"
        raise InstallationKeyError(msg)

    def to_file(self, path: str | os.PathLike[str], passphrase: Passphrase) -> None:
        """Write the key to *path*, encrypted: PKCS#12 for the suffixes `.p12` and `.pfx`, else PEM (PKCS#8).

        The file appears whole or not at all, with mode 0600. Both formats protect a passphrase weakly
        (2,048 iterations; PKCS#12: of its MAC), so use one that `new_passphrase` made.

        Raises:
            sa_keyvault.InstallationKeyError: The file exists already, or cannot be written; it would be PKCS#12
                in FIPS mode; or the key is non-exportable.
        """
        target = Path(path)
        try:
            write = writer_for(target)
            secret = passphrase() if callable(passphrase) else passphrase
            warn_of_own(secret)
            write_private_file(target, write(self._private_key, secret))
        except Exception as error:  # noqa: BLE001 - raised again
            # the frames that it passed, and this one, would keep the passphrase in its traceback
            refusal = error.with_traceback(None)
            secret = passphrase = b""
        else:
            return
        raise refusal

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.fingerprint[:16]}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "an installation key can be neither pickled nor copied; write it with to_file"
        raise TypeError(msg)


class NonExportableInstallationKey(SoftwareInstallationKey):
    """A software key that the library writes to no second file.

    It protects against mistakes only: whoever has its file and the passphrase has the key.
    """

    __slots__ = ()

    def to_file(self, path: str | os.PathLike[str], passphrase: Passphrase) -> NoReturn:
        """Refuse to write the key.

        Raises:
            sa_keyvault.InstallationKeyError: Always.
        """
        # this frame would keep it in the error's traceback
        del passphrase
        msg = (
            f"installation key {self.fingerprint} was generated non-exportable, and is written to no second file; "
            "this prevents mistakes, and not that somebody who has its file and passphrase takes the key away: "
            "keep a key for which that matters in a PKCS#11 token"
        )
        raise InstallationKeyError(msg)


def fingerprint(public_key: rsa.RSAPublicKey) -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo (RFC 5280 section 4.1), 64 hex digits."""
    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def not_opened(wrapped: bytes, key: InstallationKey) -> KeyRecordError:
    """Return the one error of everything that *key* does not unwrap, whatever the reason."""
    msg = f"a wrapped master key of {len(wrapped)} bytes does not open with installation key {key.fingerprint}"
    return KeyRecordError(msg, size=len(wrapped))
