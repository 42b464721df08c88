"""The subcommands `working …`: what is done with working keys."""

from datetime import timedelta

import click

from sa_keyvault import administration
from sa_keyvault.cli.access import Access, access_options, yes_option
from sa_keyvault.cli.consoles import output
from sa_keyvault.cli.moves import add_move

__all__ = ["working"]


@click.group()
def working() -> None:
    """Rotate, disable, enable, retire and remove working keys."""


@working.command()
@access_options
@click.argument("area")
def rotate(access: Access, area: str) -> None:
    """Retire the active working keys of an area; the next value that is written makes a new one."""
    with access.opened() as (connection, ring):
        retired = administration.rotate_area(connection, ring, area, access.reason)
    output().print(
        f"area {area}: {len(retired)} working keys retired; values under them open, and are to be re-encrypted"
    )


for _operate, _name, _done in (
    (administration.disable_working, "disable", "disabled"),
    (administration.enable_working, "enable", "enabled"),
    (administration.retire_working, "retire", "retired"),
):
    add_move(working, _operate, click.Argument(["number"], type=int), _name, _done)


@working.command()
@access_options
@click.argument("number", type=int)
@click.option(
    "--removal-hours",
    type=click.FloatRange(0, 100_000),
    default=24.0,
    show_default=True,
    help="How long it has been retired.",
)
@click.option("--force", type=int, help="The number again: destroy the key although values depend on it.")
@yes_option
def remove(access: Access, number: int, removal_hours: float, force: int | None, *, yes: bool) -> None:
    """Destroy a retired working key that no value depends on. Final."""
    if not yes:
        lost = "" if force is None else ", and lose all values under it,"
        click.confirm(f"destroy working key {number}{lost} for ever?", abort=True)
    with access.opened(timedelta(hours=removal_hours)) as (connection, ring):
        administration.remove_working(connection, ring, number, access.reason, force)
    output().print(f"working key {number} is removed")
