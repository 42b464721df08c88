"""What the benchmarks find, and how large they are: the data that tables, plots and JSON are made of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.measure import Race, Spread

__all__ = ["FULL", "OURS", "PLAIN", "QUICK", "Figure", "Goal", "Scale", "figures_of", "missing_figures"]

OURS = "sa_keyvault"
PLAIN = "plain columns"


@dataclass(frozen=True)
class Figure:
    """What one peer took for one work.

    Attributes:
        section: Which table it belongs to.
        work: What was done; a column of the table.
        database: On which database; empty where none is asked.
        peer: Who did it; a row of the table.
        baseline: Whom it is compared with.
        unit: Of the amount: `s`, `B` or `hits`.
        amount: What one item took; None where the peer is not available.
        ratio: In proportion to the baseline.
        size: What it grows with (rows, columns, keys, bytes), where that is the point.
        reason: Why the peer is not available.
    """

    section: str
    work: str
    database: str
    peer: str
    baseline: str
    unit: str = "s"
    amount: Spread | None = None
    ratio: Spread | None = None
    size: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Goal:
    """A ratio that is aimed at, beside what was measured.

    Attributes:
        section: The table with its figures.
        text: What is compared with what.
        limit: The ratio that is aimed at.
        measured: The ratio that was measured.
        is_met: Whether it is reached.
    """

    section: str
    text: str
    limit: float
    measured: Spread
    is_met: bool

    @classmethod
    def at_most(cls, section: str, text: str, limit: float, measured: Spread) -> "Goal":
        """Return a goal that is met by a median within the limit."""
        return cls(section, text, limit, measured, measured.median <= limit)

    @classmethod
    def not_measurably_more(cls, section: str, text: str, measured: Spread) -> "Goal":
        """Return a goal that is met where the middle half of the ratios reaches down to 1: noise hides the rest."""
        return cls(section, text, 1.0, measured, measured.low <= 1.0)


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        name: `quick` or `full`.
        rounds: Measurements of each peer.
        few_rounds: Measurements of what takes long.
        rows: Rows of the tables in which peers are compared.
        flushed_rows: The same, for what writes them.
        many_column_rows: The same, with 3 and 10 encrypted columns.
        server_rows: The same, on a database server.
        server_columns: How many encrypted columns the rows have there.
        growth_rounds: Measurements of what takes minutes.
        growth: Rows over which the growth is shown.
        flushed_growth: The most of them that are also flushed.
        keys: Working keys over which the growth is shown.
        burst: Single calls of one peer that follow each other.
    """

    name: str
    rounds: int
    few_rounds: int
    rows: int
    flushed_rows: int
    many_column_rows: int
    server_rows: int
    server_columns: tuple[int, ...]
    growth_rounds: int
    growth: tuple[int, ...]
    flushed_growth: int
    keys: tuple[int, ...]
    burst: int


QUICK = Scale(
    name="quick",
    rounds=7,
    few_rounds=4,
    rows=20_000,
    flushed_rows=2_000,
    many_column_rows=1_000,
    server_rows=500,
    server_columns=(1,),
    growth_rounds=3,
    growth=(1_000, 10_000, 50_000),
    flushed_growth=50_000,
    keys=(1, 100, 10_000),
    burst=100,
)
FULL = Scale(
    name="full",
    rounds=15,
    few_rounds=5,
    rows=20_000,
    flushed_rows=20_000,
    many_column_rows=10_000,
    server_rows=2_000,
    server_columns=(1, 3, 10),
    growth_rounds=2,
    growth=(1_000, 10_000, 100_000, 1_000_000),
    flushed_growth=1_000_000,
    keys=(1, 10, 100, 1_000, 10_000, 100_000),
    burst=200,
)


def figures_of(
    found: Race, section: str, work: str, database: str, baseline: str, *, size: int | None = None, unit: str = "s"
) -> Iterator[Figure]:
    """Yield the figure of every peer of a race."""
    for peer in found.measured:
        yield Figure(
            section, work, database, peer, baseline, unit, found.amount(peer), found.ratio(peer, baseline), size
        )


def missing_figures(
    reasons: Mapping[str, str], section: str, work: str, database: str, baseline: str
) -> Iterator[Figure]:
    """Yield a figure for every peer that is not there, with the reason."""
    for peer, reason in reasons.items():
        yield Figure(section, work, database, peer, baseline, reason=reason)
