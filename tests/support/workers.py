"""What workers of a job run in their own process: functions of a module, which every process can import."""

from pathlib import Path

from sqlalchemy import URL, Engine, create_engine

from sa_keyvault import InstallationKey, KeyRing
from sa_keyvault.reencryption import TableChange, reencrypting
from support.jobs import CLAIMANTS

__all__ = ["change", "connect"]


def connect(url: URL, key_file: Path, passphrase_file: Path) -> Engine:
    """Return an engine with a ring of this process's own."""
    ring = KeyRing(InstallationKey.from_file(key_file, passphrase_file.read_bytes()), refresh_seconds=0)
    options = {"connect_args": {"timeout": 60}} if url.get_backend_name() == "sqlite" else {}
    engine = create_engine(url, plugins=["keyvault"], keyring=ring, **options)
    ring.initialize(engine)
    return engine


def change() -> TableChange:
    """Return what is done."""
    return reencrypting(CLAIMANTS)
