"""An installation key in one file, and its passphrase in another: named, looked for, and written both or not at all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation import InstallationKey, SoftwareInstallationKey, passphrase_from_file
from sa_keyvault.private_file import write_private_file

__all__ = ["KEY_AND_PASSPHRASE", "PASSPHRASE_FILE", "KeyFiles", "passphrase_in"]

PASSPHRASE_FILE = "PASSPHRASE-FILE"  # noqa: S105 - what help texts call it
KEY_AND_PASSPHRASE = f"KEY {PASSPHRASE_FILE}"

_NEVER = (
    "name a file whose first line is the passphrase, never the passphrase itself, which others see in the arguments"
)


@dataclass(frozen=True)
class KeyFiles:
    """Where an installation key is, or is to be.

    Attributes:
        key: File of the key.
        passphrase: File of its passphrase.
    """

    key: Path
    passphrase: Path

    def are_there(self) -> bool:
        """Whether both are there.

        Raises:
            sa_keyvault.InstallationKeyError: One is, the other is not.
        """
        present = [path for path in (self.key, self.passphrase) if _is_there(path)]
        if len(present) == 1:
            msg = (
                f"{present[0]} exists already, and what belongs to it is not there; name files of which both or none is"
            )
            raise InstallationKeyError(msg)
        return bool(present)

    def require_new(self) -> None:
        """Refuse names that are taken, before anything is made.

        Raises:
            sa_keyvault.InstallationKeyError: One of them is.
        """
        if self.are_there():
            msg = f"{self.key} exists already; an installation key is never overwritten, choose another name"
            raise InstallationKeyError(msg)

    def read(self) -> tuple[SoftwareInstallationKey, bytes]:
        """Return the key that is there, and its passphrase.

        Raises:
            sa_keyvault.InstallationKeyError: They do not fit together, or others can reach them.
        """
        secret = passphrase_in(self.passphrase, PASSPHRASE_FILE)()
        return InstallationKey.from_file(self.key, secret), secret

    def write(self, key: SoftwareInstallationKey, secret: bytes) -> None:
        """Write both; where the key cannot be written, no passphrase of nothing is left.

        Raises:
            sa_keyvault.InstallationKeyError: A file exists already, or cannot be written.
        """
        if not self.passphrase.parent.is_dir():
            msg = f"the folder of the {PASSPHRASE_FILE} is not there; {_NEVER}"
            raise InstallationKeyError(msg)
        # first, so that no key is left that nothing opens
        write_private_file(self.passphrase, secret + b"\n")
        try:
            key.to_file(self.key, secret)
        except BaseException:
            self.passphrase.unlink(missing_ok=True)
            raise


def passphrase_in(path: Path, option: str) -> Callable[[], bytes]:
    """Return a function that reads a passphrase; who gives the passphrase itself does not see it in the error.

    Args:
        path: File of the passphrase, as it was given.
        option: What it was given for.
    """

    def read() -> bytes:
        if _is_there(path):
            return passphrase_from_file(path)()
        msg = f"the file of the passphrase that {option} names cannot be opened; {_NEVER}"
        raise InstallationKeyError(msg)

    return read


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True
