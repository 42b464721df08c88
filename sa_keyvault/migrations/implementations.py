"""How the operations of migrations are done: on the migration's connection, in its transaction."""

from alembic.operations import Operations
from alembic.util import CommandError
from sqlalchemy import Connection

from sa_keyvault import administration, store
from sa_keyvault.errors import KeyStateError
from sa_keyvault.migrations.changes import change_of, remembered
from sa_keyvault.migrations.column_operations import ColumnOperation
from sa_keyvault.migrations.conversions import DecryptColumnOp, EncryptColumnOp, PrepareColumnOp
from sa_keyvault.migrations.key_operations import (
    CreateKeyVaultOp,
    DropKeyVaultOp,
    RotateMasterKeyOp,
    RotateWorkingKeyOp,
)
from sa_keyvault.migrations.rewriting import RebindColumnOp, ReencryptColumnOp
from sa_keyvault.migrations.rings import joined_ring
from sa_keyvault.migrations.storage import become_bytes, become_plain, is_plain_already, storage
from sa_keyvault.reencryption import run

__all__ = ["create_keyvault"]

_REASON = "migration"


@Operations.implementation_for(CreateKeyVaultOp)
def create_keyvault(operations: Operations, _: CreateKeyVaultOp) -> None:
    """Create the tables of the key store."""
    if not operations.migration_context.as_sql:
        store.create_tables(operations.get_bind())
        return
    for table in store.tables.sorted_tables:
        operations.impl.create_table(table)


@Operations.implementation_for(DropKeyVaultOp)
def drop_keyvault(operations: Operations, operation: DropKeyVaultOp) -> None:
    """Drop the tables of the key store."""
    connection = _online(operations, operation.name)
    present = store.present_tables(connection)
    if present:
        _require_no_values(connection)
    # in this order: MariaDB commits at every DROP, and one that was stopped must find the columns when it runs again
    for table in present:
        operations.impl.drop_table(table)


@Operations.implementation_for(EncryptColumnOp)
def encrypt_column(operations: Operations, operation: EncryptColumnOp) -> None:
    """Make the column one of bytes, and encrypt its values."""
    connection = _online(operations, operation.name)
    become_bytes(operations, operation, operation.existing_type)
    _run(operations, operation)
    _remember(connection, operation)


@Operations.implementation_for(PrepareColumnOp)
def prepare_column(operations: Operations, operation: PrepareColumnOp) -> None:
    """Make the column one of bytes."""
    connection = _online(operations, operation.name)
    become_bytes(operations, operation, operation.existing_type)
    store.create_tables(connection)
    _remember(connection, operation)


@Operations.implementation_for(DecryptColumnOp)
def decrypt_column(operations: Operations, operation: DecryptColumnOp) -> None:
    """Decrypt the values, and give the column its type."""
    connection = _online(operations, operation.name)
    if not is_plain_already(connection, operation):
        _run(operations, operation)
    become_plain(operations, operation, operation.plain_type)
    store.delete_column(connection, operation.path)


@Operations.implementation_for(ReencryptColumnOp)
def reencrypt_column(operations: Operations, operation: ReencryptColumnOp) -> None:
    """Write the values under active keys."""
    connection = _online(operations, operation.name)
    _run(operations, operation)
    _remember(connection, operation)


@Operations.implementation_for(RebindColumnOp)
def rebind_column(operations: Operations, operation: RebindColumnOp) -> None:
    """Write the values bound as they shall be."""
    connection = _online(operations, operation.name)
    if operation.existing_type is not None:
        become_bytes(operations, operation, storage(operation.existing_type))
    _run(operations, operation)
    former = operation.existing_label
    if isinstance(former, tuple) and former != operation.path:
        store.delete_column(connection, former)
    _remember(connection, operation)


@Operations.implementation_for(RotateWorkingKeyOp)
def rotate_working_key(operations: Operations, operation: RotateWorkingKeyOp) -> None:
    """Retire the active working keys of an area."""
    connection = _online(operations, operation.name)
    administration.rotate_area(connection, joined_ring(operations.migration_context), operation.area, _REASON)


@Operations.implementation_for(RotateMasterKeyOp)
def rotate_master_key(operations: Operations, operation: RotateMasterKeyOp) -> None:
    """Let a new master key follow the active one."""
    connection = _online(operations, operation.name)
    administration.rotate_master(connection, joined_ring(operations.migration_context), reason=_REASON)


def _require_no_values(connection: Connection) -> None:
    if hidden := administration.hidden_columns(connection):
        msg = f"the values in {', '.join(hidden)} cannot be counted; run this migration with a role that may read them"
        raise KeyStateError(msg)
    if counts := [count for count in administration.count_values(connection) if count.values]:
        where = ", ".join(f"{count.name} ({count.values})" for count in counts)
        msg = f"the key store has the keys of values in {where}; decrypt them first, or drop their columns"
        raise KeyStateError(msg)


def _online(operations: Operations, name: str) -> Connection:
    if operations.migration_context.as_sql:
        msg = (
            f"{name} reads and writes values under keys, which no SQL script can do; run this migration online, "
            "without --sql"
        )
        raise CommandError(msg)
    return operations.get_bind()


def _run(operations: Operations, operation: ColumnOperation) -> None:
    connection = operations.get_bind()
    run(connection, change_of(operation, connection), ring=joined_ring(operations.migration_context))


def _remember(connection: Connection, operation: ColumnOperation) -> None:
    row = remembered(operation)
    if operation.path in store.columns(connection):
        store.replace_column(connection, row)
    else:
        store.add_column(connection, row)
