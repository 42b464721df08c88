"""Level 1, the installation key: an RSA pair that wraps and signs master keys, and the file it is kept in."""

from sa_keyvault.installation.algorithms import SIGNATURES, WRAPPING
from sa_keyvault.installation.keys import InstallationKey, SoftwareInstallationKey, fingerprint
from sa_keyvault.installation.masters import resign_master, unwrap_master, wrap_master
from sa_keyvault.installation.passphrase import Passphrase, new_passphrase, passphrase_from_file

__all__ = [
    "SIGNATURES",
    "WRAPPING",
    "InstallationKey",
    "Passphrase",
    "SoftwareInstallationKey",
    "fingerprint",
    "new_passphrase",
    "passphrase_from_file",
    "resign_master",
    "unwrap_master",
    "wrap_master",
]
