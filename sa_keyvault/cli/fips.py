"""The subcommand `fips`: whether the linked OpenSSL runs a FIPS provider, and what follows."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import click

from sa_keyvault.cli.consoles import output
from sa_keyvault.suites import FipsStatus, fips_status

__all__ = ["fips"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def fips(context: click.Context, *, as_json: bool) -> None:
    """Report whether OpenSSL runs a FIPS provider; exit code 1 if it does not.

    This is a statement about the running process, and no certificate.
    """
    status = fips_status()
    console = output()
    if as_json:
        console.print_json(json.dumps({**asdict(status), "is_active": status.is_active}))
    else:
        for line in _report(status):
            console.print(line)
    context.exit(0 if status.is_active else 1)


def _report(status: FipsStatus) -> Iterator[str]:
    yield f"library             {status.library}"
    yield f"FIPS is asked for   {_yes(status.is_enabled)}"
    yield f"AES-256-GCM works   {_yes(status.has_approved)}"
    yield f"ChaCha20 works      {_yes(status.has_others)} (no FIPS provider has it)"
    yield f"OPENSSL_CONF        {status.configuration or 'not set'}"
    yield f"OPENSSL_MODULES     {status.modules or 'not set'}"
    yield ""
    yield from _consequences(status)


def _yes(value: bool) -> str:  # noqa: FBT001 - what is shown
    return "yes" if value else "no"


def _consequences(status: FipsStatus) -> Iterator[str]:
    if status.is_active:
        yield "A FIPS provider does the work: KeyRing(..., fips='require') starts."
        yield "Its name and version are not told by cryptography; `openssl list -providers` shows them, with the same"
        yield "environment. Nonces are drawn outside the module, and RSA keys are generated outside it: see the docs."
        return
    if status.is_enabled and not status.has_approved:
        yield "FIPS is asked for, but no provider serves it, and nothing can be encrypted or decrypted in this state."
        yield "The module that the configuration names is missing, or was changed since `openssl fipsinstall`, or"
        yield "another OpenSSL of this process loaded it before: Python's own reads OPENSSL_CONF, too (see the docs)."
        return
    yield "No FIPS provider is active: KeyRing(..., fips='require') refuses to start."
    if not status.configuration:
        yield "The how-to guide `Require FIPS` says where the module and its configuration belong."
        return
    yield "The configuration does not activate one: OpenSSL ignores a file that is missing or does not parse."
