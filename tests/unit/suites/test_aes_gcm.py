"""AES-256-GCM, against published vectors; its sizes."""

import os

import pytest
from support.vectors import Vector, case_id, cavp, wycheproof

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.secret import Secret
from sa_keyvault.suites import AES_256_GCM, AUTHENTICATION_FAILURES, MAX_BODY_OVERHEAD, random_secret

_ALL = list(wycheproof("Cipher", "aes_gcm"))
_OWN_SIZES = {"keySize": 256, "ivSize": 96, "tagSize": 128}
_OWN = [(group, test) for group, test in _ALL if group.items() >= _OWN_SIZES.items()]
_OTHER_KEYS = [(group, test) for group, test in _ALL if group["keySize"] != 256]
_CAVP = ("ciphers", "AES", "GCM")
_CAVP_SIZES = {"ivlen": "96", "taglen": "128"}


def test_vectors_are_there() -> None:
    """There are cases of each kind, so that the tests below mean something."""
    kinds = {test["result"] for _, test in _OWN}
    assert (kinds, len(_OWN) > 50, len(_OTHER_KEYS) > 100) == ({"valid", "invalid"}, True, True)


@pytest.mark.parametrize(("_", "vector"), _OWN, ids=case_id)
def test_wycheproof(_: Vector, vector: Vector) -> None:
    """The suite seals and opens the valid vectors, and refuses the invalid ones (R-1, R-14)."""
    key, nonce, aad, plaintext, ciphertext, tag = (
        bytes.fromhex(vector[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
    )
    cipher = AES_256_GCM.cipher(Secret(key))
    if vector["result"] == "valid":
        assert (ciphertext + tag, plaintext) == (
            cipher.seal(nonce, plaintext, aad),
            cipher.open(nonce, ciphertext + tag, aad),
        )
        return
    with pytest.raises(AUTHENTICATION_FAILURES):
        cipher.open(nonce, ciphertext + tag, aad)


@pytest.mark.parametrize(("_", "vector"), _OTHER_KEYS, ids=case_id)
def test_wycheproof_of_other_key_sizes(_: Vector, vector: Vector) -> None:
    """Keys of AES-128 and AES-192 are refused: the suite is called AES-256 (R-1, R-12)."""
    with pytest.raises(ConfigurationError):
        AES_256_GCM.cipher(Secret(bytes.fromhex(vector["key"])))


def test_cavp_encryption() -> None:
    """Every CAVP vector of the suite's sizes is sealed as published (R-14)."""
    cases = [case for case in cavp(*_CAVP, "gcmEncryptExtIV256.rsp") if case.items() >= _CAVP_SIZES.items()]
    sealed = [
        AES_256_GCM.cipher(Secret(key)).seal(nonce, plaintext, aad).hex()
        for key, nonce, plaintext, aad in (
            tuple(bytes.fromhex(case[name]) for name in ("key", "iv", "pt", "aad")) for case in cases
        )
    ]
    assert len(cases) > 300
    assert [case["ct"] + case["tag"] for case in cases] == sealed


def test_cavp_decryption() -> None:
    """Every CAVP vector of the suite's sizes opens as published, or fails where it is said to (R-14)."""
    cases = [case for case in cavp(*_CAVP, "gcmDecrypt256.rsp") if case.items() >= _CAVP_SIZES.items()]
    opened = []
    for case in cases:
        key, nonce, aad, sealed = (bytes.fromhex(case[name]) for name in ("key", "iv", "aad", "ct"))
        try:
            opened.append(AES_256_GCM.cipher(Secret(key)).open(nonce, sealed + bytes.fromhex(case["tag"]), aad).hex())
        except AUTHENTICATION_FAILURES:
            opened.append("FAIL")
    assert {"FAIL"} < set(opened)
    assert ["FAIL" if "fail" in case else case["pt"] for case in cases] == opened


def _vector() -> tuple[Secret, bytes, bytes, bytes, bytes]:
    key, nonce, plaintext, aad = random_secret(32), os.urandom(12), b"plaintext", b"associated data"
    return key, nonce, aad, plaintext, AES_256_GCM.cipher(key).seal(nonce, plaintext, aad)


@pytest.mark.parametrize("bit", range(8 * (9 + 16)))
def test_refuses_a_changed_bit(bit: int) -> None:
    """Every bit of ciphertext and tag counts: the tag is never compared in part (R-1, R-20, A-13)."""
    key, nonce, aad, _, sealed = _vector()
    changed = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big")
    with pytest.raises(AUTHENTICATION_FAILURES):
        AES_256_GCM.cipher(key).open(nonce, changed, aad)


@pytest.mark.parametrize("size", range(9 + 16))
def test_refuses_a_short_body(size: int) -> None:
    """What is cut fails like every other forgery (R-1, A-14)."""
    key, nonce, aad, _, sealed = _vector()
    with pytest.raises(AUTHENTICATION_FAILURES):
        AES_256_GCM.cipher(key).open(nonce, sealed[:size], aad)


@pytest.mark.parametrize("name", ["key", "nonce", "associated data"])
def test_refuses_any_other_input(name: str) -> None:
    """Nothing opens under another key, nonce or associated data (R-1)."""
    key, nonce, aad, _, sealed = _vector()
    opener = AES_256_GCM.cipher(random_secret(32) if name == "key" else key).open
    with pytest.raises(AUTHENTICATION_FAILURES):
        opener(os.urandom(12) if name == "nonce" else nonce, sealed, b"" if name == "associated data" else aad)


def test_sizes() -> None:
    """The suite has 256-bit keys, 96-bit nonces, and 2^32 messages per key, each of which counts as one (R-1, R-6)."""
    expected = ("aes-256-gcm", 32, 12, 2**32, True)
    suite = AES_256_GCM
    assert expected == (suite.name, suite.key_size, suite.nonce_size, suite.usage_limit, suite.is_fips_approved)
    assert [suite.usage(size) for size in (0, 16, 2**30)] == [1, 1, 1]


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4096])
def test_body_size(size: int) -> None:
    """A body is nonce, ciphertext and 16 bytes of tag, within what every suite may add (R-1)."""
    nonce = os.urandom(AES_256_GCM.nonce_size)
    body = nonce + AES_256_GCM.cipher(random_secret(32)).seal(nonce, bytes(size), b"")
    assert (len(body), True) == (AES_256_GCM.body_size(size), len(body) - size <= MAX_BODY_OVERHEAD)


@pytest.mark.parametrize("size", [0, 15, 16, 24, 31, 33, 64])
def test_refuses_keys_of_other_sizes(size: int) -> None:
    """A suite called AES-256 takes 32 bytes, and neither an AES-128 nor an AES-192 key (R-1, R-12)."""
    with pytest.raises(ConfigurationError, match=f"a key of {size} bytes"):
        AES_256_GCM.cipher(Secret(bytes(size)))
