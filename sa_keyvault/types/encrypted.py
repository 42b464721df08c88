"""The column type `Encrypted`: what SQLAlchemy asks of it.

The type knows names only. Keys are found through the dialect, at the moment a statement is run.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from sqlalchemy import BindParameter, ColumnElement, Dialect, Null
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import False_, True_
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_keyvault.dialects import require_supported, storage_type
from sa_keyvault.errors import MalformedEnvelopeError, UnsupportedOperatorError, UnsupportedStatementError
from sa_keyvault.types.declared import EncryptedDeclaration
from sa_keyvault.types.inner import storage_length
from sa_keyvault.types.values import SealedValue
from sa_keyvault.types.walk import find_row

if TYPE_CHECKING:
    from sqlalchemy.sql.operators import OperatorType
    from sqlalchemy.sql.type_api import _BindProcessorType, _ResultProcessorType

__all__ = ["Encrypted"]

_T = TypeVar("_T")


class Encrypted(EncryptedDeclaration[_T]):
    """A column whose values are stored encrypted, each bound to its row.

    Args:
        inner: Type of the values; a SQLAlchemy type or its class.
        area: Part of the application's model, with working keys of its own; at most 64 characters.
        context: Label in place of schema, table and column name, so that a rename can keep it.
        bind_to: Names of further columns of the table whose values name the row, beside its primary key.
        formerly: How values were bound before, so that both are read: the former context, or (schema, table, column)
            where there was none, or None for the same label; and the columns that named the row, each by name or as
            (name, type). Until a job has rebound the values.
        accept_plaintext_until: Until when values are read that are not encrypted yet, that day included (UTC).
            They have no authenticity: whoever can write to the database can write such a value.

    Raises:
        sa_keyvault.ConfigurationError: *inner* cannot be encrypted, or another argument is not usable.
    """

    # not inherited: SQLAlchemy asks each class for it
    cache_ok: bool | None = True

    # -- what the ORM asks about values ------------------------------------------------------------------------------

    @property
    def python_type(self) -> type[Any]:
        """Type of the loaded values."""
        return self.inner.python_type

    @property
    def hashable(self) -> bool:  # type: ignore[override]
        """Whether loaded values can be hashed."""
        return self.inner.hashable

    @property
    def sort_key_function(self) -> Callable[[Any], Any] | None:  # type: ignore[override]
        """What the inner type sorts by."""
        return self.inner.sort_key_function

    def compare_values(self, x: Any, y: Any) -> bool:
        """Whether two values are the same to the inner type, so that no needless UPDATE is sent."""
        return bool(self.inner.compare_values(x, y))

    # -- storage -----------------------------------------------------------------------------------------------------

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return a binary type large enough for every value of the inner type."""
        # super(): the plain LargeBinary of a dialect that is refused at its first use, not when it is described
        if dialect.name not in ("sqlite", "postgresql", "mysql", "mariadb"):
            return super().load_dialect_impl(dialect)
        return dialect.type_descriptor(storage_type(dialect, storage_length(self.inner)))

    # -- in ----------------------------------------------------------------------------------------------------------

    def bind_processor(self, dialect: Dialect) -> "_BindProcessorType[Any]":
        """Return the function that lets envelopes through, and nothing else."""
        require_supported(dialect)
        # sqlite3 takes bytes as they are; its Binary would make an object more of each value
        is_plain = dialect.name == "sqlite"
        to_driver = None if is_plain else self.load_dialect_impl(dialect).bind_processor(dialect)
        area = self.area

        def process(value: Any) -> Any:
            if value is None:
                return None
            if type(value) is not SealedValue:
                # this frame would keep the plaintext in the error's traceback
                del value
                msg = (
                    f"a value of an encrypted column of area {area!r} is not bound to a row, so it was not sent; "
                    "write it with an INSERT or UPDATE statement of its own (not in a CTE) of the column's table, "
                    "on an engine that has a key ring"
                )
                raise UnsupportedStatementError(msg, area=area)
            return value.envelope if to_driver is None else to_driver(value.envelope)

        return process

    def literal_processor(self, dialect: Dialect) -> NoReturn:
        """Refuse to write a value into the text of a statement."""
        msg = "a value of an encrypted column cannot be rendered into SQL text (literal_binds)"
        raise UnsupportedStatementError(msg, area=self.area)

    # -- out ---------------------------------------------------------------------------------------------------------

    @property
    def _has_column_expression(self) -> bool:
        return True

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Return the expression that selects a value together with its row's symbols.

        Raises:
            sa_keyvault.UnsupportedStatementError: The column has no row here, or its key is not carried.
        """
        return find_row(column)

    def result_processor(self, dialect: Dialect, coltype: object) -> "_ResultProcessorType[Any]":
        """Return the function that refuses bare envelopes: raw SQL selects them without their row."""
        area = self.area

        def process(value: Any) -> None:
            if value is None:
                return
            msg = (
                f"a value of an encrypted column of area {area!r} was selected by raw SQL, without its row; "
                "select the mapped column, or open the bytes with ring.open(column, key, stored)"
            )
            raise MalformedEnvelopeError(msg, area=area, size=len(value))

        return process

    # -- operators ---------------------------------------------------------------------------------------------------

    class Comparator(TypeDecorator.Comparator[Any]):
        """Allows what has a meaning on ciphertext: IS NULL, and `=` between SQL expressions."""

        def operate(self, op: "OperatorType", *other: Any, **kwargs: Any) -> Any:
            """Build `IS NULL` and `=` between expressions; refuse everything else."""
            _require_meaning(op, other)
            return super().operate(op, *other, **kwargs)

        def reverse_operate(self, op: "OperatorType", other: Any, **kwargs: Any) -> Any:
            """Build `=` between expressions; refuse everything else."""
            _require_meaning(op, (other,))
            return super().reverse_operate(op, other, **kwargs)

    comparator_factory = Comparator


_NULL_OPERATORS = (operators.is_, operators.is_not, operators.eq, operators.ne)
_EXPRESSION_OPERATORS = (operators.eq, operators.ne, operators.is_distinct_from, operators.is_not_distinct_from)


def _require_meaning(op: "OperatorType", other: tuple[Any, ...]) -> None:
    operand = other[0] if len(other) == 1 else None
    if len(other) == 1 and op in _NULL_OPERATORS and (operand is None or isinstance(operand, Null)):
        return
    # SQLAlchemy asks `column in list`, which is `==`: an answer that is no ordinary expression drops the column
    # from RETURNING without a word
    if op in _EXPRESSION_OPERATORS and _is_expression(operand):
        return
    name = getattr(op, "__name__", str(op))
    msg = (
        f"an encrypted column cannot be used with the operator {name!r}: equal values have different ciphertexts, "
        "in no order; select the rows by other columns and compare in Python, or keep a keyed hash beside it"
    )
    raise UnsupportedOperatorError(msg)


def _is_expression(operand: Any) -> bool:
    operand = operand.__clause_element__() if hasattr(operand, "__clause_element__") else operand
    return isinstance(operand, ColumnElement) and not isinstance(operand, (BindParameter, True_, False_))
