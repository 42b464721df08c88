"""Runs the SELECT statements of a job, past the types of the columns."""

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
