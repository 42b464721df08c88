"""How the suites compare tags, by their source: OpenSSL does, in constant time, and nothing else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hmac import HMAC

import sa_keyvault.suites
from sa_keyvault.suites import AES_256_GCM, TRIPLE_DES_SHA1, TRIPLE_DES_SHA256, random_secret
from sa_keyvault.suites.triple_des import _CbcHmacCipher

_FOLDER = Path(sa_keyvault.suites.__file__).parent


def _ciphers() -> Iterator[tuple[str, ast.ClassDef]]:
    """Yield each class of the suites that has an `open`, with its module."""
    for path in sorted(_FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and "open" in {
                getattr(inner, "attr", getattr(inner, "name", None)) for inner in ast.walk(node)
            }:
                yield path.stem, node


_CIPHERS = list(_ciphers())


def _calls(*nodes: ast.AST) -> list[str]:
    """Return the names of all that is called in pieces of source."""
    called = [inner.func for node in nodes for inner in ast.walk(node) if isinstance(inner, ast.Call)]
    return [function.attr if isinstance(function, ast.Attribute) else ast.unparse(function) for function in called]


def test_every_cipher_is_found() -> None:
    """The ciphers of both kinds are looked at, so that the tests below mean something."""
    expected = [("aes_gcm", "_GcmCipher"), ("protocol", "Cipher"), ("triple_des", "_CbcHmacCipher")]
    assert expected == [(module, node.name) for module, node in _CIPHERS]


@pytest.mark.parametrize("cipher", [node for _, node in _CIPHERS], ids=lambda node: node.name)
def test_no_cipher_compares(cipher: ast.ClassDef) -> None:
    """No cipher compares anything by itself, which would take as long as two tags agree (R-7, A-78)."""
    found = [ast.unparse(node) for node in ast.walk(cipher) if isinstance(node, (ast.Compare, ast.Match))]
    assert found == []


def test_tag_is_verified_before_anything_is_decrypted() -> None:
    """3DES opens by a `verify` that no branch leads around, before which it calls nothing else (R-7, A-79)."""
    (cipher,) = (node for module, node in _CIPHERS if module == "triple_des")
    (opening,) = (node for node in cipher.body if isinstance(node, ast.FunctionDef) and node.name == "_open")
    # a statement of the function itself, so that every call comes to it
    place = [isinstance(one, ast.Expr) and "verify" in _calls(one) for one in opening.body].index(True)
    before, verifying, after = opening.body[:place], opening.body[place], opening.body[place + 1 :]
    assert (_calls(*before), _calls(verifying), "decryptor" in _calls(*after)) == (
        [],
        ["verify", "_authenticated"],
        True,
    )


def test_what_verifies_is_openssl() -> None:
    """The object whose `verify` is called is an HMAC of OpenSSL; AES-GCM is opened by OpenSSL's own function (A-78)."""
    for suite in (TRIPLE_DES_SHA256, TRIPLE_DES_SHA1):
        cipher = suite.cipher(random_secret(suite.key_size))
        assert isinstance(cipher, _CbcHmacCipher)
        assert type(cipher._authenticated(bytes(8), bytes(8), b"")) is HMAC
    opening = AES_256_GCM.cipher(random_secret(32)).open
    assert (opening.__name__, type(opening.__self__)) == ("decrypt", AESGCM)  # type: ignore[attr-defined]
