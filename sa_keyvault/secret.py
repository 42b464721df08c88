"""Bytes that never print: key material kept apart from everything that is shown or stored."""

from typing import NoReturn

__all__ = ["Secret"]


class Secret:
    """Key material; masked in `repr`, refuses pickling and copying.

    `expose` is the one way out, so that a search for that word finds every place where keys are used.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def expose(self) -> bytes:
        """Return the material itself."""
        return self._value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._value)} bytes>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = f"a {type(self).__name__} can be neither pickled nor copied"
        raise TypeError(msg)

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(None)

    def __deepcopy__(self, memo: object) -> NoReturn:
        self.__reduce_ex__(None)
