"""The binding context: what an envelope is tied to, as bytes that have one reading only.

Associated data of an envelope (AAD), all integers big-endian:

     size  field
     9     header of the envelope (see `envelope`)
     4     length of the label
     n     label
     2     number of symbols
     n     symbols, in primary-key order, each as canonical text, ":", its length in decimal

A label is a sequence of length-prefixed texts: schema, table and column, or the one text of
`context="…"`. A length in front of a symbol would let stored bytes become part of a symbol (attack A-53);
behind it, and with the number of symbols authenticated, symbols are parsed from the right and
have one reading.
"""

import datetime
import decimal
import re
import uuid
from dataclasses import dataclass, field
from struct import Struct

from sa_keyvault.errors import BindingError

__all__ = [
    "Binding",
    "Label",
    "canonical_bytes",
    "canonical_date",
    "canonical_integer",
    "canonical_text",
    "canonical_trimmed_text",
    "canonical_uuid",
    "length_prefixed",
    "split_symbols",
    "symbol",
]

_LENGTH = Struct(">I")
_COUNT = Struct(">H")

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

    def __bytes__(self) -> bytes:
        return length_prefixed(*(part.encode() for part in self.parts))

    def __str__(self) -> str:
        return ".".join(part for part in self.parts if part)


@dataclass(frozen=True)
class Binding:
    """What every envelope of one column has in common.

    Attributes:
        label: Name of the column.
        symbol_count: How many symbols name a row, 1 to 65,535.
        prefix: The AAD between header and symbols.
    """

    label: Label
    symbol_count: int
    prefix: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        prefix = length_prefixed(bytes(self.label)) + _COUNT.pack(self.symbol_count)
        object.__setattr__(self, "prefix", prefix)


def symbol(text: bytes) -> bytes:
    """Return *text*, ":" and its length in bytes: `12345:5`."""
    return b"%b:%d" % (text, len(text))


def split_symbols(suffix: bytes, count: int) -> tuple[bytes, tuple[bytes, ...]]:
    """Parse *count* symbols from the right end of *suffix*.

    Returns:
        What stands before them, and their canonical texts in order.

    Raises:
        sa_keyvault.BindingError: *suffix* does not end in that many symbols.
    """
    texts: list[bytes] = []
    rest = suffix
    for _ in range(count):
        head, colon, digits = rest.rpartition(b":")
        size = _parsed_length(digits)
        if not colon or size is None or size > len(head):
            msg = f"{len(suffix)} bytes do not end in {count} symbols"
            raise BindingError(msg, size=len(suffix))
        rest, text = head[: len(head) - size], head[len(head) - size :]
        texts.insert(0, text)
    return rest, tuple(texts)


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
