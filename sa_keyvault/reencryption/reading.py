"""Runs the SELECT statements of a job, past the types of the columns."""

from collections.abc import Iterable
from itertools import chain
from typing import Any

from sqlalchemy import Connection, CursorResult, Select

from sa_keyvault import store

__all__ = ["Reader", "by_columns"]


class Reader:
    """Reads rows as the driver hands them out."""

    def __init__(self) -> None:
        self._cache: dict[Any, Any] = {}

    def select(self, connection: Connection, statement: Select[Any]) -> CursorResult[Any]:
        """Run a statement."""
        # a cache of its own: the statements of a job would push those of the application out of the engine's
        options = {"stream_results": False, store.INTERNAL: True, "compiled_cache": self._cache}
        return connection.execute(statement, execution_options=options)

    def rows(self, connection: Connection, statement: Select[Any]) -> list[tuple[Any, ...]]:
        """Return the rows that a statement selects: they have no types, and there are many."""
        result = self.select(connection, statement)
        cursor: Any = result.cursor
        found = list(cursor.fetchall())
        result.close()
        return found

    def columns(self, connection: Connection, statement: Select[Any], width: int) -> list[list[Any]]:
        """Return what a statement of *width* columns selects, column by column."""
        result = self.select(connection, statement)
        cursor: Any = result.cursor
        # where it is no slower, no row outlives the next: thousands of tuples at a time keep the garbage collector busy
        found = by_columns(cursor if connection.dialect.driver == "pysqlite" else cursor.fetchall(), width)
        result.close()
        return found


def by_columns(rows: Iterable[Iterable[Any]], width: int) -> list[list[Any]]:
    """Return rows of *width* columns column by column."""
    flat = list(chain.from_iterable(rows))
    return [flat[place::width] for place in range(width)]
