"""What a text says about the installation key: which file, or which key in which token (RFC 7512)."""

from pathlib import Path

import pytest
from support.leaks import leaks_in_error, marked

from sa_keyvault import ConfigurationError, InstallationKeyError
from sa_keyvault.installation import installation_key_at, is_token
from sa_keyvault.installation.locations import _parsed, _TokenUri

_MODULE = "module-path=/usr/lib/softhsm/libsofthsm2.so"


def test_whole_uri() -> None:
    """Every attribute is taken out of its quoting: token, label, id, library, and the file of the PIN."""
    uri = f"pkcs11:token=a%20b;object=k%C3%A9y%3B;id=%01%FF;type=private?{_MODULE}&pin-source=file:/etc/a%2520b"
    expected = _TokenUri("/usr/lib/softhsm/libsofthsm2.so", "a b", "kéy;", b"\x01\xff", Path("/etc/a b"))
    assert expected == _parsed(uri)


def test_smallest_uri() -> None:
    """Token, library and one name of the key are enough; what the standard lets be passed over is (section 2.4)."""
    uri = f"pkcs11:id=%01;token=main?{_MODULE}&unknown=7"
    assert _TokenUri("/usr/lib/softhsm/libsofthsm2.so", "main", None, b"\x01", None) == _parsed(uri)


@pytest.mark.parametrize("source", ["/etc/pin", "file:/etc/pin", "file:///etc/pin", "file://localhost/etc/pin"])
def test_forms_of_the_pin_source(source: str) -> None:
    """The file of the PIN may be named by its path or by a URI of this machine."""
    found = _parsed(f"pkcs11:token=main?{_MODULE}&pin-source={source}")
    assert Path("/etc/pin") == found.pin_source


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        (f"object=key?{_MODULE}", "has no token; write pkcs11:"),
        (f"token=;object=key?{_MODULE}", "has no token; write pkcs11:"),
        ("token=main;object=key", "has no module-path; write pkcs11:"),
        (f"token=main;object?{_MODULE}", "has a part without '='"),
        (f"token=main;token=other?{_MODULE}", "has an attribute twice"),
        (f"token=main;serial=7?{_MODULE}", "has 'serial', by which no key is looked for; name it by token, object, id"),
        (f"token=main;type=cert?{_MODULE}", "names an object that is no private key"),
        (f"token=%FF;object=key?{_MODULE}", "the token of the PKCS#11 URI is no UTF-8"),
        (f"token=main?{_MODULE}&pin-source=%7Ccat%20pin", "is a command, which is not run"),
        (f"token=main?{_MODULE}&pin-source=file://other/pin", "is on another machine"),
    ],
)
def test_uri_that_is_none(rest: str, message: str) -> None:
    """What cannot be meant is refused, with what is wrong and how it is written."""
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        installation_key_at(f"pkcs11:{rest}", b"")


@pytest.mark.parametrize(
    "rest", ["token=main;pin-value={}", "token=main?pin-value={}", "token=main;x?a=1&pin-value={}"]
)
def test_pin_in_the_uri(rest: str) -> None:
    """A PIN in the URI is refused wherever it stands, and neither the error nor its traceback keeps it."""
    with pytest.raises(ConfigurationError) as caught:
        installation_key_at("pkcs11:" + rest.format(marked("1234")), b"")
    assert leaks_in_error(caught.value) == []


def test_key_without_a_name() -> None:
    """A token alone is not enough: it may have several keys."""
    with pytest.raises(ConfigurationError, match="named by its label, its id or both"):
        installation_key_at(f"pkcs11:token=main?{_MODULE}", b"")


def test_file(tmp_path: Path) -> None:
    """All else is a file, as a path or as its text."""
    assert [is_token(one) for one in ("pkcs11:token=a", "PKCS11:token=a", "pkcs11.pem")] == [True, True, False]
    for location in (tmp_path / "none.pem", str(tmp_path / "none.pem")):
        with pytest.raises(InstallationKeyError, match=r"none\.pem cannot be opened"):
            installation_key_at(location, b"")
