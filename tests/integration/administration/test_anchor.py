"""The anchor of a running server: it goes with what is committed, and its loss stops no server that runs."""

import logging
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from sqlalchemy import URL, Column, Engine, Integer, MetaData, Table, delete, select
from support.models import Base, Claimant

from sa_keyvault import (
    AnchorWarning,
    ConfigurationError,
    Encrypted,
    KeyRing,
    LegacyAlgorithmWarning,
    Provisioning,
    store,
)
from sa_keyvault import administration as administer
from sa_keyvault.keyring.anchor import _read


@pytest.fixture
def anchor(tmp_path: Path) -> Path:
    """An anchor in a folder of its own."""
    (tmp_path / "anchors").mkdir()
    return tmp_path / "anchors" / "app.anchor"


@pytest.fixture
def server(application: Engine, url: URL, anchor: Path, make_ring: RingMaker, make_engine: EngineMaker) -> Engine:
    """A server with an anchor, which looks at the key store before every statement."""
    engine = make_engine(url, ring := make_ring(anchor=anchor, refresh_seconds=0))
    ring.initialize(engine, Base.metadata)
    return engine


def rotate(plain: Engine, admin: KeyRing) -> None:
    """Change the key store, as another process does."""
    with plain.begin() as connection:
        administer.rotate_master(connection, admin)


def look(server: Engine) -> None:
    """Let a server refresh its ring."""
    with server.connect() as connection:
        connection.execute(select(Claimant.id)).all()


def version(anchor: Path) -> int:
    """Return the version that an anchor has seen."""
    known = _read(anchor)
    assert known is not None
    return known.version


def test_refresh_advances_the_anchor(server: Engine, plain: Engine, admin: KeyRing, anchor: Path) -> None:
    """What a running server sees of the key store is in its anchor (R-28)."""
    assert version(anchor) == 1
    rotate(plain, admin)
    look(server)
    assert version(anchor) == 2


def test_refresh_outlives_an_anchor_that_cannot_be_written(
    server: Engine, plain: Engine, admin: KeyRing, anchor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A running server warns, logs, goes on and tries again; the next start is refused."""
    anchor.unlink()
    anchor.parent.rmdir()
    rotate(plain, admin)
    with pytest.warns(AnchorWarning, match=r"cannot be written \(No such file or directory\)"):
        look(server)
    logged = [record for record in caplog.records if "cannot be written" in record.message]
    assert [record.levelno for record in logged] == [logging.WARNING]
    anchor.parent.mkdir()
    look(server)
    assert version(anchor) == 2


def test_start_needs_the_anchor(
    server: Engine, url: URL, anchor: Path, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A server whose anchor cannot be written does not start."""
    anchor.unlink()
    anchor.parent.rmdir()
    ring = make_ring(anchor=anchor)
    with pytest.raises(ConfigurationError, match=r"cannot be written \(No such file or directory\); give the process"):
        ring.initialize(make_engine(url, ring), Base.metadata)


def test_operation_that_is_rolled_back_is_not_in_the_anchor(
    server: Engine, plain: Engine, make_ring: RingMaker, anchor: Path
) -> None:
    """Operations of one transaction see each other, and the anchor sees only what is committed (R-28)."""
    ring = make_ring(anchor=anchor)
    with plain.begin() as connection:
        administer.rotate_master(connection, ring)
        administer.rotate_master(connection, ring)
        connection.rollback()
    assert version(anchor) == 1
    look(server)


def test_start_that_is_rolled_back_is_not_in_the_anchor(
    server: Engine, url: URL, anchor: Path, make_ring: RingMaker, make_engine: EngineMaker
) -> None:
    """A start that makes a master key and fails afterwards leaves no anchor that is ahead of the key store (R-28)."""
    moved = MetaData()
    Table("claimant", moved, Column("id", Integer, primary_key=True), Column("email", Encrypted(area="moved")))
    with pytest.warns(LegacyAlgorithmWarning):
        ring = make_ring(anchor=anchor, provisioning=Provisioning(master="3des"))
    with pytest.raises(ConfigurationError, match=r"the area of claimant\.email was changed in the model"):
        ring.initialize(make_engine(url, ring), moved)
    assert version(anchor) == 1
    look(server)


# -- the audit ---------------------------------------------------------------------------------------------------------


def test_cut_chain_is_found_against_the_anchor(server: Engine, plain: Engine, admin: KeyRing, anchor: Path) -> None:
    """The end of the chain that is cut off with all signatures over it is found against the anchor, and only so."""
    signed = ("store", "installation", "master_key", "master_wrap", "event")
    tables = [store.tables.tables[f"keyvault_{name}"] for name in signed]
    with plain.connect() as connection:
        before = {table: [dict(row) for row in connection.execute(table.select()).mappings()] for table in tables}
    rotate(plain, admin)
    look(server)
    own = [admin.installation_key.fingerprint]
    with plain.begin() as connection:
        assert administer.verify_events(connection, own, anchor).findings == ()
        for table, rows in before.items():
            connection.execute(delete(table))
            connection.execute(table.insert(), rows)
        assert administer.verify_events(connection, own).findings == ()
        (finding,) = administer.verify_events(connection, own, anchor).findings
    assert f"the key store has version 1, the anchor {anchor} has seen version 2" == finding


def test_audit_needs_an_anchor_that_is_there(application: Engine, plain: Engine, anchor: Path) -> None:
    """An anchor that is not there is an error, and no proof that all is well."""
    with plain.connect() as connection, pytest.raises(ConfigurationError, match="is not there; start a server with it"):
        administer.verify_events(connection, anchor=anchor)
