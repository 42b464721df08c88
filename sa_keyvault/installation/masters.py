"""Wraps and signs master keys, and verifies and unwraps them."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa

from sa_keyvault.errors import ConfigurationError, InstallationKeyError, KeyRecordError
from sa_keyvault.installation.algorithms import SIGNATURES, WRAPPINGS, signature_scheme, wrapping_scheme
from sa_keyvault.installation.keys import InstallationKey, fingerprint
from sa_keyvault.records import MasterRecord, MasterSecret, Wrap, signed_bytes
from sa_keyvault.suites import Provisioning

__all__ = ["resign_master", "unwrap_master", "verify_invitation", "verify_master", "wrap_master", "wrap_master_for"]


def wrap_master(record: MasterRecord, secret: MasterSecret, key: InstallationKey, provisioning: Provisioning) -> Wrap:
    """Wrap a master key's secret for *key* and sign record and wrap with it.

    It is wrapped by the first of `WRAPPINGS` that the key can unwrap.

    Raises:
        sa_keyvault.InstallationKeyError: The key can unwrap nothing, or cannot sign as it is provisioned.
    """
    wrapping = next((one for one in WRAPPINGS if one in key.algorithms), None)
    if wrapping is None:
        msg = (
            f"installation key {key.fingerprint} can unwrap by none of {', '.join(WRAPPINGS)}; "
            "use a key, or a token, that does RSA-OAEP"
        )
        raise InstallationKeyError(msg)
    wrapped = key.public_key.encrypt(secret.to_secret().expose(), wrapping_scheme(wrapping))
    return _signed(record, wrapping, wrapped, key, key.fingerprint, provisioning)


def wrap_master_for(
    record: MasterRecord,
    secret: MasterSecret,
    recipient: rsa.RSAPublicKey,
    wrapping: str,
    signer: InstallationKey,
    provisioning: Provisioning,
) -> Wrap:
    """Wrap a master key's secret for a key that is not at hand, signed by one that is.

    Raises:
        sa_keyvault.InstallationKeyError: The signer cannot sign as it is provisioned.
        sa_keyvault.KeyRecordError: There is no such wrapping algorithm.
    """
    wrapped = recipient.encrypt(secret.to_secret().expose(), wrapping_scheme(wrapping))
    return _signed(record, wrapping, wrapped, signer, fingerprint(recipient), provisioning)


def resign_master(record: MasterRecord, wrap: Wrap, key: InstallationKey, provisioning: Provisioning) -> Wrap:
    """Return a wrap whose record has changed, or that is to be signed by another algorithm, with a new signature.

    The caller has verified the old one.

    Raises:
        sa_keyvault.InstallationKeyError: The key cannot sign as it is provisioned.
    """
    wrapping, _, _ = wrap.algorithm.partition("+")
    return _signed(record, wrapping, wrap.wrapped, key, wrap.fingerprint, provisioning)


def _signed(
    record: MasterRecord,
    wrapping: str,
    wrapped: bytes,
    key: InstallationKey,
    recipient: str,
    provisioning: Provisioning,
) -> Wrap:
    signature = SIGNATURES[provisioning.hash]
    if signature not in key.algorithms:
        msg = (
            f"installation key {key.fingerprint} cannot sign with {signature}, "
            f"which hash={provisioning.hash!r} asks for; provision the other hash, or use another key"
        )
        raise InstallationKeyError(msg)
    algorithm = f"{wrapping}+{signature}"
    message = signed_bytes(record, recipient, algorithm, wrapped)
    return Wrap(record.id, recipient, algorithm, wrapped, key.sign(message, signature))


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
    _verify(record, wrap, key.public_key, provisioning)


def verify_invitation(record: MasterRecord, wrap: Wrap, inviter: rsa.RSAPublicKey, provisioning: Provisioning) -> None:
    """Verify that another installation key, which is trusted, signed record and wrap for the one that joins.

    Raises:
        sa_keyvault.KeyRecordError: It did not, or they were changed since.
        sa_keyvault.ConfigurationError: They are signed with SHA-1 where SHA-256 is provisioned.
    """
    _verify(record, wrap, inviter, provisioning)


def _verify(record: MasterRecord, wrap: Wrap, signer: rsa.RSAPublicKey, provisioning: Provisioning) -> None:
    signature = wrap.algorithm.partition("+")[2]
    if signature == SIGNATURES["sha1"] and provisioning.hash != "sha1":
        msg = (
            f"master key {record.id} is signed with SHA-1, which a key ring that is provisioned with SHA-256 refuses; "
            "`sa-keyvault provision` signs it anew"
        )
        raise ConfigurationError(msg)
    message = signed_bytes(record, wrap.fingerprint, wrap.algorithm, wrap.wrapped)
    try:
        signer.verify(wrap.signature, message, *signature_scheme(signature))
    except InvalidSignature:
        msg = (
            f"the record of master key {record.id} is not signed by installation key {fingerprint(signer)}; "
            "it was changed outside the library, or another installation wrote it"
        )
        raise KeyRecordError(msg) from None
