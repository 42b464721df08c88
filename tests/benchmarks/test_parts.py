"""The benchmarks at a small scale: each part still measures the library as it is."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.bench_binding import bench_binding
from benchmarks.bench_caching import bench_caching
from benchmarks.bench_jobs import bench_memory, bench_reencryption
from benchmarks.bench_keys import bench_keys
from benchmarks.bench_rows import bench_growth, bench_rows
from benchmarks.bench_statements import bench_statements, bench_without_encryption
from benchmarks.bench_suites import bench_suites
from benchmarks.bench_values import bench_values
from benchmarks.databases import Database, opened
from benchmarks.figures import OURS, PLAIN, QUICK, Figure, Goal
from benchmarks.peers import kinds

SCALE = replace(
    QUICK,
    rounds=2,
    few_rounds=2,
    rows=50,
    flushed_rows=50,
    many_column_rows=50,
    growth_rounds=2,
    growth=(50, 100),
    flushed_growth=100,
    keys=(1, 10),
    burst=2,
)
with warnings.catch_warnings():
    # of the peers, which are not used here
    warnings.simplefilter("ignore")
    CHOSEN = [kind for kind in kinds()[0] if kind.name in {OURS, PLAIN}]
BY_NAME = {kind.name: kind for kind in CHOSEN}

Part = Callable[[Database, Path], Iterable[Figure | Goal]]

PARTS: dict[str, Part] = {
    "values": lambda database, _: bench_values(database, CHOSEN, {}, SCALE),
    "rows": lambda database, _: bench_rows(database, CHOSEN, {}, SCALE),
    "statements": lambda database, _: bench_statements(database, CHOSEN, {}, SCALE),
    "binding": lambda database, _: bench_binding(database, SCALE),
    "re-encryption": lambda database, _: bench_reencryption(database, BY_NAME[OURS], SCALE),
    "nothing encrypted": lambda database, _: bench_without_encryption(database, BY_NAME[PLAIN], SCALE),
    "caching": lambda database, _: bench_caching(database, CHOSEN),
    "growth": lambda database, _: bench_growth(database, CHOSEN, SCALE),
    "memory": lambda database, _: bench_memory(database, CHOSEN, {}, SCALE),
    "suites": lambda _, folder: bench_suites(folder, SCALE),
    "keys": lambda _, folder: bench_keys(folder, SCALE),
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
def test_part_measures_something(part: Part, tmp_path: Path) -> None:
    """Every figure of a part has an amount, but for a peer that the part cannot have."""
    with opened("sqlite", tmp_path) as database:
        figures = [one for one in part(database, tmp_path) if isinstance(one, Figure)]
    assert figures
    assert [one for one in figures if one.amount is None and not one.reason] == []
