"""The plaintext bytes of a value: compact, and readable by another language.

All integers are big-endian, all texts UTF-8. A value of fixed width has an encoding of fixed length, so that
the length of an envelope does not give it away.

 name      size       layout
 text      variable   UTF-8
 bytes     variable   as they are
 boolean   1          0 or 1
 integer   8          signed, two's complement
 float     8          IEEE 754 binary64
 decimal   variable   ASCII, as `str(Decimal)` writes it; exact, trailing zeros kept
 date      4          year (2), month (1), day (1)
 time      11         hour, minute, second (1 each), microsecond (4), UTC offset in seconds (4, signed; -2^31: none)
 datetime  15         date (4), time (11)
 interval  12         days (4, signed), seconds (4), microseconds (4); seconds and microseconds never negative
 uuid      16         RFC 9562 section 4
 enum      2 + n      length of the name (2), name, zeros up to the longest name of the type
 json      variable   the JSON text
"""

import datetime
import decimal
import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as struct_error
from typing import Any

from sa_keyvault.errors import EncodingError, MalformedEnvelopeError

__all__ = [
    "BOOLEAN",
    "BYTES",
    "DATE",
    "DATETIME",
    "DECIMAL",
    "FLOAT",
    "INTEGER",
    "INTERVAL",
    "TEXT",
    "TIME",
    "UUID",
    "Codec",
    "checked",
    "enumeration",
]


@dataclass(frozen=True)
class Codec:
    """Both directions of one encoding.

    Attributes:
        name: Name in the table above.
        encode: Value to bytes.
        decode: Bytes to value.
        max_size: Size in bytes of the longest encoding, or None where there is no bound.
    """

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    max_size: int | None


_INTEGER = Struct(">q")
_FLOAT = Struct(">d")
_DATE = Struct(">HBB")
_TIME = Struct(">BBBIi")
_DATETIME = Struct(">HBBBBBIi")
_INTERVAL = Struct(">iII")
_NAME_LENGTH = Struct(">H")
_INFINITIES = (math.inf, -math.inf)
_NO_OFFSET = -(2**31)


def _refuse(value: object, name: str) -> EncodingError:
    return EncodingError(f"a value of type {type(value).__name__} cannot be stored in an encrypted {name} column")


def checked(codec: Codec) -> Codec:
    """Return *codec* with every error of its own turned into one that shows no value.

    Errors of `struct`, `decimal` or `str.encode` quote what they were given, or keep it as an attribute.
    """

    def encode(value: Any) -> bytes:
        try:
            return codec.encode(value)
        except EncodingError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct_error):
            pass
        raise _refuse(value, codec.name)

    def decode(plaintext: bytes) -> Any:
        try:
            return codec.decode(plaintext)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct_error):
            pass
        msg = f"{len(plaintext)} opened bytes are no {codec.name}: the column's inner type has changed"
        raise MalformedEnvelopeError(msg, size=len(plaintext))

    return Codec(codec.name, encode, decode, codec.max_size)


def _encode_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _refuse(value, "text")
    return value.encode()


def _encode_bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _refuse(value, "bytes")
    return bytes(value)


def _encode_boolean(value: Any) -> bytes:
    if value not in (0, 1):
        raise _refuse(value, "boolean")
    return b"\x01" if value else b"\x00"


def _decode_boolean(plaintext: bytes) -> bool:
    return {b"\x00": False, b"\x01": True}[plaintext]


def _encode_integer(value: Any) -> bytes:
    number = int(value) if isinstance(value, (int, decimal.Decimal)) else None
    if number is None or number != value:
        raise _refuse(value, "integer")
    if not -(2**63) <= number < 2**63:
        msg = "an integer outside -2^63 to 2^63-1 cannot be stored in an encrypted integer column"
        raise EncodingError(msg)
    return _INTEGER.pack(number)


def _encode_float(value: Any) -> bytes:
    if not isinstance(value, (float, int, decimal.Decimal)):
        raise _refuse(value, "float")
    number = float(value)
    if math.isinf(number) and not (isinstance(value, (float, decimal.Decimal)) and value in _INFINITIES):
        raise _refuse(value, "float")
    return _FLOAT.pack(number)


def _encode_decimal(value: Any) -> bytes:
    if isinstance(value, float) and math.isfinite(value):
        value = decimal.Decimal(repr(value))
    if isinstance(value, int):
        value = decimal.Decimal(value)
    if not isinstance(value, decimal.Decimal) or value.is_snan():
        raise _refuse(value, "decimal")
    return str(value).encode("ascii")


def _decode_decimal(plaintext: bytes) -> decimal.Decimal:
    return decimal.Decimal(plaintext.decode("ascii"))


def _encode_date(value: Any) -> bytes:
    if not isinstance(value, datetime.date):
        raise _refuse(value, "date")
    return _DATE.pack(value.year, value.month, value.day)


def _decode_date(plaintext: bytes) -> datetime.date:
    return datetime.date(*_DATE.unpack(plaintext))


def _offset_seconds(offset: datetime.timedelta | None) -> int:
    if offset is None:
        return _NO_OFFSET
    if offset.microseconds:
        msg = "a UTC offset with a fraction of a second cannot be stored in an encrypted column"
        raise EncodingError(msg)
    return offset.days * 86_400 + offset.seconds


def _zone(offset: int) -> datetime.timezone | None:
    return None if offset == _NO_OFFSET else datetime.timezone(datetime.timedelta(seconds=offset))


def _encode_time(value: Any) -> bytes:
    if not isinstance(value, datetime.time):
        raise _refuse(value, "time")
    offset = _offset_seconds(value.utcoffset())
    return _TIME.pack(value.hour, value.minute, value.second, value.microsecond, offset)


def _decode_time(plaintext: bytes) -> datetime.time:
    hour, minute, second, microsecond, offset = _TIME.unpack(plaintext)
    return datetime.time(hour, minute, second, microsecond, _zone(offset))


def _encode_datetime(value: Any) -> bytes:
    if not isinstance(value, datetime.datetime):
        raise _refuse(value, "datetime")
    offset = _offset_seconds(value.utcoffset())
    day = (value.year, value.month, value.day)
    return _DATETIME.pack(*day, value.hour, value.minute, value.second, value.microsecond, offset)


def _decode_datetime(plaintext: bytes) -> datetime.datetime:
    year, month, day, hour, minute, second, microsecond, offset = _DATETIME.unpack(plaintext)
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, _zone(offset))


def _encode_interval(value: Any) -> bytes:
    if not isinstance(value, datetime.timedelta):
        raise _refuse(value, "interval")
    return _INTERVAL.pack(value.days, value.seconds, value.microseconds)


def _decode_interval(plaintext: bytes) -> datetime.timedelta:
    return datetime.timedelta(*_INTERVAL.unpack(plaintext))


def _encode_uuid(value: Any) -> bytes:
    return value.bytes if isinstance(value, uuid.UUID) else uuid.UUID(value).bytes


def enumeration(names: Sequence[str]) -> Codec:
    """Return the codec of an enum with these stored *names*."""
    known = {name: name.encode() for name in names}
    longest = max(map(len, known.values()), default=0)

    def encode(name: Any) -> bytes:
        text = known.get(name)
        if text is None:
            raise _refuse(name, "enum")
        return _NAME_LENGTH.pack(len(text)) + text.ljust(longest, b"\x00")

    def decode(plaintext: bytes) -> str:
        (size,) = _NAME_LENGTH.unpack_from(plaintext)
        return plaintext[2 : 2 + size].decode()

    return Codec("enum", encode, decode, 2 + longest)


TEXT = Codec("text", _encode_text, bytes.decode, None)
BYTES = Codec("bytes", _encode_bytes, bytes, None)
BOOLEAN = Codec("boolean", _encode_boolean, _decode_boolean, 1)
INTEGER = Codec("integer", _encode_integer, lambda plaintext: _INTEGER.unpack(plaintext)[0], _INTEGER.size)
FLOAT = Codec("float", _encode_float, lambda plaintext: _FLOAT.unpack(plaintext)[0], _FLOAT.size)
DECIMAL = Codec("decimal", _encode_decimal, _decode_decimal, None)
DATE = Codec("date", _encode_date, _decode_date, _DATE.size)
TIME = Codec("time", _encode_time, _decode_time, _TIME.size)
DATETIME = Codec("datetime", _encode_datetime, _decode_datetime, _DATETIME.size)
INTERVAL = Codec("interval", _encode_interval, _decode_interval, _INTERVAL.size)
UUID = Codec("uuid", _encode_uuid, lambda plaintext: uuid.UUID(bytes=plaintext), 16)
