"""Timing of peers against each other: in turns, within one process, with the garbage collector out of the way."""

import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from time import perf_counter

__all__ = ["Peer", "Race", "Spread", "calls", "percentiles_in_turns", "race"]

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
class Race:
    """What some peers took for the same work, round by round.

    Attributes:
        items: How many items one measurement handles.
        measured: What each round took (seconds, or bytes), by peer.
    """

    items: int
    measured: Mapping[str, Sequence[float]]

    def amount(self, peer: str) -> Spread:
        """Return what one item took."""
        return Spread.of([taken / self.items for taken in self.measured[peer]])

    def ratio(self, peer: str, baseline: str) -> Spread:
        """Return what *peer* took in proportion to *baseline*, of the two measurements of each round."""
        pairs = zip(self.measured[peer], self.measured[baseline], strict=True)
        return Spread.of([own / other for own, other in pairs])

    def added_share(self, peer: str, reference: str, floor: str) -> Spread:
        """Return what *peer* adds to *floor* in proportion to what *reference* adds to it."""
        rounds = zip(self.measured[peer], self.measured[reference], self.measured[floor], strict=True)
        return Spread.of([(own - least) / (other - least) for own, other, least in rounds])


def race(peers: Mapping[str, Peer], *, items: int, rounds: int) -> Race:
    """Measure each peer once per round, in an order that changes: no one always goes first or after the same.

    Args:
        peers: What is measured, by name.
        items: How many items one measurement handles.
        rounds: How many measurements of each; one more of each comes first and is thrown away.
    """
    measured: dict[str, list[float]] = {name: [] for name in peers}
    with _settled():
        for number, names in enumerate(_orders(list(peers), rounds + 1)):
            for name in names:
                seconds = _seconds(peers[name])
                if number > 0:
                    measured[name].append(seconds)
    return Race(items, measured)


def percentiles_in_turns(
    peers: Mapping[str, Peer], *, burst: int, rounds: int, percents: Sequence[int]
) -> dict[int, Race]:
    """Measure single calls, in bursts that take turns; of each burst its percentiles are kept.

    Args:
        peers: What is measured, by name; each call of it is one measurement.
        burst: How many calls of one peer follow each other.
        rounds: How many bursts of each; one more comes first and is thrown away.
        percents: Which percentiles.
    """
    kept: dict[int, dict[str, list[float]]] = {percent: {name: [] for name in peers} for percent in percents}
    with _settled():
        for number, names in enumerate(_orders(list(peers), rounds + 1)):
            for name in names:
                cuts = statistics.quantiles(_burst(peers[name], burst), n=100, method="inclusive")
                for percent in percents if number > 0 else ():
                    kept[percent][name].append(cuts[percent - 1])
    return {percent: Race(1, measured) for percent, measured in kept.items()}


def calls(work: Callable[[], object]) -> Peer:
    """Return the peer of a work that needs no preparation."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        yield work

    return prepare


def _orders(names: list[str], rounds: int) -> Iterator[list[str]]:
    for number in range(rounds):
        turned = names[number % len(names) :] + names[: number % len(names)]
        yield turned if number % 2 == 0 else turned[::-1]


@contextmanager
def _settled() -> Iterator[None]:
    """Take what is there already out of the collector's sight, so that each collection is short."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(peer: Peer) -> float:
    with peer() as work, _without_collector():
        begin = perf_counter()
        # kept until the clock has stopped: what it takes to free the result belongs to nobody
        result = work()
        seconds = perf_counter() - begin
        del result
    return seconds


def _burst(peer: Peer, count: int) -> list[float]:
    taken = []
    with peer() as work, _without_collector():
        for _ in range(count):
            begin = perf_counter()
            work()
            taken.append(perf_counter() - begin)
    return taken
