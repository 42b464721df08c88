"""The subcommand `provision`: moves the keys to other algorithms."""

import click

from sa_keyvault.administration import provision as move
from sa_keyvault.cli.access import Access, access_options
from sa_keyvault.cli.consoles import output, print_warning, quiet_warnings
from sa_keyvault.suites import HashName, Provisioning

__all__ = ["provision"]


@click.command()
@access_options
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
def provision(access: Access, master: str, working: str, hash_name: HashName) -> None:
    """Move the keys to other algorithms, by default to AES-256 and SHA-256.

    Master keys are signed anew and, where they are of another kind, followed by new ones; working keys of another
    kind are retired. No row of the application is touched: every value opens as before, and is written under new
    keys from the next time on. Give the application's KeyRing the same provisioning.
    """
    console = output()
    chosen = Provisioning(master, working, hash_name)
    for weakness in chosen.weaknesses():
        print_warning(weakness.rpartition("; ")[0])
    key = access.read_key()
    with quiet_warnings():
        ring = access.ring(key, chosen)
    with access.anchored(key) as connection:
        done = move(connection, ring, access.reason)
    console.print(f"provisioned: master keys {master}, working keys {working}, hash {hash_name}")
    console.print(f"  {len(done.signed)} master keys signed anew")
    console.print(f"  {len(done.masters_made)} master keys made, {len(done.masters_retired)} retired")
    console.print(f"  {done.rewrapped} working keys wrapped anew, {len(done.retired)} retired")
    if done.retired:
        console.print("values under retired keys open, and are to be re-encrypted")
