"""The inner type that the key store remembers of a column, made again from its name."""

import ast
from typing import Any

import sqlalchemy
from sqlalchemy.types import TypeEngine

__all__ = ["inner_type"]


def inner_type(name: str) -> TypeEngine[Any] | None:
    """Return the type that has this name, `String(length=254)`; None where the name does not say all of it.

    A name says all of a type of SQLAlchemy's own whose arguments are literals.
    """
    try:
        call = ast.parse(name, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            return None
        arguments = [ast.literal_eval(one) for one in call.args]
        options = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        made = getattr(sqlalchemy, call.func.id)(*arguments, **options)
    except (AttributeError, SyntaxError, TypeError, ValueError):
        return None
    return made if isinstance(made, TypeEngine) else None
