"""Installation keys in PKCS#11 tokens, on SoftHSM2: what is refused, what is done there, and how a session lives on."""

import copy
import os
import pickle
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pkcs11
import pytest
from conftest import EngineMaker
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from sqlalchemy import URL, select
from sqlalchemy.orm import Session
from support.leaks import MARK, leaks_in_error, marked
from support.models import Base, Claimant
from support.tokens import PIN, Tokens

from sa_keyvault import (
    ConfigurationError,
    InstallationKeyError,
    KeyRecordError,
    KeyRing,
    KeyStoreError,
    Pkcs11InstallationKey,
    Provisioning,
    installation,
    passphrase_from_file,
    records,
    store,
)
from sa_keyvault.installation import SoftwareInstallationKey
from sa_keyvault.suites import AES_256_GCM

_RECORD, _SECRET = records.new_master("0123456789abcdef" * 2, AES_256_GCM)
_DEFAULT, _SHA1 = Provisioning.default(), Provisioning(hash="sha1")
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), label=None)  # noqa: S303 - all that SoftHSM 2.6 does
_WRONG = marked("wrong pin").encode()


@pytest.fixture(scope="session")
def imported(tokens: Tokens) -> Pkcs11InstallationKey:
    """The software key of the run, in the token."""
    return tokens.key("main", "imported")


def _works(key: Pkcs11InstallationKey) -> bool:
    """Whether a key wraps, signs, verifies and unwraps a master key."""
    wrap = installation.wrap_master(_RECORD, _SECRET, key, _DEFAULT)
    found = installation.unwrap_master(_RECORD, wrap, key, _DEFAULT)
    return found.to_secret().expose() == _SECRET.to_secret().expose()


def _refused(
    tokens: Tokens,
    *,
    within: str = "main",
    label: str | None = None,
    **options: object,
) -> InstallationKeyError:
    """Return the error of a key that must be refused; it keeps no other error, and no PIN."""
    with pytest.raises(InstallationKeyError) as caught:
        tokens.key(within, label, **options)
    error = caught.value
    assert (error.__cause__, error.__context__, leaks_in_error(error)) == (None, None, [])
    return error


# -- a key that is made ------------------------------------------------------------------------------------------------


def test_generated_key_cannot_leave(key: Pkcs11InstallationKey, tokens: Tokens) -> None:
    """A generated key is RSA-4096, was always sensitive, never extractable, and its secret half is not shown (R-43)."""
    names = ("LOCAL", "SENSITIVE", "ALWAYS_SENSITIVE", "EXTRACTABLE", "NEVER_EXTRACTABLE", "TOKEN", "PRIVATE", "UNWRAP")
    printed = tokens.on_session(
        "main",
        f"""
key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label="generated")
print([bool(key[Attribute[name]]) for name in {names!r}], len(key.id))
for name in ("PRIVATE_EXPONENT", "PRIME_1"):
    try:
        key[Attribute[name]]
    except AttributeSensitive:
        print("sensitive")
""",
    )
    expected = "[True, True, True, False, True, True, True, False] 16\nsensitive\nsensitive\n"
    assert (printed, key.public_key.key_size) == (expected, 4096)


def test_generated_key_is_found_again(key: Pkcs11InstallationKey, tokens: Tokens) -> None:
    """A key that was generated is found by its label, in another process too."""
    source = "print(Pkcs11InstallationKey(module=MODULE, token='main', label='generated', pin=PIN).fingerprint)"
    assert tokens.run(source) == f"{key.fingerprint}\n"
    assert tokens.key("main", "generated").fingerprint == key.fingerprint


def test_label_is_not_given_twice(key: Pkcs11InstallationKey, tokens: Tokens) -> None:
    """No second key of a label is generated (R-43, A-84)."""
    with pytest.raises(
        InstallationKeyError, match=r"^the token 'main' has a key of that label already; choose another"
    ):
        Pkcs11InstallationKey.generate(module=tokens.module, token="main", label="generated", pin=PIN)
    assert tokens.key("main", "generated").fingerprint == key.fingerprint


def test_own_id(tokens: Tokens) -> None:
    """The id of a generated key can be chosen, and finds it."""
    made = Pkcs11InstallationKey.generate(module=tokens.module, token="exchanged", label="a", key_id=b"\x2a", pin=PIN)
    assert tokens.key("exchanged", key_id=b"\x2a").fingerprint == made.fingerprint


# -- modules, tokens and keys that are refused -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.so", "folder"])
def test_missing_module(tokens: Tokens, tmp_path: Path, name: str) -> None:
    """A module that is no file is refused by name (A-84)."""
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    assert f"the PKCS#11 module {str(path)!r} is no file with an absolute path; " in str(
        _refused(tokens, label="x", module=path)
    )


def test_module_without_a_folder(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module is not looked for along a search path, or where the process was started (A-84)."""
    monkeypatch.chdir(tokens.module.parent)
    assert "is no file with an absolute path" in str(_refused(tokens, label="x", module=tokens.module.name))


def test_what_is_no_module(tokens: Tokens, tmp_path: Path) -> None:
    """A file that is no PKCS#11 module is refused (A-84)."""
    path = tmp_path / "module.so"
    path.write_text("no library")
    assert str(_refused(tokens, label="x", module=path)).startswith(f"{path} cannot be loaded as a PKCS#11 module; ")


def test_module_under_two_names(key: Pkcs11InstallationKey, tokens: Tokens, tmp_path: Path) -> None:
    """A module that is named by two paths is loaded once, and its session shared."""
    link = tmp_path / "module.so"
    link.symlink_to(tokens.module)
    assert tokens.key("main", "generated", module=link).fingerprint == key.fingerprint


def test_wrong_token(tokens: Tokens) -> None:
    """A token that is not there is refused by its label (R-43, A-84)."""
    assert str(_refused(tokens, within="other", label="x")).startswith(
        "the token 'other' is not there; insert it, or correct the"
    )


def test_token_label_that_is_there_twice(tokens: Tokens) -> None:
    """Of two tokens with one label none is used (R-43, A-84)."""
    assert "the token 'again' is there more than once; " in str(_refused(tokens, within="again", label="x"))


def test_missing_key(tokens: Tokens) -> None:
    """A key that is not there is refused with all that it was looked for by (R-43)."""
    error = _refused(tokens, label="other", key_id=b"\xab")
    assert "the RSA key 'other' with id ab in token 'main' is not there; correct label and id, or make" in str(error)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ({"label": "twin"}, "the RSA key 'twin' in token"),
        ({"label": "clone", "key_id": b"\x18"}, "with id 18 in token"),
    ],
    ids=["label", "label and id"],
)
def test_keys_that_are_there_twice(tokens: Tokens, name: dict[str, object], count: str) -> None:
    """A name that two keys have is refused with their number, and asks for label and id (R-43, A-84)."""
    text = str(_refused(tokens, **name))
    assert count in text
    assert "is there 2 times; name it by label and id, which no two keys share" in text


def test_key_by_label_and_id(tokens: Tokens) -> None:
    """Keys of one label are told apart by their ids, and an id alone is enough (R-43)."""
    one, other = (tokens.key("main", "twin", key_id=key_id) for key_id in (b"\x16", b"\x17"))
    assert one.fingerprint != other.fingerprint == tokens.key("main", key_id=b"\x17").fingerprint


def test_key_without_a_name(tokens: Tokens) -> None:
    """A key is never chosen without a label or an id."""
    with pytest.raises(ConfigurationError, match="give label= or key_id="):
        tokens.key("main")


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ("extractable", "is extractable, so it can leave the token; make one with Pkcs11InstallationKey.generate()"),
        ("readable", "is not sensitive, so it can be read; make"),
        ("both", "is not sensitive, so it can be read and is extractable, so it can leave the token; make"),
        ("only signs", "may not decrypt; make"),
        ("only decrypts", "may not sign; make"),
        (
            "short",
            "the RSA key has 2048 bits; at least 3072 are needed; make one with Pkcs11InstallationKey.generate()",
        ),
    ],
)
def test_keys_that_are_refused(tokens: Tokens, label: str, reason: str) -> None:
    """A key that can leave the token, cannot do what is needed, or is weak, is refused with the reason (R-43, A-84)."""
    assert reason in str(_refused(tokens, label=label))


def test_without_the_driver(tokens: Tokens) -> None:
    """Without python-pkcs11 the package is imported all the same, and a key in a token says what to install."""
    printed = tokens.run("""
sys.modules["pkcs11"] = None
for make in (Pkcs11InstallationKey, Pkcs11InstallationKey.generate):
    try:
        make(module=MODULE, token="main", label="generated", pin=PIN)
    except ConfigurationError as error:
        print(error)
""")
    line = "keys in tokens need python-pkcs11, which is not installed; install sa_keyvault[pkcs11]\n"
    assert printed == 2 * line


def test_driver_is_loaded_late(tokens: Tokens) -> None:
    """Who has no key in a token does not load python-pkcs11."""
    assert tokens.run("print('pkcs11' in sys.modules)") == "False\n"


# -- PINs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pin", [_WRONG, b"", b"\xff\xfe\xfd\xfc", b"1" * 300], ids=["another", "empty", "binary", "long"]
)
def test_wrong_pin(tokens: Tokens, pin: bytes) -> None:
    """A wrong PIN is refused; it is tried once, whatever the application repeats, and never shown (R-43, A-84)."""
    assert str(_refused(tokens, within="refusing", label="x", pin=pin)).startswith(
        "the token 'refusing' refuses the PIN; correct it"
    )
    for _ in range(5):
        error = _refused(tokens, within="refusing", label="x", pin=lambda: pin)
        assert str(error).startswith("the token 'refusing' has refused this PIN before; it is not tried again in this ")


def test_pin_that_is_corrected(tokens: Tokens) -> None:
    """After a wrong PIN the right one is accepted in the same process."""
    _refused(tokens, within="corrected", label="key", pin=_WRONG)
    assert _works(tokens.key("corrected", "key"))


def test_pin_from_a_file(tokens: Tokens, tmp_path: Path) -> None:
    """A PIN comes from the first line of a private file, as a passphrase does (R-42, A-85)."""
    path = tmp_path / "pin"
    path.touch(mode=0o600)
    path.write_bytes(PIN + b"\n")
    source = f"""
key = Pkcs11InstallationKey(module=MODULE, token="main", label="imported", pin=passphrase_from_file({str(path)!r}))
print(key.fingerprint)
"""
    assert tokens.run(source) == f"{tokens.key('main', 'imported').fingerprint}\n"
    path.chmod(0o644)
    assert "has mode 0644: others can reach it" in tokens.run(source)


def test_pin_is_fetched_once(tokens: Tokens) -> None:
    """The keys of a token share one login, so the PIN is fetched for the first of them only."""
    printed = tokens.run("""
calls = []
def fetch():
    calls.append(1)
    return PIN
for label in ("imported", "imported", "extractable"):
    try:
        key = Pkcs11InstallationKey(module=MODULE, token="main", label=label, pin=fetch)
        key.sign(b"message", "rsa-pss-sha256")
    except InstallationKeyError:
        print("refused")
print(len(calls))
""")
    assert printed == "refused\n1\n"


def test_pin_that_cannot_be_fetched(tokens: Tokens, tmp_path: Path) -> None:
    """What the function for the PIN raises is raised."""
    with pytest.raises(InstallationKeyError, match="cannot be opened"):
        tokens.key("refusing", "x", pin=passphrase_from_file(tmp_path / "missing"))


def test_masked(key: Pkcs11InstallationKey) -> None:
    """The `repr` of a key is the beginning of its fingerprint, and no attribute shows the PIN (R-39, A-75)."""
    assert repr(key) == str(key) == f"<Pkcs11InstallationKey: {key.fingerprint[:16]}>"
    shown = [repr(value) for one in (key._key, key._key._session) for value in vars(one).values()]
    assert [text for text in (*shown, str(key._key)) if MARK in text] == []


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_not_pickled_or_copied(key: Pkcs11InstallationKey, duplicate: Callable[[object], object]) -> None:
    """A key is neither pickled nor copied (R-39, A-49)."""
    with pytest.raises(TypeError, match=r"^an installation key can be neither pickled nor copied; make one from the"):
        duplicate(key)


# -- wrapping and signing ----------------------------------------------------------------------------------------------


def test_key_says_what_it_can_do(key: Pkcs11InstallationKey, imported: Pkcs11InstallationKey) -> None:
    """A key can do what the token really does: SoftHSM 2.6 lists OAEP, and does it with SHA-1 only (R-43)."""
    expected = {"rsa-oaep-sha1", "rsa-pss-sha256", "rsa-pkcs1-sha1"}
    if not re.match(r"2\.[0-6]\.", _softhsm_version()):
        expected |= {"rsa-oaep-sha256"}
    assert key.algorithms == imported.algorithms == expected


def _softhsm_version() -> str:
    return subprocess.run(["softhsm2-util", "--version"], check=True, capture_output=True, text=True).stdout  # noqa: S607


def test_what_a_software_key_wrapped(
    imported: Pkcs11InstallationKey, installation_key: SoftwareInstallationKey
) -> None:
    """A master key that was wrapped for the token opens with the same key in software, and the other way (R-9)."""
    for provisioning in (_DEFAULT, _SHA1):
        wrap = installation.wrap_master(_RECORD, _SECRET, imported, provisioning)
        resigned = installation.resign_master(_RECORD, wrap, installation_key, provisioning)
        for one in (wrap, resigned):
            for opener in (imported, installation_key):
                found = installation.unwrap_master(_RECORD, one, opener, provisioning)
                assert found.to_secret().expose() == _SECRET.to_secret().expose()


@pytest.mark.parametrize("algorithm", ["rsa-pss-sha256", "rsa-pkcs1-sha1"])
def test_signature_is_the_documented_one(key: Pkcs11InstallationKey, algorithm: str) -> None:
    """A signature of the token is the documented one, of messages of any size (R-10)."""
    schemes = {
        "rsa-pss-sha256": (padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32), hashes.SHA256()),
        "rsa-pkcs1-sha1": (padding.PKCS1v15(), hashes.SHA1()),  # noqa: S303
    }
    for size in (0, 1, 1_000, 100_000):
        message = os.urandom(size)
        key.public_key.verify(key.sign(message, algorithm), message, *schemes[algorithm])


def test_algorithms_that_are_not_there(key: Pkcs11InstallationKey) -> None:
    """A token is asked for nothing that the library does not know."""
    with pytest.raises(KeyRecordError, match="no signature algorithm 'rsa-pkcs1-sha256'"):
        key.sign(b"message", "rsa-pkcs1-sha256")
    with pytest.raises(KeyRecordError, match="no wrapping algorithm 'rsa-pkcs1'"):
        key.unwrap(bytes(512), "rsa-pkcs1")


def test_wrapping_that_the_token_cannot_do(
    imported: Pkcs11InstallationKey, installation_key: SoftwareInstallationKey
) -> None:
    """A master key that a software key wrapped by another algorithm is refused with what the token can do (R-43)."""
    wrap = installation.wrap_master(_RECORD, _SECRET, installation_key, _DEFAULT)
    if "rsa-oaep-sha256" in imported.algorithms:
        pytest.skip("this SoftHSM2 does OAEP with SHA-256")
    with pytest.raises(InstallationKeyError, match="cannot unwrap by rsa-oaep-sha256; it can do rsa-oaep-sha1, rsa-"):
        installation.unwrap_master(_RECORD, wrap, imported, _DEFAULT)


def _tampered(wrapped: bytes) -> list[bytes]:
    flipped = [bytes(byte ^ (place == n) for n, byte in enumerate(wrapped)) for place in (0, 1, 100, len(wrapped) - 1)]
    other_sizes = [wrapped[:-1], wrapped[1:], wrapped + b"\0", b"\0" + wrapped, b"", b"\0", bytes(10_000)]
    return [*flipped, *other_sizes, bytes(len(wrapped)), b"\xff" * len(wrapped)]


def test_tampered_wraps_are_one_error(key: Pkcs11InstallationKey) -> None:
    """What was not wrapped for the key is one error without the token's words, and the session goes on (A-34)."""
    public, secret = key.public_key, os.urandom(72)
    wrapped = public.encrypt(secret, _OAEP)
    pkcs1 = public.encrypt(secret, padding.PKCS1v15())
    labelled = public.encrypt(secret, padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), label=b"x"))  # noqa: S303
    for one in (*_tampered(wrapped), pkcs1, labelled):
        with pytest.raises(KeyRecordError) as caught:
            key.unwrap(one, "rsa-oaep-sha1")
        error = caught.value
        expected = f"a wrapped master key of {len(one)} bytes does not open with installation key {key.fingerprint}"
        assert (str(error), error.__cause__, error.__context__) == (expected, None, None)
        assert key.unwrap(wrapped, "rsa-oaep-sha1").expose() == secret


# -- threads, forks, and sessions that are lost ------------------------------------------------------------------------


def test_threads(tokens: Tokens, key: Pkcs11InstallationKey) -> None:
    """Eight threads unwrap and sign at once, half with key objects of their own, without an error (R-43, A-84)."""
    message = b"message"
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)

    def work(number: int) -> int:
        own = tokens.key("main", "generated") if number % 2 else key
        for _ in range(25):
            secret = os.urandom(72)
            assert own.unwrap(own.public_key.encrypt(secret, _OAEP), "rsa-oaep-sha1").expose() == secret
            own.public_key.verify(own.sign(message, "rsa-pss-sha256"), message, pss, hashes.SHA256())
        return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_children(tokens: Tokens, key: Pkcs11InstallationKey, imported: Pkcs11InstallationKey) -> None:
    """Children forked while other threads use the token log in for themselves, and the parent goes on (A-84)."""
    stop, calls = Event(), []

    def fetch() -> bytes:
        calls.append(1)
        return PIN

    counting = tokens.key("main", "generated", pin=fetch)

    def work() -> bool:
        calls.clear()
        return _works(counting) and _works(imported) and _works(counting) and len(calls) == 1

    def busy() -> None:
        while not stop.is_set():
            key.sign(b"message", "rsa-pss-sha256")

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(busy) for _ in range(2)]
        children = [_fork(work) for _ in range(4)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        stop.set()
        for one in running:
            one.result()
    assert codes == [0] * 4
    assert _works(key)


def _fork(work: Callable[[], bool]) -> int:
    """Run *work* in a forked child, and return its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = 0 if work() else 2
    finally:
        os._exit(status)


@pytest.mark.parametrize("end", ["reinitialize", "finalize"])
def test_session_that_others_ended(tokens: Tokens, key: Pkcs11InstallationKey, end: str) -> None:
    """A session that ended, because something else in the process started the module anew, is opened again (R-43)."""
    getattr(pkcs11.lib(str(tokens.module)), end)()
    assert _works(key)


def test_removed_token(tokens: Tokens, key: Pkcs11InstallationKey) -> None:
    """A token that is removed is an error; put back, it is used again, with the PIN fetched anew (R-43, A-84)."""
    calls = []

    def fetch() -> bytes:
        calls.append(1)
        return PIN

    place, outside = tokens.folder / "tokens" / "removable", tokens.folder / "removed"
    removable = tokens.key("removable", "key", pin=fetch)
    wrapped = removable.public_key.encrypt(b"secret", _OAEP)
    place.rename(outside)
    uses = (lambda: removable.unwrap(wrapped, "rsa-oaep-sha1"), lambda: removable.sign(b"message", "rsa-pss-sha256"))
    for use in 3 * uses:
        with pytest.raises(InstallationKeyError, match=r"^the token 'removable' (is not there|cannot be looked for)"):
            use()
    assert len(calls) == 1
    assert _works(key)
    outside.rename(place)
    assert (removable.unwrap(wrapped, "rsa-oaep-sha1").expose(), len(calls)) == (b"secret", 2)
    assert _works(removable)
    assert _works(key)


def test_key_that_is_exchanged(tokens: Tokens) -> None:
    """A key that is deleted is an error, and so is another one in its place, however it is labelled (R-43, A-84)."""
    used = Pkcs11InstallationKey.generate(module=tokens.module, token="exchanged", label="b", pin=PIN)
    delete = """
for found in list(session.get_objects({Attribute.LABEL: "b"})):
    found.destroy()
"""
    assert tokens.on_session("exchanged", delete) == ""
    with pytest.raises(InstallationKeyError, match=r"the RSA key 'b' with id .* in token 'exchanged' is not there"):
        used.sign(b"message", "rsa-pss-sha256")
    key_id = used._key._id
    other = f"Pkcs11InstallationKey.generate(module=MODULE, token='exchanged', label='b', key_id={key_id!r}, pin=PIN)"
    assert tokens.run(other) == ""
    with pytest.raises(InstallationKeyError, match="is another key now; restart the process if that is on purpose"):
        used.sign(b"message", "rsa-pss-sha256")


# -- the whole stack ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::sa_keyvault.LegacyAlgorithmWarning")
@pytest.mark.parametrize(
    "provisioning", [_DEFAULT, _SHA1, Provisioning.original()], ids=["default", "sha1", "original"]
)
def test_key_ring(
    key: Pkcs11InstallationKey, tokens: Tokens, sqlite_url: URL, make_engine: EngineMaker, provisioning: Provisioning
) -> None:
    """A ring with a key in a token writes what another ring reads, and the wrapping is recorded in the key store."""
    ring = KeyRing(key, provisioning=provisioning)
    engine = make_engine(sqlite_url, ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Claimant(id=1, email=marked("ada@example.org")))
    other = KeyRing(tokens.key("main", "generated"), provisioning=provisioning)
    second = make_engine(sqlite_url, other)
    other.initialize(second, Base.metadata)
    with Session(second) as session:
        assert session.scalars(select(Claimant.email)).all() == [marked("ada@example.org")]
    with second.connect() as connection:
        recorded = {wrap.algorithm.partition("+")[0] for wrap in store.wraps(connection)}
    best = next(one for one in installation.WRAPPINGS if one in key.algorithms)
    assert (recorded, repr(ring)) == ({best}, f"<KeyRing: {key!r}>")


def test_ring_of_another_key(
    key: Pkcs11InstallationKey, imported: Pkcs11InstallationKey, sqlite_url: URL, make_engine: EngineMaker
) -> None:
    """A key store of one key in the token does not open with another key in it (R-44, A-45)."""
    ring = KeyRing(key)
    ring.initialize(make_engine(sqlite_url, ring), Base.metadata)
    other = KeyRing(imported)
    with pytest.raises(KeyStoreError, match=imported.fingerprint):
        other.initialize(make_engine(sqlite_url, other), Base.metadata)
