"""What the command says of a transaction that fails, and what its options do not show."""

from pathlib import Path

import pytest
from sqlalchemy import URL, Connection, Engine
from sqlalchemy.exc import OperationalError
from support.command import KeyFiles

from sa_keyvault import KeyStoreError, administration, store
from sa_keyvault.cli import access as module
from sa_keyvault.cli.access import Access
from sa_keyvault.states import KeyState


@pytest.fixture
def access(application: Engine, sqlite_url: URL, key_files: KeyFiles, tmp_path: Path) -> Access:
    """The options of a command, with an anchor."""
    return Access(
        url=sqlite_url.render_as_string(hide_password=False),
        installation_key=str(key_files.key),
        passphrase_file=key_files.passphrase,
        actor=None,
        reason="",
        anchor=tmp_path / "app.anchor",
        refresh_seconds=30,
        also=(),
    )


def rotate(access: Access, then: str = "SELECT 1") -> None:
    """Retire the keys of emails, and run another statement."""
    with access.opened() as (connection, ring):
        administration.rotate_area(connection, ring, "identities")
        connection.exec_driver_sql(then)


def states(engine: Engine) -> list[KeyState]:
    """Return the states of the keys of emails."""
    with engine.connect() as connection:
        return [record.state for record in store.working_in_area(connection, "identities")]


def test_failure_before_the_commit(access: Access, application: Engine) -> None:
    """Of what fails before it is committed the error says that nothing was changed."""
    with pytest.raises(KeyStoreError, match=r"\(OperationalError: no such table: nowhere\); nothing was changed"):
        rotate(access, "SELECT * FROM nowhere")
    assert states(application) == [KeyState.ACTIVE]


def test_failure_of_the_commit(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a COMMIT that fails, for instance because the connection is lost, the error says that nobody knows (A-86)."""

    def fail(_: Connection) -> None:
        statement = "COMMIT"
        raise OperationalError(statement, {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(Connection, "_commit_impl", fail)
    with pytest.raises(KeyStoreError, match="; whether it was committed is not known, and `sa-keyvault status` shows"):
        rotate(access)


def test_failure_after_the_commit(
    access: Access, application: Engine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only the anchor is left behind, a warning says so, and that the operation is committed."""
    opened, calls = module._engine, []

    def open_once(url: str) -> Engine:
        calls.append(url)
        return opened(url) if len(calls) == 1 else module.new_engine("sqlite:////nowhere/none.db")

    monkeypatch.setattr(module, "_engine", open_once)
    rotate(access)
    expected = "sa-keyvault: warning: the operation is committed; the anchor was not advanced: the database failed ("
    assert capsys.readouterr().err.startswith(expected)
    assert states(application) == [KeyState.RETIRED]


def test_password_is_not_shown(access: Access) -> None:
    """The options do not show the URL of the database, which may hold a password (R-38)."""
    assert "url" not in repr(access)
