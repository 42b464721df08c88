"""What autogenerate sees: columns that are to be encrypted, decrypted or bound anew, and the key store itself.

SQLAlchemy's type of an encrypted column is one of bytes, and that is all that a database shows of it; the rest is
what the key store remembers of its columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation
from alembic.operations.ops import (
    AddColumnOp,
    AlterColumnOp,
    CreateTableOp,
    DropTableOp,
    ModifyTableOps,
    OpContainer,
    UpgradeOps,
)
from alembic.util import PriorityDispatchResult
from sqlalchemy import Column, Connection, LargeBinary, Table, func, inspect, select, type_coerce
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

from sa_keyvault import store
from sa_keyvault.binding import Label
from sa_keyvault.decorators import undecorated
from sa_keyvault.envelope import FORMAT
from sa_keyvault.errors import KeyRecordError
from sa_keyvault.migrations.column_operations import Path
from sa_keyvault.migrations.conversions import DecryptColumnOp, EncryptColumnOp, PrepareColumnOp
from sa_keyvault.migrations.decorated import Decorated
from sa_keyvault.migrations.key_operations import CreateKeyVaultOp
from sa_keyvault.migrations.remembered_types import inner_type
from sa_keyvault.migrations.rewriting import RebindColumnOp
from sa_keyvault.migrations.storage import storage
from sa_keyvault.types import Declaration, Encrypted, declaration_of, is_binary, type_name, value_codec

if TYPE_CHECKING:
    # not at run time: Alembic loads plugins while it loads this module
    from alembic.autogenerate.api import AutogenContext

__all__ = ["add_findings", "begin", "compare_column", "keep_type"]

_KEY = "sa_keyvault"
_PATH_PARTS = 3  # schema, table and column


@dataclass(frozen=True)
class _Comparison:
    """One run of autogenerate.

    Attributes:
        known: What the key store remembers of its columns.
        has_store: Whether the database has the tables of the key store.
        found: What is to be done to columns.
    """

    known: Mapping[Path, store.ColumnRow]
    has_store: bool
    found: list[MigrateOperation] = field(default_factory=list)


def begin(context: "AutogenContext", _: UpgradeOps, __: set[str | None]) -> PriorityDispatchResult:
    """Read what the key store remembers."""
    connection = _connection(context)
    has_store = inspect(connection).has_table(store.tables.sorted_tables[0].name)
    known = store.columns(connection) if has_store else {}
    context.opts[_KEY] = _Comparison(known, has_store)
    return PriorityDispatchResult.CONTINUE


def keep_type(
    context: "AutogenContext",
    operation: AlterColumnOp,
    schema: str | None,
    table_name: str,
    column_name: str,
    found: Column[Any],
    declared: Column[Any],
) -> PriorityDispatchResult:
    """Keep an `ALTER … TYPE` from being generated where it would make a text of bytes, or bytes of a text."""
    if not isinstance(declared.type, Encrypted) and _path(declared) not in _comparison(context).known:
        return PriorityDispatchResult.CONTINUE
    operation.existing_type = found.type
    return PriorityDispatchResult.STOP


def compare_column(
    context: "AutogenContext",
    operation: AlterColumnOp,
    schema: str | None,
    table_name: str,
    column_name: str,
    found: Column[Any],
    declared: Column[Any],
) -> PriorityDispatchResult:
    """Find what is to be done to the values of a column."""
    comparison = _comparison(context)
    known = comparison.known.get(_path(declared))
    made: MigrateOperation | None = None
    if not isinstance(declared.type, Encrypted):
        made = None if known is None else _decrypting(context, declared, known)
    elif known is None:
        made = _encrypting(context, declaration_of(declared), found)
    else:
        made = _rebinding(context, declaration_of(declared), known) or _widening(context, declared, found)
    if made is not None:
        comparison.found.append(made)
    return PriorityDispatchResult.CONTINUE


def add_findings(context: "AutogenContext", upgrade: UpgradeOps, _: set[str | None]) -> PriorityDispatchResult:
    """Put what was found beside what Alembic has found itself."""
    comparison: _Comparison = context.opts.pop(_KEY)
    _without_key_store(upgrade)
    for operation in upgrade.ops:
        _with_storage_types(operation)
    # beside, not inside, batch_alter_table: an operation on values runs at once, a batch at its end
    upgrade.ops.extend(comparison.found)
    if not comparison.has_store and _has_encrypted(context):
        upgrade.ops.insert(0, CreateKeyVaultOp())
    return PriorityDispatchResult.CONTINUE


def _encrypting(context: "AutogenContext", declaration: Declaration, found: Column[Any]) -> MigrateOperation | None:
    dialect, type_ = _connection(context).dialect, declaration.type_
    if is_binary(found.type, dialect) and not _has_plain_values(_connection(context), found):
        return None
    inner = undecorated(type_.inner, dialect)
    is_same = not context.migration_context.impl.compare_type(found, Column(found.name, inner))
    make = EncryptColumnOp if type_.accept_plaintext_until is None else PrepareColumnOp
    return make(
        *_address(declaration, inner),
        context=type_.context,
        symbols=_symbols(declaration.column, type_.bind_to),
        schema=declaration.column.table.schema,
        existing_type=inner if is_same else found.type,
    )


def _decrypting(context: "AutogenContext", declared: Column[Any], known: store.ColumnRow) -> MigrateOperation:
    plain = undecorated(declared.type, _connection(context).dialect)
    return DecryptColumnOp(
        declared.table.name,
        declared.name,
        inner_type(known.inner_type) or plain,
        known.area,
        context=_context(known),
        symbols=_symbols(declared, ()),
        schema=declared.table.schema,
        plain_type=plain,
    )


def _rebinding(context: "AutogenContext", declaration: Declaration, known: store.ColumnRow) -> MigrateOperation | None:
    type_, dialect = declaration.type_, _connection(context).dialect
    if type_.formerly is not None:
        # on its way already: a job rebinds it while the application reads both
        return None
    inner = undecorated(type_.inner, dialect)
    former = None if known.inner_type == type_name(type_.inner) else inner_type(known.inner_type)
    is_recoded = former is not None and value_codec(former, dialect).name != value_codec(inner, dialect).name
    is_relabelled = known.label != bytes(declaration.binding.label)
    if not is_recoded and not is_relabelled and known.area == type_.area:
        return None
    return RebindColumnOp(
        *_address(declaration, inner),
        context=type_.context,
        symbols=_symbols(declaration.column, type_.bind_to),
        schema=declaration.column.table.schema,
        existing_area=None if known.area == type_.area else known.area,
        existing_label=_label(known) if is_relabelled else None,
        existing_type=former if is_recoded else None,
    )


def _widening(context: "AutogenContext", declared: Column[Any], found: Column[Any]) -> MigrateOperation | None:
    """Return the ALTER that makes room for longer values; only MariaDB's types of bytes have a size."""
    room = _ROOM.get(type(found.type).__name__, getattr(found.type, "length", None))
    type_: Any = declared.type
    wanted = storage(undecorated(type_.inner, _connection(context).dialect))
    if _connection(context).dialect.name not in ("mysql", "mariadb") or room is None or room >= (wanted.length or 0):
        return None
    return AlterColumnOp(
        declared.table.name,
        declared.name,
        schema=declared.table.schema,
        modify_type=wanted,
        existing_type=found.type,
        existing_nullable=found.nullable,
    )


_ROOM = {"TINYBLOB": 2**8 - 1, "BLOB": 2**16 - 1, "MEDIUMBLOB": 2**24 - 1, "LONGBLOB": 2**32 - 1}
"""Size in bytes of what MariaDB's types hold; its manual, "Data Type Storage Requirements"."""


def _address(declaration: Declaration, inner: TypeEngine[Any]) -> tuple[str, str, TypeEngine[Any], str]:
    column = declaration.column
    return str(column.table.name), str(column.name), inner, declaration.type_.area


def _symbols(column: Column[Any], bind_to: tuple[str, ...]) -> dict[str, TypeEngine[Any]]:
    """Return what names a row, each with a type that needs no code of the application."""
    table = column.table
    columns = [*table.primary_key.columns, *(table.c[name] for name in bind_to if not table.c[name].primary_key)]
    return {str(one.name): _without_application(one.type) for one in columns}


def _without_application(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    if not isinstance(type_, TypeDecorator):
        return type_
    return Decorated(type_.impl_instance)


def _label(known: store.ColumnRow) -> str | Path:
    try:
        parts = Label.from_bytes(known.label).parts
    except KeyRecordError:
        parts = ()
    if len(parts) == 1:
        return parts[0]
    if len(parts) == _PATH_PARTS:
        return parts[0], parts[1], parts[2]
    name = ".".join(filter(None, (known.schema_name, known.table_name, known.column_name)))
    msg = (
        f"the label that the key store remembers of {name} ({len(known.label)} bytes) was changed outside the library; "
        "restore the row of keyvault_column from a backup"
    )
    raise KeyRecordError(msg, size=len(known.label))


def _context(known: store.ColumnRow) -> str | Path | None:
    label = _label(known)
    return None if label == (known.schema_name, known.table_name, known.column_name) else label


def _has_plain_values(connection: Connection, found: Column[Any]) -> bool:
    value = type_coerce(found, NullType())
    head = type_coerce(func.substr(type_coerce(found, LargeBinary()), 1, 1), LargeBinary())
    rows = select(value).where(found.is_not(None), head != bytes([FORMAT])).limit(1)
    return store.execute(connection, rows).first() is not None


def _has_encrypted(context: "AutogenContext") -> bool:
    return any(isinstance(column.type, Encrypted) for table in context.sorted_tables for column in table.columns)


def _without_key_store(upgrade: UpgradeOps) -> None:
    """Leave the tables of the key store out: no model declares them."""
    names = {table.name for table in store.tables.sorted_tables}
    kinds = (DropTableOp, ModifyTableOps)
    upgrade.ops[:] = [one for one in upgrade.ops if not (isinstance(one, kinds) and one.table_name in names)]


def _with_storage_types(operation: MigrateOperation) -> None:
    """Give new columns the type that they are stored as, in place of the library's."""
    if isinstance(operation, OpContainer):
        for one in operation.ops:
            _with_storage_types(one)
    elif isinstance(operation, CreateTableOp):
        operation.columns = [_stored(one) if isinstance(one, Column) else one for one in operation.columns]
    elif isinstance(operation, AddColumnOp):
        operation.column = _stored(operation.column)


def _stored(column: Column[Any]) -> Column[Any]:
    if not isinstance(column.type, Encrypted):
        return column
    return Column(column.name, storage(column.type.inner), nullable=column.nullable, comment=column.comment)


def _path(column: Column[Any]) -> Path:
    table: Table = column.table
    return (str(table.schema or ""), str(table.name), str(column.name))


def _comparison(context: "AutogenContext") -> _Comparison:
    found: _Comparison = context.opts[_KEY]
    return found


def _connection(context: "AutogenContext") -> Connection:
    assert context.connection is not None  # noqa: S101 - autogenerate is refused without one
    return context.connection
