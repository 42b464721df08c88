"""The operations that seal a column's values anew, as objects: what each is told, and what undoes it."""

from typing import TYPE_CHECKING, Any

from alembic.operations import BatchOperations, MigrateOperation, Operations

from sa_keyvault.errors import ConfigurationError
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

__all__ = ["RebindColumnOp", "ReencryptColumnOp"]


@Operations.register_operation("reencrypt_column")
@BatchOperations.register_operation("reencrypt_column", "batch_reencrypt_column")
class ReencryptColumnOp(ColumnOperation):
    """Write a column's values under active keys."""

    name = "reencrypt_column"

    @classmethod
    def reencrypt_column(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
        schema: str | None = None,
    ) -> None:
        """Write every value that is not under an active key under one, in the migration's transaction.

        A large table is better done by `sa-keyvault reencrypt` before: then nothing is left to do here.
        """
        operations.invoke(cls(table_name, column_name, type_, area, context, symbols, schema))

    @classmethod
    def batch_reencrypt_column(
        cls,
        operations: BatchOperations,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        """Write the values of a column of the table of this batch under active keys, before the batch's own changes."""
        table_name, schema = table_of(operations)
        operations.invoke(cls(table_name, column_name, type_, area, context, symbols, schema))

    def reverse(self) -> MigrateOperation:
        """Do the same: the keys before are retired for good, and whatever is under them opens."""
        return self


@Operations.register_operation("rebind_column")
@BatchOperations.register_operation("rebind_column", "batch_rebind_column")
class RebindColumnOp(ColumnOperation):
    """Bind a column's values anew."""

    name = "rebind_column"

    def __init__(
        self,
        *args: Any,
        existing_area: str | None = None,
        existing_label: str | Path | None = None,
        existing_symbols: Symbols | None = None,
        existing_type: GivenType | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if all(one is None for one in (existing_area, existing_label, existing_symbols, existing_type)):
            msg = (
                "rebind_column needs what is to be left behind: "
                "existing_area, existing_label, existing_symbols or existing_type"
            )
            raise ConfigurationError(msg)
        self.existing_area = existing_area
        self.existing_label = existing_label
        self.existing_symbols = existing_symbols
        self.existing_type: TypeEngine[Any] | None = None if existing_type is None else instance_of(existing_type)

    @classmethod
    def rebind_column(
        cls,
        operations: Operations,
        table_name: str,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        existing_area: str | None = None,
        existing_label: str | Path | None = None,
        existing_symbols: Symbols | None = None,
        existing_type: GivenType | None = None,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
        schema: str | None = None,
    ) -> None:
        """Bind a column's values to what names them now: after a rename, with another key, or for another area.

        Args:
            operations: Alembic's.
            table_name: Table, as it is named now.
            column_name: Column, as it is named now.
            type_: The inner type that the model declares.
            area: Area of the working keys.
            existing_area: The former area, where it was another.
            existing_label: The former context; or (schema, table, column) where there was none; where it was another.
            existing_symbols: The columns that named the row, where they were others or of other types.
            existing_type: The former inner type, where it was another: values are converted by their texts.
            context: Label in place of schema, table and column.
            symbols: As for `encrypt_column`.
            schema: Schema.
        """
        made = cls(
            table_name,
            column_name,
            type_,
            area,
            context,
            symbols,
            schema,
            existing_area=existing_area,
            existing_label=existing_label,
            existing_symbols=existing_symbols,
            existing_type=existing_type,
        )
        operations.invoke(made)

    @classmethod
    def batch_rebind_column(
        cls,
        operations: BatchOperations,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        *,
        existing_area: str | None = None,
        existing_label: str | Path | None = None,
        existing_symbols: Symbols | None = None,
        existing_type: GivenType | None = None,
        context: str | Path | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        """Bind the values of a column of the table of this batch anew, before the batch's own changes."""
        table_name, schema = table_of(operations)
        made = cls(
            table_name,
            column_name,
            type_,
            area,
            context,
            symbols,
            schema,
            existing_area=existing_area,
            existing_label=existing_label,
            existing_symbols=existing_symbols,
            existing_type=existing_type,
        )
        operations.invoke(made)

    def reverse(self) -> MigrateOperation:
        """Bind them as before."""
        label = self.existing_label
        moves = label is not None
        return RebindColumnOp(
            self.table_name,
            self.column_name,
            self.type_ if self.existing_type is None else self.existing_type,
            self.area if self.existing_area is None else self.existing_area,
            label if moves else self.context,
            self.symbols if self.existing_symbols is None else self.existing_symbols,
            self.schema,
            existing_area=None if self.existing_area is None else self.area,
            existing_label=(self.context or self.path) if moves else None,
            existing_symbols=None if self.existing_symbols is None else self.symbols,
            existing_type=None if self.existing_type is None else self.type_,
        )
