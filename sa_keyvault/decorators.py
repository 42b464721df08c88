"""What a `TypeDecorator` makes of values, asked for as SQLAlchemy itself does; and what stands behind it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Dialect, Interval
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["bind_converter", "decorator_of", "has_own_format", "result_converter", "undecorated"]


def decorator_of(type_: TypeEngine[Any]) -> "TypeDecorator[Any] | None":
    """Return *type_* if it decorates another type; SQLAlchemy's own Interval, which is made as one, does not."""
    return type_ if isinstance(type_, TypeDecorator) and not isinstance(type_, Interval) else None


def undecorated(type_: TypeEngine[Any], dialect: Dialect | None = None) -> TypeEngine[Any]:
    """Return what a type decorator, or one over another, is stored as.

    Args:
        type_: The type, decorated or not.
        dialect: Of the engine, on which it may be another type; without it the one that the class names.
    """
    while decorator := decorator_of(type_):
        type_ = decorator.impl_instance if dialect is None else decorator.load_dialect_impl(dialect)
    return type_


def bind_converter(decorator: "TypeDecorator[Any]", dialect: Dialect) -> Callable[[Any], Any]:
    """Return the function that makes of a value what the decorated type takes; one without it changes nothing."""
    if not _is_overridden(decorator, "process_bind_param"):
        return _unchanged
    return partial(_call_with_dialect, decorator.process_bind_param, dialect)


def result_converter(decorator: "TypeDecorator[Any]", dialect: Dialect) -> Callable[[Any], Any]:
    """Return the function that makes a value of what the decorated type gives; one without it changes nothing."""
    if not _is_overridden(decorator, "process_result_value"):
        return _unchanged
    return partial(_call_with_dialect, decorator.process_result_value, dialect)


def has_own_format(type_: TypeEngine[Any]) -> bool:
    """Whether *type_*, or what it decorates, sends values in a form that only it knows.

    By SQL around the parameter (`bind_expression`), or by a `bind_processor` that is not one of SQLAlchemy's.
    """
    if type_._has_bind_expression:  # noqa: SLF001 - no public name
        return True
    defining = next(class_ for class_ in type(type_).__mro__ if "bind_processor" in vars(class_))
    if defining.__module__.partition(".")[0] != "sqlalchemy":
        return True
    decorator = decorator_of(type_)
    return decorator is not None and has_own_format(decorator.impl_instance)


def _is_overridden(decorator: "TypeDecorator[Any]", name: str) -> bool:
    return getattr(type(decorator), name) is not getattr(TypeDecorator, name)


def _call_with_dialect(convert: Callable[[Any, Dialect], Any], dialect: Dialect, value: Any) -> Any:
    return convert(value, dialect)


def _unchanged(value: Any) -> Any:
    return value
