"""The subcommand `doctor`: whether the key store and what depends on it is in order."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import click
from sqlalchemy.exc import SQLAlchemyError

from sa_keyvault import administration
from sa_keyvault.administration import Finding
from sa_keyvault.cli.access import Access, access_options, new_engine
from sa_keyvault.cli.consoles import output
from sa_keyvault.cli.models import read_metadata
from sa_keyvault.cli.progress import progress_bar
from sa_keyvault.errors import KeyRecordError, KeyStoreError, KeyVaultError
from sa_keyvault.plugin import KeyRing

__all__ = ["doctor"]

_SAMPLE = 100  # values of each column


@click.command()
@access_options
@click.option("--metadata", "source", metavar="MODULE:NAME", help="Models, or their metadata, whose values are opened.")
@click.option("--all-values", is_flag=True, help=f"Open all values, and not {_SAMPLE} of each column.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(access: Access, source: str | None, *, all_values: bool, as_json: bool) -> None:
    """Examine the key store: signatures, keys, events, values, clock; exit code 1 if something is wrong."""
    key = access.read_key()
    # the anchor is compared as part of the examination
    with access.connection() as connection:
        try:
            ring = access.own_ring(connection, key)
            # compared with the anchor already; a ring that reads would advance it
            unanchored = replace(access, anchor=None).own_ring(connection, key)
            findings = list(administration.examine(connection, ring))
        except (KeyRecordError, KeyStoreError) as error:
            findings = [Finding("key store", is_good=False, detail=str(error))]
    if source is not None and all(finding.is_good for finding in findings):
        findings += _values(access, unanchored, source, None if all_values else _SAMPLE)
    _print(findings, as_json=as_json)
    if not all(finding.is_good for finding in findings):
        raise click.exceptions.Exit(1)


def _values(access: Access, ring: KeyRing, source: str, limit: int | None) -> Iterator[Finding]:
    metadata = read_metadata(source)
    engine = new_engine(access.url)
    try:
        ring.examine(engine)
        with engine.connect() as connection, progress_bar("values") as advance:
            yield from administration.examine_values(connection, metadata, limit, advance)
    except KeyVaultError as error:
        yield Finding("values", is_good=False, detail=str(error))
    except SQLAlchemyError as error:
        yield Finding("values", is_good=False, detail=f"the database failed ({getattr(error, 'orig', error)})")
    finally:
        engine.dispose()


def _print(findings: Sequence[Finding], *, as_json: bool) -> None:
    console = output()
    if as_json:
        console.print_json(json.dumps([asdict(finding) for finding in findings]))
        return
    for finding in findings:
        console.print(f"{'ok   ' if finding.is_good else 'WRONG'}  {finding.check}: {finding.detail}")
