"""The worked example of the envelope format, computed without the package: fixed secrets to envelope."""

import hashlib
import hmac
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# what is given: the two halves of a master key, one working key, one row
WRAPPING_KEY = bytes(range(0x20))
BINDING_KEY = bytes(range(0x20, 0x40))
WORKING_SECRET = bytes(range(0x40, 0x60))

STORE_ID = "00112233445566778899aabbccddeeff"
MASTER_ID = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
KEY_NUMBER = 0x3ADE68B1
AREA = "identities"
CREATED = CHANGED = "2026-11-23T20:49:00Z"
EPOCH = 1
STATE = "active"
FORMER_STATE = ""
SUITE = "aes-256-gcm"

SCHEMA, TABLE, COLUMN = "", "claimant", "email"
SYMBOL_VALUES = ("12345", "Zürich")  # primary key, and a column of bind_to
SYMBOL_FORM = "length"  # the city may be any text
VALUE = "ada@example.org"

WRAP_NONCE = bytes.fromhex("a0a1a2a3a4a5a6a7a8a9aaab")
NONCE = bytes.fromhex("b0b1b2b3b4b5b6b7b8b9babb")


def length_prefixed(*fields: bytes) -> bytes:
    """Join fields, each behind its length."""
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def hkdf_sha256(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256 and 32 bytes of output, which is one block."""
    extracted = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def symbol(text: bytes) -> bytes:
    """Canonical text, a colon, its length in decimal."""
    return text + b":" + str(len(text)).encode()


def compute() -> dict[str, bytes]:
    """Return every intermediate value, in the order in which they are made."""
    values: dict[str, bytes] = {}
    values["master secret"] = length_prefixed(WRAPPING_KEY, BINDING_KEY)

    record = (str(KEY_NUMBER), STORE_ID, AREA, CREATED, CHANGED, str(EPOCH), STATE, FORMER_STATE, SUITE, MASTER_ID)
    fields = length_prefixed(*(field.encode() for field in record))
    values["record AAD"] = b"sa_keyvault/working-key/1\0" + fields
    values["wrapped"] = WRAP_NONCE + AESGCM(WRAPPING_KEY).encrypt(WRAP_NONCE, WORKING_SECRET, values["record AAD"])

    values["label"] = length_prefixed(SCHEMA.encode(), TABLE.encode(), COLUMN.encode())
    key_fields = ("sa_keyvault/data-key/1", SUITE, AREA, str(KEY_NUMBER))
    column_fields = (values["label"], str(len(SYMBOL_VALUES)).encode(), SYMBOL_FORM.encode())
    values["info"] = length_prefixed(*(field.encode() for field in key_fields), *column_fields)
    values["data key"] = hkdf_sha256(WORKING_SECRET, BINDING_KEY, values["info"])

    values["plaintext"] = VALUE.encode()
    body_size = len(NONCE) + len(values["plaintext"]) + 16
    values["header"] = struct.pack(">BII", 0xF8, KEY_NUMBER, body_size)
    values["AAD"] = b"".join(symbol(text.encode()) for text in SYMBOL_VALUES)

    sealed = AESGCM(values["data key"]).encrypt(NONCE, values["plaintext"], values["AAD"])
    values["ciphertext"], values["tag"] = sealed[:-16], sealed[-16:]
    values["envelope"] = values["header"] + NONCE + sealed
    values["selected"] = values["envelope"] + values["AAD"]
    return values


def render(values: dict[str, bytes]) -> str:
    """Return the values as text: name, size, hex digits in lines of 32 bytes."""
    lines = []
    for name, value in values.items():
        digits = [value[start : start + 32].hex() for start in range(0, len(value), 32)]
        lines.append(f"{name} ({len(value)})")
        lines.extend(f"    {part}" for part in digits)
    return "\n".join(lines)


if __name__ == "__main__":
    print(render(compute()))
