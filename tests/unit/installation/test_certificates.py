"""The certificate of an installation key: its request, its chain, and whose word it is."""

import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from sa_keyvault import installation
from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation import (
    InstallationCertificate,
    InstallationKey,
    SoftwareInstallationKey,
    certificate_request,
    days_left,
    verify_certificate,
)
from sa_keyvault.secret import Secret

_PEM = serialization.Encoding.PEM
_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
_NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
_DAY = timedelta(days=1)

# -- a public key infrastructure ---------------------------------------------------------------------------------------

_CaKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
_Extension = tuple[x509.ExtensionType, bool]


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _usage(*names: str) -> _Extension:
    """Return a keyUsage of what is named, as critical."""
    bits = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    signing = ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{bit: bit in names for bit in (*bits, *signing)}), True


_CA: _Extension = (x509.BasicConstraints(ca=True, path_length=None), True)
_OWN_USAGE = _usage("digital_signature", "key_encipherment")


class Authority:
    """A CA, whose certificates are valid for a hundred days about `_NOW` unless a test says otherwise.

    Args:
        text: Common name.
        issuer: Who certifies it; itself if nobody does.
        extensions: Extensions of its certificate.
        key: Its key, if it is not a new RSA key.
        options: As `issue` has them.
    """

    def __init__(
        self,
        text: str,
        issuer: "Authority | None" = None,
        extensions: tuple[_Extension, ...] = (_CA, _usage("key_cert_sign", "crl_sign")),
        key: _CaKey | None = None,
        **options: Any,
    ) -> None:
        self.name = _name(text)
        self.key = key or rsa.generate_private_key(65537, 2048)
        self.certificate = (issuer or self).issue(text, self.key.public_key(), *extensions, **options)

    def issue(
        self, text: str, public_key: Any, *extensions: _Extension, start: int = -50, end: int = 50, **options: Any
    ) -> x509.Certificate:
        """Return a certificate for a key, valid between *start* and *end* (days from `_NOW`)."""
        builder = x509.CertificateBuilder(self.name, _name(text), public_key, x509.random_serial_number())
        builder = builder.not_valid_before(_NOW + start * _DAY).not_valid_after(_NOW + end * _DAY)
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        digest = None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self.key, digest, **options)


@pytest.fixture(scope="module")
def key(installation_key: SoftwareInstallationKey) -> SoftwareInstallationKey:
    """The installation key of the run."""
    return installation_key


@pytest.fixture(scope="module")
def root() -> Authority:
    """The CA that is trusted."""
    return Authority("root")


@pytest.fixture(scope="module")
def middle(root: Authority) -> Authority:
    """The CA that issues, certified by the trusted one."""
    return Authority("middle", root)


@pytest.fixture(scope="module")
def own(key: SoftwareInstallationKey, middle: Authority) -> x509.Certificate:
    """The installation key's certificate."""
    return middle.issue("licence", key.public_key, _OWN_USAGE)


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(_PEM) for one in certificates)


def _read(*certificates: x509.Certificate) -> InstallationCertificate:
    return InstallationCertificate.from_bytes(_pem(*certificates))


@pytest.fixture(scope="module")
def certificate(own: x509.Certificate, middle: Authority) -> InstallationCertificate:
    """The installation key's certificate, with that of its issuer."""
    return _read(own, middle.certificate)


# -- the request -------------------------------------------------------------------------------------------------------


class SigningKey(InstallationKey):
    """A key whose private half is out of reach, as in a token: it can only be asked to sign."""

    def __init__(self, key: InstallationKey, sign: Callable[[bytes, str], bytes] | None = None) -> None:
        self._key = key
        self._sign = sign or key.sign
        self.asked: list[tuple[bytes, str]] = []

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        return self._key.public_key

    @property
    def algorithms(self) -> frozenset[str]:
        return self._key.algorithms

    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        pytest.fail("a request unwraps nothing")

    def sign(self, message: bytes, algorithm: str) -> bytes:
        self.asked.append((message, algorithm))
        return self._sign(message, algorithm)


def test_request(key: SoftwareInstallationKey) -> None:
    """A request is signed by PSS, and names the key, the installation, and what the key is used for (RFC 2986)."""
    request = x509.load_pem_x509_csr(certificate_request(key, "claims, production", "Example AG"))
    public_key = request.public_key()
    assert isinstance(public_key, rsa.RSAPublicKey)
    public_key.verify(request.signature, request.tbs_certrequest_bytes, _PSS, hashes.SHA256())
    expected = (key.fingerprint, "O=Example AG,CN=claims\\, production", [_OWN_USAGE[0]])
    extensions = [extension.value for extension in request.extensions]
    assert expected == (installation.fingerprint(public_key), request.subject.rfc4514_string(), extensions)


def test_request_without_organization(key: SoftwareInstallationKey) -> None:
    """The organization may be left out."""
    assert x509.load_pem_x509_csr(certificate_request(key, "claims")).subject == _name("claims")


def test_request_of_a_key_that_can_only_sign(key: SoftwareInstallationKey) -> None:
    """A request needs one signature and no private key; what is signed cannot be taken for a key's record (R-23)."""
    signing = SigningKey(key)
    request = x509.load_pem_x509_csr(certificate_request(signing, "claims"))
    assert request.is_signature_valid
    assert signing.asked == [(request.tbs_certrequest_bytes, "rsa-pss-sha256")]
    assert request.tbs_certrequest_bytes.startswith(b"\x30")


def test_request_with_a_bad_signature(key: SoftwareInstallationKey) -> None:
    """A request whose signature does not verify is not handed out."""
    with pytest.raises(InstallationKeyError, match="the signature of the request does not verify"):
        certificate_request(SigningKey(key, lambda message, algorithm: key.sign(b"another", algorithm)), "claims")


def test_request_of_a_key_that_does_not_sign(key: SoftwareInstallationKey) -> None:
    """The error of a key that cannot sign is what the caller sees."""

    def refuse(message: bytes, algorithm: str) -> bytes:
        msg = "the token was removed; insert it"
        raise InstallationKeyError(msg)

    with pytest.raises(InstallationKeyError, match=r"^the token was removed; insert it$"):
        certificate_request(SigningKey(key, refuse), "claims")


@pytest.mark.parametrize("names", [("",), ("x" * 65,), ("claims", ""), ("claims", "x" * 65), ("\ud800",)])
def test_names_that_do_not_fit(key: SoftwareInstallationKey, names: tuple[str, ...]) -> None:
    """A name that is empty, too long or no text is refused with the limit (RFC 5280 appendix A)."""
    with pytest.raises(InstallationKeyError, match=r"each has 1 to 64 characters$"):
        certificate_request(key, *names)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_any_order(own: x509.Certificate, middle: Authority, root: Authority) -> None:
    """Certificates in any order, and given twice, become the chain that begins with the installation key's own."""
    chain = (own, middle.certificate, root.certificate)
    found = {_read(*order, order[0]).chain for order in permutations(chain)}
    assert found == {chain}


def test_written_and_read(certificate: InstallationCertificate) -> None:
    """What is written is read again, the own certificate first."""
    data = certificate.to_bytes()
    assert InstallationCertificate.from_bytes(data) == certificate
    assert x509.load_pem_x509_certificate(data) == certificate.chain[0]


def test_der(own: x509.Certificate) -> None:
    """A single certificate is read in DER, too."""
    data = own.public_bytes(serialization.Encoding.DER)
    assert InstallationCertificate.from_bytes(data).chain == (own,)


def test_text_around_pem(own: x509.Certificate) -> None:
    """Text before and after a PEM block is passed over (RFC 7468 section 5.2)."""
    assert InstallationCertificate.from_bytes(b"licence of 2026\n" + _pem(own) + b"end\n").chain == (own,)


def test_what_it_shows(certificate: InstallationCertificate, key: SoftwareInstallationKey) -> None:
    """A certificate shows whose it is, who issued it, when it expires and for which key it is (R-45)."""
    expected = ("CN=licence", "CN=middle", _NOW + 50 * _DAY, key.fingerprint)
    shown = (certificate.subject, certificate.issuer, certificate.not_after, certificate.fingerprint)
    assert expected == shown
    assert certificate.not_after.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no certificate",
        b"\x30",
        b"\x30\x84\xff\xff\xff\xff",
        b"-----BEGIN CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n",
    ],
    ids=["empty", "newline", "text", "one byte", "huge DER length", "PEM head", "no DER in PEM", "PKCS#7"],
)
def test_what_is_no_certificate_is_refused(data: bytes) -> None:
    """Anything but certificates is refused, with the remedy for a PKCS#7 file (A-81)."""
    with pytest.raises(InstallationKeyError, match=r"^no certificates in PEM, .*`openssl pkcs7 -print_certs`"):
        InstallationCertificate.from_bytes(data)


def test_der_with_something_behind_it_is_refused(own: x509.Certificate) -> None:
    """Bytes after a certificate in DER are refused (A-81)."""
    with pytest.raises(InstallationKeyError, match="no certificate in DER"):
        InstallationCertificate.from_bytes(own.public_bytes(serialization.Encoding.DER) + b"\x00")


def test_private_key_beside_the_certificate_is_refused(own: x509.Certificate, root: Authority) -> None:
    """A PEM with more than certificates is refused: a private key does not belong into a key store."""
    plain = root.key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with pytest.raises(InstallationKeyError, match="more than certificates in this PEM; give the certificates alone"):
        InstallationCertificate.from_bytes(_pem(own) + plain)


def test_too_large(own: x509.Certificate) -> None:
    """More than 64 KiB are refused before they are read (A-81)."""
    data = _pem(own).ljust(64 * 1024, b"\n")
    assert InstallationCertificate.from_bytes(data).chain == (own,)
    with pytest.raises(InstallationKeyError, match=r"^a certificate chain of 65537 bytes is refused; ") as caught:
        InstallationCertificate.from_bytes(data + b"\n")
    assert caught.value.size == 65537


def test_certificates_of_several_keys_are_refused(own: x509.Certificate, middle: Authority) -> None:
    """Two certificates of which none issued the other are refused by name, so that none is picked by chance (A-81)."""
    other = middle.issue("other", rsa.generate_private_key(65537, 3072).public_key())
    with pytest.raises(InstallationKeyError, match=r"not of one chain: 'CN=licence' by 'CN=middle', 'CN=other' by"):
        _read(own, other, middle.certificate)


def test_certificate_beside_the_chain_is_refused(own: x509.Certificate, middle: Authority, root: Authority) -> None:
    """A certificate that leads nowhere, or one that is missing between two others, is refused."""
    for found in ((own, middle.certificate, Authority("stranger").certificate), (own, root.certificate)):
        with pytest.raises(InstallationKeyError, match="are not of one chain"):
            _read(*found)


def test_certificates_that_certify_each_other_are_refused(key: SoftwareInstallationKey) -> None:
    """Certificates with more than one way through them are refused, so that no search can go on for ever."""
    first = Authority("CA")
    crosswise = [Authority("CA", first, key=first.key).certificate for _ in range(20)]
    with pytest.raises(InstallationKeyError, match="are not of one chain"):
        _read(first.issue("licence", key.public_key), *crosswise)


def test_subject_of_the_issuer(key: SoftwareInstallationKey, root: Authority) -> None:
    """A certificate that has its issuer's name is told from it by the signature."""
    own = root.issue("root", key.public_key)
    certificate = _read(root.certificate, own)
    assert certificate.chain == (own, root.certificate)
    verify_certificate(certificate, key, _pem(root.certificate), _NOW)


@pytest.mark.parametrize(
    "public_key",
    [ec.generate_private_key(ec.SECP256R1()).public_key(), ed25519.Ed25519PrivateKey.generate().public_key()],
    ids=["ECDSA", "Ed25519"],
)
def test_certificate_of_another_kind_of_key_is_refused(root: Authority, public_key: Any) -> None:
    """A certificate for a key that is no RSA key cannot be an installation key's (A-81)."""
    with pytest.raises(InstallationKeyError, match="'CN=licence' is for no RSA key; request one"):
        _read(root.issue("licence", public_key))


# -- verifying ---------------------------------------------------------------------------------------------------------


def _verified(certificate: InstallationCertificate, key: Any, *trusted: x509.Certificate) -> datetime:
    return verify_certificate(certificate, key, _pem(*trusted), _NOW)


def _refused(certificate: InstallationCertificate, key: Any, *trusted: x509.Certificate, at: int = 0) -> str:
    """Return the error of a certificate that must be refused so many days after `_NOW`."""
    with pytest.raises(InstallationKeyError) as caught:
        verify_certificate(certificate, key, _pem(*trusted), _NOW + at * _DAY)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert "; " in str(caught.value)
    return str(caught.value)


def test_verified(certificate: InstallationCertificate, key: SoftwareInstallationKey, root: Authority) -> None:
    """A certificate of the key whose chain ends in a trusted CA is accepted, for the key and for its public half."""
    assert _verified(certificate, key, root.certificate) == _NOW + 50 * _DAY
    assert _verified(certificate, key.public_key, root.certificate) == _NOW + 50 * _DAY


def test_root_in_the_chain(own: x509.Certificate, key: Any, middle: Authority, root: Authority) -> None:
    """The trusted certificate may be in the chain, too."""
    _verified(_read(own, middle.certificate, root.certificate), key, root.certificate)


def test_bundle_of_several(certificate: InstallationCertificate, key: Any, root: Authority) -> None:
    """The chain may end in any certificate of the bundle."""
    _verified(certificate, key, Authority("another").certificate, root.certificate)


def test_trusted_certificate_need_not_be_a_root(own: x509.Certificate, key: Any, middle: Authority) -> None:
    """A CA that is certified by another may be the one that is trusted."""
    _verified(_read(own), key, middle.certificate)


@pytest.mark.parametrize("ends", [(20, 30, 40), (30, 20, 40), (30, 40, 20)], ids=["own", "middle", "root"])
def test_first_expiry_of_the_chain_counts(key: SoftwareInstallationKey, ends: tuple[int, int, int]) -> None:
    """What is returned is when the first certificate of the chain expires, the trusted one included (R-45)."""
    root = Authority("root", end=ends[2])
    middle = Authority("middle", root, end=ends[1])
    certificate = _read(middle.issue("licence", key.public_key, end=ends[0]), middle.certificate)
    assert _verified(certificate, key, root.certificate) == _NOW + 20 * _DAY


@pytest.mark.parametrize("make", [lambda: ec.generate_private_key(ec.SECP256R1()), lambda: None], ids=["ECDSA", "RSA"])
def test_issuer_of_any_kind(key: SoftwareInstallationKey, make: Callable[[], Any]) -> None:
    """The key of the CA may be of another kind than the installation key."""
    root = Authority("root", key=make())
    _verified(_read(root.issue("licence", key.public_key)), key, root.certificate)


def test_issuer_that_signs_with_pss(key: SoftwareInstallationKey, root: Authority) -> None:
    """A certificate that is signed with PSS is accepted, too."""
    _verified(_read(root.issue("licence", key.public_key, rsa_padding=_PSS)), key, root.certificate)


def test_other_key(certificate: InstallationCertificate, key: InstallationKey, root: Authority) -> None:
    """A certificate for another key is refused, with both fingerprints (A-81, A-83)."""
    other = SoftwareInstallationKey(rsa.generate_private_key(65537, 3072))
    found = _refused(certificate, other, root.certificate)
    assert f"is for the key {key.fingerprint}, not for installation key {other.fingerprint}; give the one" in found


@pytest.mark.parametrize("ends", [(20, 50, 50), (50, 20, 50), (50, 50, 20)], ids=["licence", "middle", "root"])
def test_expired(key: SoftwareInstallationKey, ends: tuple[int, int, int], request: pytest.FixtureRequest) -> None:
    """When any certificate of the chain has expired, it is refused with its name and when that was (A-81, R-45)."""
    root = Authority("root", end=ends[2])
    middle = Authority("middle", root, end=ends[1])
    certificate = _read(middle.issue("licence", key.public_key, end=ends[0]), middle.certificate)
    name = request.node.callspec.id
    found = _refused(certificate, key, root.certificate, at=21)
    assert found == (
        f"the certificate of 'CN={name}' expired at 2026-06-21 12:00:00+00:00; have a new one issued for the same key"
    )


@pytest.mark.parametrize("starts", [(-5, -9, -9), (-9, -5, -9), (-9, -9, -5)], ids=["licence", "middle", "root"])
def test_not_yet_valid(key: Any, starts: tuple[int, int, int], request: pytest.FixtureRequest) -> None:
    """When any certificate of the chain is not valid yet, it is refused with its name and when it will be (R-45)."""
    root = Authority("root", start=starts[2])
    middle = Authority("middle", root, start=starts[1])
    certificate = _read(middle.issue("licence", key.public_key, start=starts[0]), middle.certificate)
    name = request.node.callspec.id
    found = _refused(certificate, key, root.certificate, at=-6)
    assert found == (
        f"the certificate of 'CN={name}' is not valid before 2026-05-27 12:00:00+00:00; check the clock of this machine"
    )


def test_first_and_last_moment(certificate: InstallationCertificate, key: Any, root: Authority) -> None:
    """A certificate is valid at both ends of its validity, in any time zone, and no second longer (R-45)."""
    trusted, second = _pem(root.certificate), timedelta(seconds=1)
    first, last = _NOW - 50 * _DAY, _NOW + 50 * _DAY
    for hours in (-12, 0, 14):
        zone = timezone(timedelta(hours=hours))
        for now in (first, last):
            verify_certificate(certificate, key, trusted, now.astimezone(zone))
        for now in (first - second, last + second):
            with pytest.raises(InstallationKeyError, match=r"is not valid before|expired at"):
                verify_certificate(certificate, key, trusted, now.astimezone(zone))


def test_time_without_zone(certificate: InstallationCertificate, key: Any, root: Authority) -> None:
    """A time without a zone is refused: it could be off by a day (R-45)."""
    naive = _NOW.replace(tzinfo=None)
    with pytest.raises(ValueError, match=r"no time zone; pass datetime\.now\(UTC\)"):
        verify_certificate(certificate, key, _pem(root.certificate), naive)
    with pytest.raises(ValueError, match=r"no time zone; pass datetime\.now\(UTC\)"):
        days_left(certificate.not_after, naive)


def test_missing_issuer(own: x509.Certificate, key: Any, root: Authority) -> None:
    """A chain with a gap is refused with the name at which it breaks off (A-81)."""
    found = _refused(_read(own), key, root.certificate)
    assert "of 'CN=licence' leads to 'CN=middle', which is not in the CA bundle; append the certificates" in found


def test_other_authority(certificate: InstallationCertificate, key: Any) -> None:
    """A chain that ends in another CA than those of the bundle is refused (A-81)."""
    assert "leads to 'CN=root', which is not in the CA bundle" in _refused(
        certificate, key, Authority("other").certificate
    )


def test_authority_of_the_same_name(certificate: InstallationCertificate, key: Any) -> None:
    """A CA that has the name of the trusted one, and not its key, is not trusted (A-81)."""
    found = _refused(certificate, key, Authority("root").certificate)
    assert "to the CA bundle is not valid: signature does not match; ask the CA" in found


def test_self_signed(key: SoftwareInstallationKey, root: Authority) -> None:
    """A certificate that the installation key issued itself is not trusted for that."""
    certificate = _read(Authority("licence", extensions=(), key=key._private_key).certificate)
    assert "leads to 'CN=licence', which is not in the CA bundle" in _refused(certificate, key, root.certificate)


_NO_CA: _Extension = (x509.BasicConstraints(ca=False, path_length=None), True)
_UNKNOWN: _Extension = (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"), True)
_BAD_ISSUERS = {
    "no constraints": ((_usage("key_cert_sign"),), "CA certificate has no basicConstraints"),
    "no CA": ((_NO_CA,), "basicConstraints.cA must be asserted"),
    "no keyCertSign": ((_CA, _usage("digital_signature")), "keyUsage of 'CN=bad' lacks keyCertSign"),
    "unknown critical extension": ((_CA, _UNKNOWN), "unaccounted-for critical extensions"),
}


@pytest.mark.parametrize(("extensions", "reason"), _BAD_ISSUERS.values(), ids=_BAD_ISSUERS)
def test_issuer_that_may_not_issue(
    key: SoftwareInstallationKey, root: Authority, extensions: tuple[_Extension, ...], reason: str
) -> None:
    """What a certificate that is no CA's has signed is refused, also if that certificate is trusted (A-81)."""
    bad = Authority("bad", root, extensions)
    own = bad.issue("licence", key.public_key)
    assert reason in _refused(_read(own, bad.certificate), key, root.certificate)
    assert reason in _refused(_read(own), key, bad.certificate)


def test_certificate_that_was_used_as_an_authority(key: Any, root: Authority) -> None:
    """The holder of another licence cannot issue one with it (A-81)."""
    other = Authority("other licence", root, (_OWN_USAGE,))
    certificate = _read(other.issue("licence", key.public_key), other.certificate)
    assert "CA certificate has no basicConstraints" in _refused(certificate, key, root.certificate)


def test_chain_that_is_too_long_for_its_authority(key: Any) -> None:
    """A CA that may not certify other CAs is kept to it (RFC 5280 section 4.2.1.9)."""
    root = Authority("root", extensions=((x509.BasicConstraints(ca=True, path_length=0), True),))
    middle = Authority("middle", root)
    certificate = _read(middle.issue("licence", key.public_key), middle.certificate)
    assert "path length constraint violated" in _refused(certificate, key, root.certificate)


def test_issuer_without_key_usage(key: Any) -> None:
    """A CA without keyUsage, as many private ones are, is accepted (RFC 5280 section 6.1.4 n)."""
    root = Authority("root", extensions=(_CA,))
    _verified(_read(root.issue("licence", key.public_key)), key, root.certificate)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "RSA key is too weak"),  # noqa: S505
        (ed25519.Ed25519PrivateKey.generate, "Forbidden public key algorithm"),
    ],
    ids=["RSA-1024", "Ed25519"],
)
def test_issuer_whose_key_is_not_accepted(key: Any, make: Callable[[], Any], reason: str) -> None:
    """A CA whose key is short, or of a kind that the verification does not know, is refused by that reason."""
    root = Authority("root", key=make())
    assert reason in _refused(_read(root.issue("licence", key.public_key)), key, root.certificate)


@pytest.mark.parametrize("bits", [("digital_signature",), ("key_encipherment",), ("key_cert_sign",)])
def test_own_usage(key: Any, root: Authority, bits: tuple[str, ...]) -> None:
    """A certificate that does not allow what the installation key does, to sign and to unwrap, is refused."""
    certificate = _read(root.issue("licence", key.public_key, _usage(*bits)))
    found = _refused(certificate, key, root.certificate)
    assert "keyUsage of the installation key's own lacks digitalSignature or keyEncipherment" in found


def test_extended_usage_does_not_matter(key: Any, root: Authority) -> None:
    """What a CA puts into every certificate, an extended key usage or a host name, is no obstacle."""
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])
    host = x509.SubjectAlternativeName([x509.DNSName("example.org")])
    certificate = _read(root.issue("licence", key.public_key, (usage, False), (host, False)))
    _verified(certificate, key, root.certificate)


@pytest.mark.parametrize("name", ["a3023000", "870301020a"], ids=["X.400 address", "IP address of three bytes"])
def test_alternative_name_that_cannot_be_read(key: Any, root: Authority, name: str) -> None:
    """A part that the verification cannot read is an ordinary refusal (RFC 5280 section 4.2.1.6)."""
    content = bytes.fromhex(name)
    names = x509.UnrecognizedExtension(
        x509.ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30" + bytes([len(content)]) + content
    )
    certificate = _read(root.issue("licence", key.public_key, (names, False)))
    assert "to the CA bundle is not valid: " in _refused(certificate, key, root.certificate)


@pytest.mark.parametrize("trusted", [b"", b"/etc/ssl/ca.pem", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x00"])
def test_what_is_no_bundle(certificate: InstallationCertificate, key: Any, trusted: bytes) -> None:
    """A bundle without a certificate in it trusts nobody, and is refused as such (A-81)."""
    with pytest.raises(InstallationKeyError, match=r"^the CA bundle does not hold certificates in PEM; give those of "):
        verify_certificate(certificate, key, trusted, _NOW)


@pytest.mark.parametrize("sample", range(64))
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_flipped_bits_are_refused(own: x509.Certificate, key: Any, middle: Authority, sample: int) -> None:
    """No bit of what is signed, or of the signature, can be flipped unnoticed, and all give the same error (A-81)."""
    data, signed = bytearray(own.public_bytes(serialization.Encoding.DER)), own.tbs_certificate_bytes
    begin, size = data.index(signed), len(own.signature)
    places = [*range(begin, begin + len(signed)), *range(len(data) - size, len(data))]
    data[places[(len(places) - 1) * sample // 63]] ^= 1 << sample % 8
    with pytest.raises(InstallationKeyError):
        _verified(InstallationCertificate.from_bytes(bytes(data)), key, middle.certificate)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),  # version 4 (RFC 5280 section 4.1.2.1)
        (b"\x0c\x07licence", b"\x0d\x07licence"),  # a name that is no string, but a RELATIVE-OID
        (b"\x0c\x07licence", b"\x0c\x07licenc\xff"),  # not UTF-8
    ],
    ids=["version", "type of a name", "text of a name"],
)
def test_unreadable_parts_are_refused(own: x509.Certificate, before: bytes, after: bytes) -> None:
    """A certificate with a part that cannot be read is refused like anything else that is none (A-81)."""
    data = own.public_bytes(serialization.Encoding.DER)
    assert data.count(before) == 1
    with pytest.raises(InstallationKeyError, match=r"no certificate in DER|a name in the certificates cannot be read"):
        InstallationCertificate.from_bytes(data.replace(before, after))


# -- days --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "days"),
    [(60 * _DAY, 60), (60 * _DAY - timedelta(seconds=1), 59), (timedelta(seconds=1), 0), (-timedelta(seconds=1), -1)],
)
def test_days_left(left: timedelta, days: int) -> None:
    """Whole days are counted, in whatever zone the time is given; after the end they are negative (R-45)."""
    assert {days_left(_NOW + left, _NOW), days_left(_NOW + left, _NOW.astimezone(timezone(_DAY / 2)))} == {days}


# -- what OpenSSL says -------------------------------------------------------------------------------------------------


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run `openssl` in the test's folder."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl: it is not on the PATH")

    def run(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([program, *arguments], cwd=tmp_path, check=False, capture_output=True)  # noqa: S603

    return run


def test_openssl_verifies_the_request(openssl: Callable[..., Any], key: Any, tmp_path: Path) -> None:
    """OpenSSL reads the request, and its signature is good (RFC 2986)."""
    (tmp_path / "request.pem").write_bytes(certificate_request(key, "claims", "Example AG"))
    done = openssl("req", "-in", "request.pem", "-verify", "-noout", "-text")
    assert (done.returncode, b"rsassaPss" in done.stdout, b"verify OK" in done.stdout + done.stderr) == (0, True, True)


def _issued_by_openssl(
    openssl: Callable[..., Any], key: InstallationKey, folder: Path, digest: str
) -> tuple[bytes, bytes]:
    """Return what a CA that OpenSSL is makes of the request, and the CA's certificate."""
    (folder / "request.pem").write_bytes(certificate_request(key, "claims"))
    authority = ("-subj", "/CN=CA", "-days", "900", "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", *authority)
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copy", digest)
    openssl("x509", "-req", "-in", "request.pem", *signing, "-days", "365", "-out", "issued.pem")
    return (folder / "issued.pem").read_bytes(), (folder / "ca.pem").read_bytes()


def test_certificate_that_openssl_issued(openssl: Callable[..., Any], key: Any, tmp_path: Path) -> None:
    """The request becomes a certificate at a CA that OpenSSL is, extensions included, and that is accepted."""
    issued, trusted = _issued_by_openssl(openssl, key, tmp_path, "-sha256")
    certificate = InstallationCertificate.from_bytes(issued)
    now = certificate.chain[0].not_valid_before_utc + _DAY
    usage = certificate.chain[0].extensions.get_extension_for_class(x509.KeyUsage).value
    assert verify_certificate(certificate, key, trusted, now) == certificate.not_after
    assert (certificate.subject, usage) == ("CN=claims", _OWN_USAGE[0])


def test_certificate_that_is_signed_with_sha1(openssl: Callable[..., Any], key: Any, tmp_path: Path) -> None:
    """A certificate that was signed with SHA-1 is refused."""
    issued, trusted = _issued_by_openssl(openssl, key, tmp_path, "-sha1")
    certificate = InstallationCertificate.from_bytes(issued)
    now = certificate.chain[0].not_valid_before_utc + _DAY
    with pytest.raises(InstallationKeyError, match="Forbidden signature algorithm"):
        verify_certificate(certificate, key, trusted, now)


_CASES = {
    "valid": ({}, (_CA,), 0),
    "expired": ({"end": 10}, (_CA,), 11),
    "not yet valid": ({"start": 5}, (_CA,), 4),
    "no CA": ({}, (_NO_CA,), 0),
    "no keyCertSign": ({}, (_CA, _usage("digital_signature")), 0),
    "unknown critical extension": ({}, (_CA, _UNKNOWN), 0),
}


@pytest.mark.parametrize(("options", "extensions", "at"), _CASES.values(), ids=_CASES)
@pytest.mark.parametrize("is_trusted", [True, False])
def test_openssl_agrees(
    openssl: Callable[..., Any],
    key: SoftwareInstallationKey,
    root: Authority,
    tmp_path: Path,
    options: dict[str, int],
    extensions: tuple[_Extension, ...],
    at: int,
    is_trusted: bool,
) -> None:
    """What `openssl verify` accepts is accepted, and what it refuses is refused (A-81)."""
    middle = Authority("middle", root, extensions)
    certificate = _read(middle.issue("licence", key.public_key, **options), middle.certificate)
    trusted = _pem((root if is_trusted else Authority("root")).certificate)
    now = _NOW + at * _DAY
    for name, data in (("own", _pem(certificate.chain[0])), ("middle", _pem(middle.certificate)), ("ca", trusted)):
        (tmp_path / f"{name}.pem").write_bytes(data)
    files = ("-CAfile", "ca.pem", "-no-CApath", "-untrusted", "middle.pem", "own.pem")
    done = openssl("verify", "-attime", str(int(now.timestamp())), "-partial_chain", *files)
    try:
        verify_certificate(certificate, key, trusted, now)
    except InstallationKeyError:
        is_accepted = False
    else:
        is_accepted = True
    assert is_accepted == (done.returncode == 0) == (is_trusted and options == {} and extensions == (_CA,))
