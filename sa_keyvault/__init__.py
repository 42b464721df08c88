"""Transparent field encryption for SQLAlchemy: columns encrypted under rotating keys, each value bound to its row."""

from sa_keyvault.errors import (
    AuthenticationError,
    BindingError,
    ConfigurationError,
    DecryptionError,
    EncodingError,
    EncryptionError,
    InstallationKeyError,
    KeyManagementError,
    KeyNotFoundError,
    KeyRecordError,
    KeyStateError,
    KeyStoreError,
    KeyVaultError,
    KeyVaultWarning,
    LegacyAlgorithmWarning,
    MalformedEnvelopeError,
    PassphraseWarning,
    PlaintextLogWarning,
    UnsupportedOperatorError,
    UnsupportedStatementError,
)
from sa_keyvault.installation import InstallationKey, new_passphrase, passphrase_from_file
from sa_keyvault.plugin import KeyRing
from sa_keyvault.suites import Provisioning
from sa_keyvault.types import Encrypted, storage_length

__all__ = [
    "AuthenticationError",
    "BindingError",
    "ConfigurationError",
    "DecryptionError",
    "EncodingError",
    "Encrypted",
    "EncryptionError",
    "InstallationKey",
    "InstallationKeyError",
    "KeyManagementError",
    "KeyNotFoundError",
    "KeyRecordError",
    "KeyRing",
    "KeyStateError",
    "KeyStoreError",
    "KeyVaultError",
    "KeyVaultWarning",
    "LegacyAlgorithmWarning",
    "MalformedEnvelopeError",
    "PassphraseWarning",
    "PlaintextLogWarning",
    "Provisioning",
    "UnsupportedOperatorError",
    "UnsupportedStatementError",
    "new_passphrase",
    "passphrase_from_file",
    "storage_length",
]
