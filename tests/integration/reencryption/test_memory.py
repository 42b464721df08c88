"""A job holds a batch in memory, not a table."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.jobs import add_claimants, kinds, rotate
from support.models import Claimant
from support.workers import peak_of_job

from sa_keyvault import KeyRing

MARGIN = 32 * 1024  # KiB


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of a process")
def test_peak_does_not_grow_with_the_table(
    connector: Callable[[], Engine], application: Engine, plain: Engine, admin: KeyRing
) -> None:
    """A job over 100,000 rows takes at most 32 MiB more at its peak than one over 10,000."""

    def run(first: int, last: int) -> tuple[int, int]:
        for start in range(first, last, 10_000):
            add_claimants(application, range(start, min(start + 10_000, last)))
        rotate(plain, admin, "identities", "models")
        # a process of its own each time: a peak stays
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            return executor.submit(peak_of_job, connector).result()

    small_rows, small_peak = run(101, 10_001)
    large_rows, large_peak = run(10_001, 100_001)
    assert (small_rows, large_rows) == (10_000, 100_000)
    assert large_peak - small_peak <= MARGIN, f"{small_peak} and {large_peak} KiB"
    with plain.connect() as connection:
        assert kinds(connection, Claimant.metadata.tables["claimant"], "email") == {"active"}
