"""What the subcommands ask for alike: the database, the installation key and its passphrase."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from sa_keyvault.errors import ConfigurationError, KeyStoreError
from sa_keyvault.installation import InstallationKey, passphrase_from_file

__all__ = ["key_options", "open_connection", "read_key", "url_option"]

_Command = TypeVar("_Command", bound=Callable[..., Any])


def url_option(command: _Command) -> _Command:
    """Add the option that names the database."""
    option = click.option(
        "--url",
        required=True,
        envvar="SA_KEYVAULT_URL",
        show_envvar=True,
        help="The database, as SQLAlchemy writes it.",
    )
    return option(command)


def key_options(command: _Command) -> _Command:
    """Add the options that name the installation key and its passphrase."""
    key = click.option(
        "--installation-key",
        required=True,
        type=click.Path(path_type=Path),
        envvar="SA_KEYVAULT_INSTALLATION_KEY",
        show_envvar=True,
        help="File of the installation key.",
    )
    passphrase = click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        envvar="SA_KEYVAULT_PASSPHRASE_FILE",
        show_envvar=True,
        help="File whose first line is the passphrase; it is asked for otherwise.",
    )
    return key(passphrase(command))


def read_key(installation_key: Path, passphrase_file: Path | None) -> InstallationKey:
    """Read the installation key."""
    if passphrase_file is not None:
        return InstallationKey.from_file(installation_key, passphrase_from_file(passphrase_file))
    prompt = f"passphrase of {installation_key}"
    return InstallationKey.from_file(
        installation_key, lambda: str(click.prompt(prompt, hide_input=True, err=True)).encode()
    )


def _engine(url: str) -> Engine:
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
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file and not Path(file).exists():
        msg = f"there is no SQLite file {file}; the application makes it, the command does not"
        raise ConfigurationError(msg)
    return engine


@contextmanager
def open_connection(url: str) -> Iterator[Connection]:
    """Open a connection in a transaction, which is committed if nothing is raised.

    Raises:
        sa_keyvault.ConfigurationError: The URL is none.
        sa_keyvault.KeyStoreError: The database does not answer, or refuses a statement.
    """
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as error:
        msg = f"the database failed ({type(error).__name__}: {getattr(error, 'orig', error)}); nothing was changed"
        raise KeyStoreError(msg) from None
    finally:
        engine.dispose()
