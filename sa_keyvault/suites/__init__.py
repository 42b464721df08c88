"""The algorithms: every symmetric primitive that the library uses, and how they are chosen."""

from sa_keyvault.suites.aes_gcm import AES_256_GCM, Aes256Gcm
from sa_keyvault.suites.derivation import derive, random_secret, sha256_hex
from sa_keyvault.suites.fips import Fips, FipsStatus, fips_status, require_fips
from sa_keyvault.suites.protocol import AUTHENTICATION_FAILURES, MAX_BODY_OVERHEAD, Cipher, Operation, Suite
from sa_keyvault.suites.provisioning import HashName, Provisioning
from sa_keyvault.suites.triple_des import LEGACY_SUITES, TRIPLE_DES_SHA1, TRIPLE_DES_SHA256, TripleDesCbcHmac

__all__ = [
    "AES_256_GCM",
    "AUTHENTICATION_FAILURES",
    "LEGACY_SUITES",
    "MAX_BODY_OVERHEAD",
    "TRIPLE_DES_SHA1",
    "TRIPLE_DES_SHA256",
    "Aes256Gcm",
    "Cipher",
    "Fips",
    "FipsStatus",
    "HashName",
    "Operation",
    "Provisioning",
    "Suite",
    "TripleDesCbcHmac",
    "derive",
    "fips_status",
    "random_secret",
    "require_fips",
    "sha256_hex",
]
