"""The tokens of the run: a module reads its configuration once in a process, so there is one for all tests."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import serialization
from support.tokens import PIN, Tokens, softhsm_module

from sa_keyvault import Pkcs11InstallationKey
from sa_keyvault.installation import SoftwareInstallationKey

_PLANTED = """
def make(label, key_id, bits=3072, can=MechanismFlag.DECRYPT | MechanismFlag.SIGN, **attributes):
    attributes = {"SENSITIVE": True, "EXTRACTABLE": False, **attributes}
    template = {Attribute[name]: value for name, value in attributes.items()}
    session.generate_keypair(
        KeyType.RSA, bits, id=key_id, label=label, store=True, capabilities=can, private_template=template
    )

make("extractable", b"\\x10", EXTRACTABLE=True)
make("readable", b"\\x11", SENSITIVE=False)
make("both", b"\\x12", EXTRACTABLE=True, SENSITIVE=False)
make("only signs", b"\\x13", can=MechanismFlag.SIGN)
make("only decrypts", b"\\x14", can=MechanismFlag.DECRYPT)
make("short", b"\\x15", bits=2048)
make("twin", b"\\x16")
make("twin", b"\\x17")
make("clone", b"\\x18")
make("clone", b"\\x18")
"""


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory, installation_key: SoftwareInstallationKey) -> Iterator[Tokens]:
    """The tokens of the run: `main` with keys of every kind, and some that single tests spoil."""
    made = Tokens(softhsm_module(), tmp_path_factory.mktemp("softhsm"))
    made.configure()
    for label in ("main", "refusing", "corrected", "again", "again", "exchanged"):
        made.make(label)
    made.make("removable").rename(made.folder / "tokens" / "removable")
    assert made.on_session("main", _PLANTED) == ""
    pem = installation_key._private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made.put("main", "imported", "20", pem)
    for label in ("corrected", "removable"):
        made.put(label, "key", "21", pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.environment["SOFTHSM2_CONF"])
        yield made


@pytest.fixture(scope="session")
def key(tokens: Tokens) -> Pkcs11InstallationKey:
    """A key that was made in the token, RSA-4096."""
    return Pkcs11InstallationKey.generate(module=tokens.module, token="main", label="generated", pin=PIN)
