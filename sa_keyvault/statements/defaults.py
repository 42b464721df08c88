"""Client-side defaults: evaluated before a row is sealed, so that one that looks at the row sees its values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnDefault, Connection, Dialect, Engine
from sqlalchemy.sql.schema import CallableColumnDefault, ScalarElementColumnDefault

__all__ = ["DefaultContext", "evaluate", "has_client_default", "has_client_onupdate"]


@dataclass(frozen=True)
class DefaultContext:
    """What a context-sensitive default function is given, in place of SQLAlchemy's own context, which comes too late.

    Attributes:
        connection: The connection of the statement.
        execution_options: Execution options of the statement.
        current_column: The column whose value is made.
        current_parameters: Values of the row so far, by column key.
        isinsert: Whether the statement is an INSERT.
        executemany: Whether it has several parameter sets.
    """

    connection: Connection
    execution_options: Mapping[str, Any]
    current_column: Column[Any]
    current_parameters: Mapping[str, Any]
    isinsert: bool
    executemany: bool

    @property
    def isupdate(self) -> bool:
        """Whether the statement is an UPDATE."""
        return not self.isinsert

    @property
    def dialect(self) -> Dialect:
        """Dialect of the connection."""
        return self.connection.dialect

    @property
    def engine(self) -> Engine:
        """Engine of the connection."""
        return self.connection.engine

    @property
    def root_connection(self) -> Connection:
        """The connection of the statement, once more."""
        return self.connection

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Mapping[str, Any]:  # noqa: FBT001, FBT002 - SQLAlchemy's signature
        """Return the values of the row so far, by column key."""
        return self.current_parameters


def has_client_default(column: Column[Any]) -> bool:
    """Whether a missing value of *column* is made in Python at INSERT."""
    return isinstance(column.default, (ScalarElementColumnDefault, CallableColumnDefault))


def has_client_onupdate(column: Column[Any]) -> bool:
    """Whether a missing value of *column* is made in Python at UPDATE."""
    return isinstance(column.onupdate, (ScalarElementColumnDefault, CallableColumnDefault))


def evaluate(context: DefaultContext) -> Any:
    """Return the value that the client-side default, or `onupdate`, of the context's column gives for its row."""
    column = context.current_column
    default = column.default if context.isinsert else column.onupdate
    if isinstance(default, CallableColumnDefault):
        return default.arg(context)  # type: ignore[arg-type]
    assert isinstance(default, ColumnDefault)  # noqa: S101 - the two functions above are asked first
    return default.arg
