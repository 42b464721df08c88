"""Each of the eight provisionings through the whole stack on each database: written, read, forged, counted."""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from conftest import EngineMaker, RingMaker
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import URL, Engine, Table, create_engine, insert, select, text, true, update
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant, envelopes, run_processes

from sa_keyvault import (
    AuthenticationError,
    ConfigurationError,
    EncodingError,
    InstallationKey,
    KeyRecordError,
    KeyRing,
    KeyStateError,
    KeyVaultError,
    LegacyAlgorithmWarning,
    Provisioning,
    store,
)
from sa_keyvault.administration import rotate_master
from sa_keyvault.envelope import key_number
from sa_keyvault.secret import Secret
from sa_keyvault.suites import (
    AES_256_GCM,
    TRIPLE_DES_SHA1,
    TRIPLE_DES_SHA256,
    Aes256Gcm,
    Cipher,
    TripleDesCbcHmac,
)

pytestmark = pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")

ALL = [Provisioning(*choice) for choice in product(("aes", "3des"), ("aes", "3des"), ("sha256", "sha1"))]
NAMES = [f"{one.master}-{one.working}-{one.hash}" for one in ALL]
EMAIL, OTHER = marked("ada@example.org"), marked("grace@example.org")
MODEL = marked("voice").encode()

_WORKING = store.tables.tables["keyvault_working_key"]
_MASTER = store.tables.tables["keyvault_master_key"]
_WRAP = store.tables.tables["keyvault_master_wrap"]


@pytest.fixture(params=ALL, ids=NAMES)
def provisioning(request: pytest.FixtureRequest) -> Provisioning:
    """Each of the eight."""
    chosen: Provisioning = request.param
    return chosen


@pytest.fixture
def ring(make_ring: RingMaker, provisioning: Provisioning) -> KeyRing:
    """A ring that is provisioned so."""
    return make_ring(provisioning=provisioning)


@pytest.fixture
def ready(engine: Engine, ring: KeyRing) -> Engine:
    """An initialized engine with two rows in it."""
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL, voice_model=MODEL))
        session.add(Claimant(id=2, email=OTHER))
    return engine


@pytest.fixture
def plain(url: URL, ready: Engine, make_engine: EngineMaker) -> Engine:
    """An engine that sees what is stored."""
    return make_engine(url)


def emails(engine: Engine) -> list[str]:
    """Return what is read."""
    with Session(engine) as session:
        return list(session.scalars(select(Claimant.email).order_by(Claimant.id)))


def put(engine: Engine, number: int, stored: bytes) -> None:
    """Change what is stored behind the library's back."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE claimant SET email = :stored WHERE id = :id"), {"stored": stored, "id": number})


def first_envelope(engine: Engine) -> bytes:
    """Return what is stored of the first row's email."""
    with engine.connect() as connection:
        return envelopes(connection)[0]


def bits_of(data: bytes) -> Iterator[bytes]:
    """Yield *data* with each bit flipped."""
    number = int.from_bytes(data, "big")
    return ((number ^ 1 << bit).to_bytes(len(data), "big") for bit in range(8 * len(data)))


# -- written and read --------------------------------------------------------------------------------------------------


def test_written_and_read(ready: Engine, plain: Engine, provisioning: Provisioning) -> None:
    """Values come back, and are stored under keys of the suites that are provisioned."""
    with Session(ready) as session:
        assert list(session.execute(select(Claimant.email, Claimant.voice_model)).first() or ()) == [EMAIL, MODEL]
    assert emails(ready) == [EMAIL, OTHER]
    with plain.connect() as connection:
        master, working = store.masters(connection)[0], store.working(connection)
        stored = envelopes(connection)
    suites = (provisioning.master_suite.name, {provisioning.working_suite.name})
    assert suites == (master.suite, {record.suite for record in working})
    size = provisioning.working_suite.body_size(len(EMAIL))
    assert 9 + size == len(stored[0])
    assert not any(b"example" in one for one in stored)


def test_updated(ready: Engine) -> None:
    """UPDATEs by key, by another column and through the ORM seal anew."""
    with Session(ready) as session, session.begin():
        session.execute(update(Claimant).where(Claimant.id == 2).values(email=EMAIL))
        session.get_one(Claimant, 1).email = OTHER
    assert emails(ready) == [OTHER, EMAIL]


def test_opens_in_another_process_and_provisioning(
    ready: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker, provisioning: Provisioning
) -> None:
    """A second ring opens the values; one of another provisioning with the same hash does, too, and writes its own."""
    for working in ("aes", "3des"):
        other = make_ring(provisioning=replace(provisioning, working=working))
        engine = make_engine(url, other)
        other.initialize(engine, Base.metadata)
        assert emails(engine)[:2] == [EMAIL, OTHER]
        with Session(engine) as session, session.begin():
            session.add(Claimant(id=3 if working == "aes" else 4, email=EMAIL))
    assert emails(ready) == [EMAIL, OTHER, EMAIL, EMAIL]


# -- forged ------------------------------------------------------------------------------------------------------------


def test_swapped_rows_are_refused(ready: Engine, plain: Engine) -> None:
    """The values of two rows, exchanged, open in neither (R-21, A-1)."""
    with plain.connect() as connection:
        one, other = envelopes(connection)
    put(plain, 1, other)
    put(plain, 2, one)
    for number in (1, 2):
        with Session(ready) as session, pytest.raises(AuthenticationError):
            session.get(Claimant, number)


def test_swapped_columns_are_refused(ready: Engine, plain: Engine) -> None:
    """A value of another column and area of the same row does not open (R-21, A-2, A-4)."""
    with plain.connect() as connection:
        put(plain, 1, envelopes(connection, Claimant.voice_model)[0])
    with Session(ready) as session, pytest.raises(KeyVaultError, match="belongs to area 'models'"):
        session.get(Claimant, 1)


def test_every_changed_envelope_is_refused(ready: Engine, plain: Engine, ring: KeyRing) -> None:
    """No envelope opens that has any bit flipped, is cut anywhere, or is longer (R-20, A-13, A-14)."""
    stored = first_envelope(plain)
    assert ring.open(Claimant.email, 1, stored) == EMAIL
    cuts = [stored[:size] for size in range(len(stored))]
    for forged in (*bits_of(stored), *cuts, stored + b"\0", stored + bytes(8), stored + stored):
        with pytest.raises(KeyVaultError):
            ring.open(Claimant.email, 1, forged)


def test_every_changed_body_is_one_error(ready: Engine, plain: Engine, ring: KeyRing) -> None:
    """Whatever bit is flipped behind the header, class and text are the same, of every suite: no oracle (R-7, A-79).

    The text has the size of what is stored, which is known to whoever can change it.
    """
    stored, failures = first_envelope(plain), set()
    for forged in bits_of(stored[9:]):
        with pytest.raises(KeyVaultError) as caught:
            ring.open(Claimant.email, 1, stored[:9] + forged)
        failures.add((type(caught.value), str(caught.value)))
    size = len(stored) + len(":1")
    expected = f"claimant.email: {size} stored bytes do not open with their key for their row"
    assert {(AuthenticationError, expected)} == failures


def test_changed_envelopes_are_refused_in_the_database(ready: Engine, plain: Engine) -> None:
    """The same through the database: forgeries of each part are refused by the SELECT (R-20)."""
    stored = first_envelope(plain)
    places = (0, 3, 8, 9, len(stored) // 2, len(stored) - 1)
    forgeries = [stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :] for place in places]
    for forged in (*forgeries, stored[:-1], stored[:20], stored[:9], b"", stored + b"\0"):
        put(plain, 1, forged)
        with Session(ready) as session, pytest.raises(KeyVaultError):
            session.get(Claimant, 1)


# -- wrapped keys ------------------------------------------------------------------------------------------------------


def read_anew(url: URL, make_ring: RingMaker, make_engine: EngineMaker, provisioning: Provisioning) -> list[str]:
    """Return what a ring reads that is started after the key store was changed."""
    ring = make_ring(provisioning=provisioning)
    engine = make_engine(url, ring)
    ring.initialize(engine)
    return emails(engine)


@pytest.fixture
def anew(url: URL, make_ring: RingMaker, make_engine: EngineMaker, provisioning: Provisioning) -> tuple[Any, ...]:
    """The arguments of `read_anew`."""
    return url, make_ring, make_engine, provisioning


def test_swapped_working_keys_are_refused(plain: Engine, anew: tuple[Any, ...]) -> None:
    """The wrapped secrets of two working keys, exchanged, are refused (R-24, A-25)."""
    with plain.begin() as connection:
        one, other = store.working(connection)[:2]
        store.replace_working(connection, [replace(one, wrapped=other.wrapped), replace(other, wrapped=one.wrapped)])
    with pytest.raises(KeyRecordError, match="changed outside the library"):
        read_anew(*anew)


@pytest.mark.parametrize("table", [_WORKING, _MASTER, _WRAP], ids=lambda table: table.name)
def test_edited_keys_are_refused(plain: Engine, anew: tuple[Any, ...], table: Table) -> None:
    """No column of a key's tables can be edited unnoticed, whatever wraps and signs it (R-23, R-24, A-24 to A-27)."""
    is_first = table.c.area == "identities" if table is _WORKING else true()
    for column in table.columns:
        with plain.begin() as connection:
            value = connection.execute(select(column).where(is_first)).scalar_one()
            connection.execute(update(table).where(is_first).values({column: edited(value)}))
        with pytest.raises(KeyVaultError):
            read_anew(*anew)
        with plain.begin() as connection:
            connection.execute(update(table).where(column == edited(value)).values({column: value}))
        assert read_anew(*anew) == [EMAIL, OTHER]


def edited(value: Any) -> Any:
    """Return another value of the same kind, which the column can hold."""
    if isinstance(value, int):
        return value + 1
    if isinstance(value, (bytes, memoryview)):
        return bytes(value)[:-1] + bytes([bytes(value)[-1] ^ 1])
    if value in ("", "active"):
        return "retired"
    return value[:-1] + ("0" if value[-1] != "0" else "1")


def test_swapped_master_keys_are_refused(
    plain: Engine, ready: Engine, anew: tuple[Any, ...], make_ring: RingMaker, make_engine: EngineMaker, url: URL
) -> None:
    """The wraps of two master keys, exchanged with their signatures, are refused (R-23, A-24)."""
    provisioning: Provisioning = anew[3]
    other = make_ring(provisioning=replace(provisioning, master="aes" if provisioning.master == "3des" else "3des"))
    other.initialize(make_engine(url, other), Base.metadata)
    with plain.begin() as connection:
        one, two = store.wraps(connection)
        connection.execute(_WRAP.delete())
        for wrap, master_id in ((one, two.master_id), (two, one.master_id)):
            values = {"fingerprint": wrap.fingerprint, "algorithm": wrap.algorithm, "wrapped": wrap.wrapped}
            connection.execute(insert(_WRAP).values(master_id=master_id, signature=wrap.signature, **values))
    with pytest.raises(KeyRecordError, match="is not signed by installation key"):
        read_anew(*anew)


# -- limits ------------------------------------------------------------------------------------------------------------

BLOCKS = 60
"""Of 8 bytes: a key seals 15 emails of 26 bytes, four blocks each."""


def insert_in_process(
    url: URL, key_file: Path, passphrase: bytes, barrier: Barrier, first: int, options: dict[str, Any]
) -> None:
    """Insert 40 rows in one statement, together with other processes."""
    warnings.simplefilter("ignore", LegacyAlgorithmWarning)
    ring = KeyRing(InstallationKey.from_file(key_file, passphrase), **options)
    engine = create_engine(url, plugins=["keyvault"], keyring=ring)
    ring.initialize(engine, Base.metadata)
    barrier.wait()
    add(engine, 40, first)
    engine.dispose()


def add(engine: Engine, count: int, first: int) -> None:
    """Insert rows in one statement."""
    rows = [{"id": first + number, "email": f"person{number:08}@example.org"} for number in range(count)]
    with engine.begin() as connection:
        connection.execute(insert(Claimant), rows)


def blocks_per_key(engine: Engine) -> dict[int, int]:
    """Return how many blocks each working key has encrypted, by what is stored."""
    found: dict[int, int] = {}
    with engine.connect() as connection:
        for stored in envelopes(connection):
            found[key_number(stored)] = found.get(key_number(stored), 0) + (len(stored) - 9 - 8 - 32) // 8
    return found


TRIPLE_DES = Provisioning(master="3des", working="3des")


def test_blocks_are_counted_over_processes(url: URL, installation_key: InstallationKey, tmp_path: Path) -> None:
    """Two processes cross a limit of blocks in the middle of a bulk insert: others follow, all opens (R-6, A-42)."""
    bare = create_engine(url)
    Base.metadata.create_all(bare)
    options = {"provisioning": TRIPLE_DES, "usage_limit": BLOCKS}
    arguments = [(first, options) for first in (1, 101)]
    assert run_processes(insert_in_process, url, installation_key, tmp_path, arguments) == [0, 0]
    used = blocks_per_key(bare)
    # processes that reserve at the same instant do not see each other: that is what the other half is for
    assert (len(used) >= 3, sum(used.values()), max(used.values()) <= 2 * BLOCKS) == (True, 80 * 4, True)
    ring = KeyRing(installation_key, **options)
    engine = create_engine(url, plugins=["keyvault"], keyring=ring)
    ring.initialize(engine, Base.metadata)
    assert len(emails(engine)) == 80
    add(engine, 40, 201)
    assert max(blocks_per_key(bare).values()) <= 2 * BLOCKS
    bare.dispose()
    engine.dispose()


@pytest.mark.parametrize("provisioning", [TRIPLE_DES], ids=["3des"])
def test_value_that_does_not_fit_a_key(
    url: URL, ready: Engine, plain: Engine, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A value of more blocks than one key is used for is refused with the remedy, and nothing is written (R-6)."""
    ring = make_ring(provisioning=TRIPLE_DES, usage_limit=BLOCKS)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    fitting = marked("x" * 100).encode().ljust(8 * BLOCKS - 1)
    with pytest.raises(EncodingError, match=r"480 bytes uses 61 of a 3des-cbc-hmac-sha256 key, more than the 60 .*AES"):
        add_model(engine, 9, fitting + b"x")
    add_model(engine, 9, fitting)
    with plain.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM claimant")).scalar_one() == 3


def add_model(engine: Engine, number: int, model: bytes) -> None:
    """Insert a row with a voice model."""
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=number, email=EMAIL, voice_model=model))


@pytest.mark.parametrize("provisioning", [TRIPLE_DES], ids=["3des"])
def test_largest_value_of_a_real_key(ready: Engine) -> None:
    """Half of 2^20 blocks is 4 MiB: a value of that size with its padding fits a key, one byte more does not (R-6)."""
    largest = 8 * 2**19 - 1
    add_model(ready, 9, bytes(largest))
    with Session(ready) as session:
        assert largest == len(session.get_one(Claimant, 9).voice_model or b"")
    with pytest.raises(EncodingError, match="4194304 bytes uses 524289"):
        add_model(ready, 10, bytes(largest + 1))


# -- master keys wear out ----------------------------------------------------------------------------------------------


def small_master(limit: int) -> Provisioning:
    """Return a provisioning whose master keys wrap few working keys."""
    return Provisioning(master="small", suites=(Aes256Gcm(name="small", usage_limit=limit),))


def test_wraps_of_a_master_key_are_counted(
    url: URL, make_ring: RingMaker, make_engine: EngineMaker, installation_key: InstallationKey
) -> None:
    """A master key is followed at a start, before it is worn out, by one of its lineage; every value opens (R-6)."""
    bare = make_engine(url)
    Base.metadata.create_all(bare)
    for start in range(4):
        ring = make_ring(provisioning=small_master(16), usage_limit=1)
        engine = make_engine(url, ring)
        ring.initialize(engine, Base.metadata)
        with engine.begin() as connection:
            connection.execute(insert(Claimant), [{"id": 10 * start + n + 1, "email": EMAIL} for n in range(3)])
        assert [EMAIL] * 3 * (start + 1) == emails(engine)
    with bare.connect() as connection:
        masters, working = store.masters(connection), store.working(connection)
    wraps = [sum(record.master_id == master.id for record in working) for master in masters]
    assert (len(masters) > 1, len({master.lineage for master in masters}), max(wraps) <= 8) == (True, 1, True)


def test_worn_master_key_wraps_nothing(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Where the start did not come in time, the write is refused with the remedy, and the remedy helps (R-6, A-42)."""
    ring = make_ring(provisioning=small_master(16), usage_limit=1)
    engine = make_engine(url, ring)
    Base.metadata.create_all(engine)
    ring.initialize(engine, Base.metadata)
    with pytest.raises(KeyStateError, match=r"no new one; ring.initialize\(\) makes a new master key"):
        add(engine, 20, 1)
    ring.initialize(engine, Base.metadata)
    add(engine, 5, 1)
    assert len(emails(engine)) == 5


def test_blocks_of_a_3des_master_are_counted(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A 3DES master key wraps within half of its blocks, and at half of these is followed by one of its lineage (R-6).

    Of 200 blocks the library uses 100, so a successor comes at 50, at the next start; a key of 32 bytes takes 5.
    """
    suite = TripleDesCbcHmac("small-3des", SHA256(), usage_limit=200)
    bare, found = make_engine(url), []
    for keys in (4, 4, 5, 5):
        provisioning = Provisioning(master="small-3des", suites=(suite,))
        ring = make_ring(provisioning=provisioning, working_keys_per_area=keys)
        ring.initialize(make_engine(url, ring), Base.metadata)
        with bare.connect() as connection:
            wraps = Counter(record.master_id for record in store.working(connection))
            lineages = {master.id: master.lineage for master in store.masters(connection)}
            used = {id_: store.usage(connection, id_) for id_ in lineages}
        assert {id_: suite.usage(32) * wraps[id_] for id_ in lineages} == used
        found.append((sorted(used.values()), len(set(lineages.values()))))
    assert found == [([40], 1), ([40], 1), ([50], 1), ([0, 50], 1)]
    with bare.begin() as connection, pytest.raises(KeyStateError, match="small-3des may not wrap 10 more working keys"):
        rotate_master(connection, ring, next(iter(wraps)))


# -- warnings ----------------------------------------------------------------------------------------------------------


def test_legacy_warns_once(provisioning: Provisioning, make_ring: RingMaker, sqlite_url: URL) -> None:
    """3DES and SHA-1 warn when the ring is made, once, with the dates and the way out; AES and SHA-256 do not (R-3)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ring = make_ring(provisioning=provisioning)
        engine = create_engine(sqlite_url, plugins=["keyvault"], keyring=ring)
        for _ in range(2):
            ring.initialize(engine, Base.metadata)
        engine.dispose()
    is_legacy = "3des" in (provisioning.master, provisioning.working) or provisioning.hash == "sha1"
    assert [LegacyAlgorithmWarning] * is_legacy == [one.category for one in caught]
    for one in caught:
        assert "`sa-keyvault provision` leads to " in str(one.message)
        assert one.filename.endswith("conftest.py")


def test_legacy_keys_in_the_store_warn(sqlite_url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A default ring on a store that still has 3DES keys warns of them."""
    old = make_ring(provisioning=Provisioning(working="3des"))
    old.initialize(make_engine(sqlite_url, old), Base.metadata)
    ring = make_ring()
    with pytest.warns(
        LegacyAlgorithmWarning,
        match=r"^2 active keys are of 3DES, .*; `sa-keyvault provision`",
    ):
        ring.initialize(make_engine(sqlite_url, ring), Base.metadata)


# -- SHA-1 -------------------------------------------------------------------------------------------------------------


def test_sha256_ring_refuses_a_sha1_store(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A ring that is provisioned with SHA-256 does not start on master keys that are signed with SHA-1 (A-31)."""
    old = make_ring(provisioning=Provisioning(hash="sha1"))
    old.initialize(make_engine(url, old), Base.metadata)
    ring = make_ring()
    with pytest.raises(ConfigurationError, match=r"signed with SHA-1, .*; `sa-keyvault provision` signs it anew"):
        ring.initialize(make_engine(url, ring), Base.metadata)


def test_running_ring_goes_on_beside_a_sha1_master(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A master key that another server signs with SHA-1 is refused by a running ring, which goes on without it."""
    ring = make_ring(refresh_seconds=0)
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=EMAIL))
    other = make_ring(provisioning=Provisioning(master="3des", working="3des", hash="sha1"))
    second = make_engine(url, other)
    other.initialize(second, Base.metadata)
    with Session(second) as session, session.begin():
        session.add(Claimant(id=2, email=OTHER))
    with Session(engine) as session, session.begin():
        assert session.get_one(Claimant, 1).email == EMAIL
        session.add(Claimant(id=3, email=OTHER))
    with Session(engine) as session, pytest.raises(ConfigurationError, match="signed with SHA-1"):
        session.get(Claimant, 2)


# -- a suite from outside ----------------------------------------------------------------------------------------------


class ReversedCipher:
    """AES-256-GCM with the ciphertext turned round: another suite, as a user would plug one in."""

    def __init__(self, key: Secret) -> None:
        self._inner: Cipher = AES_256_GCM.cipher(key)

    def seal(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        return self._inner.seal(nonce, plaintext, aad)[::-1]

    def open(self, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
        return self._inner.open(nonce, sealed[::-1], aad)


class ReversedSuite:
    """The suite of that cipher."""

    name = "reversed-gcm"
    key_size = 32
    nonce_size = 12
    usage_limit = 1000
    is_fips_approved = False

    def usage(self, plaintext_size: int) -> int:
        return 1

    def body_size(self, plaintext_size: int) -> int:
        return AES_256_GCM.body_size(plaintext_size)

    def cipher(self, key: Secret) -> ReversedCipher:
        return ReversedCipher(key)


def own_choices() -> Sequence[Provisioning]:
    """Return provisionings with the own suite at each level."""
    suites = (ReversedSuite(),)
    return [
        Provisioning(working="reversed-gcm", suites=suites),
        Provisioning(master="reversed-gcm", working="3des", suites=suites),
        Provisioning(master="reversed-gcm", working="reversed-gcm", suites=suites),
    ]


@pytest.mark.parametrize("provisioning", own_choices(), ids=["working", "master", "both"])
def test_own_suite(ready: Engine, plain: Engine, ring: KeyRing, anew: tuple[Any, ...]) -> None:
    """A suite from outside the package wraps and seals, and its forgeries are refused like all others (R-20)."""
    assert [EMAIL, OTHER] == emails(ready) == read_anew(*anew)
    stored = first_envelope(plain)
    for forged in (*bits_of(stored), *(stored[:size] for size in range(len(stored)))):
        with pytest.raises(KeyVaultError):
            ring.open(Claimant.email, 1, forged)
    test_swapped_rows_are_refused(ready, plain)


@pytest.mark.parametrize("provisioning", own_choices()[:1], ids=["working"])
def test_own_suite_that_is_gone(ready: Engine, url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """A ring that does not know the suite says so when a value is read, and writes under its own."""
    ring = make_ring()
    engine = make_engine(url, ring)
    ring.initialize(engine, Base.metadata)
    with pytest.raises(ConfigurationError, match="no cipher suite 'reversed-gcm'"):
        emails(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=9, email=EMAIL))
        session.flush()
        assert session.scalar(select(Claimant.email).where(Claimant.id == 9)) == EMAIL


def test_suites_live_side_by_side(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """Rings of all provisionings write into one table, and the last of them reads what all the others wrote."""
    # SHA-1 last: a ring that is provisioned with SHA-256 does not start where keys are signed with SHA-1
    in_order = sorted(ALL, key=lambda one: one.hash, reverse=True)
    for number, provisioning in enumerate(in_order, 1):
        ring = make_ring(provisioning=provisioning)
        engine = make_engine(url, ring)
        ring.initialize(engine, Base.metadata)
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Claimant(id=number, email=f"{EMAIL}{number}"))
    assert [f"{EMAIL}{number}" for number in range(1, 9)] == emails(engine)
    with make_engine(url).connect() as connection:
        suites = {record.suite for record in store.working(connection)}
    assert {AES_256_GCM.name, TRIPLE_DES_SHA256.name, TRIPLE_DES_SHA1.name} == suites
