"""Subcommands that put one key into another state, which are alike for master and working keys."""

from collections.abc import Callable
from typing import Any

import click

from sa_keyvault.cli.access import Access, access_options
from sa_keyvault.cli.consoles import output

__all__ = ["add_move"]


def add_move(group: click.Group, operate: Callable[..., None], key: click.Argument, name: str, done: str) -> None:
    """Add a subcommand that calls *operate* with a connection, a ring, the key and a reason.

    Args:
        group: Where it is added; its name says what kind of key it is.
        operate: An operation of `sa_keyvault.administration`; its docstring's first line is the help.
        key: The argument that names the key.
        name: Name of the subcommand.
        done: What the key is afterwards.
    """

    def run(access: Access, **arguments: Any) -> None:
        (chosen,) = arguments.values()
        with access.opened() as (connection, ring):
            operate(connection, ring, chosen, access.reason)
        output().print(f"{group.name} key {chosen} is {done}")

    command = click.command(name=name, help=(operate.__doc__ or "").splitlines()[0])(access_options(run))
    command.params.insert(0, key)
    group.add_command(command)
