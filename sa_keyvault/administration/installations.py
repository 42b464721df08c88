"""Installation keys over the years: one is followed by another, servers join and leave, certificates are bound."""

import datetime

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.administration.audit import verify_events
from sa_keyvault.administration.tidying import administer
from sa_keyvault.errors import InstallationKeyError, KeyRecordError, KeyStateError, KeyStoreError
from sa_keyvault.installation import (
    WRAPPINGS,
    InstallationCertificate,
    InstallationKey,
    public_record,
    requested_key,
)
from sa_keyvault.keyring import accept, admit, invite, load_keys, operation, require_reason, require_store
from sa_keyvault.ledger import members
from sa_keyvault.plugin import KeyRing

__all__ = ["add_installation", "bind_certificate", "invite_installation", "join_installation", "remove_installation"]


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
        admit(changing, key)


def invite_installation(
    connection: Connection, ring: KeyRing, request: bytes, wrapping: str = WRAPPINGS[0], reason: str = ""
) -> str:
    """Let the installation key of another server open the key store, which need not be at hand: a key in a token, say.

    Every master key is wrapped for it, and signed by the ring's own. Until it has joined (`join_installation`) or
    left, keys cannot be changed.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of an installation key that opens the store.
        request: What `certificate_request` has made of the other key; it proves that its maker has the private half.
            Compare the fingerprint with what the other server says: somebody on the way could have put in his own.
        wrapping: How the other key unwraps, one of `rsa-oaep-sha256` and `rsa-oaep-sha1`.
        reason: Why, for the audit events.

    Returns:
        The fingerprint of the key that is invited.

    Raises:
        sa_keyvault.KeyStateError: It opens the store already, or is invited.
        sa_keyvault.InstallationKeyError: The request is none, is not signed by its key, or the key is weak.
    """
    record = public_record(requested_key(request))
    with administer(connection, ring, reason) as changing:
        invite(changing, record, wrapping)
    return record.fingerprint


def join_installation(connection: Connection, ring: KeyRing, inviter: str, reason: str = "") -> None:
    """Accept an invitation: sign for oneself what the inviting key has signed, after all of it was verified.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the installation key that is invited; it need not be initialized.
        inviter: Fingerprint of the key that invited it, as its administrator says: whoever can write the database
            could have put his own invitation there.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.KeyStoreError: The key is not invited.
        sa_keyvault.KeyStateError: It opens the store already.
        sa_keyvault.KeyRecordError: Something is not signed by the inviter, or was changed since.
        sa_keyvault.InstallationKeyError: The key cannot unwrap as it was wrapped for, or sign as is provisioned.
    """
    require_reason(reason)
    own = ring.installation_key.fingerprint
    with store.locked(connection), connection.begin_nested():
        known, linked = store.installations(connection), require_store(connection).events
        if own not in members(store.membership_events(connection, linked)) or own not in known:
            msg = f"installation key {own} is not invited to this key store; `sa-keyvault installation invite` does so"
            raise KeyStoreError(msg)
        if known[own].signature:
            msg = f"installation key {own} opens this key store already"
            raise KeyStateError(msg)
        findings = verify_events(connection, [inviter]).findings
        if inviter not in known or findings:
            msg = (
                f"the invitation is not as installation key {inviter} has signed it "
                f"({findings[0] if findings else 'it does not open this key store'}); "
                "see whether the fingerprint is right, and `sa-keyvault audit verify` with that key"
            )
            raise KeyRecordError(msg)
        accept(connection, ring.identity, known[inviter], reason)
        # everything else that is verified at a start
        load_keys(connection, ring.identity)


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
