"""Transcripts of `sa-keyvault fips`, without a FIPS provider and with one."""

import json
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.backends.openssl import backend
from support.command import Runner

LIBRARY = backend.openssl_version_text()
OFF = f"""\
library             {LIBRARY}
FIPS is asked for   no
AES-256-GCM works   yes
ChaCha20 works      yes (no FIPS provider has it)
OPENSSL_CONF        not set
OPENSSL_MODULES     not set

No FIPS provider is active: KeyRing(..., fips='require') refuses to start.
The how-to guide `Require FIPS` says where the module and its configuration belong.
"""


def test_off(run: Runner) -> None:
    """Without a FIPS provider the report says so, and what to set; exit code 1 (R-46)."""
    done = run("fips", OPENSSL_CONF="", OPENSSL_MODULES="")
    assert (done.code, done.output, done.errors) == (1, OFF, "")


def test_off_as_json(run: Runner) -> None:
    """The same for programs."""
    done = run("fips", "--json", OPENSSL_CONF="", OPENSSL_MODULES="")
    expected = {
        "library": LIBRARY,
        "is_enabled": False,
        "has_approved": True,
        "has_others": True,
        "configuration": "",
        "modules": "",
        "is_active": False,
    }
    assert (1, expected) == (done.code, json.loads(done.output))


def test_on(run: Runner, fips_environment: dict[str, str]) -> None:
    """With a FIPS provider the report says what does the work and what is open; exit code 0 (R-46)."""
    done = run("fips", **fips_environment)
    lines = done.output.splitlines()
    report = ("FIPS is asked for   yes", "AES-256-GCM works   yes", "ChaCha20 works      no (no FIPS provider has it)")
    assert (0, report) == (done.code, tuple(lines[1:4]))
    assert "A FIPS provider does the work" in done.output


def test_missing_configuration(run: Runner, tmp_path: Path) -> None:
    """A configuration that is not there is ignored by OpenSSL, and noticed by the report."""
    done = run("fips", OPENSSL_CONF=str(tmp_path / "none.cnf"), OPENSSL_MODULES="")
    assert (done.code, "OpenSSL ignores a file that is missing or does not parse" in done.output) == (1, True)


def test_missing_module(run: Runner, tmp_path: Path, fips_environment: dict[str, str]) -> None:
    """Where FIPS is asked for and the module is missing, nothing works, and the report says why."""
    done = run("fips", **{**fips_environment, "OPENSSL_MODULES": str(tmp_path)})
    assert (done.code, "no provider serves it" in done.output) == (1, True)


def test_module_that_another_openssl_has(run: Runner, fips_environment: dict[str, str]) -> None:
    """Where Python's own OpenSSL loads the module first, the wheel's cannot, and the report says so."""
    done = run("fips", **{**fips_environment, "PYTHONPATH": ""})
    assert (done.code, "another OpenSSL of this process loaded it before" in done.output) == (1, True)


def test_version(run: Runner) -> None:
    """The command says its version."""
    assert f"sa-keyvault, version {version('sa_keyvault')}\n" == run("--version").output
