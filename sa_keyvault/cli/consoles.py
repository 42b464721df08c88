"""Where the command writes to."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console

from sa_keyvault.errors import KeyVaultWarning
from sa_keyvault.keyring import shown

__all__ = ["error_output", "output", "print_warning", "quiet_warnings", "shown_warnings"]

_WIDTH = 1000  # columns


class _Console(Console):
    """Shows every text as one line: what comes from the database may be meant to command the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts with what is not printable escaped, and anything else as it is."""
        super().print(*(shown(one) if isinstance(one, str) else one for one in objects), **options)


def output() -> Console:
    """Return what results go to: nothing is wrapped or cut where it is not shown on a terminal."""
    width = None if sys.stdout.isatty() else _WIDTH
    return _Console(highlight=False, soft_wrap=True, markup=False, width=width)


def error_output() -> Console:
    """Return what errors, warnings and questions go to."""
    return _Console(stderr=True, highlight=False, soft_wrap=True, markup=False)


def print_warning(text: str) -> None:
    """Print a warning of the command."""
    error_output().print(f"sa-keyvault: warning: {text}", style="yellow")


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Show the library's warnings inside the block as the command's own, and each once."""
    seen: set[str] = set()

    def show(  # the signature of warnings.showwarning
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if text not in seen:
            seen.add(text)
            print_warning(text)

    with warnings.catch_warnings():
        warnings.simplefilter("always", KeyVaultWarning)
        warnings.showwarning = show
        yield


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Show no warnings of the library inside the block, where they have been shown before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KeyVaultWarning)
        yield
