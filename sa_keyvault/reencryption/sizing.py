"""How many rows a batch has: as many as their values fit into one transaction."""

from collections.abc import Sequence
from typing import Any

__all__ = ["BatchSize"]

_FIRST = 64  # rows; how large they are is known after the first batch
_GROWTH = 4
_SAMPLE = 100  # values, of which the size of all of a batch is reckoned
_BYTES = 8 * 2**20  # values of one batch, at most, in about


class BatchSize:
    """The size of the next batch.

    Attributes:
        rows: How many rows it has at most.
    """

    def __init__(self) -> None:
        self.rows: int = _FIRST

    def learn(self, columns: Sequence[Sequence[Any]], count: int) -> None:
        """Make batches larger, until their values are as many bytes as a transaction shall have.

        Args:
            columns: The values of a batch.
            count: How many rows it has.
        """
        sample = min(count, _SAMPLE)
        size = sum(len(value) for column in columns for value in column[:sample] if isinstance(value, (str, bytes)))
        self.rows = max(1, min(self.rows * _GROWTH, _BYTES * sample // max(1, size)))
