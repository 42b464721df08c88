"""Installation keys over the years: one is followed by another, servers join and leave, certificates are bound."""

import datetime

from sqlalchemy import Connection

from sa_keyvault.administration.tidying import administer
from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation import InstallationCertificate, InstallationKey
from sa_keyvault.keyring import operation
from sa_keyvault.plugin import KeyRing

__all__ = ["add_installation", "bind_certificate", "remove_installation"]


def add_installation(connection: Connection, ring: KeyRing, key: InstallationKey, reason: str = "") -> None:
    """Let one more installation key open the key store: the next one of this server, or that of another server.

    Every master key is wrapped for it beside the wraps that there are, and signed by it; servers change over one by
    one. Until the former key has left, what changes keys needs both keys at hand (`also` of the ring).

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of an installation key that opens the store.
        key: The other one.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.KeyStateError: It opens the store already.
        sa_keyvault.InstallationKeyError: It cannot unwrap or sign as the store is provisioned.
    """
    with administer(connection, ring, reason, (key,)) as changing:
        changing.add_installation(key)


def remove_installation(connection: Connection, ring: KeyRing, fingerprint: str, reason: str = "") -> None:
    """Let an installation key open the key store no more: its wraps are deleted.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of another installation key that opens the store.
        fingerprint: The one that leaves.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.KeyStateError: It does not open the store, or is the ring's own.
    """
    with operation(connection, ring.identity, reason, leaving=fingerprint) as changing:
        changing.remove_installation(fingerprint)


def bind_certificate(connection: Connection, ring: KeyRing, data: bytes, reason: str = "") -> InstallationCertificate:
    """Keep the certificate that was issued for the ring's installation key in the key store.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the installation key.
        data: The certificate with its chain, PEM; or the certificate alone, DER.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.InstallationKeyError: It is no certificate, for another key, or expired.
    """
    certificate = InstallationCertificate.from_bytes(data)
    own = ring.installation_key.fingerprint
    if certificate.fingerprint != own:
        msg = f"the certificate is for the key {certificate.fingerprint}, not for installation key {own}; request one"
        raise InstallationKeyError(msg)
    if certificate.not_after <= datetime.datetime.now(datetime.UTC):
        msg = f"the certificate expired on {certificate.not_after:%Y-%m-%d}; request another one"
        raise InstallationKeyError(msg)
    with administer(connection, ring, reason) as changing:
        changing.bind_certificate(certificate.to_bytes())
    return certificate
