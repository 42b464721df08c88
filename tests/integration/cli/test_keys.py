"""Transcripts of the subcommands that administer keys."""

import json
import re
from pathlib import Path

import pytest
from conftest import EngineMaker, RingMaker
from cryptography import x509
from sqlalchemy import URL, Engine, create_engine, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified
from support.certificates import bundle, certificate_for
from support.command import EMAIL, KeyFiles, Runner
from support.models import Base, Claimant

from sa_keyvault import InstallationKey, KeyRing, KeyStateError, Provisioning, store
from sa_keyvault.installation import InstallationCertificate
from sa_keyvault.records import MasterRecord, WorkingRecord
from sa_keyvault.store.schema import column_table, event_table

pytestmark = pytest.mark.alone


def email(engine: Engine) -> str:
    """Return what the application reads."""
    with Session(engine) as session:
        return session.scalars(select(Claimant.email)).one()


def keys(engine: Engine) -> tuple[list[MasterRecord], list[WorkingRecord]]:
    """Return the keys of the store."""
    with engine.connect() as connection:
        return store.masters(connection), store.working_in_area(connection, "identities")


def test_status(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """The status shows every level: store, installation key, master keys, working keys with their values."""
    done = run("status", url=sqlite_url)
    ((master,), (working,)) = keys(application)
    lines = [re.sub(r"\s+", " ", line).strip() for line in done.output.splitlines()]
    assert (done.code, done.errors) == (0, "")
    assert lines[0].endswith(", version 1, 2 audit events")
    assert f"{master.id} active aes-256-gcm {master.created} 0.0% 2 no: 2 working keys depend on it" in lines
    assert any(
        line.startswith(f"{working.number} identities active aes-256-gcm") and "claimant.email 1" in line
        for line in lines
    )


def test_status_as_json(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """The same for programs; nothing secret is in it."""
    done = run("status", "--json", url=sqlite_url)
    found = json.loads(done.output)
    assert (
        done.code,
        next(key["values"] for key in found["working"] if key["area"] == "identities"),
    ) == (0, {"claimant.email": 1})
    assert not re.search("secret|wrapped|signature", done.output)


def test_life_of_a_working_key(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """Rotated, disabled, enabled, refused while values depend on it, and removed with the number typed again."""
    number = str(keys(application)[1][0].number)
    transcript = [
        (("working", "rotate", "identities", "--reason", "yearly"), 0, "area identities: 1 working keys retired; "),
        (("working", "disable", number), 0, f"working key {number} is disabled\n"),
        (("working", "enable", number), 0, f"working key {number} is enabled\n"),
        (("working", "remove", number, "--yes"), 1, ""),
        (("working", "remove", number, "--removal-hours", "0"), 1, ""),
    ]
    for arguments, code, output in transcript:
        done = run(*arguments, url=sqlite_url)
        assert (code, output) == (done.code, done.output[: len(output)])
        assert "Traceback" not in done.errors
    assert email(application) == EMAIL
    refused = run("working", "remove", number, "--yes", url=sqlite_url)
    assert "sa-keyvault: error: working key" in refused.errors
    assert "sa-keyvault: hint: wait, so that no process still seals under it" in refused.errors
    listed = run("audit", "list", "--actor", "nobody", url=sqlite_url)
    assert any("working-key-retired" in line and line.endswith("yearly") for line in listed.output.splitlines())


def test_life_of_a_master_key(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """Rotated, disabled, enabled, replaced: each says what it did, and the application goes on."""
    first = run("master", "rotate", url=sqlite_url)
    former, successor = sorted(keys(application)[0], key=lambda record: record.state, reverse=True)
    expected = f"master key {former.id} is retired, {successor.id} follows it\n  2 working keys wrapped anew\n"
    assert (0, expected, "") == (first.code, first.output, first.errors)
    assert email(application) == EMAIL
    disabled = run("master", "disable", successor.id, url=sqlite_url)
    assert disabled.output == f"master key {successor.id} is disabled\n"
    assert f"until `sa-keyvault master enable {successor.id}`" in disabled.errors.replace("\n", " ")
    assert "no master key is active" in run("status", url=sqlite_url).errors
    assert run("doctor", url=sqlite_url).code == 1
    with pytest.raises(KeyStateError, match="is disabled"):
        email(application)
    assert run("master", "enable", successor.id, url=sqlite_url).code == 0
    assert email(application) == EMAIL
    replaced = run("master", "replace", "--yes", url=sqlite_url)
    assert replaced.output.endswith("  to be re-encrypted: identities, models\n")
    with Session(application) as session, session.begin():
        flag_modified(session.scalars(select(Claimant)).one(), "email")
    assert email(application) == EMAIL


def test_what_is_final_is_asked(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """Without an answer nothing final is done; exit code 1."""
    number = str(keys(application)[1][0].number)
    for arguments in (("working", "remove", number), ("master", "replace")):
        done = run(*arguments, url=sqlite_url)
        assert (done.code, "Aborted" in done.errors) == (1, True)


def test_unknown_key(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """A key that is not there is an error with a hint."""
    done = run("working", "disable", "7", url=sqlite_url)
    error = "sa-keyvault: error: the key store has no working key 7\n"
    hint = "sa-keyvault: hint: `sa-keyvault status` lists them\n"
    assert (1, "", error + hint) == (
        done.code,
        done.output,
        done.errors,
    )


def test_audit(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """The audit says how many events there are and finds nothing; a changed one is found, exit code 1."""
    clean = run("audit", "verify", url=sqlite_url)
    assert (clean.code, clean.output, clean.errors) == (0, "4 events, 2 not linked yet, 0 findings\n", "")
    with application.begin() as connection:
        connection.exec_driver_sql("UPDATE keyvault_event SET actor = 'nobody' WHERE number = 1")
    found = run("audit", "verify", url=sqlite_url)
    assert found.code == 1
    assert "was changed: its signature does not fit" in found.errors
    listed = run("audit", "list", "--json", url=sqlite_url)
    assert {"nobody"} < {json.loads(line)["actor"] for line in listed.output.splitlines()}


def test_forged_texts_do_not_command_the_terminal(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """Line breaks and escapes that somebody has written to the tables are shown as such (A-31)."""
    forged = "x\n2026-01-01T00:00:00Z  root\x1b[31m"
    with application.begin() as connection:
        connection.execute(update(event_table).values(actor=forged, reason=forged))
        connection.execute(update(column_table).values(table_name=forged))
    for command in (("audit", "list"), ("audit", "verify"), ("status",), ("doctor",), ("working", "rotate", forged)):
        done = run(*command, url=sqlite_url)
        assert [line for line in f"{done.output}\n{done.errors}".splitlines() if line.startswith("2026-01-01T")] == []
        assert "\x1b" not in done.output + done.errors
    listed = run("audit", "list", url=sqlite_url).output.splitlines()
    assert {line.split("  ")[1] for line in listed} == {r"x\n2026-01-01T00:00:00Z"}
    refused = run("working", "rotate", "identities", "--reason", forged, url=sqlite_url)
    assert (refused.code, "the reason has a control character" in refused.errors) == (1, True)


def test_configured_in_pyproject(
    application: Engine,
    sqlite_url: URL,
    run: Runner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options have their defaults in the table `[tool.sa_keyvault]`; what is given on the command line wins."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text(f'[tool.sa_keyvault]\nurl = "{sqlite_url}"\nactor = "ada"\n')
    assert run("working", "rotate", "identities").code == 0
    assert run("working", "rotate", "models", "--actor", "grace").code == 0
    actors = [line.split("  ")[1] for line in run("audit", "list").output.splitlines()]
    assert {"ada", "grace"} < set(actors)
    (tmp_path / "pyproject.toml").write_text("[tool")
    broken = run("status")
    assert (broken.code, "pyproject.toml cannot be read (TOMLDecodeError)" in broken.errors) == (1, True)


def test_help(run: Runner) -> None:
    """Every subcommand has a help text of its own."""
    for command in (
        (),
        ("master",),
        ("working",),
        ("audit",),
        ("status",),
        ("master", "disable"),
        ("working", "remove"),
    ):
        done = run(*command, "--help")
        assert (done.code, len(done.output.splitlines()[2].strip()) > 20) == (0, True)


# -- installation keys -------------------------------------------------------------------------------------------------


def test_life_of_an_installation_key(application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path) -> None:
    """The next key is made, joins, opens the store, and the former one leaves."""
    files = str(tmp_path / "next.pem"), str(tmp_path / "next.passphrase")
    made = run("installation", "generate", *files)
    following = made.output.split()[-1]
    assert (made.code, len(following), "keep a copy of both files" in made.errors) == (0, 64, True)
    assert run("installation", "generate", *files).code == 1
    added = run("installation", "add", *files, url=sqlite_url)
    assert added.errors == ""
    former = added.output.split()[-1]
    assert added.output == f"installation key {following} opens the key store, beside {former}\n"
    refused = run("working", "rotate", "identities", url=sqlite_url)
    assert "give that key, too, or let it leave the store first" in refused.errors
    assert run("working", "rotate", "identities", "--also", *files, url=sqlite_url).code == 0
    environment = {"SA_KEYVAULT_INSTALLATION_KEY": files[0], "SA_KEYVAULT_PASSPHRASE_FILE": files[1]}
    drill = run("installation", "drill", url=sqlite_url, **environment)
    assert drill.output.startswith(f"installation key {following} opens key store ")
    assert drill.output.endswith(": 1 master keys, 2 working keys under them\n")
    left = run("installation", "confirm", former, "--yes", url=sqlite_url, **environment)
    assert left.output == f"installation key {former} has left the key store\n"
    assert run("installation", "drill", url=sqlite_url).code == 1
    assert run("audit", "verify", url=sqlite_url, **environment).output.endswith(", 0 findings\n")


def test_request(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """The request is PEM, and for the installation key."""
    done = run("installation", "request", "claims", "--organization", "Example AG", url=sqlite_url)
    request = x509.load_pem_x509_csr(done.output.encode())
    assert (
        done.code,
        request.is_signature_valid,
        request.subject.rfc4514_string(),
    ) == (0, True, "O=Example AG,CN=claims")


def test_certificate(
    application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path, installation_key: InstallationKey
) -> None:
    """What a CA issued for the key is bound to the store by one event, says for whom and how long, and can be required.

    A certificate of another key is refused.
    """
    issued, ca = bundle(installation_key, 365, tmp_path)
    (tmp_path / "issued.pem").write_bytes(issued)
    command = ("installation", "certificate", str(tmp_path / "issued.pem"), "--reason", "audit")
    done = run(*command, url=sqlite_url)
    end = InstallationCertificate.from_bytes(issued).not_after
    bound = f"certificate of CN=claims, issued by CN=CA of the test, good until {end:%Y-%m-%d}\n"
    assert (0, bound, "") == (done.code, done.output, done.errors)
    listed = run("audit", "list", url=sqlite_url).output.splitlines()
    assert [f"installation-certified  {installation_key.fingerprint}  audit"] == [
        line.split("  ", 2)[2] for line in listed if "certified" in line
    ]
    ring = KeyRing(installation_key, require_certificate=ca)
    engine = create_engine(sqlite_url, plugins=["keyvault"], keyring=ring)
    ring.initialize(engine)
    engine.dispose()
    (tmp_path / "issued.pem").write_bytes(certificate_for(InstallationKey.generate()))
    refused = run(*command, url=sqlite_url)
    assert (refused.code, f"not for installation key {installation_key.fingerprint}" in refused.errors) == (1, True)


def test_certificate_that_is_none(application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path) -> None:
    """A file that is no certificate is an error, and nothing is bound."""
    (tmp_path / "none.pem").write_text("nonsense")
    done = run("installation", "certificate", str(tmp_path / "none.pem"), url=sqlite_url)
    assert (done.code, done.errors.startswith("sa-keyvault: error: no certificates in PEM")) == (1, True)


def test_exported_and_imported(application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path) -> None:
    """A copy of the key under a passphrase of its own is taken over by a second server; both compare with the store."""
    copy = str(tmp_path / "copy.p12"), str(tmp_path / "copy.passphrase")
    exported = run("installation", "export", *copy, url=sqlite_url)
    assert (exported.code, exported.errors) == (0, "")
    second = {
        "SA_KEYVAULT_INSTALLATION_KEY": str(tmp_path / "second.pem"),
        "SA_KEYVAULT_PASSPHRASE_FILE": str(tmp_path / "second.passphrase"),
    }
    imported = run("installation", "import", *copy, url=sqlite_url, **second)
    assert (0, exported.output.replace("copy.p12", "second.pem")) == (imported.code, imported.output)
    assert run("installation", "drill", url=sqlite_url, **second).code == 0
    other = str(tmp_path / "other.pem"), str(tmp_path / "other.passphrase")
    run("installation", "generate", *other)
    third = {
        "SA_KEYVAULT_INSTALLATION_KEY": str(tmp_path / "third.pem"),
        "SA_KEYVAULT_PASSPHRASE_FILE": str(tmp_path / "third.passphrase"),
    }
    refused = run("installation", "import", *other, url=sqlite_url, **third)
    assert (
        refused.code,
        "does not open this key store" in refused.errors,
        (tmp_path / "third.pem").exists(),
    ) == (1, True, False)


def test_init(sqlite_url: URL, run: Runner, tmp_path: Path, make_engine: EngineMaker) -> None:
    """A key, its copy and the key store are made by one command, which insists on the copy or its refusal."""
    files = {
        "SA_KEYVAULT_INSTALLATION_KEY": str(tmp_path / "new.pem"),
        "SA_KEYVAULT_PASSPHRASE_FILE": str(tmp_path / "new.passphrase"),
    }
    asked = run("init", url=sqlite_url, **files)
    assert (
        asked.code,
        "or --no-backup to go without one" in asked.errors,
        (tmp_path / "new.pem").exists(),
    ) == (2, True, False)
    backup = str(tmp_path / "copy.pem"), str(tmp_path / "copy.passphrase")
    done = run("init", "--backup", *backup, url=sqlite_url, **files)
    copied, made = done.output.splitlines()
    assert (0, "", copied.split()[-1]) == (done.code, done.errors, made.split()[2])
    assert run("doctor", url=sqlite_url, **files).code == 0
    assert run("init", "--no-backup", url=sqlite_url, **files).code == 1
    from_copy = {"SA_KEYVAULT_INSTALLATION_KEY": backup[0], "SA_KEYVAULT_PASSPHRASE_FILE": backup[1]}
    assert run("installation", "drill", url=sqlite_url, **from_copy).code == 0


@pytest.fixture
def new_files(tmp_path: Path) -> dict[str, str]:
    """The environment that names files of a key that is not there yet."""
    return {
        "SA_KEYVAULT_INSTALLATION_KEY": str(tmp_path / "new.pem"),
        "SA_KEYVAULT_PASSPHRASE_FILE": str(tmp_path / "new.passphrase"),
    }


def test_init_makes_nothing_that_is_of_no_use(
    application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path, new_files: dict[str, str]
) -> None:
    """Beside another's key store, without a database, and where a name is taken, `init` leaves no file."""
    other = run("init", "--no-backup", url=sqlite_url, **new_files)
    assert (other.code, "the database has key store " in other.errors) == (1, True)
    nowhere = run("init", "--no-backup", "--url", "sqlite:////nowhere/none.db", **new_files)
    assert (nowhere.code, "; nothing" not in nowhere.errors, "the database failed" in nowhere.errors) == (1, True, True)
    assert list(tmp_path.glob("new.*")) == []
    (tmp_path / "new.pem").touch()
    taken = run("init", "--no-backup", "--url", f"sqlite:///{tmp_path / 'new.db'}", **new_files)
    assert (taken.code, "exists already" in taken.errors) == (1, True)
    assert not (tmp_path / "new.passphrase").exists()


def test_init_goes_on(sqlite_url: URL, run: Runner, tmp_path: Path, new_files: dict[str, str]) -> None:
    """Where the copy or the store could not be made, the same command goes on with the key that is there."""
    copy = tmp_path / "safe" / "copy.pem", tmp_path / "safe" / "copy.passphrase"
    command = ("init", "--backup", *map(str, copy))
    failed = run(*command, url=sqlite_url, **new_files)
    assert (failed.code, "is kept; the same command goes on with it" in failed.errors.replace("\n", " ")) == (1, True)
    copy[0].parent.mkdir()
    done = run(*command, url=sqlite_url, **new_files)
    there, copied, made = done.output.splitlines()
    assert (done.code, there.split()[-1], made.split()[2]) == (0, copied.split()[-1], copied.split()[-1])
    environment = {"SA_KEYVAULT_INSTALLATION_KEY": str(copy[0]), "SA_KEYVAULT_PASSPHRASE_FILE": str(copy[1])}
    assert run("installation", "drill", url=sqlite_url, **environment).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("status", "--also", "{key}", "{secret}"),
        ("installation", "add", "{key}", "{secret}"),
        ("installation", "import", "{key}", "{secret}", "--installation-key", "other.pem"),
        ("installation", "generate", "other.pem", "no/{secret}"),
    ],
    ids=" ".join,
)
def test_passphrase_in_place_of_its_file(
    application: Engine, sqlite_url: URL, run: Runner, key_files: KeyFiles, command: tuple[str, ...]
) -> None:
    """Who gives the passphrase where its file is asked for is told so, without it (R-38, A-74)."""
    secret = key_files.passphrase.read_text()
    done = run(*(one.format(key=key_files.key, secret=secret) for one in command), url=sqlite_url)
    assert (done.code, "never the passphrase itself" in done.errors.replace("\n", " ")) == (1, True)
    assert secret not in done.errors + done.output


# -- doctor ------------------------------------------------------------------------------------------------------------


def test_doctor(application: Engine, sqlite_url: URL, run: Runner) -> None:
    """Of a store that is in order every check is good, the values of the models included; exit code 0 (R-44)."""
    models = "support.models:Base"
    done = run("doctor", "--metadata", models, url=sqlite_url)
    lines = done.output.splitlines()
    assert (done.code, done.errors) == (0, "")
    assert {line[:5] for line in lines} == {"ok   "}
    assert "ok     values: 1, each under a key that is there" in lines
    assert "ok     values of claimant.email: 1 open" in lines


def test_doctor_writes_nothing(application: Engine, sqlite_url: URL, run: Runner, tmp_path: Path) -> None:
    """An examination makes no key, though a master key is due, remembers no column, and does not touch the anchor."""
    with application.begin() as connection:
        (master,) = store.masters(connection)
        store.add_usage(connection, "0" * 32, master.id, 2**62)
        connection.exec_driver_sql("DELETE FROM keyvault_column WHERE column_name = 'voice_model'")
    before = Path(str(sqlite_url.database)).read_bytes()
    for arguments in ((), ("--anchor", str(tmp_path / "app.anchor"))):
        done = run("doctor", "--metadata", "support.models:Base", *arguments, url=sqlite_url)
        assert (done.code, "ok     values of claimant.email: 1 open" in done.output.splitlines()) == (0, True)
    assert Path(str(sqlite_url.database)).read_bytes() == before
    assert not (tmp_path / "app.anchor").exists()


FAULTS = {
    "key store": "UPDATE keyvault_master_key SET created = '2001-01-01T00:00:00Z'",
    "working keys": "UPDATE keyvault_working_key SET created = '2001-01-01T00:00:00Z' WHERE area = 'models'",
    # who opens the key store is told by its first event, and is part of what is signed
    "key store ": "DELETE FROM keyvault_event WHERE number = 1",
    "audit": "DELETE FROM keyvault_event WHERE number = 2",
    "values": "UPDATE claimant SET email = x'f80000000100000000'",
    "values ": "UPDATE claimant SET email = 'plain'",
    "values of claimant.email": "UPDATE claimant SET id = 2",
}


@pytest.mark.parametrize("check", FAULTS)
def test_doctor_finds_a_planted_fault(application: Engine, sqlite_url: URL, run: Runner, check: str) -> None:
    """Each planted fault is found by the check it belongs to; exit code 1 (R-44)."""
    with application.begin() as connection:
        connection.exec_driver_sql(FAULTS[check])
    models = "support.models:Base"
    done = run("doctor", "--metadata", models, "--json", url=sqlite_url)
    wrong = [finding["check"] for finding in json.loads(done.output) if not finding["is_good"]]
    assert (1, [check.strip()]) == (done.code, wrong)


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
def test_what_is_outdated_is_told(sqlite_url: URL, run: Runner, make_ring: RingMaker, make_engine: EngineMaker) -> None:
    """`status` warns of 3DES and SHA-1 with the way out, `doctor` tells of them, and both tell what is left of 3DES."""
    ring = make_ring(provisioning=Provisioning.original())
    ring.initialize(make_engine(sqlite_url, ring), Base.metadata)
    shown, examined = run("status", url=sqlite_url).errors, run("doctor", url=sqlite_url)
    for word in ("disallows it for encryption after 2023", "end of 2030", "2 active keys are of 3DES"):
        assert word in shown.replace("\n", " ")
        assert word in examined.output.replace("\n", " ")
    assert examined.code == 0
    run("provision", url=sqlite_url)
    left = "2 keys of 3DES are left, which NIST disallows for encryption after 2023; `sa-keyvault reencrypt` writes"
    assert left in run("status", url=sqlite_url).errors.replace("\n", " ")


@pytest.mark.parametrize("source", ["nowhere:Base", "json:Base", "json:loads", "json"])
def test_doctor_without_models(application: Engine, sqlite_url: URL, run: Runner, source: str) -> None:
    """Models that are not there are an error that says how to name them."""
    done = run("doctor", "--metadata", source, url=sqlite_url)
    assert (done.code, done.errors.endswith("hint: write package.module:Base\n")) == (1, True)
