"""Transcripts of `sa-keyvault provision`."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Engine, select
from sqlalchemy.orm import Session
from support.command import KeyFiles, Runner
from support.databases import SYNC_DRIVERS, database_url
from support.leaks import marked
from support.models import Base, Claimant, envelopes

from sa_keyvault import KeyRing, LegacyAlgorithmWarning, Provisioning, store
from sa_keyvault.envelope import key_number
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM, LEGACY_SUITES

pytestmark = pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")

EMAIL, MODEL = marked("ada@example.org"), marked("voice").encode()
MOVED = """\
provisioned: master keys aes, working keys aes, hash sha256
  1 master keys signed anew
  0 master keys made, 0 retired
  0 working keys wrapped anew, 2 retired
values under retired keys open, and are to be re-encrypted
"""
NOTHING = """\
provisioned: master keys aes, working keys aes, hash sha256
  0 master keys signed anew
  0 master keys made, 0 retired
  0 working keys wrapped anew, 0 retired
"""


@pytest.fixture
def original(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> KeyRing:
    """A store that is provisioned as the original, with a value in it."""
    ring = make_ring(provisioning=Provisioning.original())
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL, voice_model=MODEL))
    return ring


def test_original_to_default(
    url: URL, original: KeyRing, run: Runner, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """One command leads from the original to the default, says what it did, and can be repeated."""
    first, second = run("provision", url=url), run("provision", url=url)
    assert (first.code, first.output, first.errors) == (0, MOVED, "")
    assert (second.code, second.output, second.errors) == (0, NOTHING, "")
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with Session(engine) as session:
        assert list(session.scalars(select(Claimant.email))) == [EMAIL]


@pytest.mark.alone
@pytest.mark.parametrize("url", SYNC_DRIVERS, indirect=True)
def test_original_is_left_for_good(
    url: URL, original: KeyRing, run: Runner, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """Three commands lead from the original to its end: nothing of 3DES or SHA-1 is left, and no value is lost (R-30).

    A server of the default writes in the middle of it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run("provision", url=url).output == MOVED
        with pytest.warns(LegacyAlgorithmWarning, match=r"^2 keys of 3DES are left, .*`sa-keyvault working remove`"):
            add(make_ring(), url, 2, make_engine)
        done = run("reencrypt", "--metadata", "support.models:Base", url=url)
        assert (done.code, done.output.splitlines()[-1]) == (0, "1 rows written, none is left")
        bare = make_engine(url)
        with bare.connect() as connection:
            former = [str(record.number) for record in store.working(connection) if record.suite in LEGACY_SUITES]
        for number in former:
            done = run("working", "remove", number, "--yes", "--removal-hours", "0", "--refresh-seconds", "0", url=url)
            assert (done.code, done.output, done.errors) == (0, f"working key {number} is removed\n", "")
        assert values(add(make_ring(), url, 3, make_engine)) == [(EMAIL, MODEL)] * 3
    with bare.connect() as connection:
        suites = {record.number: record.suite for record in store.working(connection)}
        stored = [*envelopes(connection), *envelopes(connection, Claimant.voice_model)]
        keys = [*store.masters(connection), *store.working(connection)]
        signed = [*store.wraps(connection), *store.installations(connection).values()]
    assert [AES_256_GCM.name] * 6 == [suites[key_number(one)] for one in stored]
    assert [key.state for key in keys if key.suite in LEGACY_SUITES] == [KeyState.REMOVED] * 2
    assert [one.algorithm for one in signed if one.algorithm.endswith("sha1")] == []


def add(ring: KeyRing, url: URL, number: int, make_engine: EngineMaker) -> Engine:
    """Start a server, and insert a row."""
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=number, email=EMAIL, voice_model=MODEL))
    return engine


def values(engine: Engine) -> list[tuple[str, bytes | None]]:
    """Return what a server reads."""
    with Session(engine) as session:
        return [tuple(row) for row in session.execute(select(Claimant.email, Claimant.voice_model))]


def test_to_triple_des(sqlite_url: URL, original: KeyRing, run: Runner) -> None:
    """What leads to 3DES and SHA-1 warns of both, and does it."""
    done = run("provision", "--master", "3des", "--working", "3des", "--hash", "sha1", url=sqlite_url)
    assert (
        done.code,
        done.output.splitlines()[0],
    ) == (0, "provisioned: master keys 3des, working keys 3des, hash sha1")
    assert ("after 2023" in done.errors, "since 2014" in done.errors) == (True, True)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """An SQLite file, unless a test asks for more."""
    yield from database_url(getattr(request, "param", "sqlite"), tmp_path)


def test_no_store(sqlite_url: URL, run: Runner) -> None:
    """A database without a key store: an error and a hint on stderr, nothing on stdout, exit code 1."""
    Path(str(sqlite_url.database)).touch()
    done = run("provision", url=sqlite_url)
    error = "sa-keyvault: error: the database has no initialized key store\n"
    hint = "sa-keyvault: hint: call ring.initialize(engine, metadata) at start-up\n"
    assert (1, "", error + hint) == (done.code, done.output, done.errors)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", "the URL of the database is none"),
        ("postgresql+nodriver://localhost/x", "the URL names a database or driver that SQLAlchemy does not know"),
        ("postgresql+psycopg://localhost:port/x", "the URL of the database is none"),
        ("postgresql+asyncpg://localhost/x", "postgresql+asyncpg is an asyncio driver"),
        ("oracle+oracledb://localhost/x", "the URL names a driver that is not installed (oracledb)"),
        ("postgresql+psycopg://127.0.0.1:1/none", "the database failed (OperationalError: "),
        ("sqlite:////nowhere/none.db", "there is no SQLite file /nowhere/none.db"),
    ],
)
def test_bad_url(url: str, error: str, run: Runner) -> None:
    """A database that cannot be reached is an error with a hint, without a traceback."""
    done = run("provision", "--url", url)
    assert (done.code, done.output, done.errors.startswith(f"sa-keyvault: error: {error}")) == (1, "", True)
    assert "Traceback" not in done.errors


def test_wrong_passphrase(sqlite_url: URL, original: KeyRing, run: Runner, key_files: KeyFiles) -> None:
    """A wrong passphrase is an error that does not show it."""
    key_files.passphrase.write_bytes(b"not-the-passphrase")
    done = run("provision", url=sqlite_url)
    assert (done.code, done.output, "does not open: wrong passphrase" in done.errors) == (1, "", True)
    assert "not-the-passphrase" not in done.errors


def test_no_key(sqlite_url: URL, run: Runner) -> None:
    """Without the option of the key the command says what is missing, exit code 2."""
    done = run("provision", url=sqlite_url, SA_KEYVAULT_INSTALLATION_KEY="")
    assert (done.code, "Missing option '--installation-key'" in done.errors) == (2, True)


@pytest.mark.parametrize(
    "command",
    [
        ("working", "rotate", "identities"),
        ("master", "rotate"),
        ("reencrypt", "--metadata", "support.models:Base"),
    ],
    ids=" ".join,
)
def test_what_is_made_is_warned_of(sqlite_url: URL, original: KeyRing, run: Runner, command: tuple[str, ...]) -> None:
    """A command that makes or uses keys of 3DES or SHA-1 says so once, and does it (R-12)."""
    done = run(*command, url=sqlite_url)
    assert (done.code, done.errors.count("sa-keyvault: warning: ")) == (0, 1)
    assert ("3DES has 112 bits" in done.errors, "SHA-1 signatures" in done.errors) == (True, True)
