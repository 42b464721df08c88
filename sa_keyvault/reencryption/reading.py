"""Runs the SELECT statements of a job, past the types of the columns."""

from itertools import chain
from typing import Any

from sqlalchemy import Connection, CursorResult, Select

from sa_keyvault import store

__all__ = ["Reader"]


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
        """Return what a statement of *width* columns selects, column by column; from a driver that hands out tuples."""
        result = self.select(connection, statement)
        # no row outlives the next: thousands of tuples at a time would call the garbage collector again and again
        cursor: Any = result.cursor
        flat: list[Any] = list(chain.from_iterable(cursor))
        result.close()
        return [flat[place::width] for place in range(width)]
