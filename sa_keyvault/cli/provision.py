"""The subcommand `provision`: moves the keys to other algorithms."""

import warnings
from pathlib import Path

import click

from sa_keyvault.administration import provision as move
from sa_keyvault.cli.consoles import error_output, output
from sa_keyvault.cli.options import key_options, open_connection, read_key, url_option
from sa_keyvault.errors import LegacyAlgorithmWarning
from sa_keyvault.plugin import KeyRing
from sa_keyvault.suites import HashName, Provisioning

__all__ = ["provision"]


@click.command()
@url_option
@key_options
@click.option("--master", type=click.Choice(["aes", "3des"]), default="aes", show_default=True, help="Master keys.")
@click.option("--working", type=click.Choice(["aes", "3des"]), default="aes", show_default=True, help="Working keys.")
@click.option(
    "--hash",
    "hash_name",
    type=click.Choice(["sha256", "sha1"]),
    default="sha256",
    show_default=True,
    help="Signatures.",
)
def provision(
    url: str, installation_key: Path, passphrase_file: Path | None, master: str, working: str, hash_name: HashName
) -> None:
    """Move the keys to other algorithms, by default to AES-256 and SHA-256.

    Master keys are signed anew and, where they are of another kind, followed by new ones; working keys of another
    kind are retired. No row of the application is touched: every value opens as before, and is written under new
    keys from the next time on. Give the application's KeyRing the same provisioning.
    """
    console, errors = output(), error_output()
    chosen = Provisioning(master, working, hash_name)
    for weakness in chosen.weaknesses():
        errors.print(f"sa-keyvault: warning: {weakness}", style="yellow")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LegacyAlgorithmWarning)
        ring = KeyRing(read_key(installation_key, passphrase_file), chosen)
    with open_connection(url) as connection:
        done = move(connection, ring)
    console.print(f"provisioned: master keys {master}, working keys {working}, hash {hash_name}")
    console.print(f"  {len(done.signed)} master keys signed anew")
    console.print(f"  {len(done.masters_made)} master keys made, {len(done.masters_retired)} retired")
    console.print(f"  {done.rewrapped} working keys wrapped anew, {len(done.retired)} retired")
    if done.retired:
        console.print("values under retired keys open, and are to be re-encrypted")
