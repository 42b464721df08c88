"""The subcommand `status`: which keys there are, how worn they are, and what depends on them."""

import json
from dataclasses import asdict

import click
from rich.table import Table

from sa_keyvault import administration
from sa_keyvault.administration import Status
from sa_keyvault.cli.access import Access, access_options
from sa_keyvault.cli.consoles import output, print_warning
from sa_keyvault.keyring import shown

__all__ = ["status"]


@click.command()
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(access: Access, *, as_json: bool) -> None:
    """Show the keys of every level: states, ages, use, the values under them, and what can be removed."""
    with access.reading() as (connection, ring):
        found = administration.status(connection, ring)
    if as_json:
        output().print_json(json.dumps(asdict(found)))
        return
    _print(found)
    for warning in found.warnings:
        print_warning(warning)


def _print(found: Status) -> None:
    console = output()
    console.print(f"key store {found.store.store_id}, version {found.store.version}, {found.store.events} audit events")
    for fingerprint in found.installations:
        console.print(f"installation key {fingerprint}")
    masters = _table("master key", "state", "suite", "created", "use", "working keys", "removable")
    for master in found.masters:
        use = _share(master.used, master.limit)
        _add(
            masters,
            master.id,
            master.state,
            master.suite,
            master.created,
            use,
            str(master.working_keys),
            _removable(master.obstacle),
        )
    console.print(masters)
    working = _table("working key", "area", "state", "suite", "created", "use", "values", "removable")
    for key in found.working:
        values = ", ".join(f"{name} {count}" for name, count in key.values.items()) or "0"
        use = _share(key.used, key.limit)
        _add(
            working, str(key.number), key.area, key.state, key.suite, key.created, use, values, _removable(key.obstacle)
        )
    console.print(working)
    for column, count in found.plaintexts.items():
        console.print(f"{count} values of {column} are not encrypted")


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table


def _add(table: Table, *cells: str) -> None:
    # names of areas and columns come from the database
    table.add_row(*map(shown, cells))


def _share(used: int, limit: int | None) -> str:
    return f"{used}" if limit is None else f"{used / limit:.1%}"


def _removable(obstacle: str) -> str:
    return f"no: {obstacle}" if obstacle else "yes"
