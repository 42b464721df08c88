"""The provisioning of a store is told by what verifies in it: nobody else who can write to the database chooses it."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Connection, Engine, delete, insert, select
from support.models import Base

from sa_keyvault import ConfigurationError, InstallationKey, KeyRecordError, Provisioning, store
from sa_keyvault.administration import provision, provisioning_of, rotate_area, sealing_provisioning_of
from sa_keyvault.records import new_id
from sa_keyvault.store.schema import event_table, installation_table, store_table
from sa_keyvault.suites import Aes256Gcm

pytestmark = pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")

CHOICES = [
    Provisioning.default(),
    Provisioning.original(),
    Provisioning(master="3des", working="3des"),
    Provisioning(master="3des", hash="sha1"),
]


@pytest.fixture
def start(url: URL, make_ring: RingMaker, make_engine: EngineMaker) -> Callable[[Provisioning], Engine]:
    """Make a store, and return an engine without a ring."""

    def make(provisioning: Provisioning) -> Engine:
        ring = make_ring(provisioning=provisioning)
        ring.initialize(make_engine(url, ring), Base.metadata)
        return make_engine(url)

    return make


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_what_was_made(
    chosen: Provisioning, start: Callable[[Provisioning], Engine], installation_key: InstallationKey
) -> None:
    """It is what the newest active keys were made by."""
    with start(chosen).connect() as connection:
        assert provisioning_of(connection, installation_key) == chosen
        assert sealing_provisioning_of(connection, installation_key) == chosen


@pytest.mark.parametrize("master", ["nowhere", "its own"])
def test_forged_working_key_is_not_asked(
    master: str,
    start: Callable[[Provisioning], Engine],
    installation_key: InstallationKey,
    make_ring: RingMaker,
) -> None:
    """A row that no master key has sealed does not choose 3DES, even if it is the only active one (R-23, A-31)."""
    plain = start(Provisioning.default())
    with plain.begin() as connection:
        rotate_area(connection, make_ring(), "identities")
        rotate_area(connection, make_ring(), "models")
        own = store.masters(connection)[0].id
        record = store.working_in_area(connection, "identities")[0]
        forged = replace(
            record,
            number=7,
            created="9999-01-01T00:00:00Z",
            state=record.state.ACTIVE,
            epoch=1,
            suite="3des-cbc-hmac-sha256",
            master_id=own if master == "its own" else new_id(),
            wrapped=b"junk",
        )
        store.add_working(connection, forged)
    with plain.connect() as connection:
        assert sealing_provisioning_of(connection, installation_key) == Provisioning.default()


def test_forged_hash_is_refused(start: Callable[[Provisioning], Engine], installation_key: InstallationKey) -> None:
    """A record that says to be signed with SHA-1, and is not, is refused, whatever it leads to (A-31)."""
    plain = start(Provisioning.default())
    with plain.begin() as connection:
        connection.execute(installation_table.update().values(algorithm="rsa-pkcs1-sha1"))
    with plain.connect() as connection, pytest.raises(KeyRecordError, match="is not signed by installation key"):
        provisioning_of(connection, installation_key)


def test_record_from_before_does_not_bring_sha1_back(
    start: Callable[[Provisioning], Engine], installation_key: InstallationKey, make_ring: RingMaker
) -> None:
    """The genuine SHA-1 record of the store from before, which is put back, makes nothing sign with SHA-1 (A-31)."""
    plain = start(Provisioning(hash="sha1"))
    with plain.connect() as connection:
        before = [_rows(connection, table) for table in (store_table, installation_table)]
    with plain.begin() as connection:
        provision(connection, make_ring())
    with plain.begin() as connection:
        for table, rows in zip((store_table, installation_table), before, strict=True):
            connection.execute(delete(table))
            connection.execute(insert(table), rows)
        connection.execute(delete(event_table).where(event_table.c.number > before[0][0]["events"]))
    with plain.connect() as connection:
        assert provisioning_of(connection, installation_key) == Provisioning.default()


def _rows(connection: Connection, table: object) -> list[dict[str, object]]:
    return [dict(row) for row in connection.execute(select(table)).mappings()]  # type: ignore[call-overload]


@pytest.mark.parametrize("level", ["master", "working"])
def test_own_suite_is_not_known(
    level: str, start: Callable[[Provisioning], Engine], installation_key: InstallationKey
) -> None:
    """Of a suite of the application's own there is a clear error where keys are to be made, and else AES."""
    own = Aes256Gcm(name="small", usage_limit=2000)
    plain = start(Provisioning(**{level: "small"}, suites=(own,)))  # type: ignore[arg-type]
    with plain.connect() as connection:
        assert provisioning_of(connection, installation_key) == Provisioning.default()
        with pytest.raises(ConfigurationError, match=f"active {level} key is of the cipher suite 'small', which is"):
            sealing_provisioning_of(connection, installation_key)
