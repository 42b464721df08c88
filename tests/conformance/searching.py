"""Lets SQLite open encrypted values inside SQL, so that tests which compare, sort or compute go on to the ORM.

The library refuses all this, and so does `Encrypted`. `Searchable` does not: wherever an encrypted column stands in a
statement, but for where its envelope is selected or written, the compiler puts a call of a function that opens it.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from sqlalchemy import ColumnClause, ColumnElement, Label, type_coerce
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeDecorator, TypeEngine

from sa_keyvault import Encrypted, KeyRing, dialects
from sa_keyvault.binding import Binding
from sa_keyvault.envelope import reader
from sa_keyvault.statements import checks
from sa_keyvault.types.walk import find_row

__all__ = ["Searchable", "open_in_sql", "opening_function"]

_FUNCTION = "conformance_open"
_AS_STORED = "conformance_as_stored"
_OPENED = "conformance_opened"
_EXPRESSIONS = ("function_argspec", "visit_binary", "visit_unary", "visit_cast", "visit_case", "visit_over")

_columns: list[tuple[str, Binding]] = []


class Searchable(Encrypted[str]):
    """An encrypted text that can be used in SQL like a plain one."""

    cache_ok = True

    class Comparator(TypeDecorator.Comparator[Any]):
        """Operates as the inner type does: the compiler has opened the value."""

        def operate(self, op: Any, *other: Any, **options: Any) -> Any:
            return self._plain.operate(op, *other, **options)

        def reverse_operate(self, op: Any, other: Any, **options: Any) -> Any:
            return self._plain.reverse_operate(op, other, **options)

        @property
        def _plain(self) -> Any:
            return self.type.inner.comparator_factory(self.expr)

    comparator_factory = Comparator

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        return self.inner

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        element = column.element if isinstance(column, Label) else column
        return find_row(column) if _is_column(column) else type_coerce(element, self.inner)


def opening_function(ring: KeyRing) -> tuple[str, int, Callable[[int, bytes | None], str | None]]:
    """Return the function by which SQLite opens values with *ring*: its name, number of arguments, and itself."""

    def open_value(number: int, stored: bytes | None) -> str | None:
        area, binding = _columns[number]
        read = reader(ring.layouts(area, binding), bytes.decode, lambda error, _: error)
        value: str | None = read(stored)
        return value

    return _FUNCTION, 2, open_value


def open_in_sql() -> None:
    """Change the compiler, from now on, to open searchable columns."""
    checks._refuse_comparison = lambda one, other: None
    require_plain = checks._require_plain
    # a computed value is opened by then; a column of a union is not
    checks._require_plain = lambda column: require_plain(column) if _is_column(column) else None
    parts: Callable[..., Any] = dialects._parts
    dialects._parts = lambda element, compiler, template, kw: parts(
        element, compiler, template, {**kw, _AS_STORED: True}
    )
    for name in _EXPRESSIONS:
        setattr(SQLCompiler, name, _opening(getattr(SQLCompiler, name)))
    SQLCompiler.visit_select = _scalar(SQLCompiler.visit_select)  # type: ignore[method-assign]
    SQLCompiler.visit_column = _opened(SQLCompiler.visit_column)  # type: ignore[method-assign]
    SQLCompiler.visit_bindparam = _compared(SQLCompiler.visit_bindparam)  # type: ignore[method-assign]


def _is_column(expression: Any) -> bool:
    return isinstance(expression.element if isinstance(expression, Label) else expression, ColumnClause)


def _opening(visit: Callable[..., str]) -> Callable[..., str]:
    @wraps(visit)
    def visit_expression(self: SQLCompiler, element: Any, *args: Any, **kw: Any) -> str:
        return visit(self, element, *args, **{**kw, _OPENED: True})

    return visit_expression


def _scalar(visit: Callable[..., str]) -> Callable[..., str]:
    @wraps(visit)
    def visit_select(self: SQLCompiler, element: Any, *args: Any, **kw: Any) -> str:
        # a subquery that is a value, not a table: what it selects is compared or selected as it is
        is_table = kw.get("asfrom") or kw.get("lateral") or kw.get("insert_into") or not self.stack
        kw.pop(_AS_STORED, None)
        kw[_OPENED] = not is_table and kw.get("compound_index") is None
        return visit(self, element, *args, **kw)

    return visit_select


def _opened(visit: Callable[..., str]) -> Callable[..., str]:
    @wraps(visit)
    def visit_column(self: SQLCompiler, column: Any, *args: Any, **kw: Any) -> str:
        as_stored, in_expression = kw.pop(_AS_STORED, False), kw.pop(_OPENED, False)
        is_selected = kw.get("within_columns_clause") and not in_expression
        is_written = not self.stack or getattr(column.table, "name", None) == "excluded"
        if as_stored or is_selected or is_written or not isinstance(column.type, Searchable):
            return visit(self, column, *args, **kw)
        row: Any = find_row(column)
        if row is column or self.dialect.name != "sqlite":
            return visit(self, column, *args, **kw)
        envelope = self.process(row, **{**kw, _AS_STORED: True})
        return f"{_FUNCTION}({_number(row.type.area, row.type.binding)}, {envelope})"

    return visit_column


def _compared(visit: Callable[..., str]) -> Callable[..., str]:
    @wraps(visit)
    def visit_bindparam(self: SQLCompiler, bindparam: Any, *args: Any, **kw: Any) -> str:
        # the ORM gives values that it compares the column's type; in a SELECT nothing is written
        if isinstance(bindparam.type, Searchable) and not self.isinsert and not self.isupdate:
            bindparam = bindparam._with_binary_element_type(bindparam.type.inner)
        return visit(self, bindparam, *args, **kw)

    return visit_bindparam


def _number(area: str, binding: Binding) -> int:
    if (area, binding) not in _columns:
        _columns.append((area, binding))
    return _columns.index((area, binding))
