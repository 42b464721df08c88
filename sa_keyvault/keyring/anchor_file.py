"""The file of an anchor: written whole, by one process at a time, where nobody else can write."""

import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.private_file import SAFELY, is_replaceable, sync_folder, write_new_file

__all__ = ["locked_anchor", "read_anchor_file", "write_anchor_file"]

_MAX_FILE_SIZE = 64 * 1024  # bytes; an anchor has about 250
_LOCK_SECONDS = 10.0
_PAUSE_SECONDS = 0.01

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def read_anchor_file(path: Path) -> bytes | None:
    """Return what is in the file; None where it is missing.

    Raises:
        sa_keyvault.ConfigurationError: It cannot be read, or others can write it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFELY)
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = error.strerror
    else:
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
            _refuse_unsafe(path, os.fstat(descriptor))
            return file.read(_MAX_FILE_SIZE)
    msg = f"the anchor {path} cannot be read ({problem}); a symlink is not followed"
    raise ConfigurationError(msg)


def write_anchor_file(path: Path, data: bytes) -> None:
    """Put a file with mode 0600 in the place of *path*, which is whole after a power loss as well.

    Raises:
        sa_keyvault.ConfigurationError: It cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            # on the disk before the rename: else a power loss leaves an empty file, and that refuses every start
            write_new_file(temporary, data)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        problem = error
    else:
        return
    raise _not_written(path, problem)


@contextmanager
def locked_anchor(path: Path) -> Iterator[None]:
    """Keep other processes and threads from advancing the anchor; the lock is on a file beside it, which stays.

    Raises:
        sa_keyvault.ConfigurationError: The lock cannot be taken.
    """
    try:
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | SAFELY, 0o600)
    except OSError as error:
        problem = error
    else:
        try:
            _lock(path, descriptor)
            yield
        finally:
            os.close(descriptor)
        return
    raise _not_written(path, problem)


def _lock(path: Path, descriptor: int) -> None:
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            _try_lock(descriptor)
        except (BlockingIOError, PermissionError):
            # Windows says the latter of a lock that another process has
            if time.monotonic() > end:
                break
            time.sleep(_PAUSE_SECONDS)
        except OSError as error:
            problem = error
            raise _not_written(path, problem) from None
        else:
            return
    msg = f"another process has held the lock of the anchor {path} for {_LOCK_SECONDS:.0f} s; end it, or try again"
    raise ConfigurationError(msg)


def _not_written(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the anchor {path} cannot be written ({error.strerror}); give the process the right to, in its folder as well"
    )


def _refuse_unsafe(path: Path, status: os.stat_result) -> None:
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "is no regular file"
    elif os.name == "posix" and status.st_uid not in (0, os.geteuid()):
        problem = f"belongs to user {status.st_uid}; run as that user, or use `chown` to make it yours"
    elif os.name == "posix" and status.st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        problem = f"has mode {stat.S_IMODE(status.st_mode):04o}: others can write it; run `chmod 600 {path}`"
    elif is_replaceable(path):
        problem = "is in a folder that everybody may write, so it can be replaced; move it"
    if problem:
        msg = f"the anchor {path} {problem}"
        raise ConfigurationError(msg)
