"""Functions that run together come to their end together, and the first error is that of all."""

import threading
from contextvars import ContextVar

import pytest

from sa_keyvault.reencryption.threads import run_together

SETTING = ContextVar("SETTING", default="")


class WrongError(Exception):
    """What one of them raises."""


def test_all_are_run() -> None:
    """The first function runs in the caller's thread, the others in threads with its context; none stops another."""
    found: list[tuple[bool, str]] = []
    stopped = threading.Event()
    SETTING.set("own")

    def note() -> None:
        found.append((threading.current_thread() is threading.main_thread(), SETTING.get()))

    run_together(note, [note, note], stopped.set)
    assert sorted(found) == [(False, "own"), (False, "own"), (True, "own")]
    assert not stopped.is_set()


def test_nobody_helps() -> None:
    """A single function is run as it is."""
    found: list[int] = []
    run_together(lambda: found.append(threading.get_ident()), [], lambda: None)
    assert found == [threading.get_ident()]


@pytest.mark.parametrize("is_helper", [True, False])
@pytest.mark.parametrize("error", [WrongError, KeyboardInterrupt])
def test_first_error(error: type[BaseException], is_helper: bool) -> None:
    """An error of any of them lets the others stop, and is raised after their end, whatever these raise then."""
    stopped, ended = threading.Event(), threading.Event()

    def fail() -> None:
        raise error

    def go_on() -> None:
        stopped.wait(60)
        ended.set()
        raise ValueError

    with pytest.raises(error):
        run_together(*((go_on, [fail]) if is_helper else (fail, [go_on])), stopped.set)
    assert (stopped.is_set(), ended.is_set()) == (True, True)
