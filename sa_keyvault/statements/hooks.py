"""The events of one engine: where statements are looked at before they are compiled, and transactions as they end."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from weakref import WeakSet

from sqlalchemy import Connection, CursorResult, Engine, Insert, StatementLambdaElement, Update, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import FromStatement

from sa_keyvault import store
from sa_keyvault.errors import KeyVaultError
from sa_keyvault.keyring import Ring, drop_state
from sa_keyvault.statements.checks import PASSED, require_sendable
from sa_keyvault.statements.inserts import Inserts
from sa_keyvault.statements.made import MadeValues
from sa_keyvault.statements.own import CRITERIA_OF_OTHERS
from sa_keyvault.statements.plans import Plans, TablePlan
from sa_keyvault.statements.tracebacks import frames_of_others
from sa_keyvault.statements.updates import Updates
from sa_keyvault.types import SealedValue

__all__ = ["StatementHooks"]

_EMITTED = ("_emit_insert_table", "_emit_update_table")


class StatementHooks:
    """Listens to one engine.

    Args:
        engine: The engine.
        ring: Its key ring.
        update_limit: How many rows an UPDATE may match whose WHERE clause does not name them by key.
    """

    def __init__(self, engine: Engine, ring: Ring, update_limit: int) -> None:
        self._ring = ring
        self._plans = Plans(engine.dialect)
        # connections that have written a table with encrypted columns: on others nothing is to be put back
        self._writers: WeakSet[Connection] = WeakSet()
        self._made = MadeValues()
        self._inserts = Inserts(ring, self._made)
        self._updates = Updates(ring, update_limit, self._made)
        event.listen(engine, "before_execute", self._before_execute, retval=True)
        event.listen(engine, "after_execute", self._after_execute)
        # retval: a listener that returns nothing is called by another function of SQLAlchemy, for every statement
        event.listen(engine, "before_cursor_execute", self._before_cursor_execute, retval=True)
        event.listen(engine, "handle_error", self._handle_error)
        event.listen(engine, "commit", self._before_commit)
        event.listen(engine, "prepare_twophase", self._before_prepare)
        event.listen(engine, "commit_twophase", self._before_commit_twophase)
        event.listen(engine, "rollback", self._after_rollback)
        event.listen(engine, "rollback_twophase", self._after_rollback_twophase)
        event.listen(engine, "reset", self._on_reset)
        event.listen(engine, "invalidate", self._on_invalidate)
        event.listen(engine, "close", self._on_close)

    def _before_execute(
        self,
        connection: Connection,
        statement: Any,
        multiparams: Sequence[Mapping[str, Any]],
        params: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> tuple[Any, Any, Any]:
        is_dml = getattr(statement, "is_dml", False)
        if not (is_dml or getattr(statement, "is_select", False)) or store.INTERNAL in options:
            return statement, multiparams, params
        try:
            self._ring.before_statement(connection)
            written = _written(statement) if is_dml else None
            plan = None if written is None else self._plans.of(_target(written))
            if written is None or plan is None:
                return statement, multiparams, params
            self._writers.add(connection)
            self._made.forget(connection)
            given = multiparams or ([params] if params else [])
            statement, rows = self._prepare(connection, statement, written, plan, given, options)
            return (statement, rows, {}) if len(rows) > 1 else (statement, [], rows[0] if rows else {})
        except Exception as error:  # noqa: BLE001 - it is raised again
            # the frames that it passed, and this one, would keep the plaintext parameters in its traceback
            refusal = error.with_traceback(frames_of_others(error))
        statement, written, multiparams, params, given = None, None, (), {}, ()
        raise refusal

    def _prepare(
        self,
        connection: Connection,
        statement: Any,
        written: Insert | Update,
        plan: TablePlan,
        given: Sequence[Mapping[str, Any]],
        options: Mapping[str, Any],
    ) -> tuple[Any, list[dict[str, Any]]]:
        prepare: Any = self._inserts.prepare if isinstance(written, Insert) else self._updates.prepare
        changed, rows = prepare(connection, written, plan, given, options)
        return _in_place_of(statement, changed), rows

    def _after_execute(
        self,
        connection: Connection,
        statement: Any,
        multiparams: Any,
        params: Any,
        options: Mapping[str, Any],
        result: CursorResult[Any],
    ) -> None:
        if connection not in self._writers or store.INTERNAL in options:
            return
        written = _written(statement)
        if written is None or self._plans.of(_target(written)) is None:
            return
        _restore(result.context.compiled_parameters)
        self._made.finish(connection, result)
        try:
            self._inserts.pending.finish(connection, result)
        except Exception as error:  # noqa: BLE001 - it is raised again
            # the frames that it passed, and this one, would keep the plaintext parameters in its traceback
            refusal = error.with_traceback(frames_of_others(error))
            del multiparams, params, result
        else:
            return
        raise refusal

    def _before_cursor_execute(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: Any
    ) -> tuple[str, Any]:
        # every statement comes here, nearly always with a compilation that was looked at already
        if getattr(context.compiled, PASSED, False):
            return statement, parameters
        options = context.execution_options
        if context.compiled is None or (store.INTERNAL in options and CRITERIA_OF_OTHERS not in options):
            return statement, parameters
        try:
            require_sendable(context.compiled, self._plans)
        except KeyVaultError as error:
            # this frame would keep the plaintext parameters in its traceback
            refusal = error.with_traceback(None)
            del parameters, context
        else:
            return statement, parameters
        raise refusal

    def _handle_error(self, context: ExceptionContext) -> None:
        if context.connection is not None and not context.is_disconnect:
            self._inserts.pending.abandon(context.connection)

    def _before_commit(self, connection: Connection) -> None:
        try:
            self._ring.before_commit(connection)
        except BaseException:
            # SQLAlchemy holds the transaction for ended now, and would give the connection back to its pool with
            # everything still open on it, for the next user to commit
            connection.dialect.do_rollback(connection.connection)
            raise
        finally:
            self._after_transaction(connection)

    def _before_prepare(self, connection: Connection, xid: Any) -> None:
        self._ring.before_commit(connection)

    def _before_commit_twophase(self, connection: Connection, xid: Any, is_prepared: Any) -> None:
        try:
            if not is_prepared:
                self._ring.before_commit(connection)
        except BaseException:
            connection.dialect.do_rollback_twophase(connection, xid, is_prepared=False)
            raise
        finally:
            self._after_transaction(connection)

    def _after_rollback(self, connection: Connection) -> None:
        self._after_transaction(connection)

    def _after_rollback_twophase(self, connection: Connection, xid: Any, is_prepared: Any) -> None:
        self._after_transaction(connection)

    def _after_transaction(self, connection: Connection) -> None:
        # a lost connection has no info any more; what it held was dropped when it was invalidated
        if not connection.invalidated:
            self._ring.after_transaction(drop_state(connection.info))

    # methods of their own: SQLAlchemy reads the signature of a listener to tell old ones from new ones
    def _on_reset(self, dbapi_connection: Any, connection_record: Any, reset_state: Any) -> None:
        if connection_record is not None:
            self._ring.after_transaction(drop_state(connection_record.info))

    def _on_invalidate(self, dbapi_connection: Any, connection_record: Any, exception: Any) -> None:
        self._ring.after_transaction(drop_state(connection_record.info))

    def _on_close(self, dbapi_connection: Any, connection_record: Any) -> None:
        self._ring.after_transaction(drop_state(connection_record.info))


def _restore(parameters: Sequence[MutableMapping[str, Any]]) -> None:
    """Put the plaintexts back: the ORM copies from here into objects, and users read what was inserted."""
    # all rows have the same names, and a name that holds a sealed value holds in each row one or None
    names = [name for name, value in parameters[0].items() if value is None or type(value) is SealedValue]
    for row in parameters:
        for name in names:
            value = row[name]
            if type(value) is SealedValue:
                row[name] = value.plaintext


def _written(statement: Any) -> Insert | Update | None:
    """Return the INSERT or UPDATE that *statement* is, was made by (a lambda), or loads objects from."""
    if isinstance(statement, (Insert, Update)):
        return statement
    if isinstance(statement, StatementLambdaElement):
        written = _written(statement._resolved)
        # the ORM tells its compiler by annotations what it wants to do with the rows
        return written._annotate(statement._annotations) if written is not None and statement._annotations else written
    if isinstance(statement, FromStatement):
        return _written(statement.element)
    return None


def _in_place_of(statement: Any, changed: Insert | Update) -> Any:
    """Return *changed*, in what stood around the statement that it was made of."""
    if isinstance(statement, StatementLambdaElement):
        return _in_place_of(statement._resolved, changed)
    if not isinstance(statement, FromStatement):
        return changed
    around = statement._clone()
    around.element = changed
    return around


def _target(statement: Insert | Update) -> Any:
    """Return the table that is written: the ORM's bulk statements go to one table of several, and name it aside."""
    annotations = statement._annotations
    if not annotations:
        return statement.table
    return next((annotations[name] for name in _EMITTED if name in annotations), statement.table)
