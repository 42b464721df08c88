"""The choice of algorithms: what is offered, what is named, and what is refused."""

from dataclasses import dataclass, replace
from itertools import product

import pytest

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.secret import Secret
from sa_keyvault.suites import AES_256_GCM, TRIPLE_DES_SHA1, TRIPLE_DES_SHA256, Cipher, Provisioning

_ALL = list(product(("aes", "3des"), ("aes", "3des"), ("sha256", "sha1")))


def test_default() -> None:
    """The default is AES-256-GCM for master and working keys, with SHA-256 (R-1)."""
    default = Provisioning.default()
    assert (Provisioning("aes", "aes", "sha256"), AES_256_GCM, AES_256_GCM) == (
        default,
        default.master_suite,
        default.working_suite,
    )


def test_original() -> None:
    """The original is AES-256 for master keys, 3DES for working keys, with SHA-1."""
    original = Provisioning.original()
    assert (
        original.master_suite,
        original.working_suite,
        original.hash,
    ) == (AES_256_GCM, TRIPLE_DES_SHA1, "sha1")


@pytest.mark.parametrize("choice", _ALL)
def test_every_choice(choice: tuple[str, str, str]) -> None:
    """Each of the eight choices names its suites: the hash is that of the HMAC of 3DES."""
    suites = {"aes": AES_256_GCM, "3des": TRIPLE_DES_SHA1 if choice[2] == "sha1" else TRIPLE_DES_SHA256}
    chosen = Provisioning(*choice)
    assert (suites[choice[0]], suites[choice[1]]) == (chosen.master_suite, chosen.working_suite)


@pytest.mark.parametrize("choice", _ALL)
def test_weaknesses(choice: tuple[str, str, str]) -> None:
    """3DES anywhere and SHA-1 are outdated, each with the date of its sunset; AES with SHA-256 is not (R-3, R-12)."""
    found = " ".join(Provisioning(*choice).weaknesses())
    expected = ("3des" in choice[:2], "sha1" in choice)
    assert expected == ("112 bits" in found and "after 2023" in found, "since 2014" in found and "2030" in found)


@pytest.mark.parametrize("name", ["master", "working", "hash"])
@pytest.mark.parametrize("choice", ["", "des", "sha512", "md5", "AES", None])
def test_refuses(name: str, choice: str) -> None:
    """A choice that is not offered is refused when it is made, naming it and the remedy (R-4)."""
    with pytest.raises(ConfigurationError, match=rf"^provisioning {name}={choice!r} is not offered; choose '"):
        Provisioning(**{name: choice})


# -- suites by name ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", [AES_256_GCM, TRIPLE_DES_SHA256, TRIPLE_DES_SHA1], ids=lambda suite: suite.name)
def test_suite_by_name(suite: object) -> None:
    """A record's suite is found by its name, whatever is provisioned: keys of all suites live side by side."""
    name = suite.name  # type: ignore[attr-defined]
    assert [suite] * len(_ALL) == [Provisioning(*choice).suite_named(name) for choice in _ALL]


@pytest.mark.parametrize("name", ["", "aes", "3des", "aes-128-gcm", "AES-256-GCM", "aes-256-gcm ", "none"])
def test_unknown_suite_is_refused(name: str) -> None:
    """A name that nobody has is refused, and never replaced by a default (R-2, A-15)."""
    expected = r"this installation has 3des-cbc-hmac-sha1, 3des-cbc-hmac-sha256, aes-256-gcm$"
    with pytest.raises(ConfigurationError, match=expected):
        Provisioning.default().suite_named(name)


# -- own suites --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnSuite:
    """A suite of one's own; the cipher is the library's, because only its sizes matter here."""

    name: str = "own"
    key_size: int = 32
    nonce_size: int = 12
    usage_limit: int = 100
    is_fips_approved: bool = False
    overhead: int = 28
    cost: int = 1

    def usage(self, plaintext_size: int) -> int:
        return self.cost

    def body_size(self, plaintext_size: int) -> int:
        return plaintext_size + self.overhead

    def cipher(self, key: Secret) -> Cipher:
        return AES_256_GCM.cipher(key)


def test_own_suite_is_chosen_by_its_name() -> None:
    """An own suite is chosen by its name, for master and for working keys, and named beside the built-in ones."""
    own = OwnSuite()
    chosen = Provisioning(master="own", working="own", suites=(own,))
    assert (own, own, own, AES_256_GCM) == (
        chosen.master_suite,
        chosen.working_suite,
        chosen.suite_named("own"),
        chosen.suite_named("aes-256-gcm"),
    )


def test_own_suite_is_known_without_being_chosen() -> None:
    """An own suite that is not chosen any more is still known, so that its values open."""
    own = OwnSuite()
    assert Provisioning(suites=(own,)).suite_named("own") is own


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "aes"}, "has a name that is taken"),
        ({"name": "aes-256-gcm"}, "has a name that is taken"),
        ({"name": ""}, "has a name that is not 1 to 32 ASCII characters long"),
        ({"name": "x" * 33}, "has a name that is not 1 to 32 ASCII characters long"),
        ({"name": "schlüssel"}, "has a name that is not 1 to 32 ASCII characters long"),
        ({"key_size": 0}, "has keys of 0 bytes"),
        ({"key_size": 129}, "has keys of 129 bytes"),
        ({"overhead": 65}, "adds more than 64 bytes to a value"),
        ({"usage_limit": 1}, "has a limit of 1, half of which does not cover one message"),
        ({"overhead": 27}, "makes bodies of 28 bytes, and not the 27 that it says"),
        ({"cost": 0}, "has a limit of 100, half of which does not cover one message"),
    ],
)
def test_own_suite_that_cannot_be_used(change: dict[str, object], problem: str) -> None:
    """An own suite that the tables or the counting cannot carry is refused at once, with the reason."""
    own = replace(OwnSuite(), **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=problem):
        Provisioning(suites=(own,))


def test_two_own_suites_of_one_name() -> None:
    """Two suites of one name are refused: a key's record could mean either."""
    with pytest.raises(ConfigurationError, match="has a name that is taken"):
        Provisioning(suites=(OwnSuite(), OwnSuite(key_size=16)))
