"""The subcommand `init`: makes an installation key, its backup and the key store, before the first server starts."""

from pathlib import Path

import click

from sa_keyvault.cli.access import Access, access_options, new_engine
from sa_keyvault.cli.consoles import error_output, output
from sa_keyvault.cli.models import read_metadata
from sa_keyvault.installation import InstallationKey, SoftwareInstallationKey, new_passphrase, passphrase_from_file
from sa_keyvault.private_file import write_private_file
from sa_keyvault.suites import Provisioning

__all__ = ["init"]

_FILE = click.Path(path_type=Path)


@click.command()
@access_options
@click.option("--metadata", "source", metavar="MODULE:NAME", help="Models, or their metadata, whose areas get keys.")
@click.option("--backup", type=(_FILE, _FILE), metavar="KEY PASSPHRASE", help="Where a copy of both files is written.")
@click.option("--no-backup", is_flag=True, help="Make no copy; without one, a lost file is the loss of all values.")
def init(access: Access, source: str | None, backup: tuple[Path, Path] | None, *, no_backup: bool) -> None:
    """Make an installation key in the files that the options name, a copy of both, and the key store.

    The copy belongs where the database and the first files are not: on another machine, or in a safe.
    """
    if access.passphrase_file is None:
        msg = "the passphrase is made and written to a file; name it with --passphrase-file"
        raise click.UsageError(msg)
    if (backup is None) is not no_backup:
        msg = "give --backup KEY PASSPHRASE for a copy, or --no-backup to go without one"
        raise click.UsageError(msg)
    key_file = access.new_key_file
    metadata = None if source is None else read_metadata(source)
    engine = new_engine(access.url)
    secret, key = new_passphrase(), InstallationKey.generate()
    _write(key, secret, key_file, access.passphrase_file)
    if backup is not None:
        _write(key, secret, *backup)
        # what was written is read, not what is in memory
        copy = InstallationKey.from_file(backup[0], passphrase_from_file(backup[1]))
        output().print(f"the copy in {backup[0]} opens: {copy.fingerprint}")
    try:
        access.ring(key, Provisioning.default()).initialize(engine, metadata)
    finally:
        engine.dispose()
    output().print(f"installation key {key.fingerprint} has a key store")
    if backup is None:
        error_output().print("sa-keyvault: warning: there is no copy of the installation key", style="yellow")


def _write(key: SoftwareInstallationKey, secret: bytes, key_file: Path, passphrase_file: Path) -> None:
    write_private_file(passphrase_file, secret + b"\n")
    key.to_file(key_file, secret)
