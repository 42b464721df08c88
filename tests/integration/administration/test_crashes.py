"""A process that dies at any write of any operation leaves a key store that opens, with nothing lost."""

import os
from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from conftest import EngineMaker
from sqlalchemy import URL, Connection, Engine, create_engine, event, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import InstallationKey, KeyRing, Provisioning, store
from sa_keyvault import administration as administer
from sa_keyvault.installation import SoftwareInstallationKey
from sa_keyvault.states import KeyState

EMAIL = marked("ada@example.org")
VOICE = marked("voice").encode()
_DIED = 9

Operate = Callable[[Connection, KeyRing, InstallationKey], object]


def _number(connection: Connection, state: KeyState) -> int:
    return next(record.number for record in store.working(connection) if record.state is state)


OPERATIONS: dict[str, Operate] = {
    "rotate area": lambda connection, ring, _: administer.rotate_area(connection, ring, "identities"),
    "disable working": lambda connection, ring, _: administer.disable_working(
        connection, ring, _number(connection, KeyState.RETIRED)
    ),
    "remove working": lambda connection, ring, _: administer.remove_working(
        connection, ring, _number(connection, KeyState.RETIRED)
    ),
    "rotate master": lambda connection, ring, _: administer.rotate_master(connection, ring),
    "replace master": lambda connection, ring, _: administer.replace_master(connection, ring),
    "remove master": lambda connection, ring, _: administer.remove_master(
        connection, ring, next(one.id for one in store.masters(connection) if one.state is KeyState.RETIRED)
    ),
    "provision": lambda connection, ring, _: administer.provision(connection, ring),
    "add installation": administer.add_installation,
}


@pytest.fixture(scope="module")
def other_key() -> SoftwareInstallationKey:
    """A second installation key."""
    return InstallationKey.generate()


def _administrator(key: InstallationKey, name: str) -> KeyRing:
    provisioning = Provisioning(master="3des") if name == "provision" else None
    return KeyRing(key, provisioning, refresh_seconds=0, removal_delay=timedelta(0))


def _run_until(url: URL, operate: Operate, ring: KeyRing, other: InstallationKey, writes: int) -> int:
    """Run an operation in a forked process that dies before the given write; return its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        engine = create_engine(url, poolclass=NullPool)
        left = iter(range(writes))

        def die(conn: object, cursor: object, statement: str, *_: object) -> None:
            if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE")) and next(left, None) is None:
                os._exit(_DIED)

        event.listen(engine, "before_cursor_execute", die)
        with engine.begin() as connection:
            operate(connection, ring, other)
        engine.dispose()
        os._exit(0)
    finally:
        os._exit(1)


def _read(engine: Engine) -> tuple[str, bytes | None]:
    with Session(engine) as session:
        claimant = session.scalars(select(Claimant)).one()
        return claimant.email, claimant.voice_model


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
@pytest.mark.parametrize("name", OPERATIONS)
def test_crash_at_every_write(
    url: URL,
    name: str,
    make_engine: EngineMaker,
    installation_key: SoftwareInstallationKey,
    other_key: SoftwareInstallationKey,
) -> None:
    """Whatever write an operation dies at, the next start reads every value, and the audit is clean (A-39, A-44)."""
    ring = KeyRing(installation_key, refresh_seconds=0)
    engine = make_engine(url, ring, poolclass=NullPool)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    plain = make_engine(url, poolclass=NullPool)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL, voice_model=VOICE))
    with plain.begin() as connection:
        # retired keys that nothing depends on
        spare = KeyRing(installation_key, refresh_seconds=0, removal_delay=timedelta(0))
        administer.rotate_area(connection, spare, "models")
        administer.rotate_master(connection, spare)
    with Session(engine) as session, session.begin():
        session.get_one(Claimant, 1).voice_model = VOICE + b"!"
    died = 0
    for writes in count():
        code = _run_until(url, OPERATIONS[name], _administrator(installation_key, name), other_key, writes)
        with plain.connect() as connection:
            assert administer.verify_events(connection).findings == ()
        fresh = KeyRing(installation_key)
        opened = make_engine(url, fresh, poolclass=NullPool)
        fresh.initialize(opened)
        assert _read(opened) == (EMAIL, VOICE + b"!")
        opened.dispose()
        if code == 0:
            break
        assert code == _DIED
        died += 1
    assert died >= 4
