"""A process that dies at any write of any operation leaves a key store that opens, with nothing lost."""

import inspect
import os
from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from conftest import EngineMaker
from sqlalchemy import URL, Connection, Engine, create_engine, event, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool
from support.certificates import certificate_for
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import InstallationKey, KeyRing, Provisioning, store
from sa_keyvault import administration as administer
from sa_keyvault.installation import SoftwareInstallationKey, certificate_request
from sa_keyvault.keyring import operation
from sa_keyvault.states import KeyState

pytestmark = pytest.mark.alone

EMAIL = marked("ada@example.org")
VOICE = marked("voice").encode()
_DIED = 9

Operate = Callable[[Connection, KeyRing, InstallationKey], object]


def _number(connection: Connection, state: KeyState) -> int:
    return next(record.number for record in store.working(connection) if record.state is state)


def _master(connection: Connection, state: KeyState) -> str:
    return next(record.id for record in store.masters(connection) if record.state is state)


OPERATIONS: dict[str, Operate] = {
    "rotate area": lambda connection, ring, _: administer.rotate_area(connection, ring, "identities"),
    "disable working": lambda connection, ring, _: administer.disable_working(
        connection, ring, _number(connection, KeyState.RETIRED)
    ),
    "enable working": lambda connection, ring, _: administer.enable_working(
        connection, ring, _number(connection, KeyState.DISABLED)
    ),
    "retire working": lambda connection, ring, _: administer.retire_working(
        connection, ring, _number(connection, KeyState.ACTIVE)
    ),
    "remove working": lambda connection, ring, _: administer.remove_working(
        connection, ring, _number(connection, KeyState.RETIRED)
    ),
    "rotate master": lambda connection, ring, _: administer.rotate_master(connection, ring),
    "replace master": lambda connection, ring, _: administer.replace_master(connection, ring),
    "disable master": lambda connection, ring, _: administer.disable_master(
        connection, ring, _master(connection, KeyState.RETIRED)
    ),
    "enable master": lambda connection, ring, _: administer.enable_master(
        connection, ring, _master(connection, KeyState.DISABLED)
    ),
    "retire master": lambda connection, ring, _: administer.retire_master(
        connection, ring, _master(connection, KeyState.ACTIVE)
    ),
    "remove master": lambda connection, ring, _: administer.remove_master(
        connection, ring, _master(connection, KeyState.RETIRED)
    ),
    "provision": lambda connection, ring, _: administer.provision(connection, ring),
    "add installation": administer.add_installation,
    "invite installation": lambda connection, ring, other: administer.invite_installation(
        connection, ring, certificate_request(other, "other")
    ),
    "join installation": lambda connection, ring, other: administer.join_installation(
        connection, KeyRing(other), ring.installation_key.fingerprint
    ),
    "remove installation": lambda connection, ring, other: administer.remove_installation(
        connection, ring, other.fingerprint
    ),
    "bind certificate": lambda connection, ring, _: administer.bind_certificate(
        connection, ring, certificate_for(ring.installation_key)
    ),
}
"""Every operation that writes."""


def test_every_operation_is_tried() -> None:
    """No operation that takes a connection, a ring and a reason is left out."""
    operations = {
        name.replace("_", " ")
        for name in administer.__all__
        if "reason" in getattr(signature_of(name), "parameters", ())
    }
    assert operations == set(OPERATIONS)


def signature_of(name: str) -> inspect.Signature | None:
    """Return the signature of a function of the administration, None for a class."""
    found = getattr(administer, name)
    return None if isinstance(found, type) else inspect.signature(found)


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

        # of the class: the library's own connections are of another engine
        event.listen(Engine, "before_cursor_execute", die)
        with engine.connect() as connection:
            operate(connection, ring, other)
            connection.commit()
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
    with plain.begin() as connection:
        if name == "enable working":
            administer.disable_working(connection, spare, _number(connection, KeyState.RETIRED))
        if name == "enable master":
            administer.disable_master(connection, spare, _master(connection, KeyState.RETIRED))
        if name == "retire master":
            # the last active one is not retired
            with operation(connection, spare.identity) as changing:
                changing.follow_master(changing.active_masters()[0], Provisioning.default().master_suite)
        if name == "remove installation":
            administer.add_installation(connection, spare, other_key)
        if name == "join installation":
            administer.invite_installation(connection, spare, certificate_request(other_key, "other"))
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
    assert died >= 3


def test_crash_at_every_write_of_a_start(
    url: URL, make_engine: EngineMaker, installation_key: SoftwareInstallationKey
) -> None:
    """Whatever write the first start of all dies at, the next one makes the key store, and only one (A-39)."""

    def start(connection: Connection, ring: KeyRing, _: InstallationKey) -> None:
        connection.rollback()
        ring.initialize(connection.engine, Base.metadata)

    died = 0
    for writes in count():
        code = _run_until(url, start, KeyRing(installation_key), installation_key, writes)
        if code == 0:
            break
        assert code == _DIED
        died += 1
    ring = KeyRing(installation_key)
    engine = make_engine(url, ring, poolclass=NullPool)
    ring.initialize(engine, Base.metadata)
    with make_engine(url, poolclass=NullPool).connect() as connection:
        assert (len(store.masters(connection)), len(store.working(connection))) == (1, 2)
        assert administer.verify_events(connection).findings == ()
    assert died >= 10
