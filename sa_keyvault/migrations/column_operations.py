"""What all operations on the values of one column have in common."""

from collections.abc import Mapping
from typing import Any

from alembic.operations import BatchOperations, MigrateOperation
from sqlalchemy.types import TypeEngine

__all__ = ["ColumnOperation", "GivenType", "Path", "Symbols", "instance_of", "table_of"]

GivenType = TypeEngine[Any] | type[TypeEngine[Any]]
"""A type of SQLAlchemy, or its class."""

Symbols = Mapping[str, TypeEngine[Any]]
"""The columns that name a row, in order, each with its type; primary key first."""

Path = tuple[str, str, str]
"""Schema (empty where there is none), table and column."""


class ColumnOperation(MigrateOperation):
    """What is done to the values of one column.

    Args:
        table_name: Table.
        column_name: Column.
        type_: The inner type: that of the values.
        area: Area of their working keys.
        context: Label in place of schema, table and column: a text, or those of another time.
        symbols: What names a row; the primary key as it is found by default.
        schema: Schema.
    """

    name = "column"

    def __init__(
        self,
        table_name: str,
        column_name: str,
        type_: GivenType,
        area: str = "default",
        context: str | Path | None = None,
        symbols: Symbols | None = None,
        schema: str | None = None,
    ) -> None:
        self.table_name = table_name
        self.column_name = column_name
        self.type_: TypeEngine[Any] = instance_of(type_)
        self.area = area
        self.context = context
        self.symbols = symbols
        self.schema = schema

    @property
    def path(self) -> Path:
        """Schema (empty where there is none), table and column."""
        return (self.schema or "", self.table_name, self.column_name)

    def to_diff_tuple(self) -> tuple[Any, ...]:
        """Return the operation for `compare_metadata`."""
        return (self.name, self.schema, self.table_name, self.column_name)


def instance_of(type_: GivenType) -> TypeEngine[Any]:
    """Return the type itself where its class is given."""
    return type_() if isinstance(type_, type) else type_


def table_of(operations: BatchOperations) -> tuple[str, str | None]:
    """Return the name of the table of a batch, and its schema."""
    impl: Any = operations.impl
    return str(impl.table_name), impl.schema
