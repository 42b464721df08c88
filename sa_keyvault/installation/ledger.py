"""Signs and verifies the store's own record and its audit events."""

from dataclasses import replace

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from sa_keyvault.errors import KeyRecordError
from sa_keyvault.installation.algorithms import SIGNATURES, signature_scheme
from sa_keyvault.installation.keys import InstallationKey, fingerprint
from sa_keyvault.ledger import Event, InstallationRecord, StoreRecord, new_event
from sa_keyvault.suites import Provisioning

__all__ = [
    "is_signed_by",
    "is_store_signed",
    "public_key_of",
    "public_record",
    "sign_event",
    "sign_store",
    "verify_store",
]


def sign_store(
    record: StoreRecord, key: InstallationKey, provisioning: Provisioning, certificate: bytes = b""
) -> InstallationRecord:
    """Sign the store's record with *key*; return the installation's record."""
    algorithm = SIGNATURES[provisioning.hash]
    return replace(
        public_record(key.public_key),
        certificate=certificate,
        algorithm=algorithm,
        signature=key.sign(record.signed_bytes(key.fingerprint, algorithm), algorithm),
    )


def public_record(public_key: rsa.RSAPublicKey) -> InstallationRecord:
    """Return the record of an installation that has signed nothing yet."""
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return InstallationRecord(fingerprint(public_key), public_key=der, certificate=b"", algorithm="", signature=b"")


def verify_store(record: StoreRecord, installation: InstallationRecord, key: InstallationKey) -> None:
    """Verify that *key* signed the store's record.

    Raises:
        sa_keyvault.KeyRecordError: It did not, or the record was changed since.
    """
    message = record.signed_bytes(installation.fingerprint, installation.algorithm)
    if not _verifies(key.public_key, installation.signature, message, installation.algorithm):
        msg = (
            f"the record of key store {record.store_id} is not signed by installation key {key.fingerprint}; it was "
            "changed outside the library, or put back; restore the whole key store from one backup"
        )
        raise KeyRecordError(msg)


def sign_event(
    store_id: str, actor: str, action: str, subject: str, reason: str, key: InstallationKey, provisioning: Provisioning
) -> Event:
    """Return a signed event of now, which is not linked yet."""
    algorithm = SIGNATURES[provisioning.hash]
    event = new_event(store_id, actor, action, subject, reason, key.fingerprint, algorithm)
    return replace(event, signature=key.sign(event.signed_bytes(), algorithm))


def is_signed_by(event: Event, public_key: rsa.RSAPublicKey) -> bool:
    """Whether the private half of *public_key* signed the event as it stands."""
    return _verifies(public_key, event.signature, event.signed_bytes(), event.algorithm)


def is_store_signed(record: StoreRecord, installation: InstallationRecord) -> bool:
    """Whether an installation signed the store's record as it stands.

    Raises:
        sa_keyvault.KeyRecordError: Its public key was changed.
    """
    message = record.signed_bytes(installation.fingerprint, installation.algorithm)
    return _verifies(public_key_of(installation), installation.signature, message, installation.algorithm)


def public_key_of(installation: InstallationRecord) -> rsa.RSAPublicKey:
    """Return the public key of an installation.

    Raises:
        sa_keyvault.KeyRecordError: The bytes are no RSA public key, or not that of the fingerprint.
    """
    try:
        key = load_der_public_key(installation.public_key)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPublicKey) and fingerprint(key) == installation.fingerprint:
        return key
    msg = f"the public key of installation key {installation.fingerprint} was changed outside the library"
    raise KeyRecordError(msg)


def _verifies(key: rsa.RSAPublicKey, signature: bytes, message: bytes, algorithm: str) -> bool:
    try:
        key.verify(signature, message, *signature_scheme(algorithm))
    except (InvalidSignature, KeyRecordError):
        return False
    return True
