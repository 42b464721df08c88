"""Passphrases of installation key files: made, fetched, judged."""

import base64
import os
import re
import secrets
import warnings
from collections.abc import Callable
from pathlib import Path

from sa_keyvault.errors import InstallationKeyError, PassphraseWarning
from sa_keyvault.private_file import read_private_file

__all__ = ["Passphrase", "new_passphrase", "passphrase_from_file", "warn_of_own"]

Passphrase = bytes | Callable[[], bytes]
"""A passphrase, or a function that fetches it when it is needed."""

_MADE_PASSPHRASE = re.compile(rb"(?:[A-Z2-7]{4}-){6}[A-Z2-7]{2}")


def new_passphrase() -> bytes:
    """Return 128 random bits as base32 in groups of four: `ABCD-EFGH-…`, 32 characters.

    Source:
        RFC 4648 section 6.
    """
    text = base64.b32encode(secrets.token_bytes(16)).rstrip(b"=")
    return b"-".join(text[start : start + 4] for start in range(0, len(text), 4))


def passphrase_from_file(path: str | os.PathLike[str]) -> Callable[[], bytes]:
    """Return a function that reads a passphrase from the first line of a file of one's own."""
    return lambda: read_private_file(Path(path)).partition(b"\n")[0].rstrip(b"\r")


def warn_of_own(passphrase: bytes) -> None:
    """Warn of a passphrase that the library did not make, and refuse an empty one.

    Raises:
        sa_keyvault.InstallationKeyError: The passphrase is empty.
    """
    if not passphrase:
        msg = "an installation key is never written without a passphrase; make one with new_passphrase()"
        raise InstallationKeyError(msg)
    if not _MADE_PASSPHRASE.fullmatch(passphrase):
        msg = (
            "this passphrase was not made by sa_keyvault: the file formats stretch it by 2,048 iterations only, "
            "so whoever has the file can try millions a second; prefer new_passphrase()"
        )
        warnings.warn(msg, PassphraseWarning, stacklevel=3)
