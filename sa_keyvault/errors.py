"""Every error and warning of the library, as one tree.

KeyVaultError                         base, never raised itself
├── ConfigurationError                a declaration or a set-up that cannot be honoured
│   └── UnsupportedOperatorError      an operator on an encrypted column; also TypeError
├── KeyManagementError                base of what concerns keys, never raised itself
│   ├── InstallationKeyError          the installation key's file, token, passphrase or strength
│   ├── KeyNotFoundError              the key store has no such key; also LookupError
│   ├── KeyRecordError                a key's record was changed, or is not this installation's
│   ├── KeyStateError                 the key exists, its state forbids the use
│   └── KeyStoreError                 the key store is missing, lost or foreign
│       └── KeyStoreUnreachableError  the database does not answer
├── EncryptionError                   base of what stops a write, never raised itself
│   ├── EncodingError                 a value that the inner type, or a key, cannot carry; also ValueError
│   ├── BindingError                  a symbol that cannot name the row
│   └── UnsupportedStatementError     a statement whose rows cannot be bound
├── ReencryptionError                 a job over a table that cannot go on
└── DecryptionError                   base of what stops a read, never raised itself
    ├── MalformedEnvelopeError        the stored bytes are no envelope; also ValueError
    └── AuthenticationError           key, bytes or row do not fit together (on purpose one class)

KeyVaultWarning                       base, never issued itself; also UserWarning
├── AnchorWarning                     the anchor of a running server cannot be written
├── CertificateExpiryWarning          the installation key's certificate, or a CA's above it, expires soon
├── LegacyAlgorithmWarning            3DES or SHA-1 is provisioned, or still in use
├── PassphraseWarning                 a passphrase that the library did not make
├── PlaintextAcceptedWarning          a column still reads values that are not encrypted
└── PlaintextLogWarning               SQLAlchemy's log level prints decrypted rows

All of them mix in `sqlalchemy.exc.DontWrapMixin`: an ordinary exception in a bind processor becomes
a `StatementError` that prints and keeps the plaintext parameters.
"""

from sqlalchemy.exc import DontWrapMixin

__all__ = [
    "AnchorWarning",
    "AuthenticationError",
    "BindingError",
    "CertificateExpiryWarning",
    "ConfigurationError",
    "DecryptionError",
    "EncodingError",
    "EncryptionError",
    "InstallationKeyError",
    "KeyManagementError",
    "KeyNotFoundError",
    "KeyRecordError",
    "KeyStateError",
    "KeyStoreError",
    "KeyStoreUnreachableError",
    "KeyVaultError",
    "KeyVaultWarning",
    "LegacyAlgorithmWarning",
    "MalformedEnvelopeError",
    "PassphraseWarning",
    "PlaintextAcceptedWarning",
    "PlaintextLogWarning",
    "ReencryptionError",
    "UnsupportedOperatorError",
    "UnsupportedStatementError",
]


class KeyVaultError(DontWrapMixin, Exception):
    """Base of every error of the library; never raised itself.

    Carries what an operator needs and nothing that is secret.

    Attributes:
        key_number: Number of the working key, where one is concerned.
        area: Area of the column or key, where one is concerned.
        label: Readable label of the column, where one is concerned.
        size: Size in bytes of what was refused, where that says something.
    """

    def __init__(
        self,
        message: str,
        *,
        key_number: int | None = None,
        area: str | None = None,
        label: str | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__(message)
        self.key_number = key_number
        self.area = area
        self.label = label
        self.size = size


class ConfigurationError(KeyVaultError):
    """A declaration or a set-up that cannot be honoured; found before the first row."""


class UnsupportedOperatorError(ConfigurationError, TypeError):
    """An operator on an encrypted column; the message names it and the remedy."""


class KeyManagementError(KeyVaultError):
    """Base of what concerns keys; never raised itself."""


class InstallationKeyError(KeyManagementError):
    """The installation key's file, token, passphrase or strength is not acceptable, or its token is out of reach."""


class KeyNotFoundError(KeyManagementError, LookupError):
    """The key store has no such key."""


class KeyRecordError(KeyManagementError):
    """A key's record was changed outside the library, or another installation wrote it."""


class KeyStateError(KeyManagementError):
    """The key exists, but its state (or its master key's) forbids the use."""


class KeyStoreError(KeyManagementError):
    """The key store is missing, lost, or belongs to another installation."""


class KeyStoreUnreachableError(KeyStoreError):
    """The database does not answer, or not to the library's own connection."""


class EncryptionError(KeyVaultError):
    """Base of what stops a write; never raised itself."""


class EncodingError(EncryptionError, ValueError):
    """A value that the column's inner type cannot carry, or that is too large for one key."""


class BindingError(EncryptionError):
    """A symbol that cannot name the row."""


class UnsupportedStatementError(EncryptionError):
    """A statement whose rows cannot be bound; refused before anything is sent."""


class ReencryptionError(KeyVaultError):
    """A job over a table cannot go on; what it has committed is whole, and it can be run again."""


class DecryptionError(KeyVaultError):
    """Base of what stops a read; never raised itself. Applications catch this one."""


class MalformedEnvelopeError(DecryptionError, ValueError):
    """The stored bytes are no envelope that this version knows."""


class AuthenticationError(DecryptionError):
    """Key, stored bytes and row do not fit together; which of them is not told."""


class KeyVaultWarning(UserWarning):
    """Base of every warning of the library; never issued itself."""


class AnchorWarning(KeyVaultWarning):
    """A running server cannot write its anchor; it goes on, and the restore of an older key store may go unnoticed."""


class CertificateExpiryWarning(KeyVaultWarning):
    """The certificate of the installation key, or that of a CA above it, expires soon; then no start succeeds."""


class LegacyAlgorithmWarning(KeyVaultWarning):
    """3DES or SHA-1 is provisioned, or keys of it are still in use; the message names the way out."""


class PassphraseWarning(KeyVaultWarning):
    """A passphrase that the library did not make protects an installation key."""


class PlaintextAcceptedWarning(KeyVaultWarning):
    """A column still reads values that are not encrypted, which have no authenticity; said at each start."""


class PlaintextLogWarning(KeyVaultWarning):
    """The logger `sqlalchemy.engine` is at DEBUG, where it prints decrypted rows."""
