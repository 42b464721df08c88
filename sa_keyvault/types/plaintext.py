"""Values that are not encrypted, as a database has them: in a column of their own type, or as the bytes of their text.

A column that is encrypted in place becomes one of bytes first. PostgreSQL and MariaDB make bytes of the values' texts
then (`ALTER TABLE`); SQLite leaves each value as it was.
"""

import datetime
import decimal
import json
import uuid
from collections.abc import Callable
from typing import Any

from sqlalchemy import (
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
    Numeric,
    String,
    Time,
    Uuid,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_keyvault.decorators import bind_converter, decorator_of, result_converter, undecorated
from sa_keyvault.errors import ConfigurationError, MalformedEnvelopeError

__all__ = [
    "is_binary",
    "plaintext_reader",
    "plaintext_writer",
    "require_convertible",
    "require_readable_plaintext",
    "value_converter",
]

_BINARY = (LargeBinary, BINARY, VARBINARY, mysql.TINYBLOB, mysql.MEDIUMBLOB, mysql.LONGBLOB)
_Types = type[TypeEngine[Any]] | tuple[type[TypeEngine[Any]], ...]
_UUID_SIZE = 16  # bytes; RFC 9562 section 4
_SQLITE_MAX = 2**63  # no integer of SQLite is larger
_TRUE = ("1", "t", "true")
_FALSE = ("0", "f", "false")


def is_binary(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether values of *type_* are stored as bytes by themselves."""
    return isinstance(undecorated(type_, dialect), _BINARY)


def require_readable_plaintext(inner: TypeEngine[Any]) -> None:
    """Refuse a type whose values databases round when they are selected as text.

    Raises:
        sa_keyvault.ConfigurationError: `accept_plaintext_until` cannot be honoured.
    """
    if isinstance(undecorated(inner), (Float, Numeric, Interval, INTERVAL)):
        msg = (
            f"accept_plaintext_until does not work with {inner!r}, whose values databases round when they become text; "
            "encrypt the column while nobody writes to it"
        )
        raise ConfigurationError(msg)


def require_convertible(type_: TypeEngine[Any], dialect: Dialect) -> None:
    """Refuse a type whose values have no text that says all of them.

    Raises:
        sa_keyvault.ConfigurationError: Values of it can be neither encrypted in place nor decrypted out.
    """
    stored = undecorated(type_, dialect)
    known = (String, Enum, JSON, Uuid, Boolean, Float, Numeric, Integer, DateTime, Date, Time, *_BINARY)
    if isinstance(stored, known) and not isinstance(stored, (Interval, INTERVAL)):
        return
    msg = f"values of {type_!r} cannot be converted in place; copy them into another column with the application"
    raise ConfigurationError(msg)


def plaintext_reader(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any]:
    """Return the function that makes a value of what the driver hands out.

    Args:
        type_: How the values were declared.
        dialect: Of the engine.

    Returns:
        A function of a value as the driver hands it out of a column of *type_*, or of the bytes of its text.
        It raises `MalformedEnvelopeError` for bytes that are no such text.
    """
    parse, is_bytes = _parser(type_, dialect), is_binary(type_, dialect)
    # elsewhere the column is one of bytes already; PostgreSQL's drivers cannot tell without the column's type
    is_native = is_bytes or dialect.name == "sqlite"
    native = type_.dialect_impl(dialect).result_processor(dialect, None) if is_native else None

    def read(stored: Any) -> Any:
        if is_bytes or not isinstance(stored, (bytes, bytearray, memoryview)):
            return stored if native is None else native(stored)
        size = len(stored)
        try:
            return parse(_text_of(bytes(stored), type_, dialect))
        except (ArithmeticError, LookupError, TypeError, ValueError):
            pass
        # outside the except clause: an error kept as context would hold the value
        msg = f"{size} stored bytes are neither an envelope nor the text of a {type_!r}"
        raise MalformedEnvelopeError(msg, size=size)

    return read


def plaintext_writer(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any]:
    """Return the function that makes of a value what is to be stored in a column of bytes, to become one of *type_*.

    On SQLite the value as its driver takes it; elsewhere the bytes of its text, but for MariaDB's UUID.
    """
    if is_binary(type_, dialect):
        return _bound(type_, dialect, lambda *_: bytes)
    if dialect.name == "sqlite":
        return _native_writer(type_, dialect)
    text_of = _texts(type_, dialect)
    encode = (lambda text: uuid.UUID(text).bytes) if _is_raw_uuid(type_, dialect) else str.encode

    def write(value: Any) -> Any:
        text = text_of(value)
        return None if text is None else encode(text)

    return write


def value_converter(before: TypeEngine[Any], after: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return the function that makes a value of one type one of the other, by its text; None where they are the same.

    Type decorators are left alone: what their values are, only the application knows.
    """
    if isinstance(before, TypeDecorator) or isinstance(after, TypeDecorator) or before.python_type is after.python_type:
        return None
    text_of, parse = _texts(before, dialect), _parser(after, dialect)

    def convert(value: Any) -> Any:
        text = None if value is None else text_of(value)
        return None if text is None else parse(text)

    return convert


def _is_raw_uuid(type_: TypeEngine[Any], dialect: Dialect) -> bool:
    """Whether the database makes sixteen bytes of a UUID, not its text, and takes no other: MariaDB."""
    stored = undecorated(type_, dialect)
    is_native = isinstance(stored, Uuid) and stored.native_uuid and dialect.supports_native_uuid
    return is_native and dialect.name in ("mysql", "mariadb")


def _text_of(stored: bytes, type_: TypeEngine[Any], dialect: Dialect) -> str:
    if len(stored) == _UUID_SIZE and _is_raw_uuid(type_, dialect):
        return str(uuid.UUID(bytes=stored))
    return stored.decode()


def _native_writer(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any]:
    native = type_.dialect_impl(dialect).bind_processor(dialect)
    if native is None:
        return lambda value: value
    if not isinstance(undecorated(type_, dialect), JSON):
        return native

    def write(value: Any) -> Any:
        # SQLite itself makes a number of such a text in a column of JSON, and what is stored is to read back
        text = native(value)
        return _number(text) if isinstance(text, str) else text

    return write


def _number(text: str) -> Any:
    """Return the number that a text is which SQLite would store as one; any other text as it is."""
    for make in (int, float):
        try:
            number = make(text)
        except ValueError:
            continue
        return number if abs(number) < _SQLITE_MAX else text
    return text


def _parser(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[str], Any]:
    if decorator := decorator_of(type_):
        convert, inner = result_converter(decorator, dialect), _parser(decorator.load_dialect_impl(dialect), dialect)
        return lambda text: convert(inner(text))
    return next((make(type_, dialect) for known, make in _PARSERS if isinstance(type_, known)), str)


def _enum_parser(type_: Any, dialect: Dialect) -> Callable[[str], Any]:
    to_member: Callable[[str], Any] = type_.result_processor(dialect, None)
    return to_member


def _json_parser(type_: Any, dialect: Dialect) -> Callable[[str], Any]:
    load: Callable[[str], Any] = getattr(dialect, "_json_deserializer", None) or json.loads
    return load


def _boolean(text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError


_PARSERS: tuple[tuple[_Types, Callable[[Any, Dialect], Callable[[str], Any]]], ...] = (
    (Enum, _enum_parser),
    (JSON, _json_parser),
    (Uuid, lambda type_, _: uuid.UUID if type_.as_uuid else lambda text: str(uuid.UUID(text))),
    (Float, lambda type_, _: decimal.Decimal if type_.asdecimal else float),
    (Numeric, lambda type_, _: decimal.Decimal if type_.asdecimal else float),
    (Boolean, lambda *_: _boolean),
    (Integer, lambda *_: int),
    (DateTime, lambda *_: datetime.datetime.fromisoformat),
    (Date, lambda *_: datetime.date.fromisoformat),
    (Time, lambda *_: datetime.time.fromisoformat),
    (_BINARY, lambda *_: str.encode),
)


def _texts(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], str | None]:
    def text_of(stored: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], str]:
        return next((make(stored, dialect) for known, make in _WRITERS if isinstance(stored, known)), str)

    return _bound(type_, dialect, text_of)


def _bound(
    type_: TypeEngine[Any], dialect: Dialect, make: Callable[[TypeEngine[Any], Dialect], Callable[[Any], Any]]
) -> Callable[[Any], Any]:
    """Return what decorators make of a value, and then the function of the type that is stored."""
    decorator = decorator_of(type_)
    if decorator is None:
        return make(type_, dialect)
    convert, inner = bind_converter(decorator, dialect), _bound(decorator.load_dialect_impl(dialect), dialect, make)

    def write(value: Any) -> Any:
        bound = convert(value)
        return None if bound is None else inner(bound)

    return write


def _enum_writer(type_: Any, dialect: Dialect) -> Callable[[Any], str]:
    to_name: Callable[[Any], str] = type_.bind_processor(dialect)
    return to_name


def _json_writer(type_: Any, dialect: Dialect) -> Callable[[Any], str]:
    dump: Callable[[Any], str] = getattr(dialect, "_json_serializer", None) or json.dumps
    return dump


def _uuid_writer(type_: Any, dialect: Dialect) -> Callable[[Any], str]:
    is_native = type_.native_uuid and dialect.supports_native_uuid
    return lambda value: str(uuid.UUID(str(value))) if is_native else uuid.UUID(str(value)).hex


_WRITERS: tuple[tuple[_Types, Callable[[Any, Dialect], Callable[[Any], str]]], ...] = (
    (Enum, _enum_writer),
    (JSON, _json_writer),
    (Uuid, _uuid_writer),
    (Boolean, lambda *_: lambda value: str(int(value))),
    (DateTime, lambda *_: lambda value: str(value.isoformat(" "))),
    (_BINARY, lambda *_: bytes.decode),
)
