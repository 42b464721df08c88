"""The certificate of an installation key: its chain, and whether that ends in a trusted CA."""

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import verification

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation.keys import InstallationKey, fingerprint

__all__ = ["EXPIRY_WARNING_DAYS", "InstallationCertificate", "days_left", "verify_certificate"]

EXPIRY_WARNING_DAYS = 60
"""How many days ahead an expiry is warned of."""

_MAX_SIZE = 64 * 1024  # bytes; a chain of eight certificates of RSA-16384 keys needs less

# measured with every bit of certificates flipped: which of these it is depends on the version of cryptography
_UNREADABLE = (ValueError, KeyError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)

# what the verifier puts around its reasons
_NOISE = re.compile(
    r"validation failed: |candidates exhausted: |Python extension validator failed: ValueError: | \(encountered .*",
    re.DOTALL,
)


# -- the certificate ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InstallationCertificate:
    """The certificate of an installation key, with those of the CAs that lead to it; made by `from_bytes`.

    Attributes:
        chain: The installation key's own certificate, then the one of its issuer, and so on.
    """

    chain: tuple[x509.Certificate, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> "InstallationCertificate":
        """Read a chain of certificates.

        Args:
            data: PEM with one or more certificates in any order, or one certificate in DER.

        Source:
            RFC 5280 section 4.1; RFC 7468 section 5.

        Raises:
            sa_keyvault.InstallationKeyError: It is something else, or the certificates are not of one chain.
        """
        if len(data) > _MAX_SIZE:
            msg = f"a certificate chain of {len(data)} bytes is refused; none is larger than {_MAX_SIZE}"
            raise InstallationKeyError(msg, size=len(data))
        return cls(_ordered(_parsed(data)))

    def to_bytes(self) -> bytes:
        """Return the chain as PEM, the installation key's own certificate first."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.chain)

    @property
    def subject(self) -> str:
        """Whom the certificate is issued to (RFC 4514)."""
        return self.chain[0].subject.rfc4514_string()

    @property
    def issuer(self) -> str:
        """Who issued it (RFC 4514)."""
        return self.chain[0].issuer.rfc4514_string()

    @property
    def not_after(self) -> datetime:
        """When the installation key's own certificate expires, in UTC."""
        return self.chain[0].not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the key that it is for, as `InstallationKey.fingerprint`."""
        return fingerprint(_rsa_key(self.chain[0]))


def _parsed(data: bytes) -> list[x509.Certificate]:
    """Return the certificates in PEM or DER, each once."""
    is_der = data.startswith(b"\x30")
    try:
        found = [x509.load_der_x509_certificate(data)] if is_der else x509.load_pem_x509_certificates(data)
    except _UNREADABLE:
        msg = (
            "no certificates in PEM, and no certificate in DER; "
            "`openssl pkcs7 -print_certs` takes them out of a .p7b file"
        )
        raise InstallationKeyError(msg) from None
    if not is_der and data.count(b"-----BEGIN ") != len(found):
        msg = "there is more than certificates in this PEM; give the certificates alone"
        raise InstallationKeyError(msg)
    return list(dict.fromkeys(found))


def _ordered(found: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the certificates of one chain, each before that of its issuer.

    Only one way through them is let pass: certificates that certify each other crosswise would keep
    the search for a way to a trusted one busy for ever.
    """
    try:
        names = [f"{one.subject.rfc4514_string()!r} by {one.issuer.rfc4514_string()!r}" for one in found]
    except _UNREADABLE:
        msg = "a name in the certificates cannot be read; have them issued again"
        raise InstallationKeyError(msg) from None
    candidates = [one for one in found if not any(_is_issued_by(other, one) for other in found if other != one)]
    chain, rest = candidates[:1], [one for one in found if one not in candidates[:1]]
    while len(candidates) == 1 and rest:
        candidates = [one for one in rest if _is_issued_by(chain[-1], one)]
        chain += candidates[:1]
        rest = [one for one in rest if one not in candidates]
    if len(candidates) != 1:
        msg = f"the certificates are not of one chain: {', '.join(names)}; leave out those that do not belong to it"
        raise InstallationKeyError(msg)
    _rsa_key(chain[0])
    return tuple(chain)


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _rsa_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    with suppress(ValueError, UnsupportedAlgorithm):
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            return key
    msg = f"the certificate of {_subject(certificate)} is for no RSA key; request one with certificate_request"
    raise InstallationKeyError(msg)


def _subject(certificate: x509.Certificate) -> str:
    # quoted: a name may hold line breaks
    return repr(certificate.subject.rfc4514_string())


# -- its verification --------------------------------------------------------------------------------------------------


def verify_certificate(
    certificate: InstallationCertificate, key: InstallationKey | rsa.RSAPublicKey, trusted: bytes, now: datetime
) -> datetime:
    """Verify that a certificate is for *key*, and that its chain ends in a trusted certificate.

    Every certificate on the way, the trusted one included, must be within its validity. The CAs' must have
    basicConstraints with cA, and keyCertSign if they have a keyUsage. The key's own must have digitalSignature
    and keyEncipherment if it has one. Revocation is not looked up.

    Args:
        certificate: What the CA issued.
        key: Installation key, or its public half.
        trusted: PEM with the certificates in one of which the chain must end.
        now: The time that counts, with a time zone.

    Returns:
        When the first certificate on the way expires, in UTC.

    Source:
        RFC 5280 sections 4.2.1.3, 4.2.1.9 and 6.1; the algorithms are those that `cryptography` takes from the
        CA/Browser Forum's requirements: RSA of 2048 bits or more, and ECDSA, with SHA-2.

    Raises:
        sa_keyvault.InstallationKeyError: It is not for the key, not valid at that time, or not issued by
            who is trusted.
        ValueError: *now* has no time zone.
    """
    _require_zone(now)
    own = key.fingerprint if isinstance(key, InstallationKey) else fingerprint(key)
    if certificate.fingerprint != own:
        msg = (
            f"the certificate of {_subject(certificate.chain[0])} is for the key {certificate.fingerprint}, "
            f"not for installation key {own}; give the one that was issued for its request"
        )
        raise InstallationKeyError(msg)
    leaf, *others = certificate.chain
    _refuse_outside_validity([leaf], now)
    anchors = _anchors(trusted)
    store = verification.Store(list(anchors))
    builder = verification.PolicyBuilder().store(store).time(now)
    verifier = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_OWN_POLICY).build_client_verifier()
    try:
        way = verifier.verify(leaf, others).chain
    except (verification.VerificationError, *_UNREADABLE) as error:
        reason = _NOISE.sub("", str(error))
    else:
        return min(one.not_valid_after_utc for one in way)
    issuers = {one.issuer for one in certificate.chain}
    reached = [anchor for anchor, subject in anchors.items() if subject in issuers]
    _refuse_outside_validity([*others, *reached], now)
    if not reached:
        last = certificate.chain[-1].issuer.rfc4514_string()
        msg = (
            f"the chain of the certificate of {_subject(leaf)} leads to {last!r}, which is not in the CA bundle; "
            "append the certificates of the CAs between them to the chain, or have it issued by a CA of the bundle"
        )
    else:
        msg = (
            f"the chain of the certificate of {_subject(leaf)} to the CA bundle is not valid: {reason}; "
            "ask the CA for a chain of valid ones"
        )
    raise InstallationKeyError(msg)


def days_left(end: datetime, now: datetime) -> int:
    """Return how many whole days are left until *end*; less than zero after it.

    Args:
        end: What `verify_certificate` returned; or `InstallationCertificate.not_after`.
        now: The time that counts, with a time zone.

    Raises:
        ValueError: *now* has no time zone.
    """
    _require_zone(now)
    return (end - now).days


def _require_zone(now: datetime) -> None:
    if now.utcoffset() is None:
        msg = "the time has no time zone; pass datetime.now(UTC)"
        raise ValueError(msg)


def _refuse_outside_validity(certificates: list[x509.Certificate], now: datetime) -> None:
    for one in certificates:
        problem = None
        if now < one.not_valid_before_utc:
            problem = f"is not valid before {one.not_valid_before_utc}; check the clock of this machine"
        elif now > one.not_valid_after_utc:
            problem = f"expired at {one.not_valid_after_utc}; have a new one issued for the same key"
        if problem:
            msg = f"the certificate of {_subject(one)} {problem}"
            raise InstallationKeyError(msg)


def _anchors(trusted: bytes) -> dict[x509.Certificate, x509.Name]:
    """Return the certificates of a CA bundle, with their subjects."""
    try:
        return {one: one.subject for one in x509.load_pem_x509_certificates(trusted)}
    except _UNREADABLE:
        msg = "the CA bundle does not hold certificates in PEM; give those of the CAs that are trusted"
        raise InstallationKeyError(msg) from None


def _check_own_usage(policy: object, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage and not (usage.digital_signature and usage.key_encipherment):
        msg = "keyUsage of the installation key's own lacks digitalSignature or keyEncipherment"
        raise ValueError(msg)


def _check_ca_usage(policy: object, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage and not usage.key_cert_sign:
        msg = f"keyUsage of {_subject(certificate)} lacks keyCertSign"
        raise ValueError(msg)


# not the policies of the web, whose certificates name hosts: this one names a key
_ALL, _EITHER = verification.ExtensionPolicy.permit_all(), verification.Criticality.AGNOSTIC
_OWN_POLICY = _ALL.may_be_present(x509.KeyUsage, _EITHER, _check_own_usage)
_CA_POLICY = _ALL.require_present(x509.BasicConstraints, _EITHER, None).may_be_present(
    x509.KeyUsage, _EITHER, _check_ca_usage
)
