"""The subcommand `init`: makes an installation key, its backup and the key store, before the first server starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from sa_keyvault.cli.access import Access, access_options, new_engine
from sa_keyvault.cli.consoles import error_output, output, print_warning
from sa_keyvault.cli.key_files import KEY_AND_PASSPHRASE, KeyFiles
from sa_keyvault.cli.models import read_metadata
from sa_keyvault.errors import InstallationKeyError, KeyStoreError, KeyVaultError
from sa_keyvault.installation import InstallationKey, SoftwareInstallationKey, new_passphrase
from sa_keyvault.keyring import find_store
from sa_keyvault.suites import Provisioning

__all__ = ["init"]

_FILE = click.Path(path_type=Path)


@click.command()
@access_options
@click.option("--metadata", "source", metavar="MODULE:NAME", help="Models, or their metadata, whose areas get keys.")
@click.option(
    "--backup", type=(_FILE, _FILE), metavar=KEY_AND_PASSPHRASE, help="Where a copy of both files is written."
)
@click.option("--no-backup", is_flag=True, help="Make no copy; without one, a lost file is the loss of all values.")
def init(access: Access, source: str | None, backup: tuple[Path, Path] | None, *, no_backup: bool) -> None:
    """Make an installation key in the files that the options name, a copy of both, and the key store.

    The copy belongs where the database and the first files are not: on another machine, or in a safe. Where the key is
    there already and opens, the command goes on with it, and makes what is missing.
    """
    if access.passphrase_file is None:
        msg = "the passphrase is made and written to a file; name it with --passphrase-file"
        raise click.UsageError(msg)
    if (backup is None) is not no_backup:
        msg = f"give --backup {KEY_AND_PASSPHRASE} for a copy, or --no-backup to go without one"
        raise click.UsageError(msg)
    files = KeyFiles(access.new_key_file, access.passphrase_file)
    copy = None if backup is None else KeyFiles(*backup)
    metadata = None if source is None else read_metadata(source)
    engine = new_engine(access.url)
    try:
        _require_no_store(engine)
        key, secret = _key_in(files, copy)
        with _kept(files):
            if copy is not None:
                _copy(key, secret, copy)
            access.ring(key, Provisioning.default()).initialize(engine, metadata)
    finally:
        engine.dispose()
    output().print(f"installation key {key.fingerprint} has a key store")
    if copy is None:
        print_warning("there is no copy of the installation key")


def _require_no_store(engine: Engine) -> None:
    """Refuse before a key is made what could not be done with it."""
    try:
        with engine.connect() as connection:
            found = find_store(connection)
    except SQLAlchemyError as error:
        msg = f"the database failed ({type(error).__name__}: {getattr(error, 'orig', error)}); nothing was made"
        raise KeyStoreError(msg) from None
    if found is not None:
        msg = (
            f"the database has key store {found.store_id} already; `sa-keyvault status` shows it, and "
            "`sa-keyvault installation add` lets another installation key open it"
        )
        raise KeyStoreError(msg)


def _key_in(files: KeyFiles, copy: KeyFiles | None) -> tuple[SoftwareInstallationKey, bytes]:
    """Return the key in *files*, which is made where there is none, and its passphrase."""
    if files.are_there():
        key, secret = files.read()
        output().print(f"the installation key in {files.key} is there already: {key.fingerprint}")
        return key, secret
    if copy is not None:
        copy.require_new()
    key, secret = InstallationKey.generate(), new_passphrase()
    files.write(key, secret)
    return key, secret


def _copy(key: SoftwareInstallationKey, secret: bytes, copy: KeyFiles) -> None:
    if not copy.are_there():
        copy.write(key, secret)
    # what was written is read, not what is in memory
    copied, _ = copy.read()
    if copied.fingerprint != key.fingerprint:
        msg = f"{copy.key} holds installation key {copied.fingerprint}, and not {key.fingerprint}; choose another name"
        raise InstallationKeyError(msg)
    output().print(f"the copy in {copy.key} opens: {copied.fingerprint}")


@contextmanager
def _kept(files: KeyFiles) -> Iterator[None]:
    try:
        yield
    except KeyVaultError:
        error_output().print(f"sa-keyvault: hint: the key in {files.key} is kept; the same command goes on with it")
        raise
