"""The installation key: its file, its strength, and what it wraps and signs."""

import base64
import copy
import dataclasses
import errno
import hashlib
import math
import os
import pickle
import re
import resource
import secrets
import shutil
import stat
import subprocess
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from support.leaks import own_locals

from sa_keyvault import installation, records
from sa_keyvault.errors import ConfigurationError, InstallationKeyError, KeyRecordError, PassphraseWarning
from sa_keyvault.installation import SIGNATURES, WRAPPINGS, InstallationKey, SoftwareInstallationKey
from sa_keyvault.installation.keys import NonExportableInstallationKey
from sa_keyvault.installation.strength import _has_roca_fingerprint, refuse_weak_public
from sa_keyvault.records import MasterRecord, MasterSecret, Wrap
from sa_keyvault.secret import Secret
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM, Provisioning

_DEFAULT = Provisioning.default()
_ALGORITHM = f"{WRAPPINGS[0]}+{SIGNATURES['sha256']}"
_PASSPHRASE = installation.new_passphrase()
_SENTINEL = b"zq7-s3nt1nel"


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def key(installation_key: SoftwareInstallationKey) -> SoftwareInstallationKey:
    """The installation key of the run, RSA-4096."""
    return installation_key


@pytest.fixture(scope="session")
def other_key() -> SoftwareInstallationKey:
    """Another installation's key, of the least size that is accepted."""
    return SoftwareInstallationKey(rsa.generate_private_key(65537, 3072))


def _rsa(p: int, q: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """Return the RSA key of two primes."""
    d = pow(exponent, -1, math.lcm(p - 1, q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    # unsafe: the checks of the primitive would cost a second each, and these keys are never used
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


# all of these are primes of 1,536 or 1,537 bits
_BASE = 3 * 2**1534
_CLOSE = _BASE + 1837, _BASE + 2617
_NEAR = _BASE + 1837, _BASE + 2**1435 + 1527
_APART = _BASE + 1837, _BASE + 2**1437 + 929
_SMALL_EXPONENT = _BASE + 3797, 7 * 2**1533 + 3069


def _roca_primes() -> tuple[int, int]:
    """Return primes of the form k M + (65537^a mod M), M the product of the first 39 primes.

    Source:
        Nemec et al., "The Return of Coppersmith's Attack", ACM CCS 2017, section 2.2.
    """
    product = math.prod(prime for prime in range(2, 168) if all(prime % divisor for divisor in range(2, prime)))
    first, second = 3 * 2**1315 + 15, 3 * 2**1315 + 2**1314 + 4
    return first * product + pow(65537, 5, product), second * product + pow(65537, 7, product)


def test_generated_key(key: SoftwareInstallationKey) -> None:
    """A generated key is RSA-4096 with the exponent 65537 (R-8)."""
    assert (key.public_key.key_size, key.public_key.public_numbers().e) == (4096, 65537)


def test_smallest_key_is_accepted(other_key: SoftwareInstallationKey) -> None:
    """An RSA-3072 key is strong enough (R-8)."""
    assert other_key.public_key.key_size == 3072


def test_primes_that_are_just_far_enough_apart_are_accepted() -> None:
    """Primes that differ by more than 2^(bits / 2 - 100) are accepted, so the refusals below are no accident (R-8)."""
    assert SoftwareInstallationKey(_rsa(*_APART)).public_key.key_size == 3072


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: rsa.generate_private_key(65537, 1024),  # noqa: S505
            "has 1024 bits; at least 3072 are needed",
        ),
        (lambda: rsa.generate_private_key(65537, 2048), "has 2048 bits; at least 3072 are needed"),
        (lambda: _rsa(*_SMALL_EXPONENT, 3), "has the public exponent 3; 65537 is needed"),
        (lambda: _rsa(*_CLOSE), "has primes that are too close to each other"),
        (lambda: _rsa(*_NEAR), "has primes that are too close to each other"),
        (lambda: _rsa(*_roca_primes()), "ROCA, CVE-2017-15361"),
    ],
    ids=["1024 bits", "2048 bits", "e=3", "Fermat", "close primes", "ROCA"],
)
def test_weak_keys_are_refused(make: Callable[[], rsa.RSAPrivateKey], reason: str) -> None:
    """A key that is short, or that can be factored by a known shortcut, is refused with the reason (R-8, A-83)."""
    with pytest.raises(InstallationKeyError, match=re.escape(reason)):
        SoftwareInstallationKey(make())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: rsa.generate_private_key(65537, 2048), "has 2048 bits; at least 3072 are needed"),
        (lambda: _rsa(*_SMALL_EXPONENT, 3), "has the public exponent 3; 65537 is needed"),
        (lambda: _rsa(*_CLOSE), "has primes that are too close to each other"),
        (lambda: _rsa(*_roca_primes()), "ROCA, CVE-2017-15361"),
    ],
    ids=["2048 bits", "e=3", "Fermat", "ROCA"],
)
def test_weak_public_halves_are_refused(make: Callable[[], rsa.RSAPrivateKey], reason: str) -> None:
    """A key in a token is refused if its public half shows that it is weak (R-8, R-43)."""
    with pytest.raises(InstallationKeyError, match=rf"{re.escape(reason)}.*; make one with token\.generate"):
        refuse_weak_public(make().public_key(), "token.generate()")


def test_strong_public_half_is_accepted(other_key: SoftwareInstallationKey) -> None:
    """The public half of an ordinary RSA-3072 key is not weak (R-8)."""
    refuse_weak_public(other_key.public_key, "token.generate()")


def test_strong_keys_have_no_roca_fingerprint(key: SoftwareInstallationKey, other_key: SoftwareInstallationKey) -> None:
    """The search for the ROCA fingerprint finds it in the made modulus, and in no other (R-8, A-83)."""
    moduli = [one.public_key.public_numbers().n for one in (key, other_key)]
    found = [_has_roca_fingerprint(modulus) for modulus in (*moduli, math.prod(_roca_primes()))]
    assert found == [False, False, True]


def test_protocol_cannot_be_made() -> None:
    """`InstallationKey` itself is no key: it says what one must do."""
    with pytest.raises(TypeError, match="abstract"):
        InstallationKey()  # type: ignore[abstract]


def _der(tag: int, content: bytes) -> bytes:
    """Return a DER element (ITU-T X.690 section 8.1)."""
    size = len(content)
    length = bytes([size]) if size < 128 else b"\x82" + size.to_bytes(2, "big")
    return bytes([tag]) + length + content


def test_fingerprint(key: SoftwareInstallationKey) -> None:
    """The fingerprint is the SHA-256 of the SubjectPublicKeyInfo (RFC 5280 section 4.1) of an RSA key (RFC 8017)."""
    numbers = key.public_key.public_numbers()
    modulus, exponent = (
        _der(0x02, number.to_bytes(size, "big")) for number, size in ((numbers.n, 513), (numbers.e, 3))
    )
    algorithm = _der(0x30, _der(0x06, bytes.fromhex("2a864886f70d010101")) + _der(0x05, b""))
    info = _der(0x30, algorithm + _der(0x03, b"\x00" + _der(0x30, modulus + exponent)))
    assert hashlib.sha256(info).hexdigest() == key.fingerprint


def test_masked(key: SoftwareInstallationKey) -> None:
    """The `repr` of a key is the beginning of its fingerprint, which is public (R-39, A-75)."""
    assert repr(key) == str(key) == f"<SoftwareInstallationKey: {key.fingerprint[:16]}>"


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_not_pickled_or_copied(key: SoftwareInstallationKey, duplicate: Callable[[object], object]) -> None:
    """A key is neither pickled nor copied (R-39, A-49)."""
    with pytest.raises(
        TypeError, match=r"^an installation key can be neither pickled nor copied; write it with to_file$"
    ):
        duplicate(key)


# -- passphrases -------------------------------------------------------------------------------------------------------


def test_made_passphrase() -> None:
    """A made passphrase is 16 random bytes in base32, in groups of four (RFC 4648 section 6)."""
    made = installation.new_passphrase()
    assert re.fullmatch(rb"([A-Z2-7]{4}-){6}[A-Z2-7]{2}", made)
    assert len(base64.b32decode(made.replace(b"-", b"") + b"======")) == 16


def test_made_passphrases_differ() -> None:
    """No two made passphrases are the same (R-13)."""
    assert len({installation.new_passphrase() for _ in range(1_000)}) == 1_000


def test_made_passphrase_is_every_bit_of_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All 128 bits are in the passphrase: the last byte is not cut off with the padding."""
    monkeypatch.setattr(secrets, "token_bytes", lambda size: bytes(range(size)))
    made = installation.new_passphrase()
    assert bytes(range(16)) == base64.b32decode(made.replace(b"-", b"") + b"======")


@pytest.mark.parametrize(
    "own",
    [b"correct horse battery staple", b"a", b"x" * 32, _PASSPHRASE.lower(), _PASSPHRASE + b"\n", _PASSPHRASE[:-1]],
    ids=["words", "short", "long", "lower case", "with newline", "cut"],
)
def test_own_passphrase_warns(key: SoftwareInstallationKey, tmp_path: Path, own: bytes) -> None:
    """A passphrase that the library did not make is used with a warning at the caller's line, which says why (R-41)."""
    with pytest.warns(PassphraseWarning, match="2,048 iterations only") as caught:
        key.to_file(tmp_path / "key.pem", own)
    expected = ([__file__], key.fingerprint)
    opened = InstallationKey.from_file(tmp_path / "key.pem", own)
    assert expected == ([warning.filename for warning in caught], opened.fingerprint)


def test_made_passphrase_does_not_warn(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """A made passphrase is used without a warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        key.to_file(tmp_path / "key.pem", installation.new_passphrase())
    assert caught == []


@pytest.mark.parametrize("suffix", ["pem", "p12"])
def test_empty_passphrase_is_refused(key: SoftwareInstallationKey, tmp_path: Path, suffix: str) -> None:
    """A key is never written without a passphrase (R-41, A-81)."""
    with pytest.raises(InstallationKeyError, match="never written without a passphrase"):
        key.to_file(tmp_path / f"key.{suffix}", b"")
    assert list(tmp_path.iterdir()) == []


def _private(path: Path, data: bytes) -> Path:
    """Write a file of one's own."""
    path.write_bytes(data)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("data", [b"abc", b"abc\n", b"abc\r\n", b"abc\nnext line\n"])
def test_passphrase_from_file(tmp_path: Path, data: bytes) -> None:
    """A passphrase file's first line is the passphrase, without its line end (R-42, A-85)."""
    fetch = installation.passphrase_from_file(_private(tmp_path / "passphrase", data))
    assert callable(fetch)
    assert fetch() == b"abc"


def test_passphrase_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    """A passphrase file is not opened before the passphrase is asked for."""
    fetch = installation.passphrase_from_file(tmp_path / "passphrase")
    _private(tmp_path / "passphrase", b" with blanks \n")
    assert callable(fetch)
    assert fetch() == b" with blanks "


def test_passphrase_file_of_everyone_is_refused(tmp_path: Path) -> None:
    """A passphrase file that others can read is refused like a key file (R-42, A-82)."""
    path = _private(tmp_path / "passphrase", _SENTINEL)
    path.chmod(0o644)
    fetch = installation.passphrase_from_file(path)
    assert callable(fetch)
    with pytest.raises(InstallationKeyError, match=r"has mode 0644: others can reach it"):
        fetch()


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def files(key: SoftwareInstallationKey, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The key of the run in both file formats."""
    folder = tmp_path_factory.mktemp("keys")
    paths = {"pem": folder / "key.pem", "p12": folder / "key.p12"}
    for path in paths.values():
        key.to_file(path, _PASSPHRASE)
    return paths


@pytest.fixture(params=["pem", "p12"])
def file(request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
    """A key file, in each of both formats."""
    return files[request.param]


def test_written_and_read(file: Path, key: SoftwareInstallationKey) -> None:
    """What is written to a file is read from it (R-41)."""
    assert key.fingerprint == InstallationKey.from_file(str(file), _PASSPHRASE).fingerprint


@pytest.mark.parametrize("suffix", [".p12", ".pfx"])
def test_suffixes_of_pkcs12(key: SoftwareInstallationKey, tmp_path: Path, suffix: str) -> None:
    """The suffixes of PKCS#12 files give PKCS#12: DER of version 3, with a key that can be taken out (R-41)."""
    key.to_file(tmp_path / f"key{suffix}", _PASSPHRASE)
    data = (tmp_path / f"key{suffix}").read_bytes()
    loaded = pkcs12.load_pkcs12(data, _PASSPHRASE)
    assert isinstance(loaded.key, rsa.RSAPrivateKey)
    assert (b"\x30", key.fingerprint) == (data[:1], installation.fingerprint(loaded.key.public_key()))


@pytest.mark.parametrize("name", ["key.pem", "key", "key.p12.pem"])
def test_other_suffixes_are_pem(key: SoftwareInstallationKey, tmp_path: Path, name: str) -> None:
    """Every other name gives an encrypted PKCS#8 PEM (R-41)."""
    key.to_file(tmp_path / name, _PASSPHRASE)
    assert (tmp_path / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")


def test_pkcs12_is_strong(files: dict[str, Path]) -> None:
    """A PKCS#12 file has PBES2, AES-256-CBC, HMAC-SHA-256, and 600,000 iterations for the key (R-41)."""
    data = files["p12"].read_bytes()
    identifiers = {
        "PBES2": "2a864886f70d01050d",  # RFC 8018 appendix A.4
        "AES-256-CBC": "60864801650304012a",  # RFC 3565 section 4.1
        "HMAC-SHA-256": "2a864886f70d0209",  # RFC 8018 appendix B.1.2
        "600,000": _der(0x02, (600_000).to_bytes(3, "big")).hex(),
    }
    assert [name for name, encoded in identifiers.items() if bytes.fromhex(encoded) not in data] == []


def test_file_shows_no_key(file: Path, key: SoftwareInstallationKey) -> None:
    """No prime of the key stands in its file (A-81)."""
    numbers = key._private_key.private_numbers()
    data = file.read_bytes()
    body = base64.b64decode(b"".join(data.splitlines()[1:-1])) if data.startswith(b"-----") else data
    assert [prime for prime in (numbers.p, numbers.q) if prime.to_bytes(256, "big") in body] == []


@pytest.fixture
def no_umask() -> Iterator[None]:
    """Let new files have whatever mode they are created with."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("no_umask")
@pytest.mark.parametrize("suffix", ["pem", "p12"])
def test_written_for_the_owner_alone(key: SoftwareInstallationKey, tmp_path: Path, suffix: str) -> None:
    """A key file has mode 0600, whatever the umask (R-42, A-82)."""
    path = tmp_path / f"key.{suffix}"
    key.to_file(path, _PASSPHRASE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_else_is_left(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """Beside the key file nothing is left in its folder, and the file has one name only (R-42)."""
    key.to_file(tmp_path / "key.pem", _PASSPHRASE)
    assert ([path.name for path in tmp_path.iterdir()], (tmp_path / "key.pem").stat().st_nlink) == (["key.pem"], 1)


def test_never_overwritten(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """A file that is there already stays as it is (R-42, A-82)."""
    path = _private(tmp_path / "key.pem", b"the only copy of another key")
    with pytest.raises(InstallationKeyError, match="exists already; an installation key is never overwritten"):
        key.to_file(path, _PASSPHRASE)
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (b"the only copy of another key", 1)


def test_never_written_through_a_symlink(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """A symlink that leads nowhere is not followed when a key is written (R-42, A-82)."""
    link = tmp_path / "key.pem"
    link.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(InstallationKeyError, match="exists already"):
        key.to_file(link, _PASSPHRASE)
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_written_once_by_several_at_once(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """Of several writers of one name, one succeeds, and its file is whole (R-42, A-82)."""
    path = tmp_path / "key.pem"

    def write(passphrase: bytes) -> bytes | None:
        with suppress(InstallationKeyError):
            key.to_file(path, passphrase)
            return passphrase
        return None

    with ThreadPoolExecutor(8) as pool:
        used = [one for one in pool.map(write, [installation.new_passphrase() for _ in range(8)]) if one]
    assert (len(used), len(list(tmp_path.iterdir()))) == (1, 1)
    assert key.fingerprint == InstallationKey.from_file(path, used[0]).fingerprint


def test_folder_that_is_missing(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """Where there is no folder, the error says so."""
    with pytest.raises(InstallationKeyError, match=r"cannot be written \(No such file or directory\)"):
        key.to_file(tmp_path / "missing" / "key.pem", _PASSPHRASE)


def _without_links(*_: object) -> None:
    """Do what Linux does on a FAT file system where a second name is asked for."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.usefixtures("no_umask")
def test_written_without_hard_links(
    key: SoftwareInstallationKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without hard links a key is written, too: with mode 0600, and over no other one (R-42, A-82)."""
    monkeypatch.setattr(os, "link", _without_links)
    modes = []
    opened = os.open

    def open_it(path: Any, flags: int, mode: int = 0o777) -> int:
        modes.append((mode, bool(flags & os.O_EXCL))) if flags & os.O_CREAT else None
        return opened(path, flags, mode)

    monkeypatch.setattr(os, "open", open_it)
    key.to_file(tmp_path / "key.pem", _PASSPHRASE)
    assert modes == [(0o600, True)] * 2
    with pytest.raises(InstallationKeyError, match="exists already"):
        key.to_file(tmp_path / "key.pem", installation.new_passphrase())
    assert InstallationKey.from_file(tmp_path / "key.pem", _PASSPHRASE).fingerprint == key.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


def test_whole_or_not_at_all_without_hard_links(
    key: SoftwareInstallationKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the disk is full nothing is left there either (R-42, A-82, A-86)."""
    written = []

    def sync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "link", _without_links)
    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(InstallationKeyError, match=r"cannot be written \(No space left on device\)"):
        key.to_file(tmp_path / "key.pem", _PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def _full_disk() -> Iterator[None]:
    """Let every file of this process end after 100 bytes; narrowly, because the run's own output may be a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_whole_or_not_at_all(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """When the disk is full nothing is left, neither a part of the file nor a temporary one (R-42, A-82, A-86)."""
    with pytest.raises(InstallationKeyError, match=r"cannot be written \(File too large\)"), _full_disk():
        key.to_file(tmp_path / "key.pem", _PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_passphrase_is_fetched(files: dict[str, Path], key: SoftwareInstallationKey) -> None:
    """A function in place of the passphrase is called once."""
    calls = []

    def fetch() -> bytes:
        calls.append(1)
        return _PASSPHRASE

    assert (key.fingerprint, [1]) == (InstallationKey.from_file(files["pem"], fetch).fingerprint, calls)


# -- files that are refused --------------------------------------------------------------------------------------------


def _copy(file: Path, folder: Path) -> Path:
    """Return a copy of a key file that a test may spoil."""
    return _private(folder / file.name, file.read_bytes())


def _refused(path: Path, passphrase: Any = _PASSPHRASE, match: str | None = None) -> InstallationKeyError:
    """Return the error of reading a file that must be refused."""
    with pytest.raises(InstallationKeyError, match=match) as caught:
        InstallationKey.from_file(path, passphrase)
    return caught.value


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o620, 0o666, 0o777])
def test_file_that_others_reach_is_refused(file: Path, tmp_path: Path, mode: int) -> None:
    """A file that others can read, or the group can write, is refused with the remedy (R-42, A-82)."""
    path = _copy(file, tmp_path)
    path.chmod(mode)
    _refused(path, match=rf"has mode {mode:04o}: others can reach it; run `chmod 600 ")


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640])
def test_file_that_others_do_not_reach_is_read(
    files: dict[str, Path], tmp_path: Path, key: SoftwareInstallationKey, mode: int
) -> None:
    """The owner's and the group's file is read, also one that cannot be written (R-42)."""
    path = _copy(files["pem"], tmp_path)
    path.chmod(mode)
    assert key.fingerprint == InstallationKey.from_file(path, _PASSPHRASE).fingerprint


def test_symlink_is_refused(file: Path, tmp_path: Path) -> None:
    """A symlink is not followed, not even to a good file (R-42, A-82)."""
    link = tmp_path / file.name
    link.symlink_to(file)
    _refused(link, match="a symlink is not followed")


def test_fifo_is_refused(tmp_path: Path) -> None:
    """A FIFO in the file's place is refused, not waited for (R-42, A-82)."""
    os.mkfifo(tmp_path / "key.pem", 0o600)
    _refused(tmp_path / "key.pem", match="is no regular file")


def test_folder_is_refused(tmp_path: Path) -> None:
    """A folder in the file's place is refused (R-42, A-82)."""
    (tmp_path / "key.pem").mkdir(0o700)
    _refused(tmp_path / "key.pem", match="is no regular file|cannot be opened")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is named in the error."""
    _refused(tmp_path / "key.pem", match=r"key\.pem cannot be opened \(No such file or directory\)")


@pytest.mark.parametrize("size", [64 * 1024 + 1, 2**40])
def test_file_that_is_too_large_is_refused(tmp_path: Path, size: int) -> None:
    """A file of more than 64 KiB is refused before it is read, also one of 1 TiB (A-81)."""
    path = _private(tmp_path / "key.pem", b"")
    os.truncate(path, size)
    assert size == _refused(path, match="no key file is larger than 65536").size


def test_passphrase_of_a_refused_file_is_not_fetched(files: dict[str, Path], tmp_path: Path) -> None:
    """The passphrase is not asked for when the file itself is not acceptable (A-85)."""
    path = _copy(files["pem"], tmp_path)
    path.chmod(0o644)

    def fetch() -> bytes:
        pytest.fail("the passphrase was fetched")

    _refused(path, fetch)


def _shown(error: BaseException) -> str:
    """Return everything that an error shows, and that it keeps no other error."""
    assert (error.__cause__, error.__context__) == (None, None)
    return f"{error} {error!r} {error.args!r} {vars(error)!r}"


@pytest.mark.parametrize(
    "passphrase",
    [_SENTINEL, _PASSPHRASE.lower(), _PASSPHRASE + b"\n", b"", None, _PASSPHRASE.decode(), b"\xff" * 2_000],
    ids=["another", "lower case", "with newline", "empty", "none", "text", "long"],
)
def test_wrong_passphrase(file: Path, passphrase: Any) -> None:
    """A wrong passphrase is refused without it, or the right one, in the error (R-38, R-41, A-81)."""
    error = _refused(file, passphrase, match="does not open: wrong passphrase, or ")
    shown = _shown(error)
    assert [one for one in (_SENTINEL.decode(), _PASSPHRASE.decode()) if one in shown] == []


@pytest.mark.parametrize("part", [0, 1, 20, 40, 60, 80, 99])
def test_truncated_file_is_refused(file: Path, tmp_path: Path, part: int) -> None:
    """A file that was cut anywhere is refused (R-41, A-82)."""
    data = file.read_bytes()
    _refused(_private(tmp_path / file.name, data[: len(data) * part // 100]))


def test_file_without_its_last_byte_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    """A PKCS#12 file is refused if only its last byte is missing (R-41, A-82)."""
    _refused(_private(tmp_path / "key.p12", files["p12"].read_bytes()[:-1]))


@pytest.mark.parametrize("sample", range(24))
def test_flipped_bits_are_refused(file: Path, tmp_path: Path, sample: int) -> None:
    """No bit of a key file can be flipped unnoticed (R-41, A-81)."""
    data = file.read_bytes()
    body = bytearray(base64.b64decode(b"".join(data.splitlines()[1:-1])) if data.startswith(b"-----") else data)
    # spread over the file from its first to its last byte, and over the bits of a byte
    body[(len(body) - 1) * sample // 23] ^= 1 << sample % 8
    spoiled = bytes(body)
    if data.startswith(b"-----"):
        label = b"ENCRYPTED PRIVATE KEY-----\n"
        spoiled = b"-----BEGIN " + label + base64.encodebytes(spoiled) + b"-----END " + label
    _refused(_private(tmp_path / file.name, spoiled))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"no key",
        b"\x30",
        bytes(1_000),
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        b"\x30\x84\xff\xff\xff\xff",
    ],
    ids=["empty", "newline", "text", "one byte", "zeros", "PEM head", "huge DER length"],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, data: bytes) -> None:
    """A file of another kind is refused with the formats that are read (R-41, A-81)."""
    _refused(_private(tmp_path / "key", data), match=r"no encrypted PEM \(PKCS#8\) or PKCS#12 file")


_PEM, _PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
_PLAIN = serialization.NoEncryption()


def _encrypted(passphrase: bytes = _PASSPHRASE) -> serialization.KeySerializationEncryption:
    return serialization.BestAvailableEncryption(passphrase)


def test_public_key_is_refused(key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """The public half alone is no installation key."""
    data = key.public_key.public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    _refused(_private(tmp_path / "key.pem", data))


@pytest.mark.parametrize("suffix", ["pem", "p12"])
def test_key_that_is_not_rsa_is_refused(tmp_path: Path, suffix: str) -> None:
    """A key of another kind than RSA is refused as such (R-41, A-81)."""
    curve = ec.generate_private_key(ec.SECP256R1())
    data = (
        curve.private_bytes(_PEM, _PKCS8, _encrypted())
        if suffix == "pem"
        else pkcs12.serialize_key_and_certificates(b"key", curve, None, None, _encrypted())
    )
    _refused(_private(tmp_path / f"key.{suffix}", data), match="holds no RSA private key")


@pytest.mark.parametrize("suffix", ["pem", "p12"])
@pytest.mark.parametrize("make", [lambda: rsa.generate_private_key(65537, 2048), lambda: _rsa(*_CLOSE)])
def test_weak_key_in_a_file_is_refused(tmp_path: Path, suffix: str, make: Callable[[], rsa.RSAPrivateKey]) -> None:
    """A key that others made is checked when it is read, too (R-8, A-83)."""
    data = (
        make().private_bytes(_PEM, _PKCS8, _encrypted())
        if suffix == "pem"
        else pkcs12.serialize_key_and_certificates(b"key", make(), None, None, _encrypted())
    )
    _refused(_private(tmp_path / f"key.{suffix}", data), match="3072 are needed|too close to each other")


def test_key_whose_halves_do_not_match_is_refused(tmp_path: Path) -> None:
    """A private exponent of another modulus is refused (A-83)."""
    numbers, others = _rsa(*_APART).private_numbers(), _rsa(_APART[0], _SMALL_EXPONENT[1]).private_numbers()
    mixed = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, others.d, numbers.dmp1, numbers.dmq1, numbers.iqmp, numbers.public_numbers
    )
    data = mixed.private_key(unsafe_skip_rsa_key_validation=True).private_bytes(_PEM, _PKCS8, _encrypted())
    _refused(_private(tmp_path / "key.pem", data))


@pytest.mark.parametrize("passphrase", [_PASSPHRASE, b"", None], ids=["some", "empty", "none"])
@pytest.mark.parametrize("format_", [_PKCS8, serialization.PrivateFormat.TraditionalOpenSSL], ids=["PKCS#8", "PKCS#1"])
def test_unencrypted_pem_is_refused(
    key: SoftwareInstallationKey, tmp_path: Path, format_: serialization.PrivateFormat, passphrase: Any
) -> None:
    """A PEM that is not encrypted is refused with the remedy, whatever passphrase is given (R-41, A-81)."""
    data = key._private_key.private_bytes(_PEM, format_, _PLAIN)
    _refused(_private(tmp_path / "key.pem", data), passphrase, match="is not encrypted; encrypt it with `openssl pkcs8")


@pytest.mark.parametrize("passphrase", [_PASSPHRASE, b"", None], ids=["some", "empty", "none"])
def test_unencrypted_pkcs12_is_refused(key: SoftwareInstallationKey, tmp_path: Path, passphrase: Any) -> None:
    """A PKCS#12 file that is not encrypted is refused, whatever passphrase is given (R-41, A-81)."""
    data = pkcs12.serialize_key_and_certificates(b"key", key._private_key, None, None, _PLAIN)
    _refused(_private(tmp_path / "key.p12", data), passphrase)


# -- what errors keep --------------------------------------------------------------------------------------------------


def _kept(error: BaseException) -> list[str]:
    """Return the names of the library's locals, in the error's frames, that hold a private key or the sentinel."""
    found = []
    for _, name, value in own_locals(error):
        if isinstance(value, (rsa.RSAPrivateKey, Secret)) or _SENTINEL.decode() in repr(value):
            found.append(name)
    return found


REFUSED: dict[str, tuple[str, Callable[[SoftwareInstallationKey, Path, bytes], object]]] = {
    "to_file, name is taken": ("exists already", lambda key, path, secret: key.to_file(path / "taken.pem", secret)),
    "to_file, no folder": ("cannot be written", lambda key, path, secret: key.to_file(path / "no" / "key.pem", secret)),
    "generate_non_exportable, name is taken": (
        "exists already",
        lambda _, path, secret: InstallationKey.generate_non_exportable(path / "taken.pem", secret),
    ),
    "generate_non_exportable, no folder": (
        "cannot be written",
        lambda _, path, secret: InstallationKey.generate_non_exportable(path / "no" / "key.p12", secret),
    ),
    "from_file, mode": (
        "others can reach it",
        lambda _, path, secret: InstallationKey.from_file(path / "open", secret),
    ),
    "from_file, weak": (
        "at least 3072",
        lambda _, path, secret: InstallationKey.from_file(path / "weak.pem", secret),
    ),
    "to_file, non-exportable": (
        "was generated non-exportable",
        lambda key, path, secret: NonExportableInstallationKey(key._private_key).to_file(path / "key.pem", secret),
    ),
    "to_file, passphrase that is too long": (
        "[Pp]assword",
        lambda key, path, secret: key.to_file(path / "key.pem", secret * 100),
    ),
}


@pytest.mark.filterwarnings("ignore::sa_keyvault.PassphraseWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_refusal_keeps_no_secret(name: str, key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """Neither passphrase nor private key stays in the traceback of a refusal (R-38, A-74)."""
    _private(tmp_path / "taken.pem", b"another key")
    _private(tmp_path / "open", b"a key").chmod(0o644)
    weak = rsa.generate_private_key(65537, 2048)
    _private(tmp_path / "weak.pem", weak.private_bytes(_PEM, _PKCS8, serialization.BestAvailableEncryption(_SENTINEL)))
    match, refuse = REFUSED[name]
    with pytest.raises(Exception, match=match) as caught:
        refuse(key, tmp_path, _SENTINEL)
    assert _kept(caught.value) == []


# -- files that OpenSSL wrote ------------------------------------------------------------------------------------------


@pytest.fixture
def openssl(tmp_path: Path) -> Callable[..., None]:
    """Run `openssl` in the test's folder, with the passphrase in the file `passphrase`."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl: it is not on the PATH")
    _private(tmp_path / "passphrase", _PASSPHRASE)

    def run(*arguments: str) -> None:
        subprocess.run([program, *arguments], cwd=tmp_path, check=True, capture_output=True)  # noqa: S603

    return run


@pytest.fixture
def plain_pem(key: SoftwareInstallationKey, tmp_path: Path) -> str:
    """The key of the run for `openssl` to read."""
    return str(_private(tmp_path / "plain.pem", key._private_key.private_bytes(_PEM, _PKCS8, _PLAIN)))


def test_scrypt_file_is_read(
    openssl: Callable[..., None], plain_pem: str, key: SoftwareInstallationKey, tmp_path: Path
) -> None:
    """PKCS#8 with scrypt, as the remedy of the errors writes it, is read (R-41)."""
    openssl("pkcs8", "-topk8", "-scrypt", "-in", plain_pem, "-out", "key.pem", "-passout", "file:passphrase")
    path = _private(tmp_path / "key.pem", (tmp_path / "key.pem").read_bytes())
    body = base64.b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
    # id-scrypt, RFC 7914 section 7
    assert (True, key.fingerprint) == (
        bytes.fromhex("2b06010401da47040b") in body,
        InstallationKey.from_file(path, _PASSPHRASE).fingerprint,
    )


def test_wrong_passphrase_of_a_scrypt_file(openssl: Callable[..., None], plain_pem: str, tmp_path: Path) -> None:
    """A scrypt file does not open with another passphrase (R-41)."""
    openssl("pkcs8", "-topk8", "-scrypt", "-in", plain_pem, "-out", "key.pem", "-passout", "file:passphrase")
    _refused(_private(tmp_path / "key.pem", (tmp_path / "key.pem").read_bytes()), _SENTINEL, match="wrong passphrase")


def test_openssl_reads_the_files(
    openssl: Callable[..., None], file: Path, key: SoftwareInstallationKey, tmp_path: Path
) -> None:
    """What the library writes is read by `openssl`: the formats are the standard ones (R-41)."""
    kind = ("pkcs12", "-nocerts", "-nodes") if file.suffix == ".p12" else ("pkcs8",)
    openssl(*kind, "-in", str(file), "-passin", "file:passphrase", "-out", "read.pem")
    read = serialization.load_pem_private_key((tmp_path / "read.pem").read_bytes(), None)
    assert isinstance(read, rsa.RSAPrivateKey)
    assert key.fingerprint == installation.fingerprint(read.public_key())


def test_pkcs12_with_an_unencrypted_key_is_refused(
    openssl: Callable[..., None], plain_pem: str, tmp_path: Path
) -> None:
    """A PKCS#12 file whose passphrase protects its MAC only, and not its key, is refused (R-41, A-81)."""
    openssl("req", "-x509", "-key", plain_pem, "-subj", "/CN=test", "-days", "1", "-out", "certificate.pem")
    plain = ("-keypbe", "NONE", "-certpbe", "NONE", "-passout", "file:passphrase")
    openssl("pkcs12", "-export", "-inkey", plain_pem, "-in", "certificate.pem", *plain, "-out", "key.p12")
    _refused(_private(tmp_path / "key.p12", (tmp_path / "key.p12").read_bytes()))


# -- keys that are not exported ----------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=["pem", "p12"])
def own_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one file of a non-exportable key, in each of both formats."""
    path = tmp_path_factory.mktemp("own") / f"key.{request.param}"
    InstallationKey.generate_non_exportable(path, _PASSPHRASE)
    return path


def test_non_exportable_key_is_in_its_file(tmp_path: Path) -> None:
    """A non-exportable key is RSA-4096 with the exponent 65537, and is read from the file it was written to (R-8)."""
    made = InstallationKey.generate_non_exportable(str(tmp_path / "key.pem"), lambda: _PASSPHRASE)
    read = InstallationKey.from_file(tmp_path / "key.pem", _PASSPHRASE)
    expected = (4096, 65537, made.fingerprint)
    assert expected == (read.public_key.key_size, read.public_key.public_numbers().e, read.fingerprint)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["copy.pem", "copy.p12"])
def test_non_exportable_key_is_not_written_again(own_file: Path, tmp_path: Path, name: str) -> None:
    """A key that was generated non-exportable is refused by `to_file`, which says what that prevents and what not."""
    read = InstallationKey.from_file(own_file, _PASSPHRASE)
    with pytest.raises(InstallationKeyError, match=r"prevents mistakes, and not .*in a PKCS#11 token$") as caught:
        read.to_file(tmp_path / name, installation.new_passphrase())
    assert read.fingerprint in _shown(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_made_non_exportable_key_is_not_written_again(tmp_path: Path) -> None:
    """The key that `generate_non_exportable` returns is refused as well, not only the one that is read."""
    made = InstallationKey.generate_non_exportable(tmp_path / "key.pem", _PASSPHRASE)
    with pytest.raises(InstallationKeyError, match="was generated non-exportable"):
        made.to_file(tmp_path / "copy.pem", _PASSPHRASE)


def test_exportable_key_is_written_again(file: Path, key: SoftwareInstallationKey, tmp_path: Path) -> None:
    """A key of `generate` that was read from its file can be written to another, for a second server."""
    InstallationKey.from_file(file, _PASSPHRASE).to_file(tmp_path / "copy.pem", _PASSPHRASE)
    assert key.fingerprint == InstallationKey.from_file(tmp_path / "copy.pem", _PASSPHRASE).fingerprint


@pytest.mark.parametrize(
    "passphrase",
    [_SENTINEL, _PASSPHRASE.lower(), b"", None, _PASSPHRASE.decode()],
    ids=["another", "lower case", "empty", "none", "text"],
)
def test_wrong_passphrase_of_a_non_exportable_key(own_file: Path, passphrase: Any) -> None:
    """A wrong passphrase of a non-exportable key is refused like any other, without it in the error (R-38, A-81)."""
    shown = _shown(_refused(own_file, passphrase, match="does not open: wrong passphrase, or "))
    assert [one for one in (_SENTINEL.decode(), _PASSPHRASE.decode()) if one in shown] == []


def test_mark_is_in_the_passphrase(own_file: Path) -> None:
    """The file does not open with the passphrase alone, but with the documented text behind it, in any program."""
    load: Callable[[bytes, bytes], object] = (
        serialization.load_pem_private_key
        if own_file.suffix == ".pem"
        else lambda data, passphrase: pkcs12.load_pkcs12(data, passphrase).key
    )
    with pytest.raises(ValueError, match=r"."):
        load(own_file.read_bytes(), _PASSPHRASE)
    assert isinstance(load(own_file.read_bytes(), _PASSPHRASE + b"/non-exportable"), rsa.RSAPrivateKey)


def test_non_exportable_key_never_overwrites(tmp_path: Path) -> None:
    """A file that is there already stays as it is (R-42, A-82)."""
    path = _private(tmp_path / "key.pem", b"the only copy of another key")
    with pytest.raises(InstallationKeyError, match="exists already"):
        InstallationKey.generate_non_exportable(path, _PASSPHRASE)
    assert path.read_bytes() == b"the only copy of another key"


def test_passphrase_of_a_non_exportable_key(tmp_path: Path) -> None:
    """An own passphrase is used with a warning at the caller's line, an empty one is refused (R-41, A-81)."""
    with pytest.warns(PassphraseWarning, match="2,048 iterations only") as caught:
        InstallationKey.generate_non_exportable(tmp_path / "key.pem", b"correct horse")
    assert [warning.filename for warning in caught] == [__file__]
    with pytest.raises(InstallationKeyError, match="never written without a passphrase"):
        InstallationKey.generate_non_exportable(tmp_path / "other.pem", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]


# -- wrapping and signing ----------------------------------------------------------------------------------------------

_STORE = "0123456789abcdef" * 2
_RECORD, _MASTER_SECRET = records.new_master(_STORE, AES_256_GCM)


class CountingKey(InstallationKey):
    """An installation key that counts what it is asked for, and can be able to do less than it could."""

    def __init__(self, key: InstallationKey, *unable: str) -> None:
        self._key = key
        self._unable = unable
        self.unwraps = 0

    @property
    def public_key(self) -> rsa.RSAPublicKey:
        return self._key.public_key

    @property
    def algorithms(self) -> frozenset[str]:
        return self._key.algorithms.difference(self._unable)

    def unwrap(self, wrapped: bytes, algorithm: str) -> Secret:
        self.unwraps += 1
        return self._key.unwrap(wrapped, algorithm)

    def sign(self, message: bytes, algorithm: str) -> bytes:
        return self._key.sign(message, algorithm)


@pytest.fixture
def counting(key: SoftwareInstallationKey) -> CountingKey:
    """The key of the run, counting."""
    return CountingKey(key)


@pytest.fixture(scope="session")
def wrap(key: SoftwareInstallationKey) -> Wrap:
    """A master key's wrap for the key of the run."""
    return installation.wrap_master(_RECORD, _MASTER_SECRET, key, _DEFAULT)


def _halves(secret: MasterSecret) -> tuple[bytes, bytes]:
    return secret.wrapping.expose(), secret.binding.expose()


def _refuses(record: MasterRecord, wrap: Wrap, key: CountingKey) -> KeyRecordError:
    """Return the error of unwrapping what must be refused before the private key is used."""
    with pytest.raises(KeyRecordError) as caught:
        installation.unwrap_master(record, wrap, key, _DEFAULT)
    assert key.unwraps == 0
    return caught.value


def test_wrapped_and_unwrapped(wrap: Wrap, counting: CountingKey) -> None:
    """A master key's secret comes back from its wrap, by one use of the private key."""
    unwrapped = installation.unwrap_master(_RECORD, wrap, counting, _DEFAULT)
    assert (_halves(_MASTER_SECRET), 1) == (_halves(unwrapped), counting.unwraps)


def test_wrap_names_master_and_installation(wrap: Wrap, key: SoftwareInstallationKey) -> None:
    """A wrap names master key, installation key and algorithm; wrap and signature have the size of the modulus."""
    expected = (_RECORD.id, key.fingerprint, _ALGORITHM, 512, 512)
    assert expected == (wrap.master_id, wrap.fingerprint, wrap.algorithm, len(wrap.wrapped), len(wrap.signature))


def test_wraps_differ(wrap: Wrap, key: SoftwareInstallationKey) -> None:
    """A secret that is wrapped again gives other bytes (R-13)."""
    again = installation.wrap_master(_RECORD, _MASTER_SECRET, key, _DEFAULT)
    assert (wrap.wrapped != again.wrapped, wrap.signature != again.signature) == (True, True)


def test_signature_is_the_documented_one(wrap: Wrap, key: SoftwareInstallationKey) -> None:
    """The signature is RSA-PSS with SHA-256 and a salt of 32 bytes, over record and wrap (R-10, R-23)."""
    message = records.signed_bytes(_RECORD, key.fingerprint, _ALGORITHM, wrap.wrapped)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
    key.public_key.verify(wrap.signature, message, pss, hashes.SHA256())


def test_wrap_is_the_documented_one(wrap: Wrap, key: SoftwareInstallationKey) -> None:
    """The wrap is RSA-OAEP with SHA-256, MGF1-SHA-256 and no label (R-9)."""
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label=None)
    assert _MASTER_SECRET.to_secret().expose() == key._private_key.decrypt(wrap.wrapped, oaep)


_Scheme = tuple[padding.PSS | padding.PKCS1v15, hashes.HashAlgorithm]
_OTHER_SCHEMES: dict[str, _Scheme] = {
    "PKCS#1 v1.5": (padding.PKCS1v15(), hashes.SHA256()),
    "PSS with SHA-1": (padding.PSS(padding.MGF1(hashes.SHA1()), salt_length=20), hashes.SHA1()),  # noqa: S303
    "PSS with SHA-512": (padding.PSS(padding.MGF1(hashes.SHA512()), salt_length=64), hashes.SHA512()),
    "PSS without salt": (padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=0), hashes.SHA256()),
}


@pytest.mark.parametrize("scheme", _OTHER_SCHEMES.values(), ids=_OTHER_SCHEMES)
def test_other_signature_schemes_are_refused(
    wrap: Wrap, key: SoftwareInstallationKey, counting: CountingKey, scheme: _Scheme
) -> None:
    """A signature of the right key and message by any other scheme is refused (R-10, A-31, A-32)."""
    message = records.signed_bytes(_RECORD, key.fingerprint, _ALGORITHM, wrap.wrapped)
    _refuses(_RECORD, replace(wrap, signature=key._private_key.sign(message, *scheme)), counting)


def _changed(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, KeyState):
        return KeyState.RETIRED
    if isinstance(value, int):
        return value + 1
    return value[:-1] + bytes([value[-1] ^ 1]) if isinstance(value, bytes) else f"{value}x"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(MasterRecord)])
def test_every_field_of_a_master_record_is_verified(wrap: Wrap, counting: CountingKey, name: str) -> None:
    """A master key with any field changed is refused before the private key is used (R-23, R-27, A-27, A-35)."""
    _refuses(replace(_RECORD, **{name: _changed(getattr(_RECORD, name))}), wrap, counting)


# `master_id` says which record a wrap belongs to, and a record's id is signed: moved to another, it does not fit
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Wrap) if field.name != "master_id"])
def test_every_field_of_a_wrap_is_verified(wrap: Wrap, counting: CountingKey, name: str) -> None:
    """A wrap with any field changed is refused before the private key is used (R-23, A-24, A-27, A-33)."""
    _refuses(_RECORD, replace(wrap, **{name: _changed(getattr(wrap, name))}), counting)


def test_wrap_that_is_moved_to_another_master_key_is_refused(wrap: Wrap, counting: CountingKey) -> None:
    """A wrap whose `master_id` was changed to another master key's does not fit that one's record (R-23, A-26)."""
    record, _ = records.new_master(_STORE, AES_256_GCM)
    _refuses(record, replace(wrap, master_id=record.id), counting)


@pytest.mark.parametrize("signature", [b"", bytes(512), b"\xff" * 512, bytes(511), bytes(4_096)])
def test_what_is_no_signature_is_refused(wrap: Wrap, counting: CountingKey, signature: bytes) -> None:
    """Missing, short and long signatures are refused like wrong ones (A-23, A-32)."""
    _refuses(_RECORD, replace(wrap, signature=signature), counting)


def test_cut_signature_is_refused(wrap: Wrap, counting: CountingKey) -> None:
    """A signature that was cut, or has zeros in front, is refused (A-32)."""
    for signature in (wrap.signature[:-1], wrap.signature[1:], b"\x00" + wrap.signature, wrap.signature + b"\x00"):
        _refuses(_RECORD, replace(wrap, signature=signature), counting)


def test_master_key_of_an_attacker_is_refused(
    other_key: SoftwareInstallationKey, key: SoftwareInstallationKey, counting: CountingKey
) -> None:
    """A master key wrapped with the public key, but signed by another, never reaches the private key (R-23, A-23)."""
    record, secret = records.new_master(_STORE, AES_256_GCM)
    wrapped = installation.wrap_master(record, secret, key, _DEFAULT).wrapped
    message = records.signed_bytes(record, key.fingerprint, _ALGORITHM, wrapped)
    forged = Wrap(record.id, key.fingerprint, _ALGORITHM, wrapped, other_key.sign(message, SIGNATURES["sha256"]))
    assert "is not signed by installation key" in str(_refuses(record, forged, counting))


def test_swapped_signatures_are_refused(wrap: Wrap, key: SoftwareInstallationKey, counting: CountingKey) -> None:
    """A valid signature of another master key, or of another wrap of the same, is refused (R-23, A-24)."""
    record, secret = records.new_master(_STORE, AES_256_GCM)
    other, again = (
        installation.wrap_master(*master, key, _DEFAULT) for master in ((record, secret), (_RECORD, _MASTER_SECRET))
    )
    _refuses(_RECORD, replace(wrap, signature=other.signature), counting)
    _refuses(record, replace(other, signature=wrap.signature), counting)
    _refuses(_RECORD, replace(wrap, signature=again.signature), counting)


def test_swapped_wraps_are_refused(wrap: Wrap, key: SoftwareInstallationKey, counting: CountingKey) -> None:
    """A whole wrap with its signature does not fit another master key's record (R-23, A-24)."""
    record, secret = records.new_master(_STORE, AES_256_GCM)
    _refuses(record, wrap, counting)
    _refuses(_RECORD, installation.wrap_master(record, secret, key, _DEFAULT), counting)


def test_master_key_of_another_store_is_refused(key: SoftwareInstallationKey, counting: CountingKey) -> None:
    """A validly signed master key cannot be given to another key store (R-23, A-5)."""
    record, secret = records.new_master("f" * 32, AES_256_GCM)
    _refuses(replace(record, store_id=_STORE), installation.wrap_master(record, secret, key, _DEFAULT), counting)


def test_wrap_of_another_installation_is_refused(other_key: SoftwareInstallationKey, counting: CountingKey) -> None:
    """A master key that another installation signed is refused, and the error names this installation (R-44, A-45)."""
    wrap = installation.wrap_master(_RECORD, _MASTER_SECRET, other_key, _DEFAULT)
    assert f"is not signed by installation key {counting.fingerprint}" in str(_refuses(_RECORD, wrap, counting))


@pytest.mark.parametrize("signature", ["", "rsa-pss-sha1", "RSA-PSS-SHA256"])
def test_unknown_signature_is_refused(wrap: Wrap, counting: CountingKey, signature: str) -> None:
    """A signature algorithm that this version does not have is refused by name (R-10, A-31)."""
    algorithm = f"{WRAPPINGS[0]}+{signature}"
    message = records.signed_bytes(_RECORD, counting.fingerprint, algorithm, wrap.wrapped)
    signed = replace(wrap, algorithm=algorithm, signature=counting.sign(message, SIGNATURES["sha256"]))
    assert f"no signature algorithm {signature!r}" in str(_refuses(_RECORD, signed, counting))


def test_unknown_wrapping_is_refused(wrap: Wrap, key: SoftwareInstallationKey) -> None:
    """A wrapping algorithm that this version does not have is refused by name, even if it was signed (R-9)."""
    algorithm = f"rsa-pkcs1+{SIGNATURES['sha256']}"
    message = records.signed_bytes(_RECORD, key.fingerprint, algorithm, wrap.wrapped)
    signed = replace(wrap, algorithm=algorithm, signature=key.sign(message, SIGNATURES["sha256"]))
    with pytest.raises(KeyRecordError, match="no wrapping algorithm 'rsa-pkcs1'"):
        installation.unwrap_master(_RECORD, signed, key, _DEFAULT)


def test_key_says_what_it_can_do(key: SoftwareInstallationKey) -> None:
    """A software key can do the documented algorithms, and refuses to sign or unwrap by any other (R-10)."""
    assert key.algorithms == {"rsa-oaep-sha256", "rsa-oaep-sha1", "rsa-pss-sha256", "rsa-pkcs1-sha1"}
    with pytest.raises(KeyRecordError):
        key.sign(b"message", "rsa-pkcs1-sha256")
    with pytest.raises(KeyRecordError):
        key.unwrap(bytes(512), "rsa-pkcs1")


# -- keys that can do less ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def sha1_only(key: SoftwareInstallationKey) -> CountingKey:
    """The key of the run, as a token has it that does OAEP with SHA-1 only."""
    return CountingKey(key, "rsa-oaep-sha256")


def test_wrap_for_a_key_that_does_oaep_with_sha1(sha1_only: CountingKey, key: SoftwareInstallationKey) -> None:
    """A key without OAEP-SHA-256 gets RSA-OAEP with SHA-1, MGF1-SHA-1 and no label, and the record says so (R-9)."""
    wrap = installation.wrap_master(_RECORD, _MASTER_SECRET, sha1_only, _DEFAULT)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), label=None)  # noqa: S303
    assert wrap.algorithm == "rsa-oaep-sha1+rsa-pss-sha256"
    assert _MASTER_SECRET.to_secret().expose() == key._private_key.decrypt(wrap.wrapped, oaep)
    for one in (key, sha1_only):
        assert _halves(installation.unwrap_master(_RECORD, wrap, one, _DEFAULT)) == _halves(_MASTER_SECRET)


def test_wrapping_is_not_renamed(sha1_only: CountingKey, counting: CountingKey) -> None:
    """A wrap whose record names the other wrapping is refused before the private key is used (R-23, A-31)."""
    wrap = installation.wrap_master(_RECORD, _MASTER_SECRET, sha1_only, _DEFAULT)
    _refuses(_RECORD, replace(wrap, algorithm=_ALGORITHM), counting)


def test_signed_anew_as_it_is_wrapped(sha1_only: CountingKey, key: SoftwareInstallationKey) -> None:
    """A wrap that is signed anew keeps the name of its wrapping, whatever the key prefers."""
    wrap = installation.wrap_master(_RECORD, _MASTER_SECRET, sha1_only, _SHA1)
    signed = installation.resign_master(_RECORD, wrap, key, _DEFAULT)
    assert (wrap.algorithm, signed.algorithm) == ("rsa-oaep-sha1+rsa-pkcs1-sha1", "rsa-oaep-sha1+rsa-pss-sha256")
    assert _halves(installation.unwrap_master(_RECORD, signed, key, _DEFAULT)) == _halves(_MASTER_SECRET)


def test_key_that_unwraps_nothing(key: SoftwareInstallationKey) -> None:
    """Nothing is wrapped for a key that could not unwrap it, and the error says what it would have to do."""
    unable = CountingKey(key, *WRAPPINGS)
    with pytest.raises(InstallationKeyError, match="can unwrap by none of rsa-oaep-sha256, rsa-oaep-sha1; use "):
        installation.wrap_master(_RECORD, _MASTER_SECRET, unable, _DEFAULT)


@pytest.mark.parametrize("provisioning", [_DEFAULT, Provisioning(hash="sha1")], ids=["sha256", "sha1"])
def test_key_that_does_not_sign_so(wrap: Wrap, key: SoftwareInstallationKey, provisioning: Provisioning) -> None:
    """A key that cannot sign as it is provisioned is refused with both names, for a new wrap and for an old one."""
    unable = CountingKey(key, SIGNATURES[provisioning.hash])
    expected = f"cannot sign with {SIGNATURES[provisioning.hash]}, which hash='{provisioning.hash}' asks for; "
    with pytest.raises(InstallationKeyError, match=expected):
        installation.wrap_master(_RECORD, _MASTER_SECRET, unable, provisioning)
    with pytest.raises(InstallationKeyError, match=expected):
        installation.resign_master(_RECORD, wrap, unable, provisioning)


# -- SHA-1 -------------------------------------------------------------------------------------------------------------

_SHA1 = Provisioning(hash="sha1")


@pytest.fixture(scope="session")
def sha1_wrap(key: SoftwareInstallationKey) -> Wrap:
    """A wrap that is signed with SHA-1."""
    return installation.wrap_master(_RECORD, _MASTER_SECRET, key, _SHA1)


def test_sha1_signature_is_the_documented_one(sha1_wrap: Wrap, key: SoftwareInstallationKey) -> None:
    """The signature of a SHA-1 provisioning is PKCS#1 v1.5 with SHA-1, and the record of the wrap says so."""
    message = records.signed_bytes(_RECORD, key.fingerprint, "rsa-oaep-sha256+rsa-pkcs1-sha1", sha1_wrap.wrapped)
    key.public_key.verify(sha1_wrap.signature, message, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    assert sha1_wrap.algorithm == "rsa-oaep-sha256+rsa-pkcs1-sha1"


def test_sha1_signature_opens_where_it_is_provisioned(sha1_wrap: Wrap, counting: CountingKey) -> None:
    """A ring that is provisioned with SHA-1 opens what is signed with it, and what is signed with SHA-256."""
    pss = installation.wrap_master(_RECORD, _MASTER_SECRET, counting, _DEFAULT)
    for one in (sha1_wrap, pss):
        assert _halves(installation.unwrap_master(_RECORD, one, counting, _SHA1)) == _halves(_MASTER_SECRET)


def test_sha1_signature_is_refused_where_sha256_is_provisioned(sha1_wrap: Wrap, counting: CountingKey) -> None:
    """A ring that is provisioned with SHA-256 refuses it before the private key is used, and says what to do (A-31)."""
    with pytest.raises(ConfigurationError, match=r"signed with SHA-1, .*; `sa-keyvault provision` signs it anew$"):
        installation.unwrap_master(_RECORD, sha1_wrap, counting, _DEFAULT)
    assert counting.unwraps == 0


def test_signature_is_not_renamed(sha1_wrap: Wrap, counting: CountingKey) -> None:
    """A SHA-1 signature whose record says PSS is no PSS signature: the name is signed, too (A-31)."""
    _refuses(_RECORD, replace(sha1_wrap, algorithm=_ALGORITHM), counting)


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(MasterRecord)])
def test_every_field_is_verified_with_sha1(sha1_wrap: Wrap, counting: CountingKey, name: str) -> None:
    """With SHA-1 as well, a master key with any field changed is refused before the private key is used (R-23)."""
    changed = replace(_RECORD, **{name: _changed(getattr(_RECORD, name))})
    with pytest.raises(KeyRecordError):
        installation.unwrap_master(changed, sha1_wrap, counting, _SHA1)
    assert counting.unwraps == 0


def test_signed_anew(sha1_wrap: Wrap, counting: CountingKey) -> None:
    """A wrap that is signed anew keeps the wrapped secret, and opens where SHA-256 is provisioned."""
    signed = installation.resign_master(_RECORD, sha1_wrap, counting, _DEFAULT)
    expected = (sha1_wrap.wrapped, _ALGORITHM, _halves(_MASTER_SECRET))
    found = _halves(installation.unwrap_master(_RECORD, signed, counting, _DEFAULT))
    assert expected == (signed.wrapped, signed.algorithm, found)


@pytest.mark.parametrize("algorithm", WRAPPINGS)
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513])
def test_what_was_not_wrapped_for_the_key(key: SoftwareInstallationKey, size: int, algorithm: str) -> None:
    """Bytes of any size that were not wrapped for the key are one error, with no other behind it (A-34)."""
    with pytest.raises(KeyRecordError, match=rf"^a wrapped master key of {size} bytes does not open with ") as caught:
        key.unwrap(bytes(size), algorithm)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_signed_wrap_for_another_key(key: SoftwareInstallationKey, other_key: SoftwareInstallationKey) -> None:
    """A wrap that was made for another key is refused, even if this key signed it."""
    wrapped = installation.wrap_master(_RECORD, _MASTER_SECRET, other_key, _DEFAULT).wrapped
    message = records.signed_bytes(_RECORD, key.fingerprint, _ALGORITHM, wrapped)
    wrap = Wrap(_RECORD.id, key.fingerprint, _ALGORITHM, wrapped, key.sign(message, SIGNATURES["sha256"]))
    with pytest.raises(KeyRecordError, match="does not open with installation key"):
        installation.unwrap_master(_RECORD, wrap, key, _DEFAULT)
