"""A process that is killed in the middle of a job loses nothing, whatever it was at (A-39)."""

import os
import random
import signal
from itertools import count

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.pool import NullPool
from support.jobs import CLAIMANTS, add_claimants, claimant, kinds, open_values, rotate
from support.models import Base

from sa_keyvault import InstallationKey, KeyRing
from sa_keyvault.reencryption import Pace, reencrypt

ROWS, KILLS = 30, 20


def run_until(url: URL, key: InstallationKey, moment: int) -> int:
    """Run the job in a forked process that is killed at a moment, counted in statements; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        moments = count()

        def pass_one(*_: object) -> None:
            if next(moments) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        # of the class: the library's own connections are of another engine
        for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
            event.listen(Engine, name, pass_one)
        ring = KeyRing(key, refresh_seconds=0)
        engine = create_engine(url, poolclass=NullPool, plugins=["keyvault"], keyring=ring)
        ring.initialize(engine)
        reencrypt(engine, CLAIMANTS, pace=Pace(batch_size=5, part_size=15))
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.parametrize("seed", [6])
def test_killed_at_random_moments(
    url: URL,
    make_ring: RingMaker,
    make_engine: EngineMaker,
    installation_key: InstallationKey,
    admin: KeyRing,
    seed: int,
) -> None:
    """Killed at twenty random moments and resumed each time, every value opens, and is under an active key at last."""
    chance = random.Random(seed)  # noqa: S311 - moments, no keys
    ring = make_ring(refresh_seconds=0)
    engine, plain = make_engine(url, ring, poolclass=NullPool), make_engine(url, poolclass=NullPool)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    add_claimants(engine, range(1, ROWS + 1))
    rotate(plain, admin, "identities", "models")
    expected = [claimant(number) for number in range(1, ROWS + 1)]
    kills = 0
    while kills < KILLS:
        code = run_until(url, installation_key, chance.randrange(150))
        with engine.connect() as connection:
            assert expected == open_values(connection, CLAIMANTS, "email", "voice_model")
        if code == -signal.SIGKILL:
            kills += 1
            continue
        assert code == 0
        with plain.connect() as connection:
            assert kinds(connection, CLAIMANTS, "email") == {"active"}
        rotate(plain, admin, "identities", "models")
    assert reencrypt(engine, CLAIMANTS).is_finished
    with engine.connect() as connection:
        assert expected == open_values(connection, CLAIMANTS, "email", "voice_model")
        assert kinds(connection, CLAIMANTS, "email") == {"active"}
        assert kinds(connection, CLAIMANTS, "voice_model") == {"active", "null"}
