"""The installation key's algorithms against published vectors: unwrapping, and both signatures."""

from collections.abc import Iterator
from importlib.resources import files

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from support.vectors import Vector, case_id, wycheproof

from sa_keyvault.errors import InstallationKeyError, KeyRecordError
from sa_keyvault.installation import SIGNATURES, WRAPPINGS, SoftwareInstallationKey, is_signed_by
from sa_keyvault.ledger import Event, new_event
from sa_keyvault.suites import HashName

# the library's keys have 3072 bits at least, and its OAEP no label
_OAEP = [
    (group, test)
    for name in ("rsa_oaep_3072_sha256_mgf1sha256", "rsa_oaep_4096_sha256_mgf1sha256")
    for group, test in wycheproof("Cipher", name)
    if not test["label"]
]
# there are none of larger keys with SHA-1
_OAEP_SHA1 = [(group, test) for group, test in wycheproof("Cipher", "rsa_oaep_2048_sha1_mgf1sha1") if not test["label"]]
_PSS = [
    (group, test)
    for name in ("rsa_pss_3072_sha256_mgf1_32", "rsa_pss_4096_sha256_mgf1_32")
    for group, test in wycheproof("Signature", name)
]


_KEYS: dict[str, SoftwareInstallationKey] = {}


def _key(group: Vector) -> SoftwareInstallationKey:
    """Return the key of a group; reading one takes a tenth of a second."""
    pem = group["privateKeyPem"]
    if pem not in _KEYS:
        key = serialization.load_pem_private_key(pem.encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        _KEYS[pem] = SoftwareInstallationKey(key)
    return _KEYS[pem]


@pytest.mark.parametrize(("group", "vector"), _OAEP, ids=case_id)
def test_oaep(group: Vector, vector: Vector) -> None:
    """A wrapped secret of the Wycheproof vectors unwraps as published, and a malformed one is one error (R-9, R-14)."""
    key, wrapped = _key(group), bytes.fromhex(vector["ct"])
    if vector["result"] == "invalid":
        with pytest.raises(KeyRecordError, match="does not open with installation key"):
            key.unwrap(wrapped, WRAPPINGS[0])
    else:
        assert bytes.fromhex(vector["msg"]) == key.unwrap(wrapped, WRAPPINGS[0]).expose()


@pytest.mark.parametrize(("group", "vector"), _OAEP_SHA1, ids=case_id)
def test_oaep_with_sha1(group: Vector, vector: Vector) -> None:
    """The same with SHA-1, for tokens that do no other; the key, which is refused, goes past that check (R-9, R-14)."""
    private_key = serialization.load_pem_private_key(group["privateKeyPem"].encode(), None)
    assert isinstance(private_key, rsa.RSAPrivateKey)
    with pytest.raises(InstallationKeyError, match="2048"):
        SoftwareInstallationKey(private_key)
    key, wrapped = SoftwareInstallationKey.__new__(SoftwareInstallationKey), bytes.fromhex(vector["ct"])
    key._private_key = private_key
    if vector["result"] == "invalid":
        with pytest.raises(KeyRecordError, match="does not open with installation key"):
            key.unwrap(wrapped, WRAPPINGS[1])
    else:
        assert bytes.fromhex(vector["msg"]) == key.unwrap(wrapped, WRAPPINGS[1]).expose()


class _Published(Event):
    """An event whose subject is a message that is published with its signature, in hex."""

    def signed_bytes(self) -> bytes:
        return bytes.fromhex(self.subject)


def _verifies(key: rsa.RSAPublicKey, hash_: HashName, message: str, signature: str) -> bool:
    """Whether the library takes a signature, in hex, for one of that key."""
    event = vars(new_event("", "", "", message, "", "", SIGNATURES[hash_])) | {"signature": bytes.fromhex(signature)}
    return is_signed_by(_Published(**event), key)


@pytest.mark.parametrize(("group", "vector"), _PSS, ids=case_id)
def test_pss(group: Vector, vector: Vector) -> None:
    """A signature of the Wycheproof vectors verifies as published, and a forged one does not (R-10, R-14, A-32)."""
    key = serialization.load_pem_public_key(group["publicKeyPem"].encode())
    assert isinstance(key, rsa.RSAPublicKey)
    assert (vector["result"] != "invalid") == _verifies(key, "sha256", vector["msg"], vector["sig"])


def _sha1_signatures() -> Iterator[dict[str, str]]:
    """Yield the CAVP cases of SHA-1, each with the modulus of its group."""
    text = files("cryptography_vectors").joinpath("asymmetric", "RSA", "FIPS_186-2", "SigVer15_186-3.rsp").read_text()
    case: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if equals:
            case[name] = value
        if name == "Result" and case["SHAAlg"] == "SHA1":
            yield dict(case)


def test_pkcs1_with_sha1() -> None:
    """Good CAVP signatures with SHA-1 verify, forged ones do not, those with a moved hash included (R-14, A-32)."""
    expected, found = [], []
    for case in _sha1_signatures():
        key = rsa.RSAPublicNumbers(int(case["e"], 16), int(case["n"], 16)).public_key()
        expected.append(case["Result"][0] == "P")
        found.append(_verifies(key, "sha1", case["Msg"], case["S"]))
    assert {True, False} == set(expected)
    assert expected == found
