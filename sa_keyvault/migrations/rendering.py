"""How operations are written into scripts: as calls that name storage types only, and never a key."""

from typing import TYPE_CHECKING, Any

from alembic.operations import MigrateOperation
from sqlalchemy.types import TypeEngine

from sa_keyvault.migrations.column_operations import ColumnOperation
from sa_keyvault.migrations.conversions import DecryptColumnOp, EncryptColumnOp, PrepareColumnOp
from sa_keyvault.migrations.decorated import Decorated
from sa_keyvault.migrations.key_operations import (
    CreateKeyVaultOp,
    DropKeyVaultOp,
    RotateMasterKeyOp,
    RotateWorkingKeyOp,
)
from sa_keyvault.migrations.rewriting import RebindColumnOp, ReencryptColumnOp

if TYPE_CHECKING:
    from alembic.autogenerate.api import AutogenContext

__all__ = ["register"]

_OWN = ("existing_type", "plain_type", "existing_area", "existing_label", "existing_symbols")
_COMMON = ("context", "symbols", "schema")


def register() -> None:
    """Tell Alembic how each operation is written."""
    from alembic.autogenerate.render import renderers  # noqa: PLC0415 - alembic.autogenerate.render imports plugins

    for kind in (CreateKeyVaultOp, DropKeyVaultOp, RotateMasterKeyOp):
        renderers.dispatch_for(kind)(_render_bare)
    renderers.dispatch_for(RotateWorkingKeyOp)(_render_rotation)
    for column_kind in (EncryptColumnOp, PrepareColumnOp, DecryptColumnOp, ReencryptColumnOp, RebindColumnOp):
        renderers.dispatch_for(column_kind)(_render_column)


def _render_bare(context: "AutogenContext", operation: Any) -> str:
    return f"{_prefix(context)}{operation.name}()"


def _render_rotation(context: "AutogenContext", operation: RotateWorkingKeyOp) -> str:
    return f"{_prefix(context)}{operation.name}({operation.area!r})"


def _render_column(context: "AutogenContext", operation: MigrateOperation) -> str:
    assert isinstance(operation, ColumnOperation)  # noqa: S101 - registered for these only
    arguments = [repr(operation.table_name), repr(operation.column_name), _type(context, operation.type_)]
    if operation.area != "default":
        arguments.append(f"area={operation.area!r}")
    for name in (*_OWN, *_COMMON):
        value = getattr(operation, name, None)
        if value is not None:
            arguments.append(f"{name}={_value(context, value)}")
    lines = ",\n    ".join(arguments)
    return f"{_prefix(context)}{operation.name}(\n    {lines},\n)"


def _value(context: "AutogenContext", value: Any) -> str:
    if isinstance(value, TypeEngine):
        return _type(context, value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {_type(context, one)}" for name, one in value.items()) + "}"
    return repr(value)


def _type(context: "AutogenContext", type_: TypeEngine[Any]) -> str:
    from alembic.autogenerate.render import _repr_type  # noqa: PLC0415 - what Alembic's own renderers use

    if isinstance(type_, Decorated):
        context.imports.add("from sa_keyvault.migrations import Decorated")
        return f"Decorated({_type(context, type_.carried)})"
    return str(_repr_type(type_, context))


def _prefix(context: "AutogenContext") -> str:
    return str(context.opts["alembic_module_prefix"] or "")
