"""Timing of peers against each other: in turns, within one process, with the garbage collector out of the way."""

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import perf_counter

__all__ = ["Comparison", "Peer", "Spread", "compare"]

Peer = Callable[[], AbstractContextManager[Callable[[], object]]]
"""Prepares one measurement and cleans up after it, outside the time; what it enters to is timed."""


@dataclass(frozen=True)
class Spread:
    """Where the middle half of some measurements lies.

    Attributes:
        median: The median.
        low: The lower quartile.
        high: The upper quartile.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, measured: Sequence[float]) -> "Spread":
        """Return the spread of at least two measurements."""
        low, median, high = statistics.quantiles(measured, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Comparison:
    """One subject measured against one baseline.

    Attributes:
        name: What was done.
        baseline: Seconds per item of the baseline.
        subject: Seconds per item of the subject.
        ratio: Subject to baseline, of the two measurements of each round.
        goal: The ratio that is aimed at, or None where the number is for orientation.
    """

    name: str
    baseline: Spread
    subject: Spread
    ratio: Spread
    goal: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether the median ratio is within the goal; None where there is none."""
        return None if self.goal is None else self.ratio.median <= self.goal


def compare(name: str, baseline: Peer, subject: Peer, *, items: int, rounds: int, goal: float | None) -> Comparison:
    """Measure *subject* against *baseline*.

    Args:
        name: What is done.
        baseline: What it is compared with.
        subject: What is of interest.
        items: How many items one measurement handles.
        rounds: How many measurements of each; one more of each comes first and is thrown away.
        goal: The ratio that is aimed at.
    """
    measured = _in_turns({"baseline": baseline, "subject": subject}, rounds)
    pairs = zip(measured["subject"], measured["baseline"], strict=True)
    return Comparison(
        name,
        Spread.of([seconds / items for seconds in measured["baseline"]]),
        Spread.of([seconds / items for seconds in measured["subject"]]),
        Spread.of([own / other for own, other in pairs]),
        goal,
    )


def _in_turns(peers: Mapping[str, Peer], rounds: int) -> dict[str, list[float]]:
    """Measure each peer once per round, in an order that changes: no one always goes first."""
    measured: dict[str, list[float]] = {name: [] for name in peers}
    names = list(peers)
    for number in range(rounds + 1):
        for name in names:
            seconds = _seconds(peers[name])
            if number > 0:
                measured[name].append(seconds)
        names.reverse()
    return measured


def _seconds(peer: Peer) -> float:
    with peer() as work:
        gc.collect()
        gc.disable()
        try:
            begin = perf_counter()
            # kept until the clock has stopped: what it takes to free the result belongs to nobody
            result = work()
            seconds = perf_counter() - begin
        finally:
            gc.enable()
        del result
    return seconds
