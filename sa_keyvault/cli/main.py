"""The command's entry: its subcommands, and how errors are shown."""

import click

from sa_keyvault.cli.audit import audit
from sa_keyvault.cli.consoles import error_output
from sa_keyvault.cli.doctor import doctor
from sa_keyvault.cli.fips import fips
from sa_keyvault.cli.init import init
from sa_keyvault.cli.installation import installation
from sa_keyvault.cli.masters import master
from sa_keyvault.cli.provision import provision
from sa_keyvault.cli.reencrypt import reencrypt
from sa_keyvault.cli.status import status
from sa_keyvault.cli.working import working
from sa_keyvault.errors import KeyVaultError

__all__ = ["main"]

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Group(click.Group):
    """Shows the library's errors as `error` and `hint`, without a traceback; exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except KeyVaultError as error:
            # messages say what happened, and after a semicolon what to do
            problem, _, hint = str(error).partition("; ")
        console = error_output()
        console.print(f"sa-keyvault: error: {problem}", style="red")
        if hint:
            console.print(f"sa-keyvault: hint: {hint}")
        return ctx.exit(1)


@click.group(cls=_Group, context_settings=_CONTEXT)
@click.version_option(package_name="sa_keyvault", prog_name="sa-keyvault")
def main() -> None:
    """Administer the key store of an application that uses sa_keyvault."""


for _command in (audit, doctor, fips, init, installation, master, provision, reencrypt, status, working):
    main.add_command(_command)
