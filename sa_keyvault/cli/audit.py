"""The subcommands `audit …`: the events of the keys, listed and verified."""

import json
from dataclasses import asdict

import click

from sa_keyvault import administration, store
from sa_keyvault.cli.access import Access, access_options
from sa_keyvault.cli.consoles import error_output, output

__all__ = ["audit"]


@click.group()
def audit() -> None:
    """List and verify what happened to the keys."""


@audit.command(name="list")
@access_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each event.")
def list_events(access: Access, *, as_json: bool) -> None:
    """List the events: when, who, what, which key, why."""
    console = output()
    with access.connection() as connection:
        events = list(store.events(connection))
    for event in events:
        if as_json:
            console.print(json.dumps({**asdict(event), "signature": event.signature.hex()}))
        else:
            console.print(f"{event.created}  {event.actor}  {event.action}  {event.subject}  {event.reason}".rstrip())


@audit.command()
@access_options
def verify(access: Access) -> None:
    """Verify that no event was changed, removed or moved, and that every key has its birth; exit code 1 if not."""
    fingerprint = access.read_key().fingerprint
    with access.connection() as connection:
        report = administration.verify_events(connection, [fingerprint], access.anchor)
    for finding in report.findings:
        error_output().print(f"sa-keyvault: error: {finding}", style="red")
    output().print(f"{report.events} events, {report.unlinked} not linked yet, {len(report.findings)} findings")
    if report.findings:
        raise click.exceptions.Exit(1)
