"""SQLAlchemy's source distribution, of the version that is installed; kept in a cache that is never committed."""

import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

__all__ = ["unpacked_source"]


def unpacked_source(cache: Path) -> Path:
    """Return the folder with SQLAlchemy's tests and examples; downloaded at the first call.

    Raises:
        subprocess.CalledProcessError: pip could not download it; its message was printed.
    """
    name = f"sqlalchemy-{version('sqlalchemy')}"
    folder = cache / name
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "sqlalchemy"]
        subprocess.run([*pip, "--dest", str(cache), name.replace("-", "==")], check=True)  # noqa: S603
        with tarfile.open(cache / f"{name}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
    return folder
