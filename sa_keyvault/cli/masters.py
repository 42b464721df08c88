"""The subcommands `master …`: what is done with master keys."""

from datetime import timedelta

import click
from sqlalchemy import Connection

from sa_keyvault import administration, store
from sa_keyvault.administration import MasterFollowed
from sa_keyvault.cli.access import Access, access_options, yes_option
from sa_keyvault.cli.consoles import output, print_warning
from sa_keyvault.cli.moves import add_move
from sa_keyvault.plugin import KeyRing
from sa_keyvault.states import KeyState

__all__ = ["master"]


@click.group()
def master() -> None:
    """Rotate, replace, disable, enable, retire and remove master keys."""


@master.command()
@access_options
@click.argument("master_id", required=False)
def rotate(access: Access, master_id: str | None) -> None:
    """Give a master key (by default the newest) a successor that rewraps its working keys; no row is touched."""
    with access.opened() as (connection, ring):
        done = administration.rotate_master(connection, ring, master_id, access.reason)
    _print(done)


@master.command()
@access_options
@click.argument("master_id", required=False)
@yes_option
def replace(access: Access, master_id: str | None, *, yes: bool) -> None:
    """Follow a compromised master key (by default the newest) by one of another lineage, and retire its keys."""
    if not yes:
        click.confirm(
            "retire the master key and all its working keys, so that everything is to be re-encrypted?", abort=True
        )
    with access.opened() as (connection, ring):
        done = administration.replace_master(connection, ring, master_id, access.reason)
    _print(done)


def _print(done: MasterFollowed) -> None:
    console = output()
    console.print(f"master key {done.former} is retired, {done.successor} follows it")
    if done.reencrypt:
        console.print(f"  to be re-encrypted: {', '.join(done.reencrypt)}")
    else:
        console.print(f"  {done.rewrapped} working keys wrapped anew")


def _disable(connection: Connection, ring: KeyRing, master_id: str, reason: str) -> None:
    """Suspend a master key: nothing under it is sealed or opened, until it is enabled again."""
    administration.disable_master(connection, ring, master_id, reason)
    if all(record.state is not KeyState.ACTIVE for record in store.masters(connection)):
        msg = f"no other master key is active: nothing new is written until `sa-keyvault master enable {master_id}`"
        print_warning(msg)


for _operate, _name, _done in (
    (_disable, "disable", "disabled"),
    (administration.enable_master, "enable", "enabled"),
    (administration.retire_master, "retire", "retired"),
):
    add_move(master, _operate, click.Argument(["master_id"]), _name, _done)


@master.command()
@access_options
@click.argument("master_id")
@click.option(
    "--removal-hours",
    type=click.FloatRange(0, 100_000),
    default=24.0,
    show_default=True,
    help="How long it has been retired.",
)
@yes_option
def remove(access: Access, master_id: str, removal_hours: float, *, yes: bool) -> None:
    """Destroy a retired master key that no working key depends on. Final."""
    if not yes:
        click.confirm(f"destroy master key {master_id} for ever?", abort=True)
    with access.opened(timedelta(hours=removal_hours)) as (connection, ring):
        administration.remove_master(connection, ring, master_id, access.reason)
    output().print(f"master key {master_id} is removed")
