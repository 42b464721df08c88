"""Transcripts of the options that every command has: the anchor, the refresh of the servers, the reason."""

from pathlib import Path

import pytest
from sqlalchemy import URL, Engine
from support.command import Runner

from sa_keyvault import store
from sa_keyvault.keyring.anchor import _read

pytestmark = pytest.mark.alone


def version(anchor: Path) -> int:
    """Return the version that an anchor has seen."""
    known = _read(anchor)
    assert known is not None
    return known.version


def number(engine: Engine) -> str:
    """Return the number of the working key of the application's value."""
    with engine.connect() as connection:
        return str(store.working_in_area(connection, "identities")[0].number)


def test_anchor(application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path) -> None:
    """Commands that open the store compare and write the anchor, and advance it after what they have changed (R-28)."""
    anchor, copy = tmp_path / "app.anchor", tmp_path / "copy.db"
    assert run("status", "--anchor", str(anchor), url=sqlite_url).code == 0
    assert version(anchor) == 1
    with application.connect() as connection:
        connection.exec_driver_sql(f"VACUUM INTO '{copy}'")
    environment = {"SA_KEYVAULT_ANCHOR": str(anchor)}
    assert run("working", "rotate", "identities", url=sqlite_url, **environment).code == 0
    assert version(anchor) == 2
    assert run("audit", "verify", url=sqlite_url, **environment).code == 0
    older = sqlite_url.set(database=str(copy))
    for command in (("status",), ("master", "rotate"), ("provision",), ("installation", "drill")):
        refused = run(*command, url=older, **environment)
        assert (refused.code, refused.output) == (1, "")
        assert f"has version 1, the anchor {anchor} has seen version 2: an older one was restored" in refused.errors
    audited = run("audit", "verify", url=older, **environment)
    assert (audited.code, f"the key store has version 1, the anchor {anchor}" in audited.errors) == (1, True)
    examined = run("doctor", url=older, **environment)
    assert (examined.code, examined.output[:19]) == (1, "WRONG  key store: t")


def test_anchor_that_cannot_be_written(application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path) -> None:
    """A command whose anchor cannot be written is refused before it changes anything."""
    anchor = str(tmp_path / "nowhere" / "app.anchor")
    refused = run("master", "rotate", "--anchor", anchor, url=sqlite_url)
    assert (refused.code, "cannot be written (No such file or directory)" in refused.errors) == (1, True)
    with application.connect() as connection:
        record = store.store_record(connection)
    assert (record.version if record else None) == 1


def test_refresh_seconds(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """The removal delay is at least twice the refresh of the servers, which an option says (30 s by default)."""
    key = number(application)
    run("working", "rotate", "identities", url=sqlite_url)
    command = ("working", "remove", key, "--removal-hours", "0", "--yes")
    for option, delay in (((), "0:01:00"), (("--refresh-seconds", "90"), "0:03:00")):
        refused = run(*command, *option, url=sqlite_url)
        assert (refused.code, f"less than the removal delay of {delay}" in refused.errors) == (1, True)
    refused = run(*command, url=sqlite_url, SA_KEYVAULT_REFRESH_SECONDS="0")
    assert "1 values depend on working key" in refused.errors
    assert run("status", "--refresh-seconds", "-1", url=sqlite_url).code == 2


@pytest.mark.parametrize("command", [("working", "rotate", "identities"), ("master", "replace")])
def test_reason_that_is_too_long(application: Engine, sqlite_url: URL, run: Runner, command: tuple[str, ...]) -> None:
    """A reason of more than 1024 characters is refused before anything is asked or done; one of 1024 is kept."""
    refused = run(*command, "--reason", "é" * 1025, url=sqlite_url)
    error = "sa-keyvault: error: the reason has 1025 characters, and an audit event has room for 1024\n"
    assert (1, "", f"{error}sa-keyvault: hint: shorten it\n") == (refused.code, refused.output, refused.errors)
    assert run(*command, "--reason", "é" * 1024, *(["--yes"] * (command[0] == "master")), url=sqlite_url).code == 0
    assert run("audit", "list", url=sqlite_url).output.count("é" * 1024) > 0
