"""The command on a terminal: what it shows there, and what keys do."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL

from support.command import KeyFiles, command_environment

__all__ = ["Terminal", "on_terminal"]


@dataclass(frozen=True)
class Terminal:
    """A command that runs with its errors going to a terminal.

    Attributes:
        process: The command, the leader of a group of its own.
        descriptor: The other end of the terminal.
    """

    process: subprocess.Popen[str]
    descriptor: int

    def read_until(self, wanted: str) -> str:
        """Return what is shown until it is what is wanted."""
        return self._read(wanted)

    def rest(self) -> str:
        """Return what is shown until the command ends."""
        return self._read(None)

    def _read(self, wanted: str | None) -> str:
        shown = ""
        while wanted is None or wanted not in shown:
            try:
                data = os.read(self.descriptor, 4096)
            except OSError:
                # Linux says so where nobody has the other end any more
                break
            shown += data.decode(errors="replace")
        return shown


@contextmanager
def on_terminal(files: KeyFiles, url: URL, arguments: Sequence[str]) -> Iterator[Terminal]:
    """Run the command inside the block."""
    descriptor, errors = pty.openpty()
    process = subprocess.Popen(  # noqa: S603 - the arguments are the tests' own
        [str(Path(sys.executable).parent / "sa-keyvault"), *arguments],
        env=command_environment(files, url, {"TERM": "xterm"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    )
    os.close(errors)
    with process:
        try:
            yield Terminal(process, descriptor)
        finally:
            process.kill()
            os.close(descriptor)
