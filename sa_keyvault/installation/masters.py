"""Wraps and signs master keys, and verifies and unwraps them."""

from cryptography.exceptions import InvalidSignature

from sa_keyvault.errors import ConfigurationError, KeyRecordError
from sa_keyvault.installation.algorithms import OAEP, SIGNATURES, WRAPPING, signature_scheme
from sa_keyvault.installation.keys import InstallationKey
from sa_keyvault.records import MasterRecord, MasterSecret, Wrap, signed_bytes
from sa_keyvault.suites import Provisioning

__all__ = ["resign_master", "unwrap_master", "verify_master", "wrap_master"]


def wrap_master(record: MasterRecord, secret: MasterSecret, key: InstallationKey, provisioning: Provisioning) -> Wrap:
    """Wrap a master key's secret for *key* and sign record and wrap with it.

    Raises:
        sa_keyvault.InstallationKeyError: The key cannot sign as it is provisioned.
    """
    wrapped = key.public_key.encrypt(secret.to_secret().expose(), OAEP)
    return _signed(record, wrapped, key, provisioning)


def resign_master(record: MasterRecord, wrap: Wrap, key: InstallationKey, provisioning: Provisioning) -> Wrap:
    """Return a wrap whose record has changed, or that is to be signed by another algorithm, with a new signature.

    The caller has verified the old one.
    """
    return _signed(record, wrap.wrapped, key, provisioning)


def _signed(record: MasterRecord, wrapped: bytes, key: InstallationKey, provisioning: Provisioning) -> Wrap:
    signature = SIGNATURES[provisioning.hash]
    algorithm = f"{WRAPPING}+{signature}"
    message = signed_bytes(record, key.fingerprint, algorithm, wrapped)
    return Wrap(record.id, key.fingerprint, algorithm, wrapped, key.sign(message, signature))


def unwrap_master(record: MasterRecord, wrap: Wrap, key: InstallationKey, provisioning: Provisioning) -> MasterSecret:
    """Return a master key's secret; the signature is verified before the private key is used.

    Raises:
        sa_keyvault.KeyRecordError: Record or wrap was not signed by *key*, or was changed since.
        sa_keyvault.ConfigurationError: It is signed with SHA-1 where SHA-256 is provisioned, or the record names
            a suite that is not there.
    """
    verify_master(record, wrap, key, provisioning)
    suite = provisioning.suite_named(record.suite)
    return MasterSecret.from_secret(key.unwrap(wrap.wrapped, wrap.algorithm.partition("+")[0]), suite)


def verify_master(record: MasterRecord, wrap: Wrap, key: InstallationKey, provisioning: Provisioning) -> None:
    """Verify that *key* signed record and wrap, with an algorithm that is provisioned.

    Raises:
        sa_keyvault.KeyRecordError: It did not, or they were changed since.
        sa_keyvault.ConfigurationError: They are signed with SHA-1 where SHA-256 is provisioned.
    """
    signature = wrap.algorithm.partition("+")[2]
    if signature == SIGNATURES["sha1"] and provisioning.hash != "sha1":
        msg = (
            f"master key {record.id} is signed with SHA-1, which a key ring that is provisioned with SHA-256 refuses; "
            "`sa-keyvault provision` signs it anew"
        )
        raise ConfigurationError(msg)
    message = signed_bytes(record, wrap.fingerprint, wrap.algorithm, wrap.wrapped)
    try:
        key.public_key.verify(wrap.signature, message, *signature_scheme(signature))
    except InvalidSignature:
        msg = (
            f"the record of master key {record.id} is not signed by installation key {key.fingerprint}; "
            "it was changed outside the library, or another installation wrote it"
        )
        raise KeyRecordError(msg) from None
