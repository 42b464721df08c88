"""The anchor of a running server: it goes with what is committed, and its loss stops no server that runs."""

import logging
import os
import shutil
import stat
import threading
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
from sa_keyvault.keyring.anchor import _read, advance_anchor
from sa_keyvault.keyring.anchor_file import locked_anchor, write_anchor_file
from sa_keyvault.ledger import StoreRecord


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
    shutil.rmtree(anchor.parent)
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
    shutil.rmtree(anchor.parent)
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


# -- the file ----------------------------------------------------------------------------------------------------------


def seen(version: int) -> StoreRecord:
    """Return what is seen of a key store in a version."""
    return StoreRecord(store_id="0" * 32, version=version, digest="", events=0, head="")


def test_slower_process_does_not_set_the_anchor_back(anchor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is held up between its look and its write keeps others out, and sets no anchor back (R-28)."""
    advance_anchor(anchor, seen(4))
    faster = threading.Thread(target=advance_anchor, args=(anchor, seen(6)))

    def held_up(path: Path, data: bytes) -> None:
        monkeypatch.undo()
        faster.start()
        faster.join(0.2)
        write_anchor_file(path, data)

    monkeypatch.setattr("sa_keyvault.keyring.anchor.write_anchor_file", held_up)
    advance_anchor(anchor, seen(5))
    faster.join()
    assert version(anchor) == 6


def test_lock_that_is_held_is_not_waited_for_without_end(anchor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that holds the lock for ever, stopped for instance, does not stop the others (R-28)."""
    monkeypatch.setattr("sa_keyvault.keyring.anchor_file._LOCK_SECONDS", 0.05)
    with (
        locked_anchor(anchor),
        pytest.raises(ConfigurationError, match="another process has held the lock of the anchor"),
    ):
        advance_anchor(anchor, seen(5))


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_anchor_is_written_for_its_user_only(anchor: Path) -> None:
    """Nobody else can write the anchor or its lock, whatever the umask is, and no other file is left."""
    umask = os.umask(0)
    try:
        advance_anchor(anchor, seen(5))
    finally:
        os.umask(umask)
    modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in anchor.parent.iterdir()}
    assert modes == {"app.anchor": 0o600, ".app.anchor.lock": 0o600}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("mode", "folder"), [(0o620, 0o700), (0o602, 0o700), (0o600, 0o777)])
def test_anchor_that_others_can_write_is_refused(anchor: Path, mode: int, folder: int) -> None:
    """An anchor that others could have written is no proof, and is refused like such a key file."""
    advance_anchor(anchor, seen(5))
    anchor.chmod(mode)
    anchor.parent.chmod(folder)
    with pytest.raises(ConfigurationError, match=r"others can write it; run `chmod 600|everybody may write"):
        advance_anchor(anchor, seen(6))


@pytest.mark.skipif(os.name != "posix", reason="symlinks and FIFOs are POSIX's")
def test_what_is_no_file_is_no_anchor(anchor: Path) -> None:
    """A symlink is not followed, and a FIFO not waited for."""
    advance_anchor(anchor, seen(5))
    anchor.with_name("link").symlink_to(anchor)
    with pytest.raises(ConfigurationError, match=r"cannot be read \(.*\); a symlink is not followed"):
        advance_anchor(anchor.with_name("link"), seen(6))
    os.mkfifo(anchor.with_name("fifo"), 0o600)
    with pytest.raises(ConfigurationError, match="is no regular file"):
        advance_anchor(anchor.with_name("fifo"), seen(6))


def test_anchor_is_on_the_disk_before_it_has_its_name(anchor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power loss leaves is a whole anchor: it is synchronized before it replaces the former one (R-28)."""
    calls: list[str] = []
    sync, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), sync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda own, target: (calls.append("replace"), rename(own, target))[1])
    advance_anchor(anchor, seen(5))
    assert calls == ["fsync", "replace", "fsync"]


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
