"""INSERT: finds the symbols of each row, in the statement or before it is sent, and seals the row's values."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection, Dialect
from sqlalchemy.sql.dml import Insert

from sa_keyvault.dialects import is_mariadb
from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements import generated
from sa_keyvault.statements.copies import require_same_row
from sa_keyvault.statements.defaults import DefaultContext, evaluate, has_client_default
from sa_keyvault.statements.made import MadeValues
from sa_keyvault.statements.multi_values import parameters_beside_rows, rows_in_statement
from sa_keyvault.statements.pending import PendingInsert, PendingInserts
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.sealing import RowSet, Work, encode_column, given_values, has_plaintext, seal_rows
from sa_keyvault.statements.stored import stored_symbols
from sa_keyvault.statements.upserts import moves_envelopes, require_bindable_upsert, require_one_spelling
from sa_keyvault.statements.values import (
    MISSING,
    has_expression,
    is_expression,
    is_null,
    set_value,
    statement_values,
    with_own_parameters,
)

__all__ = ["Inserts"]

Row = dict[str, Any]


class Inserts:
    """Prepares the INSERT statements of one engine."""

    def __init__(self, ring: Ring, made: MadeValues) -> None:
        self._ring = ring
        self._made = made
        self.pending: PendingInserts = PendingInserts(ring)

    def prepare(
        self,
        connection: Connection,
        statement: Insert,
        plan: TablePlan,
        parameters: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
    ) -> tuple[Insert, list[Row]]:
        """Return the statement and the parameters to send.

        Raises:
            sa_keyvault.UnsupportedStatementError: A row cannot be bound.
        """
        if statement._post_values_clause is not None:
            require_bindable_upsert(connection, statement, plan, options)
        if statement.select is not None:
            require_same_row(statement, plan)
            return statement, [dict(row) for row in parameters]
        if statement._multi_values:
            return self._prepare_multi(connection, statement, plan, parameters, options)
        values = statement_values(statement, plan.table)
        rows = [dict(row) for row in parameters] or [{}]
        merged = [_merged(values, row) for row in rows] if values else rows
        for key in plan.encrypted.keys() & values.keys():
            given_values(plan, key, merged)
        statement, names = with_own_parameters(statement, plan, rows)
        work = Work(connection, plan, options, RowSet(rows, merged, names))
        work.rows.give_named(plan.bound)
        if _may_seal(plan, merged):
            # the statement, and the first row, say for all which values are given
            given = frozenset(merged[0]) | values.keys()
            _give_defaults(work, [given] * len(merged))
            statement = self._seal(work, statement)
            made = [column for column in plan.defaults if column.key in merged[0].keys() - given]
            self._made.begin(connection, made, merged[0])
        return statement, rows if parameters or rows[0] else []

    def _prepare_multi(
        self,
        connection: Connection,
        statement: Insert,
        plan: TablePlan,
        parameters: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
    ) -> tuple[Insert, list[Row]]:
        """`.values([…, …])`: the rows are in the statement, which is built again with those of all parameter sets."""
        sets = [dict(one) for one in parameters] or [{}]
        rows = rows_in_statement(statement, plan, sets)
        if not _may_seal(plan, rows):
            return statement, sets if parameters else []
        work = Work(connection, plan, options, RowSet(rows, [dict(row) for row in rows], {}))
        _give_defaults(work, [frozenset(row) for row in rows])
        changed: Insert = statement._clone()
        changed._multi_values = ()
        rest = parameters_beside_rows(statement, plan, sets)
        has_sql = any(is_expression(value) for row in rows for value in row.values())
        if self._is_pending(work) and not has_sql:
            # MariaDB tells the keys of executemany rows, not of a multi-row VALUES
            return self._seal(work, changed), rows
        if self._is_pending(work) and has_plaintext(self._encoded(work)):
            msg = (
                f"rows with SQL expressions in one INSERT into {plan.table.fullname} cannot leave their keys to "
                "AUTO_INCREMENT: nothing tells which row has which; give the keys, or insert the rows one by one"
            )
            raise UnsupportedStatementError(msg)
        changed = self._seal(work, changed)
        columns = plan.table.columns
        named = [{columns.get(key, key): value for key, value in row.items()} for row in rows]
        return changed.values(named), [rest] if rest else []

    def _seal(self, work: Work, statement: Insert) -> Insert:
        encoded = self._encoded(work)
        if not has_plaintext(encoded):
            for key in encoded:
                work.rows.give(key, [None] * len(work.values))
            return statement
        self._refuse_symbol_expressions(work)
        if self._is_pending(work):
            work_keys = [dict(row) for row in work.values]
            for row in work.rows.parameters:
                counter = str(_counter(work.plan, work.connection.dialect))
                row.pop(work.rows.names.get(counter, counter), None)
            pending = PendingInsert(work.plan, encoded, work_keys, work.rows.names, work.options)
            return self.pending.begin(work.connection, statement, pending, work.rows.parameters)
        statement = _without_key_return(self._give_generated(work, statement), work.plan)
        symbol_rows = self._symbol_rows(work, statement)
        seal_rows(work.plan, encoded, work.rows, symbol_rows, work.connection, self._ring)
        return statement

    def _encoded(self, work: Work) -> dict[str, list[bytes | None]]:
        encoded = {}
        for key, column in work.plan.encrypted.items():
            if not any(key in row for row in work.values) or _is_null_in_statement(work, key):
                continue
            values = given_values(work.plan, key, work.values)
            if has_expression(values):
                msg = (
                    f"a SQL expression cannot be the value of the encrypted column {key!r} of "
                    f"{work.plan.table.fullname}: the database has no key; compute it in Python"
                )
                raise UnsupportedStatementError(msg, area=column.area)
            encoded[key] = encode_column(column, values)
        return encoded

    def _refuse_symbol_expressions(self, work: Work) -> None:
        for key in work.plan.symbols:
            if has_expression([row.get(key) for row in work.values]):
                msg = (
                    f"a SQL expression cannot be the value of {key!r} of {work.plan.table.fullname}, which names "
                    "the row of an encrypted column; select it first, or give a value"
                )
                raise UnsupportedStatementError(msg)

    def _is_pending(self, work: Work) -> bool:
        if not is_mariadb(work.connection.dialect):
            return False
        key = _counter(work.plan, work.connection.dialect)
        if key is None or key not in work.plan.symbols:
            return False
        missing = [not row.get(key) for row in work.values]
        if any(missing) and not all(missing):
            msg = (
                f"some rows of an INSERT into {work.plan.table.fullname} have a key, others leave it to AUTO_INCREMENT"
            )
            raise UnsupportedStatementError(msg)
        return all(missing)

    def _give_generated(self, work: Work, statement: Insert) -> Insert:
        for key, column in work.plan.symbols.items():
            missing = _missing(work, column)
            if not missing:
                continue
            given = [row.get(key) for row in work.values]
            there = [value for value in given if isinstance(value, int)]
            fetched = generated.fetch_keys(work.connection, column, len(missing), there, work.options)
            for position, value in zip(missing, fetched.values, strict=True):
                given[position] = value
            work.rows.give(key, given)
            if fetched.is_always:
                statement = generated.overriding(statement)
        return statement

    def _symbol_rows(self, work: Work, statement: Insert) -> list[Row]:
        if not work.plan.collated or not moves_envelopes(statement, work.plan):
            return work.values
        found = stored_symbols(work.connection, work.plan, work.values, work.options)
        require_one_spelling(work.connection, work.plan, found, work.options)
        return found


def _without_key_return(statement: Insert, plan: TablePlan) -> Insert:
    """Return *statement* without the RETURNING that the ORM adds for keys alone: they are in the parameters now.

    SQLite would run it row by row.
    """
    columns = statement._return_defaults_columns
    wants_more = statement._returning or statement._supplemental_returning or statement._post_values_clause is not None
    if not statement._return_defaults or wants_more or not columns:
        return statement
    if {getattr(column, "key", None) for column in columns} - {column.key for column in plan.key}:
        return statement
    if not all(column.key in plan.symbols for column in plan.key):
        return statement
    changed: Insert = statement._clone()
    changed._return_defaults, changed._return_defaults_columns = False, None
    changed._sort_by_parameter_order = False
    return changed


def _may_seal(plan: TablePlan, rows: Sequence[Row]) -> bool:
    """Whether an encrypted column gets a value, from the statement or by its default."""
    encrypted = plan.encrypted.keys()
    return any(column.key in encrypted for column in plan.defaults) or any(
        not encrypted.isdisjoint(row) for row in rows
    )


def _give_defaults(work: Work, given: Sequence[frozenset[str]]) -> None:
    """Make the values that are not given in each row, as SQLAlchemy does: row by row, in the order of the columns."""
    defaults = [column for column in work.plan.defaults if has_client_default(column)]
    for position, keys in enumerate(given):
        for column in defaults:
            if column.key not in keys:
                row = work.values[position]
                context = DefaultContext(
                    work.connection, work.options, column, row, isinsert=True, executemany=len(given) > 1
                )
                work.rows.give_one(position, column.key, evaluate(context))


def _merged(values: Mapping[str, Any], row: Mapping[str, Any]) -> Row:
    own = {key: set_value(key, value, row) for key, value in values.items()}
    return {**row, **{key: value for key, value in own.items() if value is not MISSING}}


def _is_null_in_statement(work: Work, key: str) -> bool:
    """Whether the statement itself says NULL, which needs no key and no parameter."""
    return is_null(work.values[0].get(key)) and not any(key in row for row in work.rows.parameters)


def _missing(work: Work, column: Column[Any]) -> list[int]:
    """Return the positions of the rows whose value of *column* the database makes."""
    key, dialect = column.key, work.connection.dialect
    without = [position for position, row in enumerate(work.values) if row.get(key) is None]
    if not without or (dialect.name == "sqlite" and generated.is_auto_increment(column, dialect)):
        return without
    return [position for position in without if key not in work.values[position]]


def _counter(plan: TablePlan, dialect: Dialect) -> str | None:
    column = plan.table.autoincrement_column
    return None if column is None or not generated.is_auto_increment(column, dialect) else str(column.key)
