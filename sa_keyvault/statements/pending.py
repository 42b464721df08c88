"""MariaDB's AUTO_INCREMENT: the key is known after the INSERT, so the row is sealed by an UPDATE right behind it.

Both are in one savepoint. Until the UPDATE is done a row holds a header without key and value, which opens under
no key; a transaction with such rows is not committed.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import Insert

from sa_keyvault.envelope import pending_envelope
from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.keyring import Ring, state_of
from sa_keyvault.statements.by_key import write_by_key
from sa_keyvault.statements.locks import require_transaction
from sa_keyvault.statements.own import internal, schema_of
from sa_keyvault.statements.plans import TablePlan
from sa_keyvault.types import SealedValue

__all__ = ["PendingInsert", "PendingInserts"]

_SAVEPOINT = "sa_keyvault_pending"
_ENGINE = text(
    "SELECT engine FROM information_schema.tables "
    "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"
)


@dataclass(frozen=True)
class PendingInsert:
    """Rows that are being inserted without their values.

    Attributes:
        plan: Their table.
        encoded: Plaintexts by column key, one per row.
        rows: The rows' parameters, by column key.
        names: Parameter name of each value that the statement gives under another name.
        options: Execution options of the caller's statement.
    """

    plan: TablePlan
    encoded: Mapping[str, Sequence[bytes | None]]
    rows: Sequence[Mapping[str, Any]]
    names: Mapping[str, str]
    options: Mapping[str, Any]


class PendingInserts:
    """The pending INSERT of each connection of one engine."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._open: WeakKeyDictionary[Connection, PendingInsert] = WeakKeyDictionary()
        self._transactional: set[tuple[str | None, str]] = set()

    def begin(
        self, connection: Connection, statement: Insert, pending: PendingInsert, rows: list[dict[str, Any]]
    ) -> Insert:
        """Put pending envelopes into *rows* and return the statement that will tell their keys.

        Raises:
            sa_keyvault.UnsupportedStatementError: The keys of these rows could not be told, or the two
                statements could not be undone together.
        """
        self._require_sealable(connection, statement, pending)
        for key, plaintexts in pending.encoded.items():
            name = pending.names.get(key, key)
            for row, plaintext in zip(rows, plaintexts, strict=True):
                row[name] = None if plaintext is None else SealedValue(pending_envelope(), row.get(name))
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}", execution_options=internal(pending.options))
        self._open[connection] = pending
        state_of(connection).unsealed += len(rows)
        if len(rows) > 1 and not statement._return_defaults:
            return statement.return_defaults(*pending.plan.key, sort_by_parameter_order=True)
        return statement

    def finish(self, connection: Connection, result: CursorResult[Any]) -> None:
        """Seal the rows that were just inserted, if there are any."""
        pending = self._open.pop(connection, None)
        if pending is None:
            return
        try:
            self._seal(connection, pending, result)
        except BaseException:
            self._undo(connection, len(pending.rows))
            raise
        connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        state_of(connection).unsealed -= len(pending.rows)

    def abandon(self, connection: Connection) -> None:
        """Undo what a failed INSERT may have left behind, if it was a pending one."""
        pending = self._open.pop(connection, None)
        if pending is not None:
            self._undo(connection, len(pending.rows))

    def _undo(self, connection: Connection, count: int) -> None:
        # a deadlock has rolled back everything, savepoint and all
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            state_of(connection).unsealed -= count

    def _seal(self, connection: Connection, pending: PendingInsert, result: CursorResult[Any]) -> None:
        plan = pending.plan
        keys = list(result.inserted_primary_key_rows) if len(pending.rows) > 1 else [result.inserted_primary_key]
        names = [column.key for column in plan.key]
        symbol_rows = [
            {**row, **dict(zip(names, key or (), strict=False))} for row, key in zip(pending.rows, keys, strict=True)
        ]
        if any(row.get(name) is None for row in symbol_rows for name in names):
            msg = f"the database did not tell the keys of the rows inserted into {plan.table.fullname}"
            raise UnsupportedStatementError(msg)
        write_by_key(plan, pending.encoded, symbol_rows, symbol_rows, connection, self._ring, pending.options)

    def _require_sealable(self, connection: Connection, statement: Insert, pending: PendingInsert) -> None:
        plan = pending.plan
        require_transaction(connection, plan.table)
        prefixes = {str(prefix).upper() for prefix, _ in statement._prefixes}
        problem = None
        if "IGNORE" in prefixes:
            problem = "IGNORE"
        elif statement._post_values_clause is not None:
            problem = "ON DUPLICATE KEY UPDATE"
        elif statement._returning:
            problem = "RETURNING"
        elif not self._is_transactional(connection, pending):
            problem = "a table of an engine without transactions"
        if problem:
            msg = (
                f"an INSERT into {plan.table.fullname} with {problem} cannot leave the key to AUTO_INCREMENT: "
                "the row is sealed after its key is known; give the key in the statement"
            )
            raise UnsupportedStatementError(msg)

    def _is_transactional(self, connection: Connection, pending: PendingInsert) -> bool:
        schema, name = schema_of(pending.plan.table, pending.options), str(pending.plan.table.name)
        if (schema, name) not in self._transactional:
            parameters = {"schema": schema, "name": name}
            engine = connection.execute(_ENGINE, parameters, execution_options=internal({})).scalar()
            if str(engine).lower() != "innodb":
                return False
            self._transactional.add((schema, name))
        return True
