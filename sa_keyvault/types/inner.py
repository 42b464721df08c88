"""The inner type: which SQLAlchemy types can be encrypted, and the codec of each."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BINARY,
    JSON,
    VARBINARY,
    Boolean,
    Date,
    DateTime,
    Dialect,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    Null,
    Numeric,
    PickleType,
    String,
    Time,
    Uuid,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_keyvault import codec
from sa_keyvault.codec import Codec
from sa_keyvault.decorators import bind_converter, decorator_of, result_converter, undecorated
from sa_keyvault.envelope import max_envelope_size
from sa_keyvault.errors import ConfigurationError

__all__ = ["ValueCodec", "require_supported_inner", "storage_length", "type_name", "value_codec"]

_MAX_NAME_LENGTH = 255

_MAX_UTF8_SIZE = 4  # bytes per character; RFC 3629 section 3
_DECIMAL_OVERHEAD = 16  # sign, point, leading zero, exponent


@dataclass(frozen=True)
class ValueCodec:
    """Both directions of a column's values, NULL included.

    Attributes:
        name: What plaintexts are encoded as; types with one name have the same.
        encode: Value to plaintext; None stands for NULL.
        decode: Plaintext to value.
        null: Makes what NULL is loaded as.
        max_size: Size in bytes of the longest plaintext, or None where there is no bound.
    """

    name: str
    encode: Callable[[Any], bytes | None]
    decode: Callable[[bytes], Any]
    null: Callable[[], Any]
    max_size: int | None


_PLAIN: tuple[tuple[type[TypeEngine[Any]] | tuple[type[TypeEngine[Any]], ...], Codec], ...] = (
    (Boolean, codec.BOOLEAN),
    ((Interval, INTERVAL), codec.INTERVAL),
    (String, codec.TEXT),
    ((LargeBinary, BINARY, VARBINARY), codec.BYTES),
    (Float, codec.FLOAT),
    (Numeric, codec.DECIMAL),
    (Integer, codec.INTEGER),
    (DateTime, codec.DATETIME),
    (Date, codec.DATE),
    (Time, codec.TIME),
)


def require_supported_inner(inner: TypeEngine[Any]) -> None:
    """Refuse, when the column is declared, a type that cannot be carried.

    Raises:
        sa_keyvault.ConfigurationError: With the remedy.
    """
    if isinstance(inner, PickleType):
        msg = "PickleType cannot be encrypted: whoever could forge a value would run code; use JSON or LargeBinary"
        raise ConfigurationError(msg)
    if isinstance(inner, ARRAY):
        msg = "ARRAY cannot be encrypted; use Encrypted(JSON) for a list of values"
        raise ConfigurationError(msg)
    if isinstance(inner, (Enum, JSON, Uuid)) or any(isinstance(inner, types) for types, _ in _PLAIN):
        return
    if decorator := decorator_of(inner):
        require_supported_inner(decorator.impl_instance)
        return
    msg = f"{inner!r} cannot be encrypted; use String, LargeBinary or JSON, or a TypeDecorator over one of them"
    raise ConfigurationError(msg)


def value_codec(inner: TypeEngine[Any], dialect: Dialect) -> ValueCodec:
    """Return the codec of a column whose inner type is *inner*."""
    if isinstance(inner, JSON):
        return _json(inner, dialect)
    if decorator := decorator_of(inner):
        return _decorated(decorator, dialect)
    plain = codec.checked(_codec(inner, dialect))
    # text and bytes have no error of their own to hide, and are the hot path
    decode = plain.decode if plain.name != "text" else codec.TEXT.decode

    def encode(value: Any) -> bytes | None:
        return None if value is None else plain.encode(value)

    def encode_text(value: Any) -> bytes | None:
        # nearly every value; whatever else it is goes the long way, to its error perhaps
        return value.encode() if type(value) is str and value.isascii() else encode(value)

    chosen = encode_text if plain.name == codec.TEXT.name else encode
    return ValueCodec(plain.name, chosen, decode, _nothing, _max_size(inner, plain))


def _codec(inner: TypeEngine[Any], dialect: Dialect) -> Codec:
    if isinstance(inner, Enum):
        return _enum(inner, dialect)
    if isinstance(inner, Uuid):
        return codec.UUID if inner.as_uuid else _decoded_with(codec.UUID, str)
    if isinstance(inner, Float) and inner.asdecimal:
        return codec.DECIMAL
    if isinstance(inner, Numeric) and not isinstance(inner, Float) and not inner.asdecimal:
        return _decoded_with(codec.DECIMAL, float)
    return next(plain for types, plain in _PLAIN if isinstance(inner, types))


def _decoded_with(plain: Codec, convert: Callable[[Any], Any]) -> Codec:
    return Codec(plain.name, plain.encode, lambda plaintext: convert(plain.decode(plaintext)), plain.max_size)


def _enum(inner: Enum, dialect: Dialect) -> Codec:
    names = codec.enumeration([str(name) for name in inner.enums])
    enum: Any = inner
    to_name, from_name = enum.bind_processor(dialect), enum.result_processor(dialect, None)
    return Codec(
        names.name,
        lambda value: names.encode(to_name(value)),
        lambda plaintext: from_name(names.decode(plaintext)),
        names.max_size,
    )


def _json(inner: JSON, dialect: Dialect) -> ValueCodec:
    serialize = getattr(dialect, "_json_serializer", None) or json.dumps
    deserialize = getattr(dialect, "_json_deserializer", None) or json.loads

    def encode(value: Any) -> bytes:
        text = serialize(None if value is JSON.NULL else value)
        return text if isinstance(text, bytes) else text.encode()

    plain = codec.checked(Codec("json", encode, lambda plaintext: deserialize(plaintext.decode()), None))

    def encode_or_null(value: Any) -> bytes | None:
        is_null = isinstance(value, Null) or (value is None and inner.none_as_null)
        return None if is_null else plain.encode(value)

    return ValueCodec(plain.name, encode_or_null, plain.decode, _nothing, None)


def _nothing() -> None:
    """What NULL is loaded as, but where a decorator says otherwise."""


def _decorated(inner: "TypeDecorator[Any]", dialect: Dialect) -> ValueCodec:
    carried = value_codec(inner.load_dialect_impl(dialect), dialect)
    to_carried, from_carried = bind_converter(inner, dialect), result_converter(inner, dialect)

    def encode(value: Any) -> bytes | None:
        return carried.encode(to_carried(value))

    def decode(plaintext: bytes) -> Any:
        return from_carried(carried.decode(plaintext))

    def null() -> Any:
        return from_carried(carried.null())

    return ValueCodec(carried.name, encode, decode, null, carried.max_size)


def _max_size(inner: TypeEngine[Any], plain: Codec) -> int | None:
    if isinstance(inner, Enum):
        return plain.max_size
    if isinstance(inner, String):
        return None if inner.length is None else inner.length * _MAX_UTF8_SIZE
    if isinstance(inner, (LargeBinary, BINARY, VARBINARY)):
        return inner.length
    if plain.name == codec.DECIMAL.name:
        precision = getattr(inner, "precision", None)
        return None if precision is None else precision + _DECIMAL_OVERHEAD
    return plain.max_size


def storage_length(inner: TypeEngine[Any] | type[TypeEngine[Any]]) -> int | None:
    """Return how many bytes the stored form of a value of *inner* needs at most.

    The same for every suite, so that a change of suite never needs a wider column.

    Args:
        inner: The type that is encrypted, for instance `String(254)`.

    Returns:
        Size in bytes, or None where the inner type has no bound (`Text`, `JSON`).

    Raises:
        sa_keyvault.ConfigurationError: The type cannot be encrypted.
    """
    instance = inner() if isinstance(inner, type) else inner
    require_supported_inner(instance)
    size = _inner_size(instance)
    return None if size is None else max_envelope_size(size)


def type_name(inner: TypeEngine[Any]) -> str:
    """Return the readable name of an inner type, as the key store remembers it."""
    return repr(undecorated(inner))[:_MAX_NAME_LENGTH]


def _inner_size(inner: TypeEngine[Any]) -> int | None:
    if isinstance(inner, JSON):
        return None
    if decorator := decorator_of(inner):
        return _inner_size(decorator.impl_instance)
    if isinstance(inner, Enum):
        return codec.enumeration([str(name) for name in inner.enums]).max_size
    if isinstance(inner, Uuid):
        return codec.UUID.max_size
    return _max_size(inner, next(plain for types, plain in _PLAIN if isinstance(inner, types)))
