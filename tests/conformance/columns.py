"""Which columns of SQLAlchemy's tests are swapped, and for what.

Every plain text column is: one of type String, Unicode or Text that is no key, foreign key, unique, indexed, computed,
a part of another column's computation, a discriminator or a version counter, has no default that the database
evaluates, and whose table has a primary key. The yardstick swaps the same columns for `Utf8`, which does next to
nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    FromClause,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Unicode,
    UnicodeText,
    event,
    orm,
)
from sqlalchemy.ext.declarative import extensions
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_keyvault import Encrypted
from sa_keyvault.types.declared import _is_sql

__all__ = ["Utf8", "share_contexts", "swap_columns"]

_SWAPPED = "conformance_declared_type"
_TEXTS = (String, Unicode, Text, UnicodeText)
_ROLES = ("type", "discriminator", "version_id")  # by name too: aliases are made before a mapper tells


class Utf8(TypeDecorator[str]):
    """The yardstick: text in a binary column. What fails with it, any column type could fail."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:
        return None if value is None else value.encode()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:
        return None if value is None else bytes(value).decode()


def swap_columns(make_type: Callable[[TypeEngine[Any]], TypeEngine[Any]]) -> None:
    """Swap, from now on, the type of every column that qualifies, as its table is declared.

    Args:
        make_type: The declared type to the one that takes its place.
    """

    @event.listens_for(Table, "after_parent_attach")
    def on_table(table: Table, metadata: MetaData) -> None:
        for column in table.columns:
            if _is_plain_text(column, table):
                column.info[_SWAPPED] = column.type
                column.type = make_type(column.type)

    @event.listens_for(Mapper, "instrument_class")
    def on_mapper(mapper: Mapper[Any], class_: type[Any]) -> None:
        for role in (mapper.polymorphic_on, mapper.version_id_col):
            for column in _columns_in(role, mapper):
                if _SWAPPED in column.info:
                    column.type = column.info.pop(_SWAPPED)


def share_contexts() -> None:
    """Give, from now on, columns that meet in a polymorphic union one context, as the library asks its users to."""
    original = orm.polymorphic_union

    def share(table_map: Mapping[Any, Any], *args: Any, **options: Any) -> Any:
        for table in table_map.values():
            for column in table.columns if isinstance(table, FromClause) else ():
                for base in column.base_columns:
                    if isinstance(base, Column) and isinstance(base.type, Encrypted):
                        base.type.context = f"any.{base.key}"
        return original(table_map, *args, **options)

    for module in (orm, orm.util, extensions):
        module.polymorphic_union = share


def _is_plain_text(column: Column[Any], table: Table) -> bool:
    # `in` would compare columns with ==, which builds an expression
    together = [*table.constraints, *table.indexes]
    has_part = any(own is column for item in together for own in getattr(item, "columns", ()))
    is_key = column.primary_key or column.unique or column.index or column.foreign_keys
    has_server_side = column.server_default or column.server_onupdate or column.computed
    has_sql = any(map(_is_sql, (column.default, column.onupdate)))
    has_role = has_part or is_key or has_server_side or has_sql or column.name in _ROLES
    is_plain = type(column.type) in _TEXTS and not has_role
    return is_plain and bool(table.primary_key.columns) and not _is_computed_with(column, table)


def _is_computed_with(column: Column[Any], table: Table) -> bool:
    sources = [str(other.computed.sqltext) for other in table.columns if other.computed is not None]
    return any(column.name in source for source in sources)


def _columns_in(role: Any, mapper: Mapper[Any]) -> Iterator[Column[Any]]:
    """Yield the columns of tables that a discriminator or version counter is made of; a name stands for a property."""
    if isinstance(role, str):
        role = _named(role, mapper)
    role = getattr(role, "__clause_element__", lambda: role)()
    element = role.columns[0] if hasattr(role, "columns") else role
    for part in visitors.iterate(element) if hasattr(element, "get_children") else ():
        yield from (base for base in getattr(part, "base_columns", ()) if isinstance(base, Column))


def _named(name: str, mapper: Mapper[Any]) -> Any:
    declared = mapper._init_properties.get(name)
    if declared is not None:
        return getattr(declared, "expression", declared)
    tables = [*mapper.local_table._from_objects] if mapper.local_table is not None else []
    return next((table.c[name] for table in tables if name in table.c), None)
