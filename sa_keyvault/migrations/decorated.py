"""A type decorator that does nothing: it stands in a script for one of the application's."""

from typing import Any

from sqlalchemy.types import NullType, TypeDecorator, TypeEngine

__all__ = ["Decorated"]


class Decorated(TypeDecorator[Any]):
    """Stands for a type decorator of the application over the same type; symbols of such a column are written so.

    Args:
        carried: The type that is decorated.
    """

    impl: type[TypeEngine[Any]] | TypeEngine[Any] = NullType
    cache_ok: bool | None = True

    def __init__(self, carried: TypeEngine[Any]) -> None:
        super().__init__()
        self.impl = carried
        self.carried = carried

    def __repr__(self) -> str:
        return f"Decorated({self.carried!r})"
