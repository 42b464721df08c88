"""The values in a statement: which column a key means, and what a bind parameter will be."""

from collections.abc import Mapping, MutableMapping, Sequence
from enum import Enum, auto
from typing import Any, TypeVar, cast

from sqlalchemy import BindParameter, BooleanClauseList, ColumnElement, Null, Table, bindparam
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.dml import Insert, Update
from sqlalchemy.sql.elements import BinaryExpression, ClauseElement, Grouping
from sqlalchemy.util import immutabledict

from sa_keyvault.errors import UnsupportedStatementError
from sa_keyvault.statements.plans import TablePlan

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
    "parameters_in",
    "set_value",
    "statement_values",
    "with_own_parameters",
]

_OWN = "sa_keyvault_value_"

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


def with_own_parameters(
    statement: _Dml, plan: TablePlan, rows: Sequence[MutableMapping[str, Any]]
) -> tuple[_Dml, dict[str, str]]:
    """Return *statement* with a parameter of its own for each encrypted column and symbol, and their names by key.

    One that has a name may stand for something else in the statement as well, which is not to be sealed; and a
    literal, or a lambda's variable, has the type of its Python value, which would not let an envelope through.

    Args:
        statement: An INSERT or UPDATE.
        plan: Its table.
        rows: Copies of its parameters. What stood for such a value alone is taken out of them: SQLAlchemy may give its
            name to a parameter that it makes, and the plaintext would be sent in place of that.

    Raises:
        sa_keyvault.UnsupportedStatementError: The parameter of such a value is named like another column.
    """
    given = expressions(statement)
    named = {key: column_key(statement, plan.table, key) for key in given}
    changed = {key: _own(value, named[key], plan) for key, value in given.items()}
    names = {
        named[key]: parameter_name(named[key], value)
        for key, value in changed.items()
        if isinstance(value, BindParameter)
    }
    replaced = {
        parameter_name(named[key], value): named[key] for key, value in given.items() if changed[key] is not value
    }
    if not replaced:
        return statement, names
    _refuse_other_columns(plan, replaced, {named[key]: value for key, value in given.items()})
    rewritten: Any = statement._clone()
    if getattr(statement, "_ordered_values", None):
        rewritten._ordered_values = list(changed.items())
    else:
        rewritten._values = immutabledict(changed)
    for name in replaced.keys() - plan.columns - parameters_in(rewritten):
        for row in rows:
            row.pop(name, None)
    return cast("_Dml", rewritten), names


def _refuse_other_columns(plan: TablePlan, replaced: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Refuse a parameter that would set a plain column as well, by its name."""
    for name, key in replaced.items():
        if name != key and name in plan.columns and not (is_expression(given.get(name)) or _is_named(given.get(name))):
            msg = (
                f"a parameter of the name {name!r} is the value of {key!r} of {plan.table.fullname}, and would set the "
                f"column {name!r} too; give it a name that no column has"
            )
            raise UnsupportedStatementError(msg)


def _own(value: Any, key: str, plan: TablePlan) -> Any:
    if key not in plan.bound or not isinstance(value, BindParameter):
        return value
    type_ = plan.encrypted[key].declaration.type_ if key in plan.encrypted else plan.symbols[key].type
    if value.unique and (value.type._isnull or isinstance(value.type, type(type_))):
        return value
    return bindparam(f"{_OWN}{key}", type_=type_)


def set_value(key: str, value: Any, parameters: Mapping[str, Any]) -> Any:
    """Return what a column is set to for which the statement has *value*; MISSING where a parameter is not given."""
    is_given = key in parameters and not is_expression(value) and not _is_named(value)
    return parameters[key] if is_given else bound_value(value, parameters)


def _is_named(value: Any) -> bool:
    """Whether *value* is a parameter that the caller has named.

    One with the column's name takes the place of everything else but an expression: as in SQLAlchemy.
    """
    return isinstance(value, BindParameter) and not value.unique


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


def parameters_in(*elements: ClauseElement) -> set[str]:
    """Return the names of the parameters that *elements* are to be given."""
    inside = (one for element in elements for one in visitors.iterate(element))
    return {str(one.key) for one in inside if isinstance(one, BindParameter) and not one.unique}


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
