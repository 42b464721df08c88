"""Where keys come from, against published vectors."""

import hashlib
import hmac
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.vectors import Vector, case_id, wycheproof

from sa_keyvault.secret import Secret
from sa_keyvault.suites import derive, random_secret

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


_ALL_HKDF = list(wycheproof("Protocol", "hkdf_sha256"))
_HKDF = [(group, test) for group, test in _ALL_HKDF if not test["info"]]
_HKDF_WITH_INFO = [(group, test) for group, test in _ALL_HKDF if test["info"] and test["result"] == "valid"]


@pytest.mark.parametrize(("_", "vector"), _HKDF, ids=case_id)
def test_derive_as_published(_: Vector, vector: Vector) -> None:
    """Without a purpose, derivation is HKDF-SHA-256 of the Wycheproof vectors; what is too long is refused (R-14)."""
    material, salt, expected = (bytes.fromhex(vector[name]) for name in ("ikm", "salt", "okm"))
    if vector["result"] == "invalid":
        with pytest.raises(ValueError, match="derive"):
            derive(Secret(material), salt=Secret(salt), purpose=(), size=vector["size"])
    else:
        derived = derive(Secret(material), salt=Secret(salt), purpose=(), size=vector["size"])
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


@pytest.mark.parametrize(("_", "vector"), _HKDF_WITH_INFO, ids=case_id)
def test_hkdf_of_the_test_with_info(_: Vector, vector: Vector) -> None:
    """The test's own HKDF gives the Wycheproof vectors with an `info`; `derive` can be given none of these (R-14)."""
    material, salt, info, expected = (bytes.fromhex(vector[name]) for name in ("ikm", "salt", "info", "okm"))
    assert expected == _hkdf(material, salt, info, vector["size"])
    # its `info` is fields behind their lengths: this one's first length is of more than there is
    assert int.from_bytes(info[:4], "big") > len(info) - 4


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
