"""3DES-CBC with HMAC: against published vectors, and against what a forger would try."""

import hashlib
import hmac
import os
import re
import warnings
from collections.abc import Iterator
from importlib.resources import files
from itertools import product

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st
from support.vectors import Vector, cavp

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.secret import Secret
from sa_keyvault.suites import (
    AUTHENTICATION_FAILURES,
    MAX_BODY_OVERHEAD,
    TRIPLE_DES_SHA1,
    TRIPLE_DES_SHA256,
    TripleDesCbcHmac,
    random_secret,
)
from sa_keyvault.suites.triple_des import _CbcHmacCipher

SUITES = (TRIPLE_DES_SHA256, TRIPLE_DES_SHA1)
_BY_NAME = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


# -- against vectors ---------------------------------------------------------------------------------------------------


def _cases() -> Iterator[tuple[bytes, Vector]]:
    """Yield every CAVP case of 3DES-CBC, with its bundle of three keys."""
    folder = files("cryptography_vectors") / "ciphers" / "3DES" / "CBC"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if not file.name.startswith("TCBCI"):  # interleaved, another mode
            for case in cavp("ciphers", "3DES", "CBC", file.name):
                keys = case.get("keys", "") * 3 or case["key1"] + case["key2"] + case["key3"]
                yield bytes.fromhex(keys), case


_CASES = list(_cases())
_THREE_KEYS = [(keys, case) for keys, case in _CASES if len({keys[:8], keys[8:16], keys[16:]}) == 3]


@_BY_NAME
def test_cavp(suite: TripleDesCbcHmac) -> None:
    """With three different keys, the suite encrypts every CAVP vector as published, before the padding (R-14)."""
    found = []
    for keys, case in _THREE_KEYS:
        plaintext = bytes.fromhex(case["plaintext"])
        cipher = suite.cipher(Secret(keys + os.urandom(suite.algorithm.digest_size)))
        found.append(cipher.seal(bytes.fromhex(case["iv"]), plaintext, b"")[: len(plaintext)].hex())
    assert [case["ciphertext"] for _, case in _THREE_KEYS] == found
    assert len(found) == 20


@_BY_NAME
def test_cavp_opened(suite: TripleDesCbcHmac) -> None:
    """The suite opens every CAVP vector with three different keys, behind padding and HMAC of the test's own (R-14)."""
    found, aad = [], b":12345"
    for keys, case in _THREE_KEYS:
        iv, published = bytes.fromhex(case["iv"]), bytes.fromhex(case["ciphertext"])
        padding = Cipher(TripleDES(keys), CBC(published[-8:])).encryptor().update(bytes([8] * 8))
        mac_key, message = os.urandom(suite.algorithm.digest_size), aad + iv + published + padding
        tag = hmac.digest(mac_key, message + (8 * len(aad)).to_bytes(8, "big"), suite.algorithm.name)
        found.append(suite.cipher(Secret(keys + mac_key)).open(iv, published + padding + tag, aad).hex())
    assert [case["plaintext"] for _, case in _THREE_KEYS] == found
    assert len(found) == 20


@_BY_NAME
def test_cavp_with_fewer_keys(suite: TripleDesCbcHmac) -> None:
    """The CAVP vectors whose three keys are one or two are refused: OpenSSL would take them (R-5)."""
    fewer = [keys for keys, _ in _CASES if len({keys[:8], keys[8:16], keys[16:]}) < 3]
    for keys in fewer:
        with pytest.raises(ConfigurationError, match="two of the three DES keys are the same"):
            suite.cipher(Secret(keys + os.urandom(suite.algorithm.digest_size)))
    assert len(fewer) > 400


_HMAC_FILES = {"sha256": "rfc-4231-sha256.txt", "sha1": "rfc-2202-sha1.txt"}
_HMAC_CASE = re.compile(r"^Key = (\w+)$.*?^Msg = (\w+)$.*?^MD = (\w+)$", re.DOTALL | re.MULTILINE)


def _hmac_cases(name: str) -> Iterator[tuple[bytes, bytes, str]]:
    """Yield key, message and HMAC of each case that an RFC publishes."""
    text = files("cryptography_vectors").joinpath("HMAC", _HMAC_FILES[name]).read_text("ascii")
    for key, message, tag in _HMAC_CASE.findall(text):
        yield bytes.fromhex(key), bytes.fromhex(message), tag


@_BY_NAME
def test_hmac_as_published(suite: TripleDesCbcHmac) -> None:
    """The HMAC of a cipher is that of RFC 4231 (SHA-256) and RFC 2202 (SHA-1), with keys of every length (R-14).

    Its object is asked: what the suite authenticates ends in a length, which no published message does.
    """
    expected, found = [], []
    for key, message, tag in _hmac_cases(suite.algorithm.name):
        own = _CbcHmacCipher(Secret(b"".join(_GOOD) + key), suite.algorithm)._hmac.copy()
        own.update(message)
        expected.append(tag)
        found.append(own.finalize().hex())
    assert expected == found
    assert len(found) == {"sha256": 6, "sha1": 7}[suite.algorithm.name]


# -- layout ------------------------------------------------------------------------------------------------------------


@_BY_NAME
@given(plaintext=st.binary(max_size=40), aad=st.binary(max_size=20))
def test_hmac_covers_what_is_documented(suite: TripleDesCbcHmac, plaintext: bytes, aad: bytes) -> None:
    """The HMAC is over AAD, IV, ciphertext and the length of the AAD in bits, with the second part of the key (R-7)."""
    key, iv, hash_name = random_secret(suite.key_size), os.urandom(8), suite.algorithm.name
    sealed = suite.cipher(key).seal(iv, plaintext, aad)
    size = len(sealed) - suite.algorithm.digest_size
    message = aad + iv + sealed[:size] + (8 * len(aad)).to_bytes(8, "big")
    assert sealed[size:] == hmac.digest(key.expose()[24:], message, getattr(hashlib, hash_name))


@_BY_NAME
@given(plaintext=st.binary(max_size=100), aad=st.binary(max_size=20))
def test_opens_what_it_sealed(suite: TripleDesCbcHmac, plaintext: bytes, aad: bytes) -> None:
    """Every plaintext comes back, and its body has the size that was announced."""
    cipher, iv = suite.cipher(random_secret(suite.key_size)), os.urandom(8)
    sealed = cipher.seal(iv, plaintext, aad)
    assert (plaintext, suite.body_size(len(plaintext))) == (cipher.open(iv, sealed, aad), 8 + len(sealed))
    assert suite.body_size(len(plaintext)) - len(plaintext) <= MAX_BODY_OVERHEAD


def test_sizes() -> None:
    """Three DES keys and an HMAC key as long as its hash; 8-byte IVs; 2^20 blocks per key; not approved (R-4, R-6)."""
    expected = [("3des-cbc-hmac-sha256", 56, 8, 2**20, False), ("3des-cbc-hmac-sha1", 44, 8, 2**20, False)]
    found = [(s.name, s.key_size, s.nonce_size, s.usage_limit, s.is_fips_approved) for s in SUITES]
    assert expected == found


@pytest.mark.parametrize(("size", "blocks"), [(0, 1), (7, 1), (8, 2), (15, 2), (16, 3), (2**22, 2**19 + 1)])
def test_usage_is_counted_in_blocks(size: int, blocks: int) -> None:
    """Usage is the number of blocks that are encrypted, the one of the padding included (R-6)."""
    assert [blocks, blocks] == [suite.usage(size) for suite in SUITES]


# -- forgeries ---------------------------------------------------------------------------------------------------------


def _sealed(suite: TripleDesCbcHmac) -> tuple[Secret, bytes, bytes, bytes]:
    key, iv, aad = random_secret(suite.key_size), os.urandom(8), b":12345"
    return key, iv, aad, suite.cipher(key).seal(iv, b"ada@example.org", aad)


def _failure(suite: TripleDesCbcHmac, key: Secret, iv: bytes, sealed: bytes, aad: bytes) -> tuple[type, str]:
    """Return class and text of the error of opening a forgery."""
    with pytest.raises(AUTHENTICATION_FAILURES) as caught:
        suite.cipher(key).open(iv, sealed, aad)
    return type(caught.value), str(caught.value)


@_BY_NAME
def test_every_forgery_fails_alike(suite: TripleDesCbcHmac) -> None:
    """Every flipped bit, every cut, every other IV and AAD is one error without a difference: no oracle (R-7, A-79)."""
    key, iv, aad, sealed = _sealed(suite)
    bits = [(int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big") for bit in range(8 * len(sealed))]
    cuts = [sealed[:size] for size in range(len(sealed))] + [sealed[8:], sealed + b"\0", sealed + bytes(8)]
    failures = {_failure(suite, key, iv, forged, aad) for forged in (*bits, *cuts)}
    failures |= {_failure(suite, key, other, sealed, aad) for other in (os.urandom(8), iv[:7], b"", iv + b"\0")}
    failures |= {_failure(suite, key, iv, sealed, other) for other in (b"", b":12346", aad + b"0", aad[:-1])}
    failures |= {_failure(suite, random_secret(suite.key_size), iv, sealed, aad)}
    assert len(failures) == 1


@_BY_NAME
def test_padding_is_not_an_oracle(suite: TripleDesCbcHmac) -> None:
    """The classic attack, every other value of the byte that decides the padding, gets 255 equal answers (A-79)."""
    key, iv, aad, sealed = _sealed(suite)
    tag = sealed[-suite.algorithm.digest_size :]
    answers = set()
    for change in range(1, 256):
        forged = sealed[:7] + bytes([sealed[7] ^ change]) + sealed[8:16] + tag
        answers.add(_failure(suite, key, iv, forged, aad))
    assert len(answers) == 1


@_BY_NAME
def test_nothing_is_decrypted_before_the_hmac(suite: TripleDesCbcHmac, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forgery does not reach the decryption: it is refused by the HMAC (R-7)."""
    key, iv, aad, sealed = _sealed(suite)
    cipher = suite.cipher(key)
    used = []
    monkeypatch.setattr("sa_keyvault.suites.triple_des.CBC", used.append)
    with pytest.raises(AUTHENTICATION_FAILURES):
        cipher.open(iv, sealed[:-1] + bytes([sealed[-1] ^ 1]), aad)
    assert used == []


@_BY_NAME
def test_aad_and_iv_do_not_run_into_each_other(suite: TripleDesCbcHmac) -> None:
    """Bytes that move from the AAD's end to the IV change the length at the end of what the HMAC covers (R-16)."""
    key, iv, aad, sealed = _sealed(suite)
    with pytest.raises(AUTHENTICATION_FAILURES):
        suite.cipher(key).open(aad[-1:] + iv, sealed, aad[:-1])
    with pytest.raises(AUTHENTICATION_FAILURES):
        suite.cipher(key).open(iv[1:], sealed, aad + iv[:1])


# -- keys --------------------------------------------------------------------------------------------------------------

_WEAK = [
    "0101010101010101",
    "fefefefefefefefe",
    "e0e0e0e0f1f1f1f1",
    "1f1f1f1f0e0e0e0e",
    "011f011f010e010e",
    "1f011f010e010e01",
    "01e001e001f101f1",
    "e001e001f101f101",
    "01fe01fe01fe01fe",
    "fe01fe01fe01fe01",
    "1fe01fe00ef10ef1",
    "e01fe01ff10ef10e",
    "1ffe1ffe0efe0efe",
    "fe1ffe1ffe0efe0e",
    "e0fee0fef1fef1fe",
    "fee0fee0fef1fef1",
]
_GOOD = [bytes.fromhex(key) for key in ("0123456789abcdef", "23456789abcdef01", "456789abcdef0123")]


def _refused(keys: list[bytes]) -> None:
    for suite in SUITES:
        with pytest.raises(ConfigurationError, match="two of the three DES keys are the same, or one of them is weak"):
            suite.cipher(Secret(b"".join(keys) + bytes(suite.algorithm.digest_size)))


@pytest.mark.parametrize(("weak", "place"), list(product(_WEAK, range(3))))
def test_weak_keys_are_refused(weak: str, place: int) -> None:
    """None of the three keys may be weak or semi-weak, with whatever parity bits (R-5)."""
    keys = list(_GOOD)
    keys[place] = bytes.fromhex(weak)
    _refused(keys)
    keys[place] = bytes(byte ^ 1 for byte in keys[place])
    _refused(keys)


@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 2), (0, 2)])
def test_equal_keys_are_refused(one: int, other: int) -> None:
    """No two of the three keys may be the same, also if their parity bits differ (R-5)."""
    keys = list(_GOOD)
    keys[one] = keys[other]
    _refused(keys)
    keys[one] = bytes([keys[other][0] ^ 1]) + keys[other][1:]
    _refused(keys)


@_BY_NAME
@pytest.mark.parametrize("size", [0, 8, 16, 24, 43, 45, 55, 57])
def test_keys_of_other_sizes_are_refused(suite: TripleDesCbcHmac, size: int) -> None:
    """One-key and two-key 3DES, and keys without their HMAC's, are refused (R-5)."""
    with pytest.raises(ConfigurationError, match=f"a key of {size} bytes is no {suite.name} key"):
        suite.cipher(Secret(os.urandom(size)))


def test_no_deprecation_warning() -> None:
    """3DES comes from where it lives now: making and using a cipher warns of nothing (R-5)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for suite in SUITES:
            cipher = suite.cipher(random_secret(suite.key_size))
            cipher.open(bytes(8), cipher.seal(bytes(8), b"x", b""), b"")
    assert caught == []
