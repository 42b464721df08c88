"""UPDATE: finds the symbols of each row in the WHERE clause, or reads them, and seals the row's values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BindParameter, Column, Connection, and_, false, select
from sqlalchemy.sql.dml import Update

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements.defaults import DefaultContext, evaluate, has_client_onupdate
from sa_keyvault.statements.made import MadeValues
from sa_keyvault.statements.matched import MatchedUpdates
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.rows import StoredRow, read_rows
from sa_keyvault.statements.sealing import RowSet, Work, encode_column, given_values, has_plaintext, seal_rows
from sa_keyvault.statements.stored import folded, stored_symbols
from sa_keyvault.statements.values import (
    MISSING,
    bound_value,
    is_expression,
    is_null,
    key_parameters,
    set_value,
    statement_values,
    with_own_parameters,
)

__all__ = ["Updates"]

Row = dict[str, Any]


@dataclass(frozen=True)
class _KeyedWork(Work):
    """One UPDATE whose WHERE clause names its rows; the values are what each row's columns are set to.

    Attributes:
        symbols: The symbols that the WHERE clause demands, by column key, one mapping per row; at least the key's.
        kept: Keys of the encrypted columns that are not set, but must be bound anew.
    """

    symbols: list[Row]
    kept: list[str]


class Updates:
    """Prepares the UPDATE statements of one engine."""

    def __init__(self, ring: Ring, update_limit: int, made: MadeValues) -> None:
        self._ring = ring
        self._made = made
        self._matched = MatchedUpdates(ring, update_limit)

    def prepare(
        self,
        connection: Connection,
        statement: Update,
        plan: TablePlan,
        parameters: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
    ) -> tuple[Update, list[Row]]:
        """Return the statement and the parameters to send.

        Raises:
            sa_keyvault.UnsupportedStatementError: A row cannot be bound.
        """
        given = statement_values(statement, plan.table)
        rows = [dict(row) for row in parameters] or [{}]
        demanded = key_parameters(statement, plan)
        values = [_set_values(plan, given, row) for row in rows]
        for key in plan.encrypted.keys() & given.keys():
            given_values(plan, key, values)
        self._made.begin(connection, _give_onupdate(connection, plan, rows, values, options), values[0])
        if plan.bound.isdisjoint(values[0]):
            return statement, rows if parameters else []
        _refuse_expressions(plan, values[0])
        statement, names = with_own_parameters(statement, plan, rows)
        owned = RowSet(rows, values, names)
        owned.give_named(plan.bound)
        changes_symbol = not plan.symbols.keys().isdisjoint(values[0])
        encoded = _encoded(plan, values)
        if not changes_symbol and not has_plaintext(encoded):
            return statement, rows if parameters or rows[0] else []
        named = [key for key in plan.symbols if key in demanded]
        if not _names_rows(plan, named, rows) or _is_null_anywhere(demanded, rows):
            return self._matched.prepare(connection, statement, plan, rows, values, options)
        symbols = [{key: bound_value(demanded[key], row) for key in named} for row in rows]
        kept = [key for key in plan.encrypted if key not in values[0]] if changes_symbol else []
        work = _KeyedWork(connection, plan, options, owned, symbols, kept)
        if changes_symbol or len(named) < len(plan.symbols):
            return self._seal_stored(work, statement)
        self._seal(work, encoded)
        return statement, rows

    def _seal(self, work: _KeyedWork, encoded: Mapping[str, Sequence[bytes | None]]) -> None:
        """Rows keep their symbols: only the values that are set are sealed."""
        symbols = work.symbols
        if work.plan.collated:
            symbols = stored_symbols(work.connection, work.plan, work.symbols, work.options)
        seal_rows(work.plan, encoded, work.rows, symbols, work.connection, self._ring)

    def _seal_stored(self, work: _KeyedWork, statement: Update) -> tuple[Update, list[Row]]:
        """Rows change a symbol, or are named by their primary key alone: what is stored is read first."""
        stored = [self._read(work, symbols) for symbols in work.symbols]
        _refuse_chains(work, stored)
        there = [position for position, row in enumerate(stored) if row is not None]
        if not there:
            # a row that appears meanwhile must not take symbols that its values are not bound to
            return statement.where(false()), [_without_encrypted(work, row) for row in work.rows.parameters[:1]]
        rows = [work.rows.parameters[position] for position in there]
        values = [work.values[position] for position in there]
        found = [row for row in stored if row is not None]
        kept = {key: [row.plaintexts[key] for row in found] for key in work.kept}
        encoded = kept | _encoded(work.plan, values)
        symbols = [
            {key: row.get(key, before.symbols[key]) for key in work.plan.symbols}
            for row, before in zip(values, found, strict=True)
        ]
        seal_rows(work.plan, encoded, RowSet(rows, values, work.rows.names), symbols, work.connection, self._ring)
        return statement, rows

    def _read(self, work: _KeyedWork, symbols: Mapping[str, Any]) -> StoredRow | None:
        criteria = and_(*(work.plan.symbols[key] == value for key, value in symbols.items()))
        statement = select().select_from(work.plan.table).where(criteria)
        rows = read_rows(work.connection, work.plan, statement, work.kept, work.options)
        return rows[0] if rows else None


def _set_values(plan: TablePlan, given: Mapping[str, Any], row: Mapping[str, Any]) -> Row:
    """Return what an UPDATE sets, by column key: values of the statement, and parameters that are columns."""
    values = {key: value for key, value in row.items() if key in plan.columns and key not in given}
    for key, value in given.items():
        values[key] = set_value(key, value, row)
    return {key: value for key, value in values.items() if value is not MISSING}


def _give_onupdate(
    connection: Connection,
    plan: TablePlan,
    rows: Sequence[Row],
    values: Sequence[Row],
    options: Mapping[str, Any],
) -> list[Column[Any]]:
    """Give columns their client-side `onupdate`, and return those that were given one.

    None where nothing is sealed: then SQLAlchemy does it.
    """
    missing = [column for column in plan.onupdates if column.key not in values[0] and has_client_onupdate(column)]
    if plan.bound.isdisjoint(values[0]) and not any(column.key in plan.bound for column in missing):
        return []
    for row, given in zip(rows, values, strict=True):
        for column in missing:
            context = DefaultContext(connection, options, column, given, isinsert=False, executemany=len(rows) > 1)
            row[column.key] = given[column.key] = evaluate(context)
    return missing


def _refuse_expressions(plan: TablePlan, values: Mapping[str, Any]) -> None:
    for key in plan.bound.intersection(values):
        if is_expression(values[key]) and not (key in plan.encrypted and is_null(values[key])):
            kind = "encrypted column" if key in plan.encrypted else "symbol"
            msg = (
                f"a SQL expression cannot be the value of the {kind} {key!r} of {plan.table.fullname}: "
                "it is not known when the row is sealed; compute it in Python"
            )
            raise UnsupportedStatementError(msg)


def _encoded(plan: TablePlan, values: Sequence[Mapping[str, Any]]) -> dict[str, list[bytes | None]]:
    """Return the plaintexts of the encrypted columns that are set, but for those that the statement sets to NULL."""
    return {
        key: encode_column(column, given_values(plan, key, values))
        for key, column in plan.encrypted.items()
        if key in values[0] and not is_null(values[0][key])
    }


def _is_null_anywhere(demanded: Mapping[str, BindParameter[Any]], rows: Sequence[Mapping[str, Any]]) -> bool:
    values = (bound_value(value, row) for value in demanded.values() for row in rows)
    return any(value is None or value is MISSING for value in values)


def _without_encrypted(work: _KeyedWork, row: Mapping[str, Any]) -> Row:
    hidden = {work.rows.names.get(key, key) for key in work.plan.encrypted}
    return {name: None if name in hidden else value for name, value in row.items()}


def _names_rows(plan: TablePlan, named: Sequence[str], rows: Sequence[Row]) -> bool:
    """Whether the WHERE clause names each row by its symbols, or each of several by its primary key at least."""
    if len(named) == len(plan.symbols):
        return True
    return len(rows) > 1 and bool(plan.key) and all(column.key in named for column in plan.key)


def _refuse_chains(work: _KeyedWork, stored: Sequence[StoredRow | None]) -> None:
    """Refuse a row that a former parameter set gives its key: all were read before the first is written."""
    taken: set[tuple[str, ...]] = set()
    for demanded, values, row in zip(work.symbols, work.values, stored, strict=True):
        before = _spelled(work.plan, demanded)
        if before in taken:
            msg = (
                f"a parameter set of an UPDATE of {work.plan.table.fullname} gives a row the key by which a later one "
                "finds it; run them one by one"
            )
            raise UnsupportedStatementError(msg)
        after = _spelled(work.plan, {key: values.get(key, value) for key, value in demanded.items()})
        if row is not None and after != before:
            taken.add(after)


def _spelled(plan: TablePlan, symbols: Row) -> tuple[str, ...]:
    """Return the texts of symbols, alike where the database may find a row by either."""
    texts = {key: plan.writers[key](value).decode() for key, value in symbols.items()}
    return tuple(folded(text) if key in plan.collated else text for key, text in texts.items())
