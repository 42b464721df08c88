"""Which installation key a text means: a file, or a key in a PKCS#11 token by its URI."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.installation.keys import InstallationKey
from sa_keyvault.installation.passphrase import Passphrase, passphrase_from_file
from sa_keyvault.installation.token import Pkcs11InstallationKey

__all__ = ["has_own_secret", "installation_key_at", "is_token"]

_SCHEME = "pkcs11:"
_NAMING = ("token", "object", "id", "type")  # the attributes of the path that are understood
_SHAPE = "write pkcs11:token=…;object=…?module-path=…&pin-source=…"


def is_token(location: str | os.PathLike[str]) -> bool:
    """Whether a location is a key in a token, and not a file."""
    return os.fspath(location).lower().startswith(_SCHEME)


def has_own_secret(location: str | os.PathLike[str]) -> bool:
    """Whether a location says where its PIN is, so that nothing else is asked for it."""
    return is_token(location) and "pin-source" in _attributes(os.fspath(location).partition("?")[2], "&")


def installation_key_at(location: str | os.PathLike[str], passphrase: Passphrase) -> InstallationKey:
    """Return the installation key at a location.

    Args:
        location: Path of an encrypted PEM (PKCS#8) or PKCS#12 file; or a PKCS#11 URI with the token's label (`token`),
            the key's label (`object`) or id (`id`), the path of the token's library (`module-path`) and, as it may be,
            a file with the PIN (`pin-source`).
        passphrase: Of the file; or the PIN of the token, where the URI names no file with it.

    Source:
        RFC 7512 section 2.3; query attributes that are not known are passed over, as its section 2.4 asks.

    Raises:
        sa_keyvault.InstallationKeyError: File, token, passphrase or key is not acceptable.
        sa_keyvault.ConfigurationError: The URI is none, holds a PIN, or python-pkcs11 is not installed.
    """
    if not is_token(location):
        return InstallationKey.from_file(location, passphrase)
    try:
        found = _parsed(os.fspath(location))
    except ConfigurationError as error:
        # the frames that it passed, and this one, would keep a PIN that the URI holds in its traceback
        refusal = error.with_traceback(None)
        del location
    else:
        return found.key(passphrase)
    raise refusal


@dataclass(frozen=True)
class _TokenUri:
    module: str
    token: str
    label: str | None
    key_id: bytes | None
    pin_source: Path | None

    def key(self, pin: Passphrase) -> InstallationKey:
        own = self.pin_source
        return Pkcs11InstallationKey(
            module=self.module,
            token=self.token,
            label=self.label,
            key_id=self.key_id,
            pin=pin if own is None else passphrase_from_file(own),
        )


def _parsed(uri: str) -> _TokenUri:
    """Return what a PKCS#11 URI says; no error quotes the URI, which may hold a PIN."""
    path, _, query = uri[len(_SCHEME) :].partition("?")
    named, asked = _attributes(path, ";"), _attributes(query, "&")
    if "pin-value" in named or "pin-value" in asked:
        msg = (
            "the PKCS#11 URI holds a PIN (pin-value), which every user of the machine can read in the list of "
            "processes; write the PIN to a file of your own, and name that with pin-source"
        )
        raise ConfigurationError(msg)
    if unknown := sorted(named.keys() - set(_NAMING)):
        msg = f"the PKCS#11 URI has {unknown[0]!r}, by which no key is looked for; name it by {', '.join(_NAMING[:3])}"
        raise ConfigurationError(msg)
    if named.get("type", "private") != "private":
        msg = "the PKCS#11 URI names an object that is no private key; write type=private, or leave it out"
        raise ConfigurationError(msg)
    source = asked.get("pin-source")
    return _TokenUri(
        module=_required(asked, "module-path"),
        token=_required(named, "token"),
        label=_text(named["object"], "object") if "object" in named else None,
        key_id=unquote_to_bytes(named["id"]) if "id" in named else None,
        pin_source=None if source is None else _pin_file(_text(source, "pin-source")),
    )


def _attributes(part: str, separator: str) -> Mapping[str, str]:
    pairs = [one.partition("=") for one in part.split(separator) if one]
    names = [name for name, _, _ in pairs]
    if any(not equals for _, equals, _ in pairs):
        msg = f"the PKCS#11 URI has a part without '='; {_SHAPE}"
        raise ConfigurationError(msg)
    if len(set(names)) < len(names):
        msg = f"the PKCS#11 URI has an attribute twice, which RFC 7512 forbids; {_SHAPE}"
        raise ConfigurationError(msg)
    return {name: value for name, _, value in pairs}


def _required(found: Mapping[str, str], name: str) -> str:
    if text := _text(found.get(name, ""), name):
        return text
    msg = f"the PKCS#11 URI has no {name}; {_SHAPE}"
    raise ConfigurationError(msg)


def _text(value: str, name: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        msg = f"the {name} of the PKCS#11 URI is no UTF-8; {_SHAPE}"
    raise ConfigurationError(msg)


def _pin_file(source: str) -> Path:
    """Return the file that a pin-source names: by its path, or by a URI (RFC 7512 section 2.4)."""
    if source.startswith("|"):
        msg = "the pin-source of the PKCS#11 URI is a command, which is not run; name a file of your own with the PIN"
        raise ConfigurationError(msg)
    if not source.startswith("file:"):
        return Path(source)
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        msg = "the pin-source of the PKCS#11 URI is on another machine; name a file of your own with the PIN"
        raise ConfigurationError(msg)
    return Path(unquote(parts.path))
