"""The search for marked plaintexts in everything that leaves the library: errors, logs, warnings."""

import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import sa_keyvault

__all__ = ["MARK", "LeakWatch", "leaks_in_error", "marked", "own_locals"]

MARK = "m4rk3d"
"""Every plaintext that a test plants contains it."""

_PACKAGE = str(Path(sa_keyvault.__file__).parent)


def marked(text: str = "") -> str:
    """Return a plaintext that the search will recognize."""
    return f"{MARK}-{text}"


class LeakWatch(logging.Handler):
    """Collects the errors of the library and every log record, and searches them."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.errors: list[BaseException] = []
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a log record's text and arguments."""
        self.messages.append(f"{record.getMessage()} {record.args!r} {record.exc_text}")

    def leaks(self) -> list[str]:
        """Return where a marked plaintext was found."""
        found = [f"log: {message[:80]}" for message in self.messages if MARK in message]
        for error in self.errors:
            found.extend(leaks_in_error(error))
        return found


def leaks_in_error(error: BaseException) -> list[str]:
    """Return where in *error*, its causes and the library's own frames a marked plaintext stands."""
    found = []
    for link in _chain(error):
        name = type(link).__name__
        places = {"text": str(link), "repr": repr(link), "args": repr(link.args), "attributes": repr(vars(link))}
        for frame, local, value in _own_locals(link.__traceback__):
            places[f"local {local} of {frame}"] = _text(value)
        found.extend(f"{name}: {place}" for place, value in places.items() if MARK in value)
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is None or link in seen:
            continue
        seen.append(link)
        yield link
        waiting += [link.__cause__, link.__context__]


def own_locals(error: BaseException) -> Iterator[tuple[str, str, Any]]:
    """Yield frame, name and value of every local of the library's own frames, in *error* and its causes."""
    for link in _chain(error):
        yield from _own_locals(link.__traceback__)


def _own_locals(trace: TracebackType | None) -> Iterator[tuple[str, str, Any]]:
    for frame, line in traceback.walk_tb(trace):
        if frame.f_code.co_filename.startswith(_PACKAGE):
            for name, value in frame.f_locals.items():
                yield f"{frame.f_code.co_qualname}:{line}", name, value


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - an object half made has no repr
        return ""
