"""Key rings: how long one takes to open a key store with few keys, and with many."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from sqlalchemy import create_engine, insert

from benchmarks.databases import Database, opened
from benchmarks.figures import OURS, Figure, Scale
from benchmarks.measure import Peer, Race, race
from sa_keyvault import InstallationKey, KeyRing, records, store
from sa_keyvault.keyring import load_keys
from sa_keyvault.store.schema import working_table
from sa_keyvault.suites import AES_256_GCM

__all__ = ["bench_keys", "starting"]


def bench_keys(folder: Path, scale: Scale) -> Iterator[Figure]:
    """Show how the start of a ring grows with the working keys of its store."""
    make_ring = partial(KeyRing, InstallationKey.generate(), actor="benchmarks")
    with opened("sqlite", folder, make_ring) as database:
        database.ring.initialize(database.ringed)
        one, have = _model_key(database), 0
        alone = "1 key"
        for keys in scale.keys:
            _add(database, one, have, keys)
            have = keys
            title = alone if keys == 1 else f"{keys:,} keys"
            found = race({title: starting(database, make_ring)}, items=1, rounds=scale.few_rounds)
            if keys == 1:
                least = found.measured[alone]
            # the stores cannot be opened in turns: there is but one, which grows
            merged = Race(1, {title: found.measured[title], alone: least})
            yield Figure(
                "keys", title, "sqlite", OURS, alone, "s", found.amount(title), merged.ratio(title, alone), keys
            )


def starting(database: Database, make_ring: Callable[[], KeyRing]) -> Peer:
    """Open the key store with a new ring, as at the start of an application."""

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        ring = make_ring()
        engine = create_engine(database.url, plugins=["keyvault"], keyring=ring)
        try:
            yield lambda: ring.initialize(engine)
        finally:
            engine.dispose()

    return prepare


def _model_key(database: Database) -> records.WorkingRecord:
    with database.bare.begin() as connection:
        master = load_keys(connection, database.ring.identity).masters()[0]
        taken = {record.number for record in store.working(connection)}
    if taken:
        msg = "the key store has keys already"
        raise AssertionError(msg)
    return records.new_working(master.record, master.require_secret(), "others", AES_256_GCM)


def _add(database: Database, one: records.WorkingRecord, have: int, keys: int) -> None:
    """Add copies of a key, which differ in their number: that is noticed at their first use, not when they are read."""
    columns = working_table.columns.keys()
    many = (replace(one, number=number) for number in range(have + 1, keys + 1))
    with database.bare.begin() as connection:
        connection.execute(insert(working_table), [{name: getattr(key, name) for name in columns} for key in many])
