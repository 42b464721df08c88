"""What an installation key does: how it wraps, and how it signs."""

from collections.abc import Mapping

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding

from sa_keyvault.errors import KeyRecordError
from sa_keyvault.suites import HashName

__all__ = ["SIGNATURES", "WRAPPINGS", "signature_scheme", "wrapping_scheme"]

WRAPPINGS = ("rsa-oaep-sha256", "rsa-oaep-sha1")
"""In order of preference: RSAES-OAEP with SHA-256 and MGF1-SHA-256, no label (RFC 8017 section 7.1);
the same with SHA-1 and MGF1-SHA-1, for tokens that do no other. OAEP needs no resistance to collisions of its hash."""

SIGNATURES: Mapping[HashName, str] = {"sha256": "rsa-pss-sha256", "sha1": "rsa-pkcs1-sha1"}
"""By the hash of the provisioning: RSASSA-PSS with SHA-256, MGF1-SHA-256 and a salt of 32 bytes (RFC 8017 section 8.1),
or RSASSA-PKCS1-v1_5 with SHA-1 (section 8.2)."""

_OAEP: Mapping[str, padding.OAEP] = {
    name: padding.OAEP(mgf=padding.MGF1(chosen), algorithm=chosen, label=None)
    for name, chosen in zip(WRAPPINGS, (hashes.SHA256(), hashes.SHA1()), strict=True)  # noqa: S303 - see WRAPPINGS
}

_SCHEMES: Mapping[str, tuple[AsymmetricPadding, hashes.HashAlgorithm]] = {
    SIGNATURES["sha256"]: (padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32), hashes.SHA256()),
    SIGNATURES["sha1"]: (padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303 - where it is provisioned, with a warning
}


def wrapping_scheme(algorithm: str) -> padding.OAEP:
    """Return the padding of a wrapping algorithm.

    Raises:
        sa_keyvault.KeyRecordError: There is no such algorithm.
    """
    if scheme := _OAEP.get(algorithm):
        return scheme
    msg = f"no wrapping algorithm {algorithm!r}; this version has {', '.join(WRAPPINGS)}"
    raise KeyRecordError(msg)


def signature_scheme(algorithm: str) -> tuple[AsymmetricPadding, hashes.HashAlgorithm]:
    """Return padding and hash of a signature algorithm.

    Raises:
        sa_keyvault.KeyRecordError: There is no such algorithm.
    """
    if scheme := _SCHEMES.get(algorithm):
        return scheme
    msg = f"no signature algorithm {algorithm!r}; this version has {', '.join(sorted(_SCHEMES))}"
    raise KeyRecordError(msg)
