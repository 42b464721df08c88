"""The operations that encrypt a column in place, and decrypt it, as objects: what each is told, and what undoes it."""

from typing import TYPE_CHECKING, Any

from alembic.operations import BatchOperations, MigrateOperation, Operations

from sa_keyvault.migrations.column_operations import (
    ColumnOperation,
    GivenType,
    Path,
    Symbols,
    instance_of,
    table_of,
)

if TYPE_CHECKING:
    from sqlalchemy.types import TypeEngine

__all__ = ["DecryptColumnOp", "EncryptColumnOp", "PrepareColumnOp"]


class _PlainColumnOperation(ColumnOperation):
    """What is done to a column that is not encrypted."""

    def __init__(self, *args: Any, existing_type: GivenType, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.existing_type: TypeEngine[Any] = instance_of(existing_type)

    def reverse(self) -> MigrateOperation:
        """Decrypt what is encrypted by then, and give the column the type that it had."""
        return DecryptColumnOp(
            self.table_name,
            self.column_name,
            self.type_,
            self.area,
            self.context,
            self.symbols,
            self.schema,
            plain_type=self.existing_type,
        )


@Operations.register_operation("encrypt_column")
@BatchOperations.register_operation("encrypt_column", "batch_encrypt_column")
class EncryptColumnOp(_PlainColumnOperation):
    """Encrypt a column in place."""

    name = "encrypt_column"

    @classmethod
    def encrypt_column(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        existing_type: GivenType,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
        schema: str | None = None,
    ) -> None:
        """Make a column one of bytes, and encrypt its values.

        Args:
            operations: Alembic's.
            table_name: Table.
            column_name: Column.
            type_: The inner type that the model declares, `sa.String(length=254)`.
            area: Area of the working keys.
            existing_type: How the values are declared now; the type of another library decrypts them on the way.
            context: Label in place of schema, table and column.
            symbols: The columns that name a row, in order, with their types; the primary key as it is found by default.
            schema: Schema.
        """
        made = cls(table_name, column_name, type_, area, context, symbols, schema, existing_type=existing_type)
        operations.invoke(made)

    @classmethod
    def batch_encrypt_column(
        cls,
        operations: BatchOperations,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        existing_type: GivenType,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        """Encrypt a column of the table of this batch, before the batch's own changes."""
        table_name, schema = table_of(operations)
        made = cls(table_name, column_name, type_, area, context, symbols, schema, existing_type=existing_type)
        operations.invoke(made)


@Operations.register_operation("decrypt_column")
@BatchOperations.register_operation("decrypt_column", "batch_decrypt_column")
class DecryptColumnOp(ColumnOperation):
    """Decrypt a column in place."""

    name = "decrypt_column"

    def __init__(self, *args: Any, plain_type: GivenType, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plain_type: TypeEngine[Any] = instance_of(plain_type)

    @classmethod
    def decrypt_column(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        plain_type: GivenType,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
        schema: str | None = None,
    ) -> None:
        """Decrypt the values of a column, and give it another type.

        Args:
            operations: Alembic's.
            table_name: Table.
            column_name: Column.
            type_: The inner type that the model declared.
            area: Area of the working keys.
            plain_type: The type that the column shall have.
            context: Label in place of schema, table and column.
            symbols: As for `encrypt_column`.
            schema: Schema.
        """
        made = cls(table_name, column_name, type_, area, context, symbols, schema, plain_type=plain_type)
        operations.invoke(made)

    @classmethod
    def batch_decrypt_column(
        cls,
        operations: BatchOperations,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        plain_type: GivenType,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        """Decrypt a column of the table of this batch, before the batch's own changes."""
        table_name, schema = table_of(operations)
        operations.invoke(cls(table_name, column_name, type_, area, context, symbols, schema, plain_type=plain_type))

    def reverse(self) -> MigrateOperation:
        """Encrypt it."""
        return EncryptColumnOp(
            self.table_name,
            self.column_name,
            self.type_,
            self.area,
            self.context,
            self.symbols,
            self.schema,
            existing_type=self.plain_type,
        )


@Operations.register_operation("prepare_column")
@BatchOperations.register_operation("prepare_column", "batch_prepare_column")
class PrepareColumnOp(_PlainColumnOperation):
    """Make a column one of bytes, which a job encrypts afterwards."""

    name = "prepare_column"

    @classmethod
    def prepare_column(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        existing_type: GivenType,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
        schema: str | None = None,
    ) -> None:
        """Make a column one of bytes and leave its values as they are: for `accept_plaintext_until`.

        Args:
            operations: Alembic's.
            table_name: Table.
            column_name: Column.
            type_: The inner type that the model declares.
            area: Area of the working keys.
            existing_type: How the values are declared now.
            context: Label in place of schema, table and column.
            symbols: As for `encrypt_column`.
            schema: Schema.
        """
        made = cls(table_name, column_name, type_, area, context, symbols, schema, existing_type=existing_type)
        operations.invoke(made)

    @classmethod
    def batch_prepare_column(
        cls,
        operations: BatchOperations,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        existing_type: GivenType,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        """Make a column of the table of this batch one of bytes, before the batch's own changes."""
        table_name, schema = table_of(operations)
        made = cls(table_name, column_name, type_, area, context, symbols, schema, existing_type=existing_type)
        operations.invoke(made)
