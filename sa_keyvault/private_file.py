"""Files that hold a secret: read only where nobody else can reach them, written whole or not at all."""

import errno
import os
import secrets
import stat
from pathlib import Path

from sa_keyvault.errors import InstallationKeyError

__all__ = ["SAFELY", "is_replaceable", "read_private_file", "sync_folder", "write_new_file", "write_private_file"]

SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags to open a file with: a symlink is not followed, and a FIFO in the file's place not waited for."""

_WITHOUT_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # FAT: EPERM
_MAX_FILE_SIZE = 64 * 1024  # bytes; an RSA-16384 key needs 13 KiB


def read_private_file(path: Path) -> bytes:
    """Return what is in a regular file of the user's own, which others may neither read nor write.

    Raises:
        sa_keyvault.InstallationKeyError: The file cannot be opened, or is not safe.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFELY)
    except OSError as error:
        msg = f"{path} cannot be opened ({error.strerror}); a symlink is not followed"
        raise InstallationKeyError(msg) from None
    try:
        _refuse_unsafe(path, os.fstat(descriptor))
        return os.read(descriptor, _MAX_FILE_SIZE)
    finally:
        os.close(descriptor)


def _refuse_unsafe(path: Path, status: os.stat_result) -> None:
    problem = None
    if not stat.S_ISREG(status.st_mode):
        problem = "is no regular file"
    elif status.st_size > _MAX_FILE_SIZE:
        problem = f"has {status.st_size} bytes; no key file is larger than {_MAX_FILE_SIZE}"
    elif os.name == "posix" and status.st_uid not in (0, os.geteuid()):
        problem = f"belongs to user {status.st_uid}; run `chown` to make it yours"
    elif os.name == "posix" and status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        problem = f"has mode {stat.S_IMODE(status.st_mode):04o}: others can reach it; run `chmod 600 {path}`"
    elif is_replaceable(path):
        problem = "is in a folder that everybody may write, so it can be replaced; move it"
    if problem:
        msg = f"{path} {problem}"
        raise InstallationKeyError(msg, size=status.st_size)


def is_replaceable(path: Path) -> bool:
    """Whether everybody may put another file in the place of this one."""
    mode = path.parent.stat().st_mode
    return os.name == "posix" and bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def write_private_file(path: Path, data: bytes) -> None:
    """Write a file with mode 0600, which appears whole or not at all.

    On a file system without hard links, such as FAT, what a crash leaves of it may be a part.

    Raises:
        sa_keyvault.InstallationKeyError: The file exists already, or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new_file(temporary, data)
        try:
            _link(temporary, path, data)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except FileExistsError:
        problem = "exists already; an installation key is never overwritten, choose another name"
    except OSError as error:
        problem = f"cannot be written ({error.strerror})"
    else:
        return
    msg = f"{path} {problem}"
    raise InstallationKeyError(msg)


def write_new_file(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 that is not there yet, onto the disk; none is left where that fails.

    Raises:
        OSError: It is there, or cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _link(temporary: Path, path: Path, data: bytes) -> None:
    """Give a file its name, which is never taken from another one."""
    try:
        # link instead of replace: it fails where the name is taken, so no key is ever overwritten
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _WITHOUT_LINKS:
            raise
        write_new_file(path, data)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder onto the disk.

    Raises:
        OSError: That is not possible.
    """
    if os.name != "posix":
        # Windows opens no folder, and writes a rename through by itself
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
