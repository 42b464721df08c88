"""Ctrl-C that lets the batch at hand come to its end, in the command and in the processes that it starts."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sqlalchemy import Connection, Engine, event

__all__ = ["Interrupts", "WorkerInterrupt", "interrupt_workers"]


class Interrupts:
    """Whether Ctrl-C was pressed; the second time it ends the work at once."""

    def __init__(self) -> None:
        self._pressed = threading.Event()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of Ctrl-C inside the block, in place of what it did before."""
        before = signal.signal(signal.SIGINT, self._press)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self._pressed.is_set():
            raise KeyboardInterrupt
        self._pressed.set()

    def check(self) -> None:
        """End the work, if that is wanted.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed since the block began.
        """
        if self._pressed.is_set():
            raise KeyboardInterrupt


class WorkerInterrupt:
    """Ctrl-C in a process that the command has started; taken note of from here on."""

    def __init__(self) -> None:
        self._is_pressed = self._has_raised = False
        signal.signal(signal.SIGINT, self._press)

    def end_between_transactions(self, engine: Engine) -> None:
        """Let Ctrl-C end the work before the next transaction of *engine*."""
        event.listen(engine, "begin", self._check)

    def _press(self, number: int, frame: FrameType | None) -> None:
        self._is_pressed = True

    def _check(self, connection: Connection) -> None:
        # once: what is cleaned up then has transactions, too
        if self._is_pressed and not self._has_raised:
            self._has_raised = True
            raise KeyboardInterrupt


def interrupt_workers() -> None:
    """Do to the processes that this one has started what Ctrl-C does; a terminal has done so already."""
    for worker in multiprocessing.active_children():
        if worker.pid is not None:
            os.kill(worker.pid, signal.SIGINT)
