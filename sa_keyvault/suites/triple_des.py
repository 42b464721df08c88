"""Triple DES in CBC mode with an HMAC, encrypt-then-MAC: for installations that must have it."""

from dataclasses import dataclass
from struct import Struct

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.padding import PKCS7

from sa_keyvault.secret import Secret
from sa_keyvault.suites.keys import require_des_keys, require_size
from sa_keyvault.suites.protocol import Cipher, Operation

__all__ = ["LEGACY_SUITES", "TRIPLE_DES_SHA1", "TRIPLE_DES_SHA256", "TripleDesCbcHmac"]

_BLOCK_SIZE = 8  # bytes
_BUNDLE_SIZE = 24  # bytes, three DES keys
_BIT_LENGTH = Struct(">Q")


class _CbcHmacCipher:
    """3DES-CBC and HMAC under one key."""

    __slots__ = ("_bundle", "_digest_size", "_hmac", "open", "seal")

    def __init__(self, key: Secret, algorithm: HashAlgorithm) -> None:
        bundle = key.expose()[:_BUNDLE_SIZE]
        require_des_keys(bundle)
        self._bundle = TripleDES(bundle)
        self._hmac = HMAC(key.expose()[_BUNDLE_SIZE:], algorithm)
        self._digest_size = algorithm.digest_size
        self.seal: Operation = self._seal
        self.open: Operation = self._open

    def _seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        padder = PKCS7(8 * _BLOCK_SIZE).padder()
        encryptor = BlockCipher(self._bundle, CBC(nonce)).encryptor()
        padded = padder.update(plaintext) + padder.finalize()
        ciphertext = encryptor.update(padded) + encryptor.finalize()
        return ciphertext + self._authenticated(nonce, ciphertext, aad).finalize()

    def _open(self, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        ciphertext, tag = sealed[: -self._digest_size], sealed[-self._digest_size :]
        # before anything is decrypted: an answer about the padding of a forgery would decrypt it byte by byte
        self._authenticated(nonce, ciphertext, aad).verify(tag)
        decryptor = BlockCipher(self._bundle, CBC(nonce)).decryptor()
        unpadder = PKCS7(8 * _BLOCK_SIZE).unpadder()
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()

    def _authenticated(self, nonce: bytes, ciphertext: bytes, aad: bytes) -> HMAC:
        hmac = self._hmac.copy()
        # the length at the end keeps AAD and IV from running into each other
        hmac.update(b"".join((aad, nonce, ciphertext, _BIT_LENGTH.pack(8 * len(aad)))))
        return hmac


@dataclass(frozen=True)
class TripleDesCbcHmac:
    """Three-key 3DES in CBC mode with random IVs, then HMAC; its usage is counted in blocks of 8 bytes.

    A key is three DES keys (24 bytes), then the key of the HMAC (as long as its hash).
    A body is IV (8), ciphertext with PKCS#7 padding, HMAC over AAD, IV, ciphertext and the length of the
    AAD in bits (8 bytes, big-endian).

    Attributes:
        name: Name in records.
        algorithm: Hash of the HMAC; the HMAC is not shortened.

    Source:
        NIST SP 800-67 revision 2 (3DES; section 3.4: 2^20 blocks per key), SP 800-38A section 6.2 (CBC),
        RFC 5652 section 6.3 (padding), RFC 2104 (HMAC), RFC 7518 section 5.2.2.1 (what the HMAC covers).
    """

    name: str
    algorithm: HashAlgorithm
    nonce_size: int = _BLOCK_SIZE
    usage_limit: int = 2**20
    is_fips_approved: bool = False

    @property
    def key_size(self) -> int:
        """Size of three DES keys and the HMAC's key in bytes, which is 56 with SHA-256 and 44 with SHA-1."""
        return _BUNDLE_SIZE + self.algorithm.digest_size

    def usage(self, plaintext_size: int) -> int:
        """Return the number of blocks, padding included."""
        return plaintext_size // _BLOCK_SIZE + 1

    def body_size(self, plaintext_size: int) -> int:
        """Return IV (8) + padded ciphertext + HMAC."""
        return _BLOCK_SIZE + _BLOCK_SIZE * self.usage(plaintext_size) + self.algorithm.digest_size

    def cipher(self, key: Secret) -> Cipher:
        """Return 3DES-CBC and HMAC under *key*; three different DES keys that are not weak."""
        require_size(key, self.key_size, self.name)
        return _CbcHmacCipher(key, self.algorithm)


TRIPLE_DES_SHA256 = TripleDesCbcHmac("3des-cbc-hmac-sha256", SHA256())
TRIPLE_DES_SHA1 = TripleDesCbcHmac("3des-cbc-hmac-sha1", SHA1())  # noqa: S303 - HMAC does not need a hash without collisions
LEGACY_SUITES = frozenset({TRIPLE_DES_SHA256.name, TRIPLE_DES_SHA1.name})
"""Names of the suites that are to be left."""
