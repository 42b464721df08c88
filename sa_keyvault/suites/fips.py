"""FIPS 140-3: whether the linked OpenSSL runs a FIPS provider, and what is not approved there."""

import os
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.bindings._rust import openssl
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.suites.provisioning import Provisioning

__all__ = ["Fips", "FipsStatus", "fips_status", "require_fips"]

Fips = Literal["off", "require"]


@dataclass(frozen=True)
class FipsStatus:
    """What the running process can tell about FIPS; no claim of a certification.

    Attributes:
        library: Name and version of the OpenSSL that `cryptography` is linked with.
        is_enabled: Whether its default properties ask for FIPS; they can do so without a provider that serves them.
        has_approved: Whether AES-256-GCM, which every FIPS provider has, is there.
        has_others: Whether ChaCha20-Poly1305, which no FIPS provider has, is there.
        configuration: Value of OPENSSL_CONF, empty if it is not set.
        modules: Value of OPENSSL_MODULES, empty if it is not set.
    """

    library: str
    is_enabled: bool
    has_approved: bool
    has_others: bool
    configuration: str
    modules: str

    @property
    def is_active(self) -> bool:
        """Whether a FIPS provider really does the work."""
        return self.is_enabled and self.has_approved and not self.has_others


def fips_status() -> FipsStatus:
    """Ask the linked OpenSSL; nothing is remembered."""
    return FipsStatus(
        library=backend.openssl_version_text(),
        is_enabled=openssl.is_fips_enabled(),
        has_approved=_works(AESGCM),
        has_others=_works(ChaCha20Poly1305),
        configuration=os.environ.get("OPENSSL_CONF", ""),
        modules=os.environ.get("OPENSSL_MODULES", ""),
    )


def _works(algorithm: type[AESGCM | ChaCha20Poly1305]) -> bool:
    try:
        algorithm(bytes(32)).encrypt(bytes(12), b"", None)
    except (UnsupportedAlgorithm, InternalError):
        return False
    return True


def require_fips(provisioning: Provisioning) -> None:
    """Refuse what FIPS 140-3 does not allow, whatever OpenSSL would let through.

    Raises:
        sa_keyvault.ConfigurationError: No FIPS provider is active, or a chosen algorithm is not approved.
    """
    chosen = {provisioning.master_suite.name, provisioning.working_suite.name}
    refused = sorted(name for name in chosen if not provisioning.suite_named(name).is_fips_approved)
    if provisioning.hash == "sha1":
        refused.append("signatures with SHA-1")
    if refused:
        msg = f"FIPS is required, and {', '.join(refused)} is not approved; provision AES and SHA-256"
        raise ConfigurationError(msg)
    status = fips_status()
    if not status.is_active:
        msg = (
            f"FIPS is required, and {status.library} runs no FIPS provider; "
            "activate one, as the how-to guide `Require FIPS` says (`sa-keyvault fips` shows what is missing)"
        )
        raise ConfigurationError(msg)
