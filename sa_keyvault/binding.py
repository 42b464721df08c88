"""The binding context: what an envelope is tied to, as bytes that have one reading only.

The column is part of what the data key is derived for (see `records.data_key`): its label, the number of symbols
that name a row, and their form. The associated data of an envelope (AAD) is the row: its symbols, in primary-key
order, in one of two forms.

 form    a symbol is                                   used where
 colon   ":", canonical text                           no canonical text of the column's symbols can hold a colon
 length  canonical text, ":", its length in decimal    one of them may be any text

A label is a sequence of length-prefixed texts: schema, table and column, or the one text of `context="…"`.

What is selected is the stored bytes and then the symbols, so stored bytes must never become part of a symbol
(attack A-53). A length in front of a symbol would allow it; a length behind it is parsed from the right and has
one reading. In the form `colon` a sealed value has as many colons as symbols, and begins with one: whatever the
stored bytes and the database's texts are, they cannot be read as other symbols without a colon too many.
"""

import datetime
import decimal
import enum
import re
import struct
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sa_keyvault.errors import BindingError, KeyRecordError

__all__ = [
    "Binding",
    "Label",
    "SymbolForm",
    "canonical_bytes",
    "canonical_date",
    "canonical_integer",
    "canonical_text",
    "canonical_trimmed_text",
    "canonical_uuid",
    "join_symbols",
    "length_prefixed",
    "split_symbols",
]

_LENGTH = struct.Struct(">I")

_MAX_LENGTH_DIGITS = 10  # a symbol of 10 GB is beyond every database
# narrower than what Python reads: blanks, underscores and other digits are text to a database
_INTEGER_TEXT = re.compile(r"[+-]?[0-9]{1,40}")
_UUID_TEXT = re.compile(r"[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\1){3}[0-9a-fA-F]{12}")


def length_prefixed(*fields: bytes) -> bytes:
    """Join *fields*, each behind its length (4 bytes, big-endian)."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in fields)


@dataclass(frozen=True)
class Label:
    """Name of an encrypted column inside the binding context.

    Attributes:
        parts: Schema (empty where there is none), table and column; or the one text of `context`.
    """

    parts: tuple[str, ...]

    @classmethod
    def from_bytes(cls, data: bytes) -> "Label":
        """Return the label that has these bytes.

        Raises:
            sa_keyvault.KeyRecordError: They are no label's.
        """
        parts: list[str] = []
        rest = data
        try:
            while rest:
                end = _LENGTH.size + _LENGTH.unpack_from(rest)[0]
                parts.append(rest[_LENGTH.size : end].decode())
                rest = rest[end:]
        except (struct.error, UnicodeDecodeError):
            parts = []
        label = cls(tuple(parts))
        # a last part that is cut off has another length than it says
        if parts and bytes(label) == data:
            return label
        msg = f"{len(data)} bytes are no label; they were changed outside the library"
        raise KeyRecordError(msg, size=len(data))

    def __bytes__(self) -> bytes:
        return length_prefixed(*(part.encode() for part in self.parts))

    def __str__(self) -> str:
        return ".".join(part for part in self.parts if part)


class SymbolForm(enum.StrEnum):
    """How symbols are told from each other, and from what stands before them."""

    COLON = "colon"
    LENGTH = "length"


@dataclass(frozen=True)
class Binding:
    """What every envelope of one column has in common.

    Attributes:
        label: Name of the column.
        symbol_count: How many symbols name a row, at least 1.
        form: How they are written.
    """

    label: Label
    symbol_count: int
    form: SymbolForm

    def fields(self) -> tuple[bytes, ...]:
        """Return every field as bytes, in the order above."""
        return bytes(self.label), b"%d" % self.symbol_count, self.form.encode()


def join_symbols(texts: Sequence[bytes], form: SymbolForm) -> bytes:
    """Return the symbols of a row, `:12345` or `12345:5` each, from their canonical texts."""
    if form is SymbolForm.COLON:
        return b"".join([b":" + text for text in texts])
    return b"".join([b"%b:%d" % (text, len(text)) for text in texts])


def split_symbols(suffix: bytes, count: int, form: SymbolForm) -> tuple[bytes, tuple[bytes, ...]]:
    """Parse *count* symbols from the right end of *suffix*.

    Returns:
        What stands before them, and their canonical texts in order.

    Raises:
        sa_keyvault.BindingError: *suffix* does not end in that many symbols.
    """
    split = _split_colon if form is SymbolForm.COLON else _split_length
    texts: list[bytes] = []
    rest = suffix
    for _ in range(count):
        parts = split(rest)
        if parts is None:
            msg = f"{len(suffix)} bytes do not end in {count} symbols"
            raise BindingError(msg, size=len(suffix))
        rest = parts[0]
        texts.insert(0, parts[1])
    return rest, tuple(texts)


def _split_colon(suffix: bytes) -> tuple[bytes, bytes] | None:
    rest, colon, text = suffix.rpartition(b":")
    return (rest, text) if colon else None


def _split_length(suffix: bytes) -> tuple[bytes, bytes] | None:
    head, colon, digits = suffix.rpartition(b":")
    size = _parsed_length(digits)
    if not colon or size is None or size > len(head):
        return None
    return head[: len(head) - size], head[len(head) - size :]


def _parsed_length(digits: bytes) -> int | None:
    """Return the length that *digits* say, or None where they are not its one decimal form."""
    if not digits.isdigit() or len(digits) > _MAX_LENGTH_DIGITS:
        return None
    length = int(digits)
    return length if digits == b"%d" % length else None


def _refuse(value: object, kind: str) -> BindingError:
    return BindingError(f"a value of type {type(value).__name__} is no {kind}, so it cannot be a symbol of its row")


def canonical_integer(value: object) -> bytes:
    """Return an integer in decimal; accepts what a database stores as the same integer."""
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float) and value.is_integer():
        return b"%d" % int(value)
    if isinstance(value, decimal.Decimal) and value.is_finite() and value == int(value):
        return b"%d" % int(value)
    if isinstance(value, str) and _INTEGER_TEXT.fullmatch(value):
        return b"%d" % int(value)
    raise _refuse(value, "integer")


def canonical_text(value: object) -> bytes:
    """Return text as UTF-8."""
    if not isinstance(value, str):
        raise _refuse(value, "text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        msg = "a text with lone surrogates has no UTF-8 form, so it cannot be a symbol of its row"
        raise BindingError(msg) from None


def canonical_trimmed_text(value: object) -> bytes:
    """Return the text of a fixed-length CHAR without trailing blanks, which databases add or strip."""
    return canonical_text(value).rstrip(b" ")


def canonical_uuid(value: object) -> bytes:
    """Return a UUID as 32 lower-case hex digits."""
    if isinstance(value, uuid.UUID):
        return value.hex.encode()
    if isinstance(value, str) and _UUID_TEXT.fullmatch(value):
        return uuid.UUID(value).hex.encode()
    raise _refuse(value, "uuid")


def canonical_bytes(value: object) -> bytes:
    """Return bytes as lower-case hex."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex().encode()
    raise _refuse(value, "bytes")


def canonical_date(value: object) -> bytes:
    """Return a date as ISO 8601, `2026-11-23`."""
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat().encode()
    raise _refuse(value, "date")
