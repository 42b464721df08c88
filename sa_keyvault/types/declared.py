"""The declaration of an encrypted column: its arguments, its label and its symbols, and what cannot be honoured."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, LargeBinary, String, Table
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_keyvault.binding import Binding, Label
from sa_keyvault.decorators import has_own_format
from sa_keyvault.dialects import symbol_form, symbol_kind
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.types.inner import require_supported_inner
from sa_keyvault.types.plaintext import require_readable_plaintext

__all__ = ["Declaration", "EncryptedDeclaration", "Former", "Formerly", "declaration_of", "encrypted_columns"]

Formerly = tuple[
    str | tuple[str, str, str] | None,
    tuple[str | tuple[str, TypeEngine[Any]], ...],
]
"""How a column was bound before.

First its `context`; or (schema, table, column) where it had none, the schema empty where there was none; or None
where the label is the same. Then the columns that named the row, all of them in order, each by its name or as
(name, type) where the type was another; none means those that name it now.
"""

_T = TypeVar("_T")

_MAX_AREA_LENGTH = 64
_BATCH_PREFIX = "_alembic_tmp_"


class EncryptedDeclaration(TypeDecorator[_T], Generic[_T]):
    """The arguments of an encrypted column; `Encrypted` says what they mean."""

    impl: type[TypeEngine[Any]] | TypeEngine[Any] = LargeBinary
    cache_ok: bool | None = True

    # positional-or-keyword, and kept under the same public names: SQLAlchemy makes its statement-cache key of
    # just these; keyword-only or private ones drop out, and a statement runs with another one's settings
    def __init__(
        self,
        inner: "TypeEngine[_T] | type[TypeEngine[_T]]" = String,  # type: ignore[assignment]
        area: str = "default",
        context: str | None = None,
        bind_to: tuple[str, ...] = (),
        formerly: Formerly | None = None,
        accept_plaintext_until: datetime.date | None = None,
    ) -> None:
        instance: TypeEngine[Any] = inner() if isinstance(inner, type) else inner
        if isinstance(instance, EncryptedDeclaration):
            msg = "Encrypted cannot be put into Encrypted"
            raise ConfigurationError(msg)
        require_supported_inner(instance)
        _require_names(area, context, bind_to)
        _require_formerly(formerly)
        if accept_plaintext_until is not None:
            require_readable_plaintext(instance)
        super().__init__(None)
        self.inner = instance
        self.area = area
        self.context = context
        self.bind_to: tuple[str, ...] = tuple(bind_to)
        self.formerly = formerly
        self.accept_plaintext_until = accept_plaintext_until
        self.should_evaluate_none: bool = instance.should_evaluate_none

    def __repr__(self) -> str:
        given = [repr(self.inner)]
        if self.area != "default":
            given.append(f"area={self.area!r}")
        if self.context is not None:
            given.append(f"context={self.context!r}")
        if self.bind_to:
            given.append(f"bind_to={self.bind_to!r}")
        if self.formerly is not None:
            given.append(f"formerly={self.formerly!r}")
        if self.accept_plaintext_until is not None:
            given.append(f"accept_plaintext_until={self.accept_plaintext_until!r}")
        return f"{type(self).__name__}({', '.join(given)})"


def _require_names(area: str, context: str | None, bind_to: tuple[str, ...]) -> None:
    if not isinstance(area, str) or not 0 < len(area) <= _MAX_AREA_LENGTH:
        msg = f"area={area!r} must be a text of 1 to {_MAX_AREA_LENGTH} characters"
        raise ConfigurationError(msg)
    if context is not None and (not isinstance(context, str) or not context):
        msg = f"context={context!r} must be a text that is not empty"
        raise ConfigurationError(msg)
    names: object = bind_to
    if isinstance(names, str) or not all(isinstance(name, str) for name in bind_to):
        msg = f"bind_to={bind_to!r} must be a tuple of column names"
        raise ConfigurationError(msg)


def _require_formerly(formerly: Formerly | None) -> None:
    if formerly is None:
        return
    if not isinstance(formerly, tuple) or len(formerly) != len(("label", "symbols")):
        msg = f"formerly={formerly!r} must be a pair: the former context, and the columns that named the row"
        raise ConfigurationError(msg)
    label, symbols = formerly
    is_path = isinstance(label, tuple) and len(label) == len(("schema", "table", "column"))
    if not (label is None or (isinstance(label, str) and label) or is_path):
        msg = f"formerly: {label!r} must be the former context, or (schema, table, column), or None"
        raise ConfigurationError(msg)
    if not isinstance(symbols, tuple) or not all(isinstance(symbol, (str, tuple)) for symbol in symbols):
        msg = f"formerly: {symbols!r} must be a tuple of column names, or of (name, type)"
        raise ConfigurationError(msg)


@dataclass(frozen=True)
class Former:
    """How values of a column were bound before.

    Attributes:
        binding: What the envelopes had in common.
        symbols: The columns whose values named the row, each with the type that it had.
    """

    binding: Binding
    symbols: tuple[tuple[Column[Any], TypeEngine[Any]], ...]


@dataclass(frozen=True)
class Declaration:
    """An encrypted column, as its table declares it.

    Attributes:
        column: The column.
        type_: Its type.
        binding: What its envelopes have in common.
        symbols: The columns whose values name its row: primary key, then `bind_to`.
        former: How its values were bound before, where they may still be.
    """

    column: Column[Any]
    type_: EncryptedDeclaration[Any]
    binding: Binding
    symbols: tuple[Column[Any], ...]
    former: Former | None = None


def encrypted_columns(table: Table) -> tuple[Declaration, ...]:
    """Return the declarations of all encrypted columns of *table*.

    Raises:
        sa_keyvault.ConfigurationError: One of them cannot be honoured.
    """
    return tuple(declaration_of(column) for column in table.columns if isinstance(column.type, EncryptedDeclaration))


def declaration_of(column: Column[Any]) -> Declaration:
    """Return the declaration of an encrypted column of a table.

    Raises:
        sa_keyvault.ConfigurationError: It cannot be honoured; with the remedy.
    """
    type_, table = column.type, column.table
    if not isinstance(type_, EncryptedDeclaration) or not isinstance(table, Table):
        msg = f"{column} is no encrypted column of a table"
        raise ConfigurationError(msg)
    label = _label(type_, column, table)
    _require_plain(column, label)
    symbols = _symbols(type_, table, label)
    binding = Binding(label, len(symbols), symbol_form(symbol.type for symbol in symbols))
    return Declaration(column, type_, binding, symbols, _former(type_, table, label, symbols))


def _label(type_: EncryptedDeclaration[Any], column: Column[Any], table: Table) -> Label:
    if type_.context is not None:
        return Label((type_.context,))
    # Alembic's batch mode copies a table's rows into one of this name, and renames it
    return Label((str(table.schema or ""), str(table.name).removeprefix(_BATCH_PREFIX), str(column.name)))


def _former(
    declared: EncryptedDeclaration[Any], table: Table, label: Label, symbols: Iterable[Column[Any]]
) -> Former | None:
    if declared.formerly is None:
        return None
    context, given = declared.formerly
    parts = label.parts if context is None else (context,) if isinstance(context, str) else context
    pairs = [(one, None) if isinstance(one, str) else one for one in given]
    for name, _ in pairs:
        if name not in table.columns:
            msg = f"encrypted column {label} was formerly bound to {name!r}, which {table.fullname} does not have"
            raise ConfigurationError(msg, label=str(label))
    named = [(table.columns[name], type_ or table.columns[name].type) for name, type_ in pairs]
    typed = tuple(named or [(symbol, symbol.type) for symbol in symbols])
    for symbol, former_type in typed:
        if symbol_kind(former_type) is None:
            msg = f"encrypted column {label} was never bound to {symbol}: {former_type!r} cannot name a row"
            raise ConfigurationError(msg, label=str(label))
    return Former(Binding(Label(tuple(parts)), len(typed), symbol_form(kind for _, kind in typed)), typed)


def _require_plain(column: Column[Any], label: Label) -> None:
    problems = {
        "is part of the primary key: ciphertext names no row": column.primary_key,
        "has a foreign key: ciphertext equals no other": bool(column.foreign_keys),
        "has a server default, which the database would store unencrypted": column.server_default is not None,
        "has a server onupdate, which the database would store unencrypted": column.server_onupdate is not None,
        "has a default that is SQL, which the database would store unencrypted": _is_sql(column.default),
        "has an onupdate that is SQL, which the database would store unencrypted": _is_sql(column.onupdate),
        "is unique: no two ciphertexts are equal, so nothing would be enforced": bool(column.unique),
        "is indexed: no query can use an index over ciphertext": bool(column.index),
    }
    for problem, applies in problems.items():
        if applies:
            msg = f"encrypted column {label} {problem}; remove it"
            raise ConfigurationError(msg, label=str(label))


def _is_sql(default: Any) -> bool:
    """Whether a client-side default is an expression or a sequence that the database evaluates."""
    return default is not None and bool(default.is_clause_element or default.is_sequence)


def _symbols(type_: EncryptedDeclaration[Any], table: Table, label: Label) -> tuple[Column[Any], ...]:
    names = list(table.primary_key.columns)
    for name in type_.bind_to:
        if name not in table.columns:
            msg = f"encrypted column {label} is bound to {name!r}, which {table.fullname} does not have"
            raise ConfigurationError(msg, label=str(label))
        if table.columns[name] not in names:
            names.append(table.columns[name])
    if not names:
        msg = (
            f"encrypted column {label}: {table.fullname} has no primary key, so nothing names the row; "
            'name the columns that do with bind_to=("…",)'
        )
        raise ConfigurationError(msg, label=str(label))
    for symbol in names:
        _require_symbol(symbol, label)
    return tuple(names)


def _require_symbol(column: Column[Any], label: Label) -> None:
    problem = None
    if isinstance(column.type, EncryptedDeclaration):
        problem = "is encrypted itself; bind to a plain column"
    elif symbol_kind(column.type) is None:
        problem = (
            f"has the type {column.type!r}, whose values databases round or reformat; "
            "bind to an integer, text, uuid, bytes, date or string enum column"
        )
    elif has_own_format(column.type):
        problem = (
            f"has the type {column.type!r}, which sends values in a form of its own (bind_expression, "
            "bind_processor); use a TypeDecorator with process_bind_param"
        )
    elif column.nullable:
        problem = "may be NULL, and then the value would be read as None; declare it nullable=False"
    elif column.computed is not None:
        problem = "is computed by the database, so it is not known when a row is sealed; bind to another column"
    elif column.server_onupdate is not None or _is_sql(column.onupdate):
        problem = "has an onupdate of the database, which would change it unseen; remove it"
    else:
        problem = _foreign_key_problem(column)
    if problem is not None:
        msg = f"encrypted column {label} cannot be bound to {column}: it {problem}"
        raise ConfigurationError(msg, label=str(label))


def _foreign_key_problem(column: Column[Any]) -> str | None:
    for key in column.foreign_keys:
        onupdate, ondelete = (str(action or "").upper() for action in (key.onupdate, key.ondelete))
        if onupdate not in ("", "NO ACTION", "RESTRICT"):
            return f"changes with its foreign key (ON UPDATE {onupdate}), unseen by the library; remove that action"
        if ondelete in ("SET NULL", "SET DEFAULT"):
            return f"changes with its foreign key (ON DELETE {ondelete}), unseen by the library; remove that action"
    return None
