"""How every subcommand reaches the key store: the database, the installation key, and who is asking."""

import functools
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from sqlalchemy import Connection, Engine, MetaData, create_engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from sa_keyvault import store
from sa_keyvault.administration import provisioning_of, sealing_provisioning_of
from sa_keyvault.cli.consoles import print_warning, quiet_warnings, shown_warnings
from sa_keyvault.cli.key_files import KEY_AND_PASSPHRASE, passphrase_in
from sa_keyvault.errors import ConfigurationError, KeyStoreError, KeyVaultError
from sa_keyvault.installation import (
    InstallationKey,
    has_own_secret,
    installation_key_at,
    is_token,
    passphrase_from_file,
)
from sa_keyvault.keyring import advance_anchor, load_keys, require_reason
from sa_keyvault.ledger import StoreRecord
from sa_keyvault.plugin import KeyRing
from sa_keyvault.suites import Provisioning

__all__ = ["Access", "access_options", "new_engine", "yes_option"]

_T = TypeVar("_T")

_PYPROJECT = Path("pyproject.toml")


@dataclass(frozen=True)
class Access:
    """How to reach the key store.

    Attributes:
        url: The database.
        installation_key: File of the installation key, or its URI in a token.
        passphrase_file: File of its passphrase or PIN; None to ask for it.
        actor: Who the audit events name; None for user and machine.
        reason: Why, for the audit events.
        anchor: File that remembers the key store's last state; None for none.
        refresh_seconds: After how long the application's servers notice a change.
        also: Other installation keys that the store is signed with, each with the file of its passphrase or PIN.
    """

    url: str = field(repr=False)  # it may hold a password
    installation_key: str
    passphrase_file: Path | None
    actor: str | None
    reason: str
    anchor: Path | None
    refresh_seconds: float
    also: tuple[tuple[str, Path], ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a reason that is too long, or no line of text, before anything is done.

        Raises:
            sa_keyvault.ConfigurationError: It is.
        """
        require_reason(self.reason)

    def read_key(self) -> InstallationKey:
        """Read the installation key, or find it in its token."""
        if self.passphrase_file is not None:
            return installation_key_at(self.installation_key, passphrase_from_file(self.passphrase_file))
        prompt = f"{'PIN' if is_token(self.installation_key) else 'passphrase'} of {self.installation_key}"
        return installation_key_at(
            self.installation_key, lambda: str(click.prompt(prompt, hide_input=True, err=True)).encode()
        )

    @property
    def new_key_file(self) -> Path:
        """Where a key is written to.

        Raises:
            click.UsageError: It is in a token, into which nothing is written.
        """
        if is_token(self.installation_key):
            msg = "a key is written to a file, and not into a token; name a file with --installation-key"
            raise click.UsageError(msg)
        return Path(self.installation_key)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Open a connection in a transaction, which is committed if nothing is raised.

        Raises:
            sa_keyvault.ConfigurationError: The URL is none.
            sa_keyvault.KeyStoreError: The database does not answer, or refuses a statement.
        """
        engine, outcome = _engine(self.url), "nothing was changed"
        try:
            with engine.connect() as connection, connection.begin() as transaction:
                yield connection
                outcome = "whether it was committed is not known, and `sa-keyvault status` shows it"
                transaction.commit()
        except SQLAlchemyError as error:
            msg = f"the database failed ({type(error).__name__}: {getattr(error, 'orig', error)}); {outcome}"
            raise KeyStoreError(msg) from None
        finally:
            engine.dispose()

    @property
    def has_to_ask(self) -> bool:
        """Whether a passphrase, or a PIN that no `pin-source` of the URI has, is asked for."""
        return self.passphrase_file is None and not has_own_secret(self.installation_key)

    def server(self, metadata: MetaData | None = None) -> Engine:
        """Return an engine with an initialized ring, as a server of the application has it; the caller disposes of it.

        Args:
            metadata: What is declared to the key store, and may give new areas their first keys.
        """
        key = self.read_key()
        with self.connection() as connection:
            ring = self.ring(key, sealing_provisioning_of(connection, key))
        engine = new_engine(self.url)
        try:
            ring.initialize(engine, metadata)
        except BaseException:
            engine.dispose()
            raise
        return engine

    @contextmanager
    def opened(self, removal_delay: timedelta = timedelta(hours=24)) -> Iterator[tuple[Connection, KeyRing]]:
        """Open a connection and a ring that is provisioned as the key store is, to change keys: it warns of 3DES."""
        key = self.read_key()
        with self.anchored(key) as connection:
            with shown_warnings():
                ring = self.ring(key, provisioning_of(connection, key), removal_delay)
            yield connection, ring

    @contextmanager
    def reading(self) -> Iterator[tuple[Connection, KeyRing]]:
        """Open the same to see what there is, which tells by itself what is outdated."""
        key = self.read_key()
        with self.anchored(key) as connection:
            yield connection, self.own_ring(connection, key)

    @contextmanager
    def anchored(self, key: InstallationKey) -> Iterator[Connection]:
        """Open a connection; the anchor is compared and written before, and advanced after what is committed.

        Raises:
            sa_keyvault.KeyStoreError: The key store is older than the anchor.
            sa_keyvault.ConfigurationError: The anchor cannot be read or written.
        """
        with self.connection() as connection:
            before = None if self.anchor is None else self._verified(connection, key)
            if self.anchor is not None and before is not None:
                advance_anchor(self.anchor, before)
            yield connection
        self.advance_anchor(key, before)

    def advance_anchor(self, key: InstallationKey, before: StoreRecord | None = None) -> None:
        """Write to the anchor what is committed now; where that fails, the operation is done all the same.

        Args:
            key: Installation key that opens the key store.
            before: What the anchor has seen.
        """
        if self.anchor is None:
            return
        try:
            with self.connection() as connection:
                if store.store_record(connection) == before:
                    return
                record = self._verified(connection, key)
            advance_anchor(self.anchor, record)
        except KeyVaultError as error:
            # what follows a semicolon is the way out of an operation that has failed
            problem = str(error).partition("; ")[0]
            print_warning(f"the operation is committed; the anchor was not advanced: {problem}")

    def _verified(self, connection: Connection, key: InstallationKey) -> StoreRecord:
        own = replace(self, also=())
        return load_keys(connection, own.own_ring(connection, key).identity).record

    def own_ring(self, connection: Connection, key: InstallationKey) -> KeyRing:
        """Return a ring that is provisioned as the key store is, without a warning: nothing is made by it."""
        with quiet_warnings():
            return self.ring(key, provisioning_of(connection, key))

    def ring(
        self, key: InstallationKey, provisioning: Provisioning, removal_delay: timedelta = timedelta(hours=24)
    ) -> KeyRing:
        """Return a ring as the options say."""
        also = [installation_key_at(place, passphrase_in(secret, "--also")) for place, secret in self.also]
        return KeyRing(
            key,
            provisioning,
            refresh_seconds=self.refresh_seconds,
            removal_delay=removal_delay,
            actor=self.actor,
            anchor=self.anchor,
            also=also,
        )


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to reach the key store; the command gets them as one `Access`."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> Any:
        own = {one.name: given.pop(one.name) for one in fields(Access)}
        own |= {name: _given(own[name], name) for name in ("url", "installation_key")}
        return command(Access(**own), **given)

    decorated: Callable[..., Any] = wrapped
    for option in reversed(_options()):
        decorated = option(decorated)
    return decorated


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that answers yes to what is asked before something final."""
    return click.option("--yes", is_flag=True, help="Do not ask before anything final.")(command)


def _options() -> list[Callable[[Callable[..., Any]], Callable[..., Any]]]:
    return [
        click.option(
            "--url",
            default=_configured("url"),
            envvar="SA_KEYVAULT_URL",
            show_envvar=True,
            help="The database, as SQLAlchemy writes it.",
        ),
        click.option(
            "--installation-key",
            default=_configured("installation-key"),
            metavar="FILE|URI",
            shell_complete=_complete_file,
            envvar="SA_KEYVAULT_INSTALLATION_KEY",
            show_envvar=True,
            help="File of the installation key, or its PKCS#11 URI (RFC 7512) if it is in a token.",
        ),
        click.option(
            "--passphrase-file",
            default=_configured("passphrase-file"),
            type=click.Path(path_type=Path),
            envvar="SA_KEYVAULT_PASSPHRASE_FILE",
            show_envvar=True,
            help="File whose first line is the passphrase, or the PIN; it is asked for otherwise.",
        ),
        click.option(
            "--actor",
            default=_configured("actor"),
            envvar="SA_KEYVAULT_ACTOR",
            show_envvar=True,
            help="Who the audit events name; by default user and machine.",
        ),
        click.option("--reason", default="", help="Why, for the audit events."),
        click.option(
            "--anchor",
            default=_configured("anchor"),
            type=click.Path(path_type=Path),
            envvar="SA_KEYVAULT_ANCHOR",
            show_envvar=True,
            help="File that remembers the key store's last state, so that the restore of an older one is noticed.",
        ),
        click.option(
            "--refresh-seconds",
            default=_configured("refresh-seconds", "30"),
            type=click.FloatRange(0, 86_400),
            envvar="SA_KEYVAULT_REFRESH_SECONDS",
            show_envvar=True,
            help="The refresh_seconds of the application's rings, 30 by default: how long servers use a retired key.",
        ),
        click.option(
            "--also",
            type=(str, click.Path(path_type=Path)),
            multiple=True,
            metavar=KEY_AND_PASSPHRASE,
            help="Another installation key that opens the store, and the file of its passphrase: to sign for it, too.",
        ),
    ]


def _complete_file(context: click.Context, parameter: click.Parameter, text: str) -> list[CompletionItem]:
    return click.Path().shell_complete(context, parameter, text)


def _given(value: _T | None, name: str) -> _T:
    if value is None:
        option = name.replace("_", "-")
        msg = f"Missing option '--{option}'; or set SA_KEYVAULT_{name.upper()}, or {option} in [tool.sa_keyvault]."
        raise click.UsageError(msg)
    return value


def _configured(name: str, otherwise: str | None = None) -> Callable[[], str | None]:
    """Return what reads a default from the table `[tool.sa_keyvault]` of the pyproject.toml at hand."""

    def read() -> str | None:
        try:
            content = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))
            table = content.get("tool", {}).get("sa_keyvault", {})
            value = table.get(name)
        except FileNotFoundError:
            return otherwise
        except (OSError, ValueError, AttributeError) as error:
            msg = f"{_PYPROJECT} cannot be read ({type(error).__name__}); mend it, or give all options"
            raise ConfigurationError(msg) from None
        return otherwise if value is None else str(value)

    return read


def new_engine(url: str) -> Engine:
    """Return an engine; its database may have to be made yet.

    Raises:
        sa_keyvault.ConfigurationError: The URL is none, or of a driver that does not serve here.
    """
    try:
        engine = create_engine(url, hide_parameters=True)
    except ImportError as error:
        msg = f"the URL names a driver that is not installed ({error.name}); install it"
        raise ConfigurationError(msg) from None
    except NoSuchModuleError:
        msg = "the URL names a database or driver that SQLAlchemy does not know; write dialect+driver://…"
        raise ConfigurationError(msg) from None
    except (ArgumentError, TypeError, ValueError):
        msg = "the URL of the database is none; write it as dialect+driver://user:password@host/database"
        raise ConfigurationError(msg) from None
    if engine.dialect.is_async:
        msg = f"{engine.url.drivername} is an asyncio driver; name a synchronous one, for instance psycopg or pymysql"
        raise ConfigurationError(msg)
    return engine


def _engine(url: str) -> Engine:
    engine = new_engine(url)
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file and not file.startswith("file:") and not Path(file).exists():
        msg = f"there is no SQLite file {file}; the application makes it, the command does not"
        raise ConfigurationError(msg)
    return engine
