"""Real PKCS#11 tokens: SoftHSM2, in a folder of the test run."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sa_keyvault import Pkcs11InstallationKey
from support.leaks import marked

__all__ = ["PIN", "Tokens", "softhsm_module"]

PIN = marked("pin").encode()

_FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
_PATTERNS = ("softhsm/libsofthsm2.so", "*/softhsm/libsofthsm2.so")
_REQUIRED = "SA_KEYVAULT_TEST_REQUIRE"


def softhsm_module() -> Path:
    """Return the path of SoftHSM2's module; else skip with the reason."""
    found = (path for folder in _FOLDERS for pattern in _PATTERNS for path in Path(folder).glob(pattern))
    module, utility = next(found, None), shutil.which("softhsm2-util")
    if module and utility:
        return module
    missing = "no SoftHSM2: its module or softhsm2-util is not there; Debian has them in the package softhsm2"
    if os.environ.get(_REQUIRED):
        pytest.fail(missing)
    pytest.skip(missing)


@dataclass(frozen=True)
class Tokens:
    """A folder of tokens, which SoftHSM2 reads when it is initialized: all are made before.

    Attributes:
        module: Path of the module.
        folder: Where configuration and tokens are.
    """

    module: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see the tokens."""
        return {"SOFTHSM2_CONF": str(self.folder / "softhsm2.conf")}

    def configure(self) -> None:
        """Make a configuration without any token."""
        (self.folder / "tokens").mkdir()
        lines = f"directories.tokendir = {self.folder / 'tokens'}\nlog.level = ERROR\n"
        (self.folder / "softhsm2.conf").write_text(lines)

    def utility(self, *arguments: str) -> None:
        """Run softhsm2-util."""
        command = ["softhsm2-util", *arguments]
        subprocess.run(command, env={**os.environ, **self.environment}, check=True, capture_output=True)  # noqa: S603

    def make(self, label: str) -> Path:
        """Make a token; return where it is."""
        before = self._stored()
        pins = ("--pin", PIN.decode(), "--so-pin", "12345678")
        self.utility("--init-token", "--free", "--label", label, *pins)
        return (self._stored() - before).pop()

    def put(self, token: str, label: str, key_id: str, pem: bytes) -> None:
        """Put a key that was made elsewhere into a token: sensitive, and not extractable."""
        path = self.folder / "import.pem"
        path.write_bytes(pem)
        self.utility("--import", str(path), "--token", token, "--label", label, "--id", key_id, "--pin", PIN.decode())
        path.unlink()

    def run(self, source: str) -> str:
        """Run a script in a process of its own; return what it prints."""
        prelude = f"""
import os, sys
from sa_keyvault import *
MODULE, PIN = {str(self.module)!r}, {PIN!r}
"""
        done = subprocess.run(  # noqa: S603 - the tests' own scripts
            [sys.executable, "-W", "error", "-c", prelude + source],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr

    def on_session(self, token: str, source: str) -> str:
        """Run a script with a session `session` that may write, and all names of python-pkcs11."""
        opening = f"""
from pkcs11 import *
session = lib(MODULE).get_token(token_label={token!r}).open(rw=True, user_pin=PIN.decode())
"""
        return self.run(opening + source)

    def key(self, token: str, label: str | None = None, **options: Any) -> Pkcs11InstallationKey:
        """Return an installation key in a token."""
        return Pkcs11InstallationKey(**{"module": self.module, "token": token, "label": label, "pin": PIN, **options})

    def _stored(self) -> set[Path]:
        return set((self.folder / "tokens").iterdir())
