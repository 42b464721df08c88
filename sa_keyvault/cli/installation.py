"""The subcommands `installation …`: the installation key, its certificate, and the change to another one."""

from pathlib import Path
from typing import BinaryIO

import click

from sa_keyvault import administration
from sa_keyvault.cli.access import Access, access_options, yes_option
from sa_keyvault.cli.consoles import error_output, output, shown_warnings
from sa_keyvault.cli.key_files import PASSPHRASE_FILE, KeyFiles, passphrase_in
from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation import (
    WRAPPINGS,
    InstallationKey,
    SoftwareInstallationKey,
    certificate_request,
    installation_key_at,
    new_passphrase,
    public_record,
    requested_key,
)
from sa_keyvault.keyring import load_keys

__all__ = ["installation"]

_FILE = click.Path(path_type=Path)


@click.group()
def installation() -> None:
    """Generate, certify and change the installation key."""


@installation.command()
@click.argument("key", type=_FILE)
@click.argument("passphrase", type=_FILE, metavar=PASSPHRASE_FILE)
def generate(key: Path, passphrase: Path) -> None:
    """Make an RSA-4096 installation key in the file KEY, its passphrase in PASSPHRASE-FILE; neither is overwritten."""
    files = KeyFiles(key, passphrase)
    files.require_new()
    made = InstallationKey.generate()
    files.write(made, new_passphrase())
    output().print(f"installation key {made.fingerprint}")
    error_output().print(
        "keep a copy of both files, apart from each other and from the database: without them all values are lost"
    )


@installation.command()
@access_options
@click.argument("copy", type=_FILE)
@click.argument("copy_passphrase", type=_FILE, metavar=PASSPHRASE_FILE)
def export(access: Access, copy: Path, copy_passphrase: Path) -> None:
    """Write a copy of the installation key to COPY, under a passphrase of its own in PASSPHRASE-FILE.

    COPY is PKCS#12 where its name ends in .p12 or .pfx, else PEM. The key must be one that opens the key store.
    """
    key = _opening(access, access.read_key())
    if not isinstance(key, SoftwareInstallationKey):
        msg = "a key in a token cannot be exported; let the other server's own key join (`installation add`)"
        raise InstallationKeyError(msg)
    KeyFiles(copy, copy_passphrase).write(key, new_passphrase())
    output().print(f"installation key {key.fingerprint} is in {copy}")


@installation.command(name="import")
@access_options
@click.argument("copy", type=_FILE)
@click.argument("copy_passphrase", type=_FILE, metavar=PASSPHRASE_FILE)
def import_key(access: Access, copy: Path, copy_passphrase: Path) -> None:
    """Take the installation key in COPY over into the files that the options name, if it opens the key store."""
    if access.passphrase_file is None:
        msg = "the passphrase of the new file is written to a file; name it with --passphrase-file"
        raise click.UsageError(msg)
    target = access.new_key_file
    key = InstallationKey.from_file(copy, passphrase_in(copy_passphrase, PASSPHRASE_FILE))
    _opening(access, key)
    KeyFiles(target, access.passphrase_file).write(key, new_passphrase())
    output().print(f"installation key {key.fingerprint} is in {target}")


def _opening(access: Access, key: InstallationKey) -> InstallationKey:
    """Return the key, if it opens the key store."""
    with access.connection() as connection:
        load_keys(connection, access.own_ring(connection, key).identity)
    return key


@installation.command()
@access_options
@click.argument("common_name")
@click.option("--organization", help="Name of the owner.")
def request(access: Access, common_name: str, organization: str | None) -> None:
    """Print a request (PKCS#10) for a certificate of the installation key; the private half stays where it is."""
    key = access.read_key()
    click.echo(certificate_request(key, common_name, organization).decode(), nl=False)
    error_output().print(f"installation key {key.fingerprint}")


@installation.command()
@access_options
@click.argument("file", type=click.File("rb"))
def certificate(access: Access, file: BinaryIO) -> None:
    """Bind the certificate in FILE, which was issued for the installation key, to the key store."""
    with access.opened() as (connection, ring):
        bound = administration.bind_certificate(connection, ring, file.read(), access.reason)
    output().print(f"certificate of {bound.subject}, issued by {bound.issuer}, good until {bound.not_after:%Y-%m-%d}")


@installation.command()
@access_options
@click.argument("key")
@click.argument("passphrase", type=_FILE, metavar=PASSPHRASE_FILE)
def add(access: Access, key: str, passphrase: Path) -> None:
    """Let the installation key KEY open the key store, too: the next one, or that of another server.

    KEY is a file, PASSPHRASE-FILE that of its passphrase; or KEY is the PKCS#11 URI of a key in a token, and the other
    the file of its PIN.
    """
    other = installation_key_at(key, passphrase_in(passphrase, PASSPHRASE_FILE))
    with access.opened() as (connection, ring):
        administration.add_installation(connection, ring, other, access.reason)
    output().print(
        f"installation key {other.fingerprint} opens the key store, beside {ring.installation_key.fingerprint}"
    )


@installation.command()
@access_options
@click.option(
    "--wrapping",
    type=click.Choice(WRAPPINGS),
    default=WRAPPINGS[0],
    show_default=True,
    help="How the other key unwraps; some tokens do SHA-1 only.",
)
@click.argument("file", type=click.File("rb"))
@yes_option
def invite(access: Access, wrapping: str, file: BinaryIO, *, yes: bool) -> None:
    """Let the installation key of another server open the key store, too, without it: by the request in FILE.

    The other server makes FILE by `installation request`, and joins by `installation join`.
    """
    request = file.read()
    if not yes:
        other = public_record(requested_key(request)).fingerprint
        click.confirm(f"does the other server say that it has installation key {other}?", abort=True)
    with access.opened() as (connection, ring):
        fingerprint = administration.invite_installation(connection, ring, request, wrapping, access.reason)
    output().print(f"installation key {fingerprint} is invited by {ring.installation_key.fingerprint}")


@installation.command()
@access_options
@click.argument("inviter")
def join(access: Access, inviter: str) -> None:
    """Accept the invitation of the installation key with the fingerprint INVITER, which is trusted for it."""
    key = access.read_key()
    with access.connection() as connection:
        with shown_warnings():
            ring = access.ring(key, administration.provisioning_of_invitation(connection, key, inviter))
        # the anchor is compared in here: before it has joined, the key verifies nothing
        administration.join_installation(connection, ring, inviter, access.reason)
    access.advance_anchor(key)
    output().print(f"installation key {key.fingerprint} opens the key store, beside {inviter}")


@installation.command()
@access_options
@click.argument("fingerprint")
@yes_option
def confirm(access: Access, fingerprint: str, *, yes: bool) -> None:
    """Let the installation key FINGERPRINT leave, after all servers have changed over. Its wraps are deleted."""
    if not yes:
        click.confirm(f"delete all wraps of installation key {fingerprint}?", abort=True)
    with access.opened() as (connection, ring):
        administration.remove_installation(connection, ring, fingerprint, access.reason)
    output().print(f"installation key {fingerprint} has left the key store")


@installation.command()
@access_options
def drill(access: Access) -> None:
    """Prove that a copy of the installation key, for instance from a backup, opens this key store."""
    with access.reading() as (connection, ring):
        found = administration.status(connection, ring)
    usable = [master for master in found.masters if master.state in ("active", "retired")]
    output().print(
        f"installation key {ring.installation_key.fingerprint} opens key store {found.store.store_id}: "
        f"{len(usable)} master keys, {sum(master.working_keys for master in usable)} working keys under them"
    )
