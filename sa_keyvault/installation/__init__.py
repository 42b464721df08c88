"""Level 1, the installation key: an RSA pair that wraps and signs master keys, where it is kept, its certificate."""

from sa_keyvault.installation.algorithms import SIGNATURES, WRAPPINGS
from sa_keyvault.installation.certificates import (
    EXPIRY_WARNING_DAYS,
    InstallationCertificate,
    days_left,
    verify_certificate,
)
from sa_keyvault.installation.keys import (
    InstallationKey,
    NonExportableInstallationKey,
    SoftwareInstallationKey,
    fingerprint,
)
from sa_keyvault.installation.ledger import (
    is_signed_by,
    is_store_signed,
    public_key_of,
    public_record,
    sign_event,
    sign_store,
    verify_store,
)
from sa_keyvault.installation.locations import has_own_secret, installation_key_at, is_token
from sa_keyvault.installation.masters import (
    resign_master,
    unwrap_master,
    verify_invitation,
    verify_master,
    wrap_master,
    wrap_master_for,
)
from sa_keyvault.installation.passphrase import Passphrase, new_passphrase, passphrase_from_file
from sa_keyvault.installation.request import certificate_request, requested_key
from sa_keyvault.installation.token import Pkcs11InstallationKey

__all__ = [
    "EXPIRY_WARNING_DAYS",
    "SIGNATURES",
    "WRAPPINGS",
    "InstallationCertificate",
    "InstallationKey",
    "NonExportableInstallationKey",
    "Passphrase",
    "Pkcs11InstallationKey",
    "SoftwareInstallationKey",
    "certificate_request",
    "days_left",
    "fingerprint",
    "has_own_secret",
    "installation_key_at",
    "is_signed_by",
    "is_store_signed",
    "is_token",
    "new_passphrase",
    "passphrase_from_file",
    "public_key_of",
    "public_record",
    "requested_key",
    "resign_master",
    "sign_event",
    "sign_store",
    "unwrap_master",
    "verify_certificate",
    "verify_invitation",
    "verify_master",
    "verify_store",
    "wrap_master",
    "wrap_master_for",
]
