"""Transcripts of the command with an installation key in a token, which a PKCS#11 URI names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import URL, Engine
from support.command import KeyFiles, Runner
from support.tokens import PIN, Tokens, softhsm_module


@dataclass(frozen=True)
class TokenKey:
    """A key in a token.

    Attributes:
        uri: What names it, without its PIN.
        pin_file: Where the PIN is.
        fingerprint: Its fingerprint.
        environment: What a process needs to see the token.
    """

    uri: str
    pin_file: Path
    fingerprint: str
    environment: Mapping[str, str]

    @property
    def options(self) -> dict[str, str]:
        """The environment of a command that uses it, with the PIN in the file that the URI names."""
        uri = f"{self.uri}&pin-source={quote(str(self.pin_file))}"
        return {**self.environment, "SA_KEYVAULT_INSTALLATION_KEY": uri, "SA_KEYVAULT_PASSPHRASE_FILE": ""}


@pytest.fixture
def token_key(tmp_path: Path) -> TokenKey:
    """A key that was made in a token of its own; label and id need quoting in a URI."""
    return make_token(tmp_path / "first")


def make_token(folder: Path) -> TokenKey:
    """Make a token that is seen from one machine only, and a key in it."""
    folder.mkdir()
    tokens = Tokens(softhsm_module(), folder)
    tokens.configure()
    tokens.make("first server")
    source = """
key = Pkcs11InstallationKey.generate(
    module=MODULE, token="first server", label="key; of 100%", key_id=b"\\x01?", pin=PIN
)
print(key.fingerprint)
"""
    made = tokens.run(source)
    pin_file = folder / "token.pin"
    pin_file.touch(mode=0o600)
    pin_file.write_bytes(PIN + b"\n")
    uri = f"pkcs11:token=first%20server;object=key%3B%20of%20100%25;id=%01%3F;type=private?module-path={tokens.module}"
    return TokenKey(uri, pin_file, made.strip(), tokens.environment)


def test_store_of_a_token(
    application: Engine, sqlite_url: URL, run: Runner, token_key: TokenKey, key_files: KeyFiles
) -> None:
    """A key in a token joins by its URI, opens the store, signs beside the former key, and is left alone (R-43)."""
    own, files = token_key.options, (str(key_files.key), str(key_files.passphrase))
    added = run("installation", "add", token_key.uri, str(token_key.pin_file), url=sqlite_url, **token_key.environment)
    assert (0, f"installation key {token_key.fingerprint} opens the key store, beside") == (
        added.code,
        added.output.rpartition(" ")[0],
    ), added.errors
    former = added.output.split()[-1]
    shown = run("status", url=sqlite_url, **own)
    assert (shown.code, shown.errors) == (0, "")
    assert f"installation key {token_key.fingerprint}" in shown.output.splitlines()
    also = ("--also", *files)
    assert run("working", "rotate", "identities", *also, url=sqlite_url, **own).code == 0
    uri = own["SA_KEYVAULT_INSTALLATION_KEY"]
    also = ("--also", uri, str(token_key.pin_file))
    assert run("working", "rotate", "identities", *also, url=sqlite_url, **token_key.environment).code == 0
    left = run("installation", "confirm", former, "--yes", url=sqlite_url, **own)
    assert (0, f"installation key {former} has left the key store\n", "") == (left.code, left.output, left.errors)
    assert run("doctor", "--metadata", "support.models:Base", url=sqlite_url, **own).code == 0
    refused = run("installation", "export", "copy.pem", "copy.passphrase", url=sqlite_url, **own)
    assert (refused.code, "a key in a token cannot be exported" in refused.errors) == (1, True)


def test_pin_is_in_the_passphrase_file(run: Runner, token_key: TokenKey) -> None:
    """Where the URI names no file with the PIN, it is in the file of the passphrase."""
    environment = {
        **token_key.environment,
        "SA_KEYVAULT_INSTALLATION_KEY": token_key.uri,
        "SA_KEYVAULT_PASSPHRASE_FILE": str(token_key.pin_file),
    }
    done = run("installation", "request", "claims", url=URL.create("sqlite"), **environment)
    assert (done.code, done.output.splitlines()[0]) == (0, "-----BEGIN CERTIFICATE REQUEST-----")
    assert done.errors == f"installation key {token_key.fingerprint}\n"


def test_pin_is_asked_for(run: Runner, token_key: TokenKey) -> None:
    """Without either the PIN is asked for, by the token's URI; without an answer nothing is done."""
    environment = {**token_key.options, "SA_KEYVAULT_INSTALLATION_KEY": token_key.uri}
    done = run("installation", "request", "claims", url=URL.create("sqlite"), **environment)
    assert (done.code, done.output, f"PIN of {token_key.uri}: " in done.errors) == (1, "", True), done.errors
    assert "Aborted!" in done.errors


def test_pin_in_the_uri(run: Runner, token_key: TokenKey) -> None:
    """A PIN in the URI is refused with the reason, and not printed."""
    uri = f"{token_key.uri}&pin-value={PIN.decode()}"
    environment = {**token_key.options, "SA_KEYVAULT_INSTALLATION_KEY": uri}
    done = run("installation", "request", "claims", url=URL.create("sqlite"), **environment)
    assert (done.code, done.output, PIN.decode() in done.errors) == (1, "", False)
    assert "sa-keyvault: error: the PKCS#11 URI holds a PIN (pin-value), which every user" in done.errors
    assert "sa-keyvault: hint: write the PIN to a file of your own, and name that with pin-source" in done.errors


def test_no_file_is_made_in_a_token(run: Runner, token_key: TokenKey, tmp_path: Path) -> None:
    """What writes a key into a file is refused where the options name a token."""
    files = str(tmp_path / "copy.pem"), str(tmp_path / "copy.passphrase")
    environment = {**token_key.options, "SA_KEYVAULT_PASSPHRASE_FILE": str(tmp_path / "new.passphrase")}
    for command in (("init", "--no-backup"), ("installation", "import", *files)):
        done = run(*command, url=URL.create("sqlite"), **environment)
        assert (done.code, "a key is written to a file, and not into a token" in done.errors) == (2, True)
    assert not (tmp_path / "new.passphrase").exists()


def test_two_tokens_on_two_machines(
    application: Engine, sqlite_url: URL, run: Runner, token_key: TokenKey, tmp_path: Path
) -> None:
    """A server whose key is in a token is joined by one with another token; no process sees both of them (R-43)."""
    first, second = token_key.options, make_token(tmp_path / "second")
    added = run("installation", "add", token_key.uri, str(token_key.pin_file), url=sqlite_url, **token_key.environment)
    former = added.output.split()[-1]
    assert run("installation", "confirm", former, "--yes", url=sqlite_url, **first).code == 0
    requested = run("installation", "request", "second server", url=sqlite_url, **second.options)
    assert (requested.code, requested.errors) == (0, f"installation key {second.fingerprint}\n")
    (tmp_path / "request.pem").write_text(requested.output)
    command = ("installation", "invite", str(tmp_path / "request.pem"), "--wrapping", "rsa-oaep-sha1")
    asked = run(*command, url=sqlite_url, **first)
    question = f"does the other server say that it has installation key {second.fingerprint}? [y/N]: "
    assert (asked.code, question in asked.output + asked.errors) == (1, True)
    invited = run(*command, "--yes", "--reason", "second", url=sqlite_url, **first)
    expected = f"installation key {second.fingerprint} is invited by {token_key.fingerprint}\n"
    assert (invited.code, invited.output, invited.errors) == (0, expected, "")
    early = run("installation", "drill", url=sqlite_url, **second.options)
    assert (early.code, "has not joined it yet; run" in early.errors.replace("\n", " ")) == (1, False)
    assert "hint: run `sa-keyvault installation join` with the fingerprint" in early.errors
    wrong = run("installation", "join", former, url=sqlite_url, **second.options)
    assert (wrong.code, f"not as installation key {former} has signed it" in wrong.errors) == (1, True)
    joined = run("installation", "join", token_key.fingerprint, url=sqlite_url, **second.options)
    expected = f"installation key {second.fingerprint} opens the key store, beside {token_key.fingerprint}\n"
    assert (joined.code, joined.output, joined.errors) == (0, expected, "")
    for options in (first, second.options):
        assert run("doctor", "--metadata", "support.models:Base", url=sqlite_url, **options).code == 0
        assert run("audit", "verify", url=sqlite_url, **options).code == 0
