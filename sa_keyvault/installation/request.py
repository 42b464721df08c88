"""The request for a certificate of an installation key."""

from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation.algorithms import SIGNATURES
from sa_keyvault.installation.keys import InstallationKey
from sa_keyvault.installation.strength import refuse_weak_public

__all__ = ["certificate_request", "requested_key"]

_MAX_NAME = 64  # characters; RFC 5280 appendix A.1, ub-common-name and ub-organization-name

_USAGE = x509.KeyUsage(
    digital_signature=True,  # it signs records of master keys
    content_commitment=False,
    key_encipherment=True,  # master keys are wrapped for it
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def certificate_request(key: InstallationKey, common_name: str, organization: str | None = None) -> bytes:
    """Return a request for a certificate of *key*, as PEM; the private half stays where it is.

    It is signed by RSASSA-PSS with SHA-256, and asks for the key usage digitalSignature and keyEncipherment.

    Args:
        key: Software key or key in a token.
        common_name: Name of the installation, 1 to 64 characters.
        organization: Name of its owner, 1 to 64 characters.

    Source:
        PKCS#10, RFC 2986; RFC 4055 section 3.1; RFC 5280 appendix A.1.

    Raises:
        sa_keyvault.InstallationKeyError: A name is too short or too long, or the key cannot sign so.
    """
    names = [(x509.NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        names.append((x509.NameOID.ORGANIZATION_NAME, organization))
    problem = "the common name or the organization does not fit into a request; each has 1 to 64 characters"
    # cryptography does not limit the organization
    if not all(0 < len(text) <= _MAX_NAME for _, text in names):
        raise InstallationKeyError(problem)
    try:
        subject = x509.Name([x509.NameAttribute(oid, text) for oid, text in names])
    except ValueError:
        raise InstallationKeyError(problem) from None
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(_USAGE, critical=True)
    salted = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
    request = builder.sign(_Signer(key), hashes.SHA256(), rsa_padding=salted)
    if not request.is_signature_valid:
        msg = "the signature of the request does not verify with the public half; the key's token is at fault"
        raise InstallationKeyError(msg)
    return request.public_bytes(serialization.Encoding.PEM)


def requested_key(data: bytes) -> rsa.RSAPublicKey:
    """Return the public key in a request, whose signature proves that who made it has the private half.

    Args:
        data: The request (PKCS#10), PEM.

    Source:
        RFC 2986 section 3; RFC 4211 section 4 calls such a signature a proof of possession.

    Raises:
        sa_keyvault.InstallationKeyError: It is no request, is not signed by its own key, or the key is weak.
    """
    try:
        request = x509.load_pem_x509_csr(data)
        key, is_signed = request.public_key(), request.is_signature_valid
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        key, is_signed = None, False
    if not is_signed or not isinstance(key, rsa.RSAPublicKey):
        msg = "no request of an installation key in PEM, or its signature does not fit; make one with `request`"
        raise InstallationKeyError(msg)
    refuse_weak_public(key, "InstallationKey.generate()")
    return key


class _Signer(rsa.RSAPrivateKey):
    """An installation key as the builder of requests wants a private key: it signs, and does nothing else.

    What it signs is no record of a key: those begin with `sa_keyvault/`, a request in DER with the byte 0x30.
    """

    def __init__(self, key: InstallationKey) -> None:
        self._key = key

    @property
    def key_size(self) -> int:
        return self._key.public_key.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._key.public_key

    def sign(self, data: bytes, padding: object, algorithm: object) -> bytes:
        return self._key.sign(data, SIGNATURES["sha256"])

    def decrypt(self, ciphertext: object, padding: object) -> NoReturn:
        raise NotImplementedError

    def private_numbers(self) -> NoReturn:
        raise NotImplementedError

    def private_bytes(self, *args: object, **options: object) -> NoReturn:
        raise NotImplementedError

    def __copy__(self) -> NoReturn:
        raise NotImplementedError

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise NotImplementedError
