"""Fixtures of migrations: the files of the installation key, and a folder of scripts."""

from pathlib import Path

import pytest
from sqlalchemy import URL
from support.command import KeyFiles, write_key_files
from support.migrations import Migrations

from sa_keyvault.installation import SoftwareInstallationKey


@pytest.fixture
def key_files(installation_key: SoftwareInstallationKey, tmp_path: Path) -> KeyFiles:
    """The installation key of the run in a file, and its passphrase in another."""
    return write_key_files(installation_key, tmp_path)


@pytest.fixture
def migrations(url: URL, key_files: KeyFiles, tmp_path: Path) -> Migrations:
    """The migrations of the test's database."""
    return Migrations(tmp_path / "project", url, key_files)
