"""What differs between databases: storage types, and the SQL that sends a row's symbols along with an envelope."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import BINARY, CHAR, Column, ColumnElement, Date, Dialect, Enum, Integer, LargeBinary, String, Uuid
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import InternalTraversal
from sqlalchemy.types import VARBINARY, TypeDecorator, TypeEngine

from sa_keyvault import binding
from sa_keyvault.binding import SymbolForm
from sa_keyvault.decorators import bind_converter, decorator_of, undecorated
from sa_keyvault.errors import BindingError, ConfigurationError
from sa_keyvault.keyring import Ring

if TYPE_CHECKING:
    from sqlalchemy.sql.type_api import _BindProcessorType

__all__ = [
    "RowBytes",
    "RowSymbol",
    "RowSymbols",
    "attach_ring",
    "is_collated",
    "is_mariadb",
    "require_supported",
    "ring_of",
    "storage_type",
    "symbol_form",
    "symbol_kind",
    "symbol_writer",
]

_RING = "keyvault_ring"
_MAX_IN_ROW = 1024  # bytes; a row of MariaDB holds 65,535 in all, so longer values go to a BLOB


def is_mariadb(dialect: Dialect) -> bool:
    """Whether *dialect* talks to MariaDB, under either of its names."""
    return bool(getattr(dialect, "is_mariadb", False))


def require_supported(dialect: Dialect) -> None:
    """Refuse databases that the library was not tried on.

    Raises:
        sa_keyvault.ConfigurationError: The dialect is not one of the three.
    """
    if dialect.name in ("sqlite", "postgresql") or is_mariadb(dialect):
        return
    msg = f"{dialect.name} is not supported yet; encrypted columns work on SQLite, PostgreSQL and MariaDB"
    raise ConfigurationError(msg)


def attach_ring(dialect: Dialect, ring: Ring) -> None:
    """Let the processors of this engine find *ring*: they are given its dialect, and nothing else."""
    setattr(dialect, _RING, ring)


def ring_of(dialect: Dialect) -> Ring:
    """Return the key ring of the engine that *dialect* belongs to.

    Raises:
        sa_keyvault.ConfigurationError: The engine has none.
    """
    ring: Ring | None = getattr(dialect, _RING, None)
    if ring is None:
        msg = 'this engine has no key ring; make it with create_engine(…, plugins=["keyvault"], keyring=ring)'
        raise ConfigurationError(msg)
    return ring


def storage_type(dialect: Dialect, size: int | None) -> TypeEngine[Any]:
    """Return the type that holds envelopes of up to *size* bytes (None: of any size)."""
    if dialect.name not in ("mysql", "mariadb"):
        return LargeBinary()
    if size is None or size >= 2**24:
        return mysql.LONGBLOB()
    if size >= 2**16:
        return mysql.MEDIUMBLOB()
    return mysql.VARBINARY(size) if size <= _MAX_IN_ROW else mysql.BLOB()


# -- symbols as canonical text: in Python for writing, in SQL for reading ----------------------------------------------


@dataclass(frozen=True)
class SymbolKind:
    """How values of one type become canonical text.

    Attributes:
        name: What the type is called in messages.
        write: Value, as the database stores it, to canonical text.
        sqlite: SQL of the canonical text, with `{}` for the column.
        postgresql: The same for PostgreSQL.
        mariadb: The same for MariaDB.
        is_text: Whether it may be any text: with colons, with characters of several bytes, and compared by the
            database in its own way.
    """

    name: str
    write: Callable[[Any], bytes]
    sqlite: str
    postgresql: str
    mariadb: str
    is_text: bool = False


# CONVERT, not CAST AS CHAR: the latter follows the connection's character set
_UTF8 = "CONVERT({} USING utf8mb4)"

# SQLite makes text of an integer wherever it needs one
_INTEGER = SymbolKind("integer", binding.canonical_integer, "{}", "CAST({} AS TEXT)", _UTF8)
_TEXT = SymbolKind("text", binding.canonical_text, "{}", "CAST({} AS TEXT)", _UTF8, is_text=True)
_TRIMMED = SymbolKind(
    "text",
    binding.canonical_trimmed_text,
    "rtrim({}, ' ')",
    "rtrim(CAST({} AS TEXT), ' ')",
    f"TRIM(TRAILING ' ' FROM {_UTF8})",
    is_text=True,
)
_UUID = SymbolKind(
    "uuid",
    binding.canonical_uuid,
    "lower(replace({}, '-', ''))",
    "lower(replace(CAST({} AS TEXT), '-', ''))",
    f"LOWER(REPLACE({_UTF8}, '-', ''))",
)
_BYTES = SymbolKind("bytes", binding.canonical_bytes, "lower(hex({}))", "encode({}, 'hex')", "LOWER(HEX({}))")
_DATE = SymbolKind(
    # to_char and DATE_FORMAT: a plain cast follows the session's date style
    "date",
    binding.canonical_date,
    "{}",
    "to_char({}, 'YYYY-MM-DD')",
    "CONVERT(DATE_FORMAT({}, '%%Y-%%m-%%d') USING utf8mb4)",
)

_KINDS: tuple[tuple[type[TypeEngine[Any]] | tuple[type[TypeEngine[Any]], ...], SymbolKind], ...] = (
    (Integer, _INTEGER),
    (Enum, _TEXT),
    (CHAR, _TRIMMED),
    (String, _TEXT),
    (Uuid, _UUID),
    ((LargeBinary, BINARY, VARBINARY), _BYTES),
    (Date, _DATE),
)


def symbol_kind(type_: TypeEngine[Any], dialect: Dialect | None = None) -> SymbolKind | None:
    """Return how values of *type_* become symbols, or None where databases reformat them."""
    stored = undecorated(type_, dialect)
    return next((kind for types, kind in _KINDS if isinstance(stored, types)), None)


def symbol_form(types: Iterable[TypeEngine[Any]]) -> SymbolForm:
    """Return how the symbols of a row are written that columns of these types name.

    A `TypeDecorator` may be another type on another database, and the form is the same on all.
    """
    plain = all(
        not isinstance(type_, TypeDecorator) and (kind := symbol_kind(type_)) and not kind.is_text for type_ in types
    )
    return SymbolForm.COLON if plain else SymbolForm.LENGTH


def is_collated(column: Column[Any], dialect: Dialect) -> bool:
    """Whether the database may find a row by a value of *column* that is not the stored one.

    Asked of the type, not of the database: a column that the model calls String may be citext or NOCASE there.
    """
    kind = symbol_kind(column.type, dialect)
    return kind is not None and kind.is_text


def symbol_writer(column: Column[Any], dialect: Dialect) -> Callable[[Any], bytes]:
    """Return the function that makes canonical text of a value of *column*: through the column's type first."""
    kind = symbol_kind(column.type, dialect)
    if kind is None:
        msg = f"{column} cannot be a symbol: databases reformat values of type {column.type!r}"
        raise ConfigurationError(msg)
    write, prepare, fixed = kind.write, _prepare(column.type, dialect), _fixed_size(column.type)
    name = str(column)
    is_integer = kind is _INTEGER and prepare is None

    def write_text(value: Any) -> bytes:
        if is_integer and type(value) is int:
            return b"%d" % value
        stored = value if prepare is None else prepare(value)
        if stored is None:
            msg = f"{name} is NULL, so it cannot be a symbol of its row"
            raise BindingError(msg)
        if fixed is not None and len(stored) != fixed:
            msg = f"{name} holds {fixed} bytes; the database would pad or cut a value of {len(stored)}"
            raise BindingError(msg, size=len(stored))
        return write(stored)

    return write_text


def _prepare(type_: TypeEngine[Any], dialect: Dialect) -> "_BindProcessorType[Any] | None":
    """Return what the type itself does to a value, short of what the driver asks for."""
    if decorator := decorator_of(type_):
        convert, inner = bind_converter(decorator, dialect), _prepare(decorator.load_dialect_impl(dialect), dialect)

        def prepare(value: Any) -> Any:
            bound = convert(value)
            return bound if inner is None or bound is None else inner(bound)

        return prepare
    if isinstance(type_, Enum):
        enum: Any = type_
        to_name: _BindProcessorType[Any] = enum.bind_processor(dialect)
        return to_name
    return None


def _fixed_size(type_: TypeEngine[Any]) -> int | None:
    return type_.length if isinstance(type_, BINARY) else None


@dataclass(frozen=True)
class RowSymbol:
    """One symbol of a row, as it can be selected.

    Attributes:
        expression: The column that carries it in this FROM clause.
        type_: Type of the table's column.
        is_equivalent: Whether it was found through a foreign key, and may be NULL where the envelope is not.
    """

    expression: ColumnElement[Any]
    type_: TypeEngine[Any]
    is_equivalent: bool


@dataclass(frozen=True)
class RowSymbols:
    """The symbols of a row, as they can be selected.

    Attributes:
        symbols: In order.
        form: How they are written.
    """

    symbols: tuple[RowSymbol, ...]
    form: SymbolForm


class RowBytes(ColumnElement[Any]):
    """An envelope followed by the symbols of its row, as one value of bytes.

    Args:
        envelope: The stored bytes.
        groups: The symbols; where a row was named otherwise before, those of that time come first.
        type_: What reads the value.
    """

    # the symbols are part of what a statement is cached by
    _traverse_internals: list[tuple[str, InternalTraversal]] = [  # noqa: RUF012 - as SQLAlchemy declares it
        ("envelope", InternalTraversal.dp_clauseelement),
        ("groups", InternalTraversal.dp_plain_obj),
        ("type", InternalTraversal.dp_type),
    ]
    inherit_cache: bool | None = True

    def __init__(self, envelope: ColumnElement[Any], groups: tuple[RowSymbols, ...], type_: TypeEngine[Any]) -> None:
        self.envelope = envelope
        self.groups = groups
        self.type = type_


_Texts = list[tuple[str, SymbolKind]]


def _parts(
    element: RowBytes, compiler: SQLCompiler, template: str, kw: dict[str, Any]
) -> tuple[str, list[tuple[SymbolForm, _Texts]]]:
    kw = {**kw, "within_columns_clause": False, "within_label_clause": False}
    kw.pop("add_to_result_map", None)
    groups = [
        (group.form, [_text(symbol, compiler, template, kw) for symbol in group.symbols]) for group in element.groups
    ]
    return compiler.process(element.envelope, **kw), groups


def _text(symbol: RowSymbol, compiler: SQLCompiler, template: str, kw: dict[str, Any]) -> tuple[str, SymbolKind]:
    kind = symbol_kind(symbol.type_, compiler.dialect)
    if kind is None:
        msg = f"databases reformat values of type {symbol.type_!r}, so they cannot be symbols"
        raise ConfigurationError(msg)
    text = getattr(kind, template).format(compiler.process(symbol.expression, **kw))
    # '' makes a symbol that fits no row: NULL would make the whole value NULL, and be read as None
    return (f"coalesce({text}, '')" if symbol.is_equivalent else text), kind


@compiles(RowBytes)
def _compile_other(element: RowBytes, compiler: SQLCompiler, **kw: Any) -> str:
    # "default" is what str(statement) compiles for; it is never executed
    if compiler.dialect.name != "default":
        require_supported(compiler.dialect)
    return _compile_mariadb(element, compiler, **kw)


@compiles(RowBytes, "sqlite")
def _compile_sqlite(element: RowBytes, compiler: SQLCompiler, **kw: Any) -> str:
    envelope, groups = _parts(element, compiler, "sqlite", kw)
    tail = " || ".join(_sqlite_symbol(form, text, kind) for form, texts in groups for text, kind in texts)
    # the symbols are put together first, so that a large envelope is copied once
    return f"CAST({envelope} || ({tail}) AS BLOB)"


def _sqlite_symbol(form: SymbolForm, text: str, kind: SymbolKind) -> str:
    if form is SymbolForm.COLON:
        return f"':' || {text}"
    # length() counts characters of a text, and bytes of a blob
    length = f"length(CAST({text} AS BLOB))" if kind.is_text else f"length({text})"
    return f"{text} || ':' || {length}"


@compiles(RowBytes, "postgresql")
def _compile_postgresql(element: RowBytes, compiler: SQLCompiler, **kw: Any) -> str:
    envelope, groups = _parts(element, compiler, "postgresql", kw)
    tail = " || ".join(_postgresql_symbols(form, texts) for form, texts in groups)
    return f"({envelope} || {tail})" if len(groups) == 1 else f"({envelope} || ({tail}))"


def _postgresql_symbols(form: SymbolForm, texts: _Texts) -> str:
    if form is SymbolForm.COLON:
        tail = " || ".join(f"':' || {text}" for text, _ in texts)
        return f"convert_to({tail}, 'UTF8')"
    return f"({' || '.join(_postgresql_symbol(text, kind) for text, kind in texts)})"


def _postgresql_symbol(text: str, kind: SymbolKind) -> str:
    if not kind.is_text:
        return f"convert_to({text} || ':' || length({text}), 'UTF8')"
    utf8 = f"convert_to({text}, 'UTF8')"
    return f"{utf8} || convert_to(':' || octet_length({utf8}), 'UTF8')"


def _compile_mariadb(element: RowBytes, compiler: SQLCompiler, **kw: Any) -> str:
    envelope, groups = _parts(element, compiler, "mariadb", kw)
    tail = "".join(_mariadb_symbol(form, text) for form, texts in groups for text, _ in texts)
    return f"CONCAT({envelope}{tail})"


def _mariadb_symbol(form: SymbolForm, text: str) -> str:
    return f", ':', {text}" if form is SymbolForm.COLON else f", {text}, ':', LENGTH({text})"
