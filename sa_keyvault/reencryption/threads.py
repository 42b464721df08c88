"""Threads of one process that share a job: one's cipher works while the server is at the statement of another."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import copy_context

from sqlalchemy import Engine
from sqlalchemy.pool import NullPool, QueuePool

__all__ = ["can_share", "run_together"]

_POOLS = (QueuePool, NullPool)  # those that give each thread a connection of its own


def can_share(engine: Engine) -> bool:
    """Whether several threads may work at *engine* at the same time, and were measured to be quicker than one.

    Above READ COMMITTED they would fail at each other's checkpoints, and an asyncio driver is its event loop's.
    """
    if engine.dialect.name != "postgresql" or engine.dialect.is_async or not isinstance(engine.pool, _POOLS):
        return False
    with engine.connect() as connection:
        return connection.get_isolation_level() == "READ COMMITTED"


def run_together(first: Callable[[], None], others: Sequence[Callable[[], None]], stop: Callable[[], None]) -> None:
    """Run the first function here, and each of the others in a thread of its own, until all have come to their end.

    Args:
        first: Runs in this thread, which an interrupt reaches.
        others: Run in threads, in copies of this one's context.
        stop: Called when one of them, or this thread while it waits, is left by an error; makes the others return.

    Raises:
        BaseException: The first error, as soon as all others have returned.
    """
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)
            stop()

    with ThreadPoolExecutor(max(1, len(others))) as executor:
        futures = [executor.submit(copy_context().run, guarded, work) for work in others]

        def lead() -> None:
            first()
            wait(futures)

        guarded(lead)
    if failures:
        raise failures[0]
