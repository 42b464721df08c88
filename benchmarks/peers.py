"""The column types that are compared: what a user would pick instead, each in its best documented configuration."""

import base64
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary, String, func, type_coerce
from sqlalchemy.types import TypeDecorator, TypeEngine

from benchmarks.figures import OURS, PLAIN
from sa_keyvault import Encrypted

__all__ = ["AREA", "BARE", "PGCRYPTO", "UTILS_GCM", "Kind", "kinds"]

AREA = "benchmark"
BARE = "AESGCM in a TypeDecorator"
PGCRYPTO = "pgcrypto"
UTILS_GCM = "sqlalchemy-utils AES-GCM"

_STORED = 1_000  # characters of a column that holds Base64 of a ciphertext


@dataclass(frozen=True)
class Kind:
    """A way to declare a text column.

    Attributes:
        name: Of the peer.
        make: Makes the type of one column.
        take: Takes the text out of a loaded value, where that is not the text itself.
        only_on: Database that it works on; empty for all.
    """

    name: str
    make: Callable[[], TypeEngine[Any]]
    take: Callable[[Any], str] | None = None
    only_on: str = ""


def kinds() -> tuple[list[Kind], dict[str, str]]:
    """Return the kinds that can be used, and why the others cannot, by name."""
    found: list[Kind] = []
    reasons: dict[str, str] = {}
    for names, load in _LOADERS.items():
        try:
            found += load()
        except ImportError as error:
            reasons |= dict.fromkeys(names, f"cannot be imported ({error})")
    return found, reasons


def _own() -> Iterator[Kind]:
    yield Kind(PLAIN, lambda: String(254))
    yield Kind(OURS, lambda: Encrypted(String(254), area=AREA))
    yield Kind(BARE, lambda: BareText(AESGCM(os.urandom(32))))
    yield Kind(PGCRYPTO, lambda: PgCryptoText(base64.b64encode(os.urandom(32)).decode()), only_on="postgresql")


def _utils() -> Iterator[Kind]:
    from sqlalchemy_utils import StringEncryptedType  # noqa: PLC0415 - may be missing
    from sqlalchemy_utils.types.encrypted.encrypted_type import (  # noqa: PLC0415
        AesEngine,
        AesGcmEngine,
        FernetEngine,
    )

    key = base64.b64encode(os.urandom(32)).decode()
    yield Kind(
        "sqlalchemy-utils AES", lambda: StringEncryptedType(String(254), key, AesEngine, "pkcs5", length=_STORED)
    )
    yield Kind(UTILS_GCM, lambda: StringEncryptedType(String(254), key, AesGcmEngine, length=_STORED))
    yield Kind("sqlalchemy-utils Fernet", lambda: StringEncryptedType(String(254), key, FernetEngine, length=_STORED))


def _advanced_alchemy() -> Iterator[Kind]:
    from advanced_alchemy.types import EncryptedString  # noqa: PLC0415 - may be missing

    key = os.urandom(32)
    yield Kind("advanced-alchemy", lambda: EncryptedString(key=key))


def _encrypted_field() -> Iterator[Kind]:
    from sqlalchemy_encrypted_field import EncryptedText, configure  # noqa: PLC0415 - may be missing

    configure(base64.b64encode(os.urandom(32)).decode())
    # what it loads opens at each call of decrypt() only
    yield Kind("sqlalchemy-encrypted-field", EncryptedText, take=lambda secret: secret.decrypt())


def _tink() -> Iterator[Kind]:
    import tink  # noqa: PLC0415 - may be missing
    from tink import aead  # noqa: PLC0415

    aead.register()
    primitive = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
    yield Kind("Tink in a TypeDecorator", lambda: TinkText(primitive))


_LOADERS: dict[tuple[str, ...], Callable[[], Iterator[Kind]]] = {
    (PLAIN, OURS, BARE, PGCRYPTO): _own,
    ("sqlalchemy-utils AES", UTILS_GCM, "sqlalchemy-utils Fernet"): _utils,
    ("advanced-alchemy",): _advanced_alchemy,
    ("sqlalchemy-encrypted-field",): _encrypted_field,
    ("Tink in a TypeDecorator",): _tink,
}


class BareText(TypeDecorator[str]):
    """The least that encrypts: one key, bound to nothing."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, cipher: AESGCM) -> None:
        super().__init__()
        self.cipher = cipher

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        """Encrypt."""
        if value is None:
            return None
        nonce = os.urandom(12)
        return nonce + self.cipher.encrypt(nonce, value.encode(), None)

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        """Decrypt."""
        return None if value is None else self.cipher.decrypt(value[:12], value[12:], None).decode()


class TinkText(TypeDecorator[str]):
    """Tink's AEAD under an AES-256-GCM keyset."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, primitive: Any) -> None:
        super().__init__()
        self.primitive = primitive

    def process_bind_param(self, value: str | None, dialect: Any) -> bytes | None:
        """Encrypt."""
        return None if value is None else self.primitive.encrypt(value.encode(), b"")

    def process_result_value(self, value: bytes | None, dialect: Any) -> str | None:
        """Decrypt."""
        return None if value is None else self.primitive.decrypt(bytes(value), b"").decode()


class PgCryptoText(TypeDecorator[str]):
    """PostgreSQL encrypts and decrypts, in SQL, as SQLAlchemy's manual has it; the passphrase is in every statement."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, passphrase: str) -> None:
        super().__init__()
        self.passphrase = passphrase

    def bind_expression(self, bindvalue: Any) -> Any:
        """Encrypt in the database."""
        return func.pgp_sym_encrypt(type_coerce(bindvalue, String()), self.passphrase)

    def column_expression(self, column: Any) -> Any:
        """Decrypt in the database."""
        return func.pgp_sym_decrypt(column, self.passphrase, type_=String())
