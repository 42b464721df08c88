"""Fixtures of the command's tests."""

from pathlib import Path

import pytest
from sqlalchemy import URL
from support.command import KeyFiles, Outcome, Runner, run_command, write_key_files

from sa_keyvault.installation import SoftwareInstallationKey


@pytest.fixture
def key_files(installation_key: SoftwareInstallationKey, tmp_path: Path) -> KeyFiles:
    """The installation key of the run in a file, and its passphrase in another."""
    return write_key_files(installation_key, tmp_path)


@pytest.fixture
def run(key_files: KeyFiles) -> Runner:
    """Run `sa-keyvault` with these arguments, in an environment that names the key files."""

    def run_it(*arguments: str, url: URL | None = None, **environment: str) -> Outcome:
        return run_command(key_files, arguments, url, environment)

    return run_it
