"""The command as a user runs it: a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from sa_keyvault import new_passphrase
from sa_keyvault.installation import SoftwareInstallationKey
from support.leaks import marked

__all__ = ["EMAIL", "KeyFiles", "Outcome", "Runner", "command_environment", "run_command", "write_key_files"]

EMAIL = marked("ada@example.org")
"""What the application has stored that the command is run beside."""

_MODELS = Path(__file__).parents[1]


@dataclass(frozen=True)
class KeyFiles:
    """The files of an installation key."""

    key: Path
    passphrase: Path


@dataclass(frozen=True)
class Outcome:
    """What a run of the command ended with."""

    code: int
    output: str
    errors: str


Runner = Callable[..., Outcome]


def write_key_files(key: SoftwareInstallationKey, folder: Path) -> KeyFiles:
    """Write an installation key to one file, and its passphrase to another."""
    passphrase = new_passphrase()
    key.to_file(folder / "installation.pem", passphrase)
    (folder / "passphrase").touch(mode=0o600)
    (folder / "passphrase").write_bytes(passphrase)
    return KeyFiles(folder / "installation.pem", folder / "passphrase")


def command_environment(files: KeyFiles, url: URL | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that names key files and database, with these variables."""
    own = {
        # `--metadata support.models:Base` is found there
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_MODELS), os.environ.get("PYTHONPATH")))),
        "SA_KEYVAULT_INSTALLATION_KEY": str(files.key),
        "SA_KEYVAULT_PASSPHRASE_FILE": str(files.passphrase),
        "COLUMNS": "100",
        **({} if url is None else {"SA_KEYVAULT_URL": url.render_as_string(hide_password=False)}),
    }
    return {**os.environ, **own, **environment}


def run_command(
    files: KeyFiles, arguments: tuple[str, ...], url: URL | None, environment: Mapping[str, str]
) -> Outcome:
    """Run `sa-keyvault` with these arguments, in an environment that names key files and database."""
    done = subprocess.run(  # noqa: S603 - the arguments are the tests' own
        [str(Path(sys.executable).parent / "sa-keyvault"), *arguments],
        env=command_environment(files, url, environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
