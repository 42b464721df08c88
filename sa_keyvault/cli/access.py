"""How every subcommand reaches the key store: the database, the installation key, and who is asking."""

import functools
import tomllib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from sa_keyvault.administration import provisioning_of
from sa_keyvault.errors import ConfigurationError, KeyStoreError, LegacyAlgorithmWarning
from sa_keyvault.installation import InstallationKey, installation_key_at, is_token, passphrase_from_file
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
        also: Other installation keys that the store is signed with, each with the file of its passphrase or PIN.
    """

    url: str
    installation_key: str
    passphrase_file: Path | None
    actor: str | None
    reason: str
    also: tuple[tuple[str, Path], ...] = ()

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
        engine = _engine(self.url)
        try:
            with engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            msg = f"the database failed ({type(error).__name__}: {getattr(error, 'orig', error)}); nothing was changed"
            raise KeyStoreError(msg) from None
        finally:
            engine.dispose()

    @contextmanager
    def opened(self, removal_delay: timedelta = timedelta(hours=24)) -> Iterator[tuple[Connection, KeyRing]]:
        """Open a connection and a ring that is provisioned as the key store is."""
        key = self.read_key()
        with self.connection() as connection:
            yield connection, self.ring(key, provisioning_of(connection, key), removal_delay)

    def ring(
        self, key: InstallationKey, provisioning: Provisioning, removal_delay: timedelta = timedelta(hours=24)
    ) -> KeyRing:
        """Return a ring; what is outdated about it was said before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LegacyAlgorithmWarning)
            also = [installation_key_at(place, passphrase_from_file(secret)) for place, secret in self.also]
            return KeyRing(key, provisioning, removal_delay=removal_delay, actor=self.actor, also=also)


def access_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how to reach the key store; the command gets them as one `Access`."""

    @functools.wraps(command)
    def wrapped(
        url: str | None,
        installation_key: str | None,
        passphrase_file: Path | None,
        actor: str | None,
        reason: str,
        also: tuple[tuple[str, Path], ...],
        **others: Any,
    ) -> Any:
        known_url = _given(url, "url")
        known_key = _given(installation_key, "installation-key")
        return command(Access(known_url, known_key, passphrase_file, actor, reason, also), **others)

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
            "--also",
            type=(str, click.Path(path_type=Path)),
            multiple=True,
            metavar="KEY PASSPHRASE",
            help="Another installation key that opens the store, and the file of its passphrase: to sign for it, too.",
        ),
    ]


def _complete_file(context: click.Context, parameter: click.Parameter, text: str) -> list[CompletionItem]:
    return click.Path().shell_complete(context, parameter, text)


def _given(value: _T | None, name: str) -> _T:
    if value is None:
        variable = f"SA_KEYVAULT_{name.upper().replace('-', '_')}"
        msg = f"Missing option '--{name}'; or set {variable}, or {name} in [tool.sa_keyvault]."
        raise click.UsageError(msg)
    return value


def _configured(name: str) -> Callable[[], str | None]:
    """Return what reads a default from the table `[tool.sa_keyvault]` of the pyproject.toml at hand."""

    def read() -> str | None:
        try:
            content = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))
            table = content.get("tool", {}).get("sa_keyvault", {})
            value = table.get(name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, AttributeError) as error:
            msg = f"{_PYPROJECT} cannot be read ({type(error).__name__}); mend it, or give all options"
            raise ConfigurationError(msg) from None
        return None if value is None else str(value)

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
