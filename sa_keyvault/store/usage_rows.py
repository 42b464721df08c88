"""How much keys have been used: reservations, which are inserted and never updated."""

from collections.abc import Iterable
from decimal import Decimal

from sqlalchemy import Connection, func, insert, select

from sa_keyvault.errors import KeyRecordError
from sa_keyvault.store.access import execute
from sa_keyvault.store.schema import usage_table

__all__ = ["add_usage", "existing_usage", "total_usage", "usage"]


def usage(connection: Connection, key_id: str) -> int:
    """Return how much use of a key is reserved, in the unit of its suite.

    Args:
        connection: Where the key store is.
        key_id: Number of a working key in decimal, or id of a master key.
    """
    total = select(func.coalesce(func.sum(usage_table.c.amount), 0)).where(usage_table.c.key_id == key_id)
    return _total(execute(connection, total).scalar_one())


def add_usage(connection: Connection, reservation_id: str, key_id: str, amount: int) -> None:
    """Reserve use of a key; inserted, never updated, so no transaction waits for another."""
    execute(connection, insert(usage_table).values(id=reservation_id, key_id=key_id, amount=amount))


def existing_usage(connection: Connection, reservation_ids: Iterable[str]) -> set[str]:
    """Return those of *reservation_ids* that the key store has."""
    wanted = list(reservation_ids)
    if not wanted:
        return set()
    return set(execute(connection, select(usage_table.c.id).where(usage_table.c.id.in_(wanted))).scalars())


def total_usage(connection: Connection) -> dict[str, int]:
    """Return how much use of each key is reserved, by key id; keys without a reservation are left out."""
    total = select(usage_table.c.key_id, func.sum(usage_table.c.amount)).group_by(usage_table.c.key_id)
    return {key_id: _total(amount) for key_id, amount in map(tuple, execute(connection, total))}


def _total(amount: object) -> int:
    # the sum of integers is a decimal number on PostgreSQL and MariaDB
    if isinstance(amount, (int, Decimal)) and amount == int(amount):
        return int(amount)
    msg = (
        f"a row of {usage_table.name} has an amount that is no integer; it was written outside the library; delete it, "
        "or restore the key store from a backup"
    )
    raise KeyRecordError(msg)
