"""Where the command writes to."""

from rich.console import Console

__all__ = ["error_output", "output"]


def output() -> Console:
    """Return what results go to: lines are not wrapped, so that scripts can read them."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def error_output() -> Console:
    """Return what errors, warnings and questions go to."""
    return Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
