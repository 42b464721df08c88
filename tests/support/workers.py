"""What workers of a job run in their own process: functions of a module, which every process can import."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import URL, Engine, create_engine

from sa_keyvault import InstallationKey, KeyRing
from sa_keyvault.reencryption import TableChange, reencrypt, reencrypting
from support.jobs import CLAIMANTS

__all__ = ["change", "connect", "peak_of_job"]


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


def peak_of_job(connector: Callable[[], Engine]) -> tuple[int, int]:
    """Run the job; return how many rows it wrote, and the most memory that this process has had, in KiB."""
    engine = connector()
    report = reencrypt(engine, CLAIMANTS)
    engine.dispose()
    (line,) = (one for one in Path("/proc/self/status").read_text("ascii").splitlines() if one.startswith("VmHWM:"))
    return report.rows, int(line.split()[1])
