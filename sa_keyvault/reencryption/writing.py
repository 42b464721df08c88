"""Writes batches of values by compare-and-swap: each row only if it still has the bytes that were read."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnClause,
    ColumnElement,
    Connection,
    LargeBinary,
    Table,
    Update,
    bindparam,
    cast,
    column,
    func,
    text,
    update,
)
from sqlalchemy import table as clause_table
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import StatementError
from sqlalchemy.types import NullType

from sa_keyvault import store
from sa_keyvault.decorators import undecorated
from sa_keyvault.reencryption.arrays import array_of
from sa_keyvault.reencryption.reading import by_columns

__all__ = ["Writer"]


class Writer:
    """Writes the batches of one job.

    Args:
        connection: Where the table is; asked once which columns change by themselves.
        table: The table.
        names: Keys of the columns that are written.
        columns: What is read back of each row that is written, where the database hands it out with the UPDATE.
    """

    def __init__(
        self, connection: Connection, table: Table, names: Sequence[str], columns: Sequence[ColumnElement[Any]]
    ) -> None:
        self._returned = columns
        self._types = [undecorated(column.type, connection.dialect) for column in table.primary_key.columns]
        self._keys = [str(column.name) for column in table.primary_key.columns]
        self._names = [str(table.c[name].name) for name in names]
        self._silent = [name for name in _self_changing(connection, table) if name not in self._names]
        # columns without types: the values are the driver's own, and an encrypted column lets no bytes through
        every: list[ColumnClause[Any]] = [
            column(name) for name in dict.fromkeys([*self._keys, *self._names, *self._silent])
        ]
        self._target = clause_table(str(table.name), *every, schema=table.schema)

    def write(
        self,
        connection: Connection,
        keys: Sequence[Sequence[Any]],
        old: Sequence[Sequence[Any]],
        new: Sequence[Sequence[Any]],
    ) -> tuple[int, list[list[Any]] | None]:
        """Write rows; return how many were written, and these as they are now, by columns, where it shows them.

        A row that has other bytes by now is left as it is.

        Args:
            connection: In a transaction.
            keys: Each column of the primary key, with its value in every row; the rows are in the order of their keys.
            old: What each column of the job had, likewise.
            new: What each shall have; the same where it stays.
        """
        columns = {f"key_{number}": column for number, column in enumerate(keys)}
        columns |= {f"old_{number}": column for number, column in enumerate(old)}
        columns |= {f"new_{number}": column for number, column in enumerate(new)}
        try:
            if connection.dialect.name == "postgresql":
                return self._write_arrays(connection, columns)
            return self._write_each(connection, columns), None
        except StatementError as error:
            # values that are not encrypted yet, or no more
            error.hide_parameters = True
            raise

    def _write_each(self, connection: Connection, columns: Mapping[str, Sequence[Any]]) -> int:
        """Write with the driver's own executemany: SQLAlchemy does not look at the parameters one by one."""
        statement = self._update({name: bindparam(name, type_=NullType()) for name in columns})
        compiled: Any = statement.compile(dialect=connection.dialect)
        if compiled.positiontup is None:
            rows: Any = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        else:
            rows = list(zip(*(columns[name] for name in compiled.positiontup), strict=True))
        return connection.exec_driver_sql(str(compiled), rows, {store.INTERNAL: True}).rowcount

    def _write_arrays(
        self, connection: Connection, columns: Mapping[str, Sequence[Any]]
    ) -> tuple[int, list[list[Any]]]:
        """Write with one UPDATE for all rows, which come as arrays, one for each column."""
        types = [*self._types, *[LargeBinary()] * (len(columns) - len(self._types))]
        arrays = [
            cast(bindparam(name, type_=NullType()), ARRAY(type_)) for name, type_ in zip(columns, types, strict=True)
        ]
        given = func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
        parameters = {name: array_of(values, connection) for name, values in columns.items()}
        first_key, keys = self._target.c[self._keys[0]], columns["key_0"]
        # else a plan that merges would read the index from the first row of the table on
        range_ = [first_key >= _bound("first", keys[0]), first_key <= _bound("last", keys[-1])]
        statement = self._update(given.c).where(*range_).returning(*self._returned)
        result = store.execute(connection, statement, parameters)
        cursor: Any = result.cursor
        found = by_columns(cursor.fetchall(), len(self._returned))
        result.close()
        return len(found[0]), found

    def _update(self, given: Any) -> Update:
        columns = self._target.c
        same_key = [columns[name] == given[f"key_{number}"] for number, name in enumerate(self._keys)]
        same_value = [
            columns[name].is_not_distinct_from(given[f"old_{number}"]) for number, name in enumerate(self._names)
        ]
        if len(same_value) == 1:
            # a row whose only value is NULL is never written, and `=` is quicker
            same_value = [columns[self._names[0]] == given["old_0"]]
        values = {columns[name]: given[f"new_{number}"] for number, name in enumerate(self._names)}
        silent = {columns[name]: columns[name] for name in self._silent}
        return update(self._target).where(*same_key, *same_value).values({**values, **silent})


def _bound(name: str, value: Any) -> ColumnElement[Any]:
    return bindparam(name, value, type_=NullType())


def _self_changing(connection: Connection, table: Table) -> list[str]:
    """Return the columns that MariaDB sets at every UPDATE that does not set them: a job is no change of the row."""
    if connection.dialect.name not in ("mysql", "mariadb"):
        return []
    statement = text(
        "SELECT column_name FROM information_schema.columns WHERE table_schema = coalesce(:schema, database()) "
        "AND table_name = :name AND extra LIKE '%on update%'"
    )
    found = connection.execute(
        statement, {"schema": table.schema, "name": table.name}, execution_options={store.INTERNAL: True}
    )
    return [str(name) for name in found.scalars()]
