"""Values that the library made of client-side defaults: told to whoever asks the result, as SQLAlchemy tells its own.

SQLAlchemy makes such values while it compiles, which is too late to seal them. So the statement hooks make them, and
a result then names their columns as *prefetched*; from there the ORM copies them into objects.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Column, Connection, CursorResult

__all__ = ["MadeValues"]


class MadeValues:
    """The values that were made for the statement under way on each connection of one engine."""

    def __init__(self) -> None:
        self._open: WeakKeyDictionary[Connection, tuple[Sequence[Column[Any]], Mapping[str, Any]]] = WeakKeyDictionary()

    def begin(self, connection: Connection, columns: Sequence[Column[Any]], first: Mapping[str, Any]) -> None:
        """Remember what was made for a statement that is about to be sent.

        Args:
            connection: Its connection.
            columns: The columns.
            first: Values of the first row, by column key.
        """
        if columns:
            self._open[connection] = columns, {column.key: first[column.key] for column in columns}

    def forget(self, connection: Connection) -> None:
        """Forget what was made for a statement that was refused or failed."""
        self._open.pop(connection, None)

    def finish(self, connection: Connection, result: CursorResult[Any]) -> None:
        """Name the columns as prefetched by *result*."""
        made = self._open.pop(connection, None)
        if made is None:
            return
        columns, first = made
        context: Any = result.context
        # a copy: the compiled statement is shared by all that run it, and would make the values itself the next time
        context.compiled = compiled = copy.copy(context.compiled)
        kind = "insert_prefetch" if compiled.isinsert else "update_prefetch"
        setattr(compiled, kind, [*getattr(compiled, kind), *columns])
        for key, value in first.items():
            # an UPDATE of matched rows is sent without its encrypted columns
            context.compiled_parameters[0].setdefault(key, value)
