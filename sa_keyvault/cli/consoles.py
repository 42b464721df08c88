"""Where the command writes to."""

import sys

from rich.console import Console

__all__ = ["error_output", "output"]

_WIDTH = 1000  # columns


def output() -> Console:
    """Return what results go to: nothing is wrapped or cut where it is not shown on a terminal."""
    width = None if sys.stdout.isatty() else _WIDTH
    return Console(highlight=False, soft_wrap=True, markup=False, width=width)


def error_output() -> Console:
    """Return what errors, warnings and questions go to."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
