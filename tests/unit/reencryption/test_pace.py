"""The pace of a job is a set of numbers, and numbers that make no sense are refused."""

from typing import Any

import pytest

from sa_keyvault import ConfigurationError
from sa_keyvault.reencryption import Pace


@pytest.mark.parametrize(
    "numbers",
    [
        {"batch_size": 1},
        {"part_size": 1},
        {"rows_per_second": 0.001},
        {"seconds": 0},
        {"seconds": None, "rows_per_second": None},
        {"unreadable_limit": 0},
        {"threads": 1},
    ],
)
def test_least_numbers(numbers: dict[str, Any]) -> None:
    """The least number of each kind is accepted, and kept as it is."""
    pace = Pace(**numbers)
    assert numbers == {name: getattr(pace, name) for name in numbers}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("batch_size", -1),
        ("part_size", 0),
        ("rows_per_second", 0),
        ("rows_per_second", float("nan")),
        ("seconds", -0.1),
        ("seconds", float("nan")),
        ("unreadable_limit", -1),
        ("threads", 0),
    ],
)
def test_numbers_out_of_range(name: str, value: float) -> None:
    """A number that is too small, or none, is refused by its name."""
    numbers: dict[str, Any] = {name: value}
    with pytest.raises(ConfigurationError, match=f"^{name}={value} must be at least"):
        Pace(**numbers)
