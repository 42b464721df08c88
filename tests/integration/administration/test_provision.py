"""A store is moved to another provisioning: nothing is lost, and nothing of the old one is used any more."""

import threading
from dataclasses import replace
from itertools import product

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.pool import StaticPool
from support.leaks import marked
from support.models import Base, Claimant, change_state, changing, envelopes

from sa_keyvault import (
    ConfigurationError,
    InstallationKey,
    KeyRecordError,
    KeyRing,
    KeyStateError,
    KeyStoreError,
    KeyVaultError,
    Provisioning,
    store,
)
from sa_keyvault.administration import Provisioned, add_installation, provision
from sa_keyvault.envelope import key_number
from sa_keyvault.states import KeyState
from sa_keyvault.suites import Aes256Gcm

pytestmark = pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")

ALL = [Provisioning(*choice) for choice in product(("aes", "3des"), ("aes", "3des"), ("sha256", "sha1"))]
COUNT = 25
EMAILS = {number: marked(f"person{number}@example.org") for number in range(1, COUNT + 1)}
MODELS = {number: marked(f"voice{number}").encode() for number in range(1, COUNT + 1)}


def start(ring: KeyRing, url: URL, make_engine: EngineMaker) -> Engine:
    """Return an engine of an initialized ring."""
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    return engine


def fill(engine: Engine) -> None:
    """Write the claimants."""
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Claimant(id=n, email=EMAILS[n], voice_model=MODELS[n]) for n in EMAILS)


def read(engine: Engine) -> tuple[dict[int, str], dict[int, bytes | None]]:
    """Return what is read of all claimants."""
    with Session(engine) as session:
        claimants = session.scalars(select(Claimant)).all()
        return {one.id: one.email for one in claimants}, {one.id: one.voice_model for one in claimants}


def rewrite(engine: Engine) -> None:
    """Write every value again, through the ORM."""
    with Session(engine) as session, session.begin():
        for claimant in session.scalars(select(Claimant)):
            flag_modified(claimant, "email")
            flag_modified(claimant, "voice_model")


def suites_of_values(engine: Engine) -> set[str]:
    """Return the suites of the keys that stored values are under."""
    with engine.connect() as connection:
        suites = {record.number: record.suite for record in store.working(connection)}
        stored = [*envelopes(connection), *envelopes(connection, Claimant.voice_model)]
    assert len(stored) == 2 * COUNT
    return {suites[key_number(one)] for one in stored}


def wait_until_blocked(engine: Engine, thread: threading.Thread) -> None:
    """Return when a transaction of the database waits for a lock, or the thread has ended."""
    waiting = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND wait_event_type = 'Lock'",
        "mysql": "SELECT count(*) FROM information_schema.innodb_trx AS trx JOIN information_schema.processlist "
        "AS process ON process.id = trx.trx_mysql_thread_id WHERE process.db = DATABASE() "
        "AND trx.trx_state = 'LOCK WAIT'",
    }[engine.dialect.name]
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while thread.is_alive() and not connection.scalar(text(waiting)):
            thread.join(0.2)  # MariaDB looks again at what transactions wait for only after 0.1 s without a question


def move(engine: Engine, ring: KeyRing) -> Provisioned:
    """Move the keys."""
    with engine.begin() as connection:
        return provision(connection, ring)


def test_original_to_default(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A store that is provisioned as the original is moved to the default without losing a value."""
    fill(start(make_ring(provisioning=Provisioning.original()), url, make_engine))
    ring = make_ring()
    with pytest.raises(ConfigurationError, match="signed with SHA-1"):
        start(ring, url, make_engine)
    plain = make_engine(url)
    done = move(plain, ring)
    # the master key is AES already: it is signed anew, and stays
    assert (
        len(done.signed),
        done.masters_made,
        done.rewrapped,
        done.masters_retired,
        len(done.retired),
    ) == (1, (), 0, (), 2)
    ring = make_ring()
    engine = start(ring, url, make_engine)
    assert read(engine) == (EMAILS, MODELS)
    rewrite(engine)
    assert suites_of_values(plain) == {"aes-256-gcm"}
    assert read(engine) == (EMAILS, MODELS)
    assert read(start(make_ring(), url, make_engine)) == (EMAILS, MODELS)


@pytest.mark.parametrize("former", ALL, ids=lambda one: f"from-{one.master}-{one.working}-{one.hash}")
@pytest.mark.parametrize("wanted", ALL, ids=lambda one: f"to-{one.master}-{one.working}-{one.hash}")
def test_every_move(
    sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker, former: Provisioning, wanted: Provisioning
) -> None:
    """Each of the 64 moves loses nothing, leaves one active master key of the wanted suite, and can be repeated."""
    fill(start(make_ring(provisioning=former), sqlite_url, make_engine))
    plain, ring = make_engine(sqlite_url), make_ring(provisioning=wanted)
    move(plain, ring)
    again = move(plain, ring)
    assert Provisioned((), (), 0, (), ()) == again
    engine = start(ring, sqlite_url, make_engine)
    assert read(engine) == (EMAILS, MODELS)
    rewrite(engine)
    assert suites_of_values(plain) == {wanted.working_suite.name}
    assert read(engine) == (EMAILS, MODELS)
    with plain.connect() as connection:
        masters, wraps, working = store.masters(connection), store.wraps(connection), store.working(connection)
    active = [record for record in masters if record.state is KeyState.ACTIVE]
    assert [wanted.master_suite.name] == [record.suite for record in active]
    assert {active[0].id} == {record.master_id for record in working}
    assert {wanted.hash} == {"sha1" if wrap.algorithm.endswith("sha1") else "sha256" for wrap in wraps}


def test_master_keys_of_another_suite(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A 3DES master key is followed by an AES one of its lineage, which wraps its working keys; all are retired.

    The working keys, too, though they are of AES: a backup has them under 3DES.
    """
    fill(start(make_ring(provisioning=Provisioning(master="3des")), url, make_engine))
    plain = make_engine(url)
    done = move(plain, make_ring())
    with plain.connect() as connection:
        former, successor = sorted(store.masters(connection), key=lambda record: record.suite)
        working = store.working(connection)
    assert (former.suite, former.state, former.epoch) == ("3des-cbc-hmac-sha256", KeyState.RETIRED, 2)
    assert ("aes-256-gcm", KeyState.ACTIVE, former.lineage) == (successor.suite, successor.state, successor.lineage)
    numbers = {record.number for record in working}
    expected = Provisioned((), (successor.id,), 2, (former.id,), done.retired)
    assert (expected, numbers, {successor.id}) == (done, set(done.retired), {record.master_id for record in working})
    with plain.connect() as connection:
        wrapped = store.usage(connection, successor.id)
    # each once to be wrapped, and once more in its new state
    assert wrapped == 4
    assert read(start(make_ring(), url, make_engine)) == (EMAILS, MODELS)


def test_keys_under_3des_stay_where_3des_stays(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A move from one 3DES master key to another of another hash retires no AES key: it would be no stronger."""
    fill(start(make_ring(provisioning=Provisioning(master="3des")), url, make_engine))
    done = move(make_engine(url), make_ring(provisioning=Provisioning(master="3des", hash="sha1")))
    assert (done.rewrapped, len(done.masters_retired), done.retired) == (2, 1, ())


def test_signed_anew_for_every_installation(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """What is signed with SHA-1 for another installation only is signed anew, too, and both start afterwards."""
    fill(start(make_ring(), url, make_engine))
    plain, other = make_engine(url), InstallationKey.generate()
    with plain.begin() as connection:
        add_installation(connection, make_ring(provisioning=Provisioning(hash="sha1")), other)
    with pytest.raises(ConfigurationError, match="signed with SHA-1"):
        start(KeyRing(other), url, make_engine)
    done = move(plain, make_ring(also=[other]))
    with plain.connect() as connection:
        wraps, installations = store.wraps(connection), store.installations(connection)
    assert (1, {"rsa-oaep-sha256+rsa-pss-sha256"}) == (len(done.signed), {wrap.algorithm for wrap in wraps})
    assert [one.algorithm for one in installations.values()] == ["rsa-pss-sha256"] * 2
    assert (
        (EMAILS, MODELS) == read(start(KeyRing(other), url, make_engine)) == read(start(make_ring(), url, make_engine))
    )


def test_running_servers_go_on(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A server that is not restarted yet reads and writes on, during the move and after it."""
    old = make_ring(provisioning=Provisioning(master="3des", working="3des"), refresh_seconds=0)
    engine = start(old, url, make_engine)
    fill(engine)
    with engine.connect() as connection:
        connection.execute(insert(Claimant), [{"id": 101, "email": marked("in passing")}])
        connection.commit()
    move(make_engine(url), make_ring())
    assert read(engine)[0] == EMAILS | {101: marked("in passing")}
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=102, email=marked("later")))
    ring = make_ring()
    expected = EMAILS | {101: marked("in passing"), 102: marked("later")}
    assert read(engine)[0] == read(start(ring, url, make_engine))[0] == expected


def test_effect_at_once_in_the_same_process(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """The ring whose engine the move ran on seals under the new keys from the next transaction on."""
    fill(start(make_ring(provisioning=Provisioning(working="3des")), url, make_engine))
    ring = make_ring(refresh_seconds=3600)
    engine = start(ring, url, make_engine)
    move(engine, ring)
    rewrite(engine)
    assert suites_of_values(make_engine(url)) == {"aes-256-gcm"}


@pytest.mark.parametrize("refresh_seconds", [0, 3600])
def test_rolled_back(url: URL, make_ring: RingMaker, make_engine: EngineMaker, refresh_seconds: int) -> None:
    """A move that is rolled back has changed nothing, neither in the store nor in the process."""
    fill(start(make_ring(provisioning=Provisioning(master="3des", working="3des")), url, make_engine))
    ring = make_ring(provisioning=Provisioning(master="3des", working="3des"), refresh_seconds=refresh_seconds)
    engine, plain = start(ring, url, make_engine), make_engine(url)
    with plain.connect() as connection:
        before = store.masters(connection), store.wraps(connection), store.working(connection)
    with engine.connect() as connection:
        provision(connection, make_ring())
        connection.rollback()
    with plain.connect() as connection:
        assert before == (store.masters(connection), store.wraps(connection), store.working(connection))
    assert read(engine) == (EMAILS, MODELS)


def test_in_memory(make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A database in memory, which has one connection only, is moved like others."""
    old = make_ring(provisioning=Provisioning(master="3des", working="3des"))
    engine = make_engine("sqlite://", old, poolclass=StaticPool)
    old.initialize(engine, Base.metadata)
    fill(engine)
    move(engine, make_ring())
    assert read(engine) == (EMAILS, MODELS)


def test_states_are_kept(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, installation_key: InstallationKey
) -> None:
    """Disabled and retired working keys are wrapped anew in the state that they are in."""
    former = Provisioning(master="3des", working="3des")
    fill(start(make_ring(provisioning=former), url, make_engine))
    plain = make_engine(url)
    with plain.begin() as connection:
        change_state(connection, installation_key, "identities", KeyState.DISABLED)
        change_state(connection, installation_key, "models", KeyState.RETIRED)
    move(plain, make_ring())
    with plain.connect() as connection:
        states = {record.area: (record.state, record.former_state) for record in store.working(connection)}
    assert states == {"identities": (KeyState.DISABLED, "active"), "models": (KeyState.RETIRED, "")}
    engine = start(make_ring(), url, make_engine)
    with Session(engine) as session:
        assert {row.id: row.voice_model for row in session.execute(select(Claimant.id, Claimant.voice_model))} == MODELS
        with pytest.raises(KeyStateError, match="is disabled"):
            session.scalars(select(Claimant.email)).all()


# -- refused -----------------------------------------------------------------------------------------------------------


def test_no_store(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A database without a key store is an error that says so."""
    with make_engine(url).begin() as connection, pytest.raises(KeyStoreError, match="no initialized key store"):
        provision(connection, make_ring())


def test_another_installation(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Another installation's key moves nothing."""
    start(make_ring(provisioning=Provisioning.original()), url, make_engine)
    with make_engine(url).begin() as connection, pytest.raises(KeyStoreError, match="does not open this key store"):
        provision(connection, KeyRing(InstallationKey.generate()))


def test_edited_master_key_is_not_signed_anew(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A master key whose record was edited is refused, not signed as it stands (R-23, A-31)."""
    start(make_ring(provisioning=Provisioning.original()), url, make_engine)
    plain = make_engine(url)
    with plain.begin() as connection:
        record = store.masters(connection)[0]
        store.replace_master(connection, replace(record, created="2001-01-01T00:00:00Z"))
    with plain.connect() as connection, pytest.raises(KeyRecordError, match="is not signed by installation key"):
        provision(connection, make_ring())


def test_disabled_master_key(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, installation_key: InstallationKey
) -> None:
    """Where no master key is active there is nothing to move to, and the error says what to do."""
    ring = make_ring(provisioning=Provisioning.original())
    start(ring, url, make_engine)
    plain = make_engine(url)
    with plain.begin() as connection, changing(connection, installation_key) as operation:
        operation.move_master(operation.active_masters()[0], KeyState.DISABLED, "master-key-disabled")
    with plain.connect() as connection, pytest.raises(KeyStateError, match="no master key is active, so nothing can"):
        provision(connection, make_ring())


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_two_moves_at_once(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Two moves at the same time are done one after the other: the second finds nothing to do."""
    fill(start(make_ring(provisioning=Provisioning(master="3des")), url, make_engine))
    plain, ring = make_engine(url), make_ring()
    with plain.connect() as one:
        first = provision(one, ring)
        found: list[Provisioned] = []
        other = threading.Thread(target=lambda: found.append(move(plain, ring)))
        other.start()
        wait_until_blocked(plain, other)
        one.commit()
        other.join()
    assert (1, Provisioned((), (), 0, (), ())) == (len(first.masters_made), found[0])


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_older_snapshot(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A move in a transaction that has a snapshot from before another move is refused, and undoes nothing."""
    start(make_ring(provisioning=Provisioning(master="3des")), url, make_engine)
    plain, ring = make_engine(url, isolation_level="REPEATABLE READ"), make_ring()
    with plain.connect() as old:
        before = store.masters(old)
        assert len(before) == 1
        move(make_engine(url), ring)
        if url.get_backend_name() == "postgresql":
            with pytest.raises(OperationalError, match="could not serialize"):
                provision(old, ring)
        else:
            with pytest.raises(KeyStoreError, match="the keys were changed since this transaction began"):
                provision(old, ring)


@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_autocommit_is_refused(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A connection that commits every statement is refused: a crash in the middle would leave half a move."""
    start(make_ring(provisioning=Provisioning(master="3des")), url, make_engine)
    engine = make_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection, pytest.raises(KeyStoreError, match="is in AUTOCOMMIT mode"):
        provision(connection, make_ring())


def test_weaker_master_key_is_not_used(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A ring that is provisioned with AES seals under no working key that a 3DES master key wraps (R-12)."""
    start(make_ring(provisioning=Provisioning(master="3des")), url, make_engine)
    engine = start(make_ring(), url, make_engine)
    fill(engine)
    with make_engine(url).connect() as connection:
        suites = {record.id: record.suite for record in store.masters(connection)}
        masters = {record.number: suites[record.master_id] for record in store.working(connection)}
        stored = envelopes(connection)
    assert {"aes-256-gcm"} == {masters[key_number(one)] for one in stored}


def test_sha1_does_not_come_back(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Once SHA-1 was left, a record that is signed with it is refused by the move, too (A-31)."""
    start(make_ring(provisioning=Provisioning(hash="sha1")), url, make_engine)
    plain = make_engine(url)
    with plain.connect() as connection:
        (old,) = store.wraps(connection)
    move(plain, make_ring())
    with plain.begin() as connection:
        store.replace_wraps(connection, [old])
    with plain.connect() as connection, pytest.raises(ConfigurationError, match="signed with SHA-1"):
        provision(connection, make_ring())


def test_worn_successor_is_not_chosen(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """The newest master key of the wanted suite wraps what is moved, not one that is worn out."""
    small = Provisioning(master="small", suites=(Aes256Gcm(name="small", usage_limit=200),))
    ring = make_ring(provisioning=small)
    start(ring, url, make_engine)
    plain = make_engine(url)
    with plain.begin() as connection:
        (worn,) = store.masters(connection)
        store.add_usage(connection, "0" * 32, worn.id, 100)
    start(make_ring(provisioning=replace(small, master="3des")), url, make_engine)
    start(make_ring(provisioning=small), url, make_engine)
    with plain.begin() as connection:
        assert len(provision(connection, ring).masters_retired) == 1
    fill(start(make_ring(provisioning=small), url, make_engine))


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_no_statement_sees_half_a_move(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A server that reads the key store while it is moved reads it again, and goes on."""
    ring = make_ring(refresh_seconds=0)
    engine = start(ring, url, make_engine)
    fill(engine)
    plain = make_engine(url)
    choices = [make_ring(provisioning=Provisioning(master=master)) for master in ("3des", "aes")]
    is_done = threading.Event()
    failures: list[BaseException] = []

    def read_on() -> None:
        while not is_done.is_set():
            try:
                read(engine)
            except KeyVaultError as error:
                failures.append(error)

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(10):
        move(plain, choices[turn % 2])
    is_done.set()
    for reader in readers:
        reader.join()
    assert failures == []


def test_uncommitted_key_stays_with_its_transaction(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A key of an open transaction is not given to others when the key store is read on its connection (A-38)."""
    if url.get_backend_name() == "sqlite":
        pytest.skip("one writer at a time")
    ring = make_ring(working_keys_per_area=2)
    engine = start(ring, url, make_engine)
    Base.metadata.create_all(engine)
    other = make_ring(provisioning=Provisioning(master="3des"), working_keys_per_area=5)
    with engine.connect() as open_one:
        limited = [{"id": number, "email": marked("open")} for number in range(1, 3)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ring, "settings", replace(ring.settings, working_keys_per_area=3))
            open_one.execute(insert(Claimant), limited)
            start(other, url, make_engine)
            patch.setattr(ring, "settings", replace(ring.settings, working_keys_per_area=4))
            open_one.execute(insert(Claimant), [{"id": 3, "email": marked("open")}])
            patch.undo()
        with Session(engine) as session, session.begin():
            session.add_all(Claimant(id=n, email=EMAILS[n]) for n in range(4, 20))
        open_one.rollback()
    fresh = start(make_ring(), url, make_engine)
    assert read(fresh)[0] == {n: EMAILS[n] for n in range(4, 20)}
