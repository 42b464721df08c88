"""UPDATE of the rows that a WHERE clause matches: they are read and locked, and sealed one by one.

The encrypted columns are written by key; then the user's statement runs once, without them, on the same rows, so that
RETURNING, the row count and the ORM's synchronization stay what they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Integer, bindparam, false, literal_column, select, tuple_
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql import visitors
from sqlalchemy.sql.dml import Update
from sqlalchemy.util import immutabledict

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements.by_key import write_by_key
from sa_keyvault.statements.checks import require_meaning
from sa_keyvault.statements.defaults import has_client_onupdate
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.statements.rows import StoredRow, read_rows
from sa_keyvault.statements.sealing import encode_column
from sa_keyvault.statements.values import column_key, is_null, parameter_name, parameters_in, statement_values

__all__ = ["MatchedUpdates"]

_KEYS = "sa_keyvault_keys"

Row = dict[str, Any]


class MatchedUpdates:
    """Prepares the UPDATE statements of one engine whose WHERE clause does not name one row by its symbols."""

    def __init__(self, ring: Ring, update_limit: int) -> None:
        self._ring = ring
        self._limit = update_limit

    def prepare(
        self,
        connection: Connection,
        statement: Update,
        plan: TablePlan,
        rows: list[Row],
        values: list[Row],
        options: Mapping[str, Any],
    ) -> tuple[Update, list[Row]]:
        """Write the encrypted columns of the matched rows; return the rest of the statement.

        Raises:
            sa_keyvault.UnsupportedStatementError: The rows cannot be told, or are too many.
        """
        # before anything is read or written: what is sent of the statement has its WHERE clause no more
        require_meaning(statement)
        _require_tellable(statement, plan, rows)
        given = values[0]
        is_rebound = bool(given.keys() & plan.symbols.keys())
        kept = [key for key in plan.encrypted if key not in given] if is_rebound else []
        stored = self._read(connection, statement, plan, rows[0], kept, options)
        if stored:
            self._write(connection, plan, stored, given, kept, options)
        return _rest(statement, plan, stored, rows[0])

    def _read(
        self,
        connection: Connection,
        statement: Update,
        plan: TablePlan,
        row: Row,
        kept: Sequence[str],
        options: Mapping[str, Any],
    ) -> list[StoredRow]:
        chosen = select().select_from(statement.table)
        chosen = chosen.where(*statement._where_criteria)
        if not _has_other_tables(statement, plan):
            # a row that is joined to several others comes several times
            # literals: the caller's parameters may have the name of one that SQLAlchemy would make
            chosen = chosen.limit(literal_column(str(self._limit + 1), Integer())).offset(
                literal_column("0", Integer())
            )
        if given := {name: row[name] for name in row.keys() & parameters_in(*statement._where_criteria)}:
            chosen = chosen.params(given)
        # behind the parameters: SQLAlchemy 2.0 cannot copy a statement with options that have criteria
        chosen = chosen.options(*statement._with_options) if statement._with_options else chosen
        found = read_rows(connection, plan, chosen, kept, options)
        unique = {tuple(row.symbols[column.key] for column in plan.key): row for row in found}
        if len(unique) > self._limit:
            msg = (
                f"an UPDATE of encrypted columns of {plan.table.fullname} matches more than {self._limit} rows, "
                "each of which is sealed by itself; update them in batches, or raise update_limit"
            )
            raise UnsupportedStatementError(msg)
        return list(unique.values())

    def _write(
        self,
        connection: Connection,
        plan: TablePlan,
        stored: Sequence[StoredRow],
        given: Mapping[str, Any],
        kept: Sequence[str],
        options: Mapping[str, Any],
    ) -> None:
        rows = [row.symbols for row in stored]
        symbols = [{key: given.get(key, row[key]) for key in plan.symbols} for row in rows]
        encoded: dict[str, Sequence[bytes | None]] = {}
        for key, column in plan.encrypted.items():
            if key in kept:
                encoded[key] = [row.plaintexts[key] for row in stored]
            elif key not in given:
                continue
            elif is_null(given[key]):
                encoded[key] = [None] * len(stored)
            else:
                encoded[key] = encode_column(column, [given[key]]) * len(stored)
        write_by_key(plan, encoded, rows, symbols, connection, self._ring, options)


def _require_tellable(statement: Update, plan: TablePlan, rows: Sequence[Row]) -> None:
    problem = None
    if len(rows) > 1:
        problem = "with several parameter sets must name each row by its key in the WHERE clause; run it once per set"
    elif not plan.key:
        problem = "must name the row by its symbols in the WHERE clause: the table has no primary key"
    elif getattr(statement, "_ordered_values", None) or getattr(statement, "_maintain_values_ordering", False):
        problem = "cannot have ordered values unless its WHERE clause names the row by its key"
    elif reserved := sorted(plan.columns & rows[0].keys() & parameters_in(*statement._where_criteria)):
        problem = f"has a parameter {reserved[0]!r} in its WHERE clause, the name of a column; give it another one"
    elif _has_other_tables(statement, plan) and _mentions_encrypted(statement, plan):
        problem = "cannot join other tables and ask whether one is NULL; select the keys first"
    elif statement.dialect_kwargs:
        problem = "cannot have dialect options (LIMIT) unless its WHERE clause names the row by its key"
    if problem:
        msg = f"an UPDATE of encrypted columns of {plan.table.fullname} {problem}"
        raise UnsupportedStatementError(msg)


def _rest(statement: Update, plan: TablePlan, stored: Sequence[StoredRow], row: Row) -> tuple[Update, list[Row]]:
    """Return the user's statement without its encrypted columns, on the rows that were read."""
    given = statement_values(statement, plan.table)
    hidden = {parameter_name(key, given.get(key)) for key in plan.encrypted} | plan.encrypted.keys()
    rest: Update = statement._clone()
    kept: dict[Any, Any] = {
        key: value
        for key, value in (statement._values or {}).items()
        if column_key(statement, plan.table, key) not in plan.encrypted
    }
    rest._values = immutabledict(kept)
    parameters = {name: value for name, value in row.items() if name not in hidden}
    if not _has_other_tables(statement, plan):
        # what was just written may have changed what they say, and so does `random()`: the rows are those of the keys
        rest._where_criteria = ()
        rest._with_options = tuple(
            option for option in statement._with_options if not isinstance(option, LoaderCriteriaOption)
        )
        # one that only the criteria had may have the name of one that SQLAlchemy makes now, and would replace it
        wanted = plan.columns | parameters_in(rest)
        parameters = {name: value for name, value in parameters.items() if name in wanted}
    if own := {column: column for column in _with_onupdate(plan)}:
        # their values were made and written already
        rest = rest.values(own)
    if not rest._values and plan.columns.isdisjoint(parameters):
        column = plan.key[0]
        rest = rest.values({column: column})
    return rest.where(_matches(plan, stored)), [parameters] if parameters else []


def _with_onupdate(plan: TablePlan) -> list[Column[Any]]:
    columns = [column.declaration.column for column in plan.encrypted.values()]
    return [column for column in columns if has_client_onupdate(column)]


def _matches(plan: TablePlan, stored: Sequence[StoredRow]) -> ColumnElement[bool]:
    if not stored:
        return false()
    keys = [tuple(row.symbols[column.key] for column in plan.key) for row in stored]
    if len(plan.key) == 1:
        return plan.key[0].in_(bindparam(_KEYS, [key[0] for key in keys], type_=plan.key[0].type, expanding=True))
    key = tuple_(*plan.key)
    return key.in_(bindparam(_KEYS, keys, type_=key.type, expanding=True))


def _mentions_encrypted(statement: Update, plan: TablePlan) -> bool:
    hashes = {hash(column.declaration.column) for column in plan.encrypted.values()}
    return any(
        hash(element) in hashes for criterion in statement._where_criteria for element in visitors.iterate(criterion)
    )


def _has_other_tables(statement: Update, plan: TablePlan) -> bool:
    froms = {source for criterion in statement._where_criteria for source in criterion._from_objects}
    return any(hash(source) != hash(plan.table) for source in froms)
