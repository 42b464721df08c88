"""AES-256-GCM, the suite of new installations."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sa_keyvault.secret import Secret
from sa_keyvault.suites.keys import require_size
from sa_keyvault.suites.protocol import Cipher, Operation

__all__ = ["AES_256_GCM", "Aes256Gcm"]


class _GcmCipher:
    """AES-GCM under one key; the primitive's own bound methods, because a frame more would be felt."""

    __slots__ = ("open", "seal")

    def __init__(self, key: Secret) -> None:
        aead = AESGCM(key.expose())
        self.seal: Operation = aead.encrypt
        self.open: Operation = aead.decrypt


@dataclass(frozen=True)
class Aes256Gcm:
    """AES-256-GCM with random 96-bit nonces and 128-bit tags; its usage is counted in messages.

    Source:
        NIST SP 800-38D section 8.2.2 (nonce), section 8.3 (2^32 messages per key), section 5.2.1.2 (tag).
    """

    name: str = "aes-256-gcm"
    key_size: int = 32
    nonce_size: int = 12
    usage_limit: int = 2**32
    is_fips_approved: bool = True

    def usage(self, plaintext_size: int) -> int:
        """Return 1: messages are counted."""
        return 1

    def body_size(self, plaintext_size: int) -> int:
        """Return nonce (12) + ciphertext + tag (16)."""
        return 12 + plaintext_size + 16

    def cipher(self, key: Secret) -> Cipher:
        """Return AES-256-GCM under *key* (32 bytes)."""
        # AESGCM itself would take 16 and 24 bytes, and be AES-128 or AES-192
        require_size(key, self.key_size, self.name)
        return _GcmCipher(key)


AES_256_GCM = Aes256Gcm()
