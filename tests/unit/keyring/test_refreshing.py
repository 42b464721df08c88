"""When a process looks at its key store again."""

import math
import time

import pytest

from sa_keyvault import ConfigurationError
from sa_keyvault.keyring import Settings
from sa_keyvault.keyring.refreshing import Refreshing

SECONDS = 1000.0


def test_others_go_on_while_one_looks() -> None:
    """While one looks, others use what is known for a while, and never longer than the bound (R-29)."""
    refreshing, begun = Refreshing(SECONDS), time.monotonic() - 0.9 * SECONDS
    refreshing.end(begun)
    refreshing.begin()
    assert time.monotonic() < refreshing.due_at <= begun + SECONDS


def test_nobody_goes_on_with_what_is_too_old() -> None:
    """While one looks after the bound, all others look as well: they do not use what is known any more (R-29)."""
    refreshing = Refreshing(SECONDS)
    refreshing.end(time.monotonic() - 2 * SECONDS)
    refreshing.begin()
    assert (refreshing.is_overdue, refreshing.due_at < time.monotonic()) == (True, True)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "30", True, None])
def test_seconds_that_are_no_bound(seconds: float) -> None:
    """A `refresh_seconds` that sets no bound is refused."""
    with pytest.raises(ConfigurationError, match=r"^refresh_seconds=.* must be a number of seconds"):
        Settings(refresh_seconds=seconds)
