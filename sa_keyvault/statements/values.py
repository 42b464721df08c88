"""The values in a statement: which column a key means, and what a bind parameter will be."""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, TypeVar, cast

from sqlalchemy import BindParameter, BooleanClauseList, ColumnElement, Null, Table
from sqlalchemy.sql import operators
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import BinaryExpression, ClauseElement, Grouping
from sqlalchemy.util import immutabledict

from sa_keyvault.statements.plans import EncryptedColumn, TablePlan

__all__ = [
    "MISSING",
    "Missing",
    "bound_value",
    "column_key",
    "expressions",
    "has_expression",
    "is_expression",
    "is_null",
    "key_parameters",
    "parameter_name",
    "statement_values",
    "with_column_types",
]

_Dml = TypeVar("_Dml", Insert, Update)


class Missing(Enum):
    """What stands in for the value of a parameter that is not given: SQLAlchemy refuses it when it is sent."""

    MISSING = auto()


MISSING = Missing.MISSING


def column_key(statement: Insert | Update, table: Table, key: Any) -> str:
    """Return the key of the column that *key* means in `.values()`: a column, an attribute or a name."""
    if hasattr(key, "__clause_element__"):
        key = key.__clause_element__()
    if isinstance(key, ClauseElement):
        name = str(getattr(key, "key", key))
        return f"{getattr(key, 'table', '')}.{name}" if _is_of_other_table(statement, table, key) else name
    entity = statement.table._annotations.get("parentmapper")
    if entity is not None and key in entity.column_attrs:
        return str(entity.column_attrs[key].columns[0].key)
    column = table.columns.get(key)
    return key if column is None else str(column.key)


def _is_of_other_table(statement: Insert | Update, table: Table, column: Any) -> bool:
    """Whether *column* belongs to another table that an UPDATE sets as well, which MariaDB does."""
    if not isinstance(statement, Update) or hash(table.columns.get(column.key)) == hash(column):
        return False
    of = hash(getattr(column, "table", table))
    sources = {hash(source) for criterion in statement._where_criteria for source in criterion._from_objects}
    return of != hash(table) and of in sources


def statement_values(statement: Insert | Update, table: Table) -> dict[str, Any]:
    """Return what `.values()` or `.ordered_values()` was given, by column key: bind parameters and expressions."""
    return {column_key(statement, table, key): value for key, value in expressions(statement).items()}


def expressions(statement: Insert | Update) -> dict[Any, Any]:
    """Return what `.values()` or `.ordered_values()` was given, by what was given as key."""
    # SQLAlchemy 2.0 keeps ordered values apart
    return dict(getattr(statement, "_ordered_values", None) or statement._values or {})


def with_column_types(statement: _Dml, plan: TablePlan) -> _Dml:
    """Return *statement* with each bind parameter of an encrypted column given that column's type.

    A literal and a lambda's variable have the type of their Python value; it would not let an envelope through.
    """
    values = expressions(statement)
    if not values:
        return statement
    retyped = {
        key: _retyped(value, plan.encrypted.get(column_key(statement, plan.table, key)))
        for key, value in values.items()
    }
    if all(retyped[key] is value for key, value in values.items()):
        return statement
    changed: Any = statement._clone()
    if getattr(statement, "_ordered_values", None):
        changed._ordered_values = list(retyped.items())
    else:
        changed._values = immutabledict(retyped)
    return cast("_Dml", changed)


def _retyped(value: Any, column: EncryptedColumn | None) -> Any:
    if column is None or not isinstance(value, BindParameter) or value.type._isnull:
        return value
    declared = column.declaration.type_
    return value if isinstance(value.type, type(declared)) else value._with_binary_element_type(declared)


def is_expression(value: Any) -> bool:
    """Whether *value* is SQL, not a value."""
    if hasattr(value, "__clause_element__"):
        value = value.__clause_element__()
    return isinstance(value, ClauseElement) and not isinstance(value, BindParameter)


def has_expression(values: Sequence[Any]) -> bool:
    """Whether one of *values* is SQL other than NULL; looks at each type that occurs, not at each value."""
    one_of_each = dict(zip(map(type, values), values, strict=True))
    return any(is_expression(value) and not is_null(value) for value in one_of_each.values())


def is_null(value: Any) -> bool:
    """Whether *value* is SQL's NULL itself, `null()`."""
    return isinstance(value, Null)


def parameter_name(key: str, value: Any) -> str:
    """Return the name under which a parameter replaces *value*, the bind parameter of column *key*."""
    return str(value.key) if isinstance(value, BindParameter) and not value.unique else key


def bound_value(value: Any, parameters: Mapping[str, Any]) -> Any:
    """Return what *value* will be when the statement is run with *parameters*; MISSING where they do not say."""
    if not isinstance(value, BindParameter):
        return value
    if not value.unique and value.key in parameters:
        return parameters[value.key]
    return MISSING if value.required else value.effective_value


def key_parameters(statement: Update, plan: TablePlan) -> dict[str, BindParameter[Any]]:
    """Return, for each symbol that the WHERE clause demands to be equal to a value, that bind parameter."""
    found: dict[str, BindParameter[Any]] = {}
    for criterion in _conjuncts(statement._where_criteria):
        if not isinstance(criterion, BinaryExpression) or criterion.operator is not operators.eq:
            continue
        for column, value in ((criterion.left, criterion.right), (criterion.right, criterion.left)):
            key = _symbol_key(column, plan)
            if key is not None and isinstance(value, BindParameter):
                found[key] = value
    return found


def _symbol_key(column: ColumnElement[Any], plan: TablePlan) -> str | None:
    for key, symbol in plan.symbols.items():
        # the ORM's columns are annotated copies; hash and == are those of the column itself
        if hash(column) == hash(symbol) and getattr(column, "key", None) == key:
            return key
    return None


def _conjuncts(criteria: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    flat: list[ColumnElement[Any]] = []
    for criterion in criteria:
        if isinstance(criterion, Grouping):
            flat.extend(_conjuncts([cast("ColumnElement[Any]", criterion.element)]))
        elif isinstance(criterion, BooleanClauseList) and criterion.operator is operators.and_:
            flat.extend(_conjuncts(list(criterion.clauses)))
        else:
            flat.append(criterion)
    return flat
