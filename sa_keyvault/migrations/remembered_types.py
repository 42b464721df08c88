"""The inner type that the key store remembers of a column, made again from its name."""

import ast
from typing import Any

import sqlalchemy
from sqlalchemy.exc import ArgumentError
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
        kind = getattr(sqlalchemy, call.func.id)
        # before the call: the name comes from the database, and must not run whatever SQLAlchemy exports
        if not isinstance(kind, type) or not issubclass(kind, TypeEngine):
            return None
        return kind(*arguments, **options)
    except (
        ArgumentError,
        AssertionError,
        AttributeError,
        SyntaxError,
        TypeError,
        ValueError,
        RecursionError,
        MemoryError,
    ):
        return None
