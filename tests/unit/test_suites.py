"""The algorithms, against published vectors; their sizes; and what is not offered."""

import hashlib
import hmac
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_keyvault import suites
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.secret import Secret
from sa_keyvault.suites import AES_256_GCM, AUTHENTICATION_FAILURES, Provisioning, derive, random_secret, suite_named

# C2SP/wycheproof, testvectors_v1/aes_gcm_test.json, group of ivSize 96, keySize 256, tagSize 128:
# number of the case, key, nonce, AAD, plaintext, ciphertext, tag
_GCM = [
    (
        91,
        "92ace3e348cd821092cd921aa3546374299ab46209691bc28b8752d17f123c20",
        "00112233445566778899aabb",
        "00000000ffffffff",
        "00010203040506070809",
        "e27abdd2d2a53d2f136b",
        "9a4a2579529301bcfb71c78d4060f52c",
    ),
    (
        92,
        "29d3a44f8723dc640239100c365423a312934ac80239212ac3df3421a2098123",
        "00112233445566778899aabb",
        "aabbccddeeff",
        "",
        "",
        "2a7d77fa526b8250cb296078926b5020",
    ),
    (
        93,
        "80ba3192c803ce965ea371d5ff073cf0f43b6a2ab576b208426e11409c09b9b0",
        "4da5bf8dfd5852c1ea12379d",
        "",
        "",
        "",
        "4771a7c404a472966cea8f73c8bfe17a",
    ),
    (
        94,
        "cc56b680552eb75008f5484b4cb803fa5063ebd6eab91f6ab6aef4916a766273",
        "99e23ec48985bccdeeab60f1",
        "",
        "2a",
        "06",
        "633c1e9703ef744ffffb40edf9d14355",
    ),
    (
        98,
        "3b2458d8176e1621c0cc24c0c0e24c1e80d72f7ee9149a4b166176629616d011",
        "45aaa3e5d16d2d42dc03445d",
        "",
        "3ff1514b1c503915918f0c0c31094a6e1f",
        "73a6b6f45f6ccc5131e07f2caa1f2e2f56",
        "2d7379ec1db5952d4e95d30c340b1b1d",
    ),
    (
        103,
        "ff0089ee870a4a39f645b0a5da774f7a5911e9696fc9cad646452c2aa8595a12",
        "bc2a7757d0ce2d8b1f14ccd9",
        "972ab4e06390caae8f99dd6e2187be6c7ff2c08a24be16ef",
        "748b28031621d95ee61812b4b4f47d04c6fc2ff3",
        "a929ee7e67c7a2f91bbcec6389a3caf43ab49305",
        "ebec6774b955e789591c822dab739e12",
    ),
    (
        105,
        "5b1d1035c0b17ee0b0444767f80a25b8c1b741f4b50a4d3052226baa1c6fb701",
        "d61040a313ed492823cc065b",
        "",
        (
            "d096803181beef9e008ff85d5ddc38ddacf0f09ee5f7e07f1e4079cb64d0dc8f"
            "5e6711cd4921a7887de76e2678fdc67618f1185586bfea9d4c685d50e4bb9a82"
        ),
        (
            "c7d191b601f86c28b6a1bdef6a57b4f6ee3ae417bc125c381cdf1c4dac184ed1"
            "d84f1196206d62cad112b038845720e02c061179a8836f02b93fa7008379a6bf"
        ),
        "f15612f6c40f2e0db6dc76fc4822fcfe",
    ),
]

# C2SP/wycheproof, testvectors_v1/hkdf_sha256_test.json, cases without info (case 2 is RFC 5869 appendix A.3):
# number of the case, input key material, salt, output key material
_HKDF = [
    (
        2,
        "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
    (
        10,
        "c27718560fae2515acb17a874991d357",
        "4487f538b65c9058625057b4bbdd93e7",
        "19eb8ba1cc7e10498d8c3b3256f66d6ee6b2296f",
    ),
    (
        12,
        "529e91a61895f1c4ceb5b6994f48783b",
        "12e4ae515328983bab2d88da3cb32a95",
        (
            "76ced999f5f885f9df7d78a9cb0cefd09904bc90dfedd018441f30800a848140"
            "f6a4fa057170df6cf33e93aaaa10ccdb09bd114e6f4058ca45b3cb1e453804ad"
        ),
    ),
    (
        18,
        "63984079a2540d0bba5d2700642104c6",
        "70b2a476c9a80e52352b503901a7afea41c186bdc872d5053448769299e8",
        (
            "c2286fac021dfcc312b73a10c6d48207698a52d48d7be3acca409c258f06b26b"
            "1f183ab630f596df1af56e05638a8a98ec425ca6c74945ebc70fb5c7d2b983ab"
        ),
    ),
    (
        22,
        "df27ab960ad87bfe2e173a4659e3546b",
        (
            "1e7ec49981fd4b0b7c20dd4dd5bdfbf2195e707f4d0354611b4893b8a86f61467aca2cf726ccc3ef0b0b4f3240d945ce"
            "506197e2be00322b17b48209c312ef9f"
        ),
        "c298d3a916ac11c05069b613748b6a7fcb8770bba0798e2bbb531359053f84fe191ac98c8af0b72c875e",
    ),
]


def _gcm(vector: tuple[int, str, str, str, str, str, str]) -> tuple[Secret, bytes, bytes, bytes, bytes]:
    key, nonce, aad, plaintext, ciphertext, tag = (bytes.fromhex(text) for text in vector[1:])
    return Secret(key), nonce, aad, plaintext, ciphertext + tag


# -- AES-256-GCM -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", _GCM, ids=lambda vector: str(vector[0]))
def test_gcm_seals_as_published(vector: tuple[int, str, str, str, str, str, str]) -> None:
    """AES-256-GCM gives the ciphertext and tag of the Wycheproof vectors (R-1, R-14)."""
    key, nonce, aad, plaintext, sealed = _gcm(vector)
    assert sealed == AES_256_GCM.cipher(key).seal(nonce, plaintext, aad)


@pytest.mark.parametrize("vector", _GCM, ids=lambda vector: str(vector[0]))
def test_gcm_opens_as_published(vector: tuple[int, str, str, str, str, str, str]) -> None:
    """AES-256-GCM opens the Wycheproof vectors (R-14)."""
    key, nonce, aad, plaintext, sealed = _gcm(vector)
    assert plaintext == AES_256_GCM.cipher(key).open(nonce, sealed, aad)


@pytest.mark.parametrize("bit", range(128))
def test_gcm_refuses_a_changed_tag(bit: int) -> None:
    """Every bit of the 128-bit tag counts: the tag is never compared in part (R-1, R-14)."""
    key, nonce, aad, _, sealed = _gcm(_GCM[0])
    changed = (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big")
    with pytest.raises(AUTHENTICATION_FAILURES):
        AES_256_GCM.cipher(key).open(nonce, changed, aad)


@pytest.mark.parametrize("size", range(16))
def test_gcm_refuses_a_short_body(size: int) -> None:
    """What is shorter than a tag fails like every other forgery (R-1, A-14)."""
    key, nonce, aad, _, sealed = _gcm(_GCM[1])
    with pytest.raises(AUTHENTICATION_FAILURES):
        AES_256_GCM.cipher(key).open(nonce, sealed[:size], aad)


@pytest.mark.parametrize("name", ["key", "nonce", "associated data"])
def test_gcm_refuses_any_other_input(name: str) -> None:
    """Nothing opens under another key, nonce or associated data (R-1)."""
    key, nonce, aad, _, sealed = _gcm(_GCM[0])
    opener = AES_256_GCM.cipher(random_secret(32) if name == "key" else key).open
    with pytest.raises(AUTHENTICATION_FAILURES):
        opener(os.urandom(12) if name == "nonce" else nonce, sealed, b"" if name == "associated data" else aad)


def test_gcm_sizes() -> None:
    """The suite has 256-bit keys, 96-bit nonces, and 2^32 messages per key (R-1, R-6)."""
    expected = ("aes-256-gcm", 32, 12, 2**32)
    assert expected == (AES_256_GCM.name, AES_256_GCM.key_size, AES_256_GCM.nonce_size, AES_256_GCM.usage_limit)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4096])
def test_gcm_body_size(size: int) -> None:
    """A body is nonce, ciphertext and 16 bytes of tag, within what every suite may add (R-1)."""
    nonce = os.urandom(AES_256_GCM.nonce_size)
    body = nonce + AES_256_GCM.cipher(random_secret(32)).seal(nonce, bytes(size), b"")
    assert (len(body), True) == (AES_256_GCM.body_size(size), len(body) - size <= suites.MAX_BODY_OVERHEAD)


@pytest.mark.parametrize("size", [0, 15, 16, 24, 31, 33, 64])
def test_gcm_refuses_keys_of_other_sizes(size: int) -> None:
    """A suite called AES-256 takes 32 bytes, and neither an AES-128 nor an AES-192 key (R-1, R-12)."""
    with pytest.raises(ConfigurationError, match=f"a key of {size} bytes"):
        AES_256_GCM.cipher(Secret(bytes(size)))


# -- suites by name ----------------------------------------------------------------------------------------------------


def test_suite_by_name() -> None:
    """A record's suite is found by its name."""
    assert suite_named("aes-256-gcm") is AES_256_GCM


@pytest.mark.parametrize("name", ["", "aes-128-gcm", "AES-256-GCM", "aes-256-gcm ", "none"])
def test_unknown_suite_is_refused(name: str) -> None:
    """A name that this version does not have is refused, and never replaced by a default (R-2, A-15)."""
    with pytest.raises(ConfigurationError, match=r"this version has aes-256-gcm$"):
        suite_named(name)


# -- random secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 16, 32])
def test_random_secret_has_its_size(size: int) -> None:
    """A random secret has the size that was asked for."""
    assert size == len(random_secret(size).expose())


def test_random_secrets_differ() -> None:
    """No two random secrets are the same (R-13)."""
    assert len({random_secret(16).expose() for _ in range(1_000)}) == 1_000


def test_random_secret_fails_with_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the operating system's generator there is no secret: nothing takes its place (R-13, A-50)."""

    def fail(size: int) -> bytes:
        raise OSError(size)

    monkeypatch.setattr(os, "urandom", fail)
    with pytest.raises(OSError, match="32"):
        random_secret(32)


# -- HKDF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", _HKDF, ids=lambda vector: str(vector[0]))
def test_derive_as_published(vector: tuple[int, str, str, str]) -> None:
    """Without a purpose, derivation is HKDF-SHA-256 of the published vectors (R-14)."""
    material, salt, expected = (bytes.fromhex(text) for text in vector[1:])
    derived = derive(Secret(material), salt=Secret(salt), purpose=(), size=len(expected))
    assert expected == derived.expose()


def _hkdf(material: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    """Compute HKDF-SHA-256 as RFC 5869 sections 2.2 and 2.3 define it."""
    key = hmac.digest(salt or bytes(32), material, hashlib.sha256)
    block = output = b""
    counter = 1
    while len(output) < size:
        block = hmac.digest(key, block + info + bytes([counter]), hashlib.sha256)
        output += block
        counter += 1
    return output[:size]


def test_hkdf_of_the_test_is_right() -> None:
    """The test's own HKDF gives RFC 5869 appendix A.1, so that the comparison below means something."""
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    info, salt = bytes(range(0xF0, 0xFA)), bytes(range(13))
    assert expected == _hkdf(b"\x0b" * 22, salt, info, 42).hex()


@settings(deadline=None)
@given(
    material=st.binary(min_size=1, max_size=64),
    salt=st.binary(max_size=64),
    purpose=st.lists(st.binary(max_size=12), max_size=4).map(tuple),
    size=st.integers(1, 100),
)
def test_derive_length_prefixes_its_purpose(
    material: bytes, salt: bytes, purpose: tuple[bytes, ...], size: int
) -> None:
    """The `info` of a derivation is its purpose, each field behind 4 bytes of length."""
    info = b"".join(len(field).to_bytes(4, "big") + field for field in purpose)
    derived = derive(Secret(material), salt=Secret(salt), purpose=purpose, size=size)
    assert _hkdf(material, salt, info, size) == derived.expose()


def test_derive_tells_purposes_apart() -> None:
    """Purposes whose joined fields are the same give different keys (R-16)."""
    purposes = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc")]
    secret, salt = random_secret(32), random_secret(32)
    keys = {derive(secret, salt=salt, purpose=purpose, size=32).expose() for purpose in purposes}
    assert len(purposes) == len(keys)


def test_derive_is_keyed_by_its_salt() -> None:
    """The same secret under another salt gives another key."""
    secret = random_secret(32)
    keys = {derive(secret, salt=random_secret(32), purpose=(b"x",), size=32).expose() for _ in range(10)}
    assert len(keys) == 10


# -- provisioning ------------------------------------------------------------------------------------------------------


def test_default_provisioning() -> None:
    """The default is AES-256-GCM for master and working keys, with SHA-256 (R-1)."""
    expected = (Provisioning("aes", "aes", "sha256"), AES_256_GCM)
    assert expected == (Provisioning.default(), Provisioning.default().working_suite)


@pytest.mark.parametrize("name", ["master", "working", "hash"])
@pytest.mark.parametrize("choice", ["", "3des", "sha1", "AES", None])
def test_provisioning_refuses(name: str, choice: str) -> None:
    """A choice that is not offered is refused when it is made, naming it and the remedy (R-3, R-4)."""
    with pytest.raises(ConfigurationError, match=rf"^provisioning {name}={choice!r} is not offered; choose '"):
        Provisioning(**{name: choice})
