"""What one transaction has made and not yet committed: keys, reservations, rows without their values."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from sa_keyvault.records import WorkingRecord

__all__ = ["TransactionState", "drop_state", "find_state", "state_of"]

_KEY = "sa_keyvault"


@dataclass
class TransactionState:
    """What the commit of one transaction depends on.

    Attributes:
        created: Working keys made in this transaction, by number.
        reservations: Key and amount of each usage reservation made in it, by reservation id.
        unsealed: Rows that were inserted with a pending envelope and are not sealed yet.
        spent: Numbers of the working keys of which it has had its share.
        has_changed_keys: Whether an administrative operation runs in it.
    """

    created: dict[int, WorkingRecord] = field(default_factory=dict)
    reservations: dict[str, tuple[str, int]] = field(default_factory=dict)
    unsealed: int = 0
    spent: set[int] = field(default_factory=set)
    has_changed_keys: bool = False


def state_of(connection: Connection) -> TransactionState:
    """Return the state of the transaction on *connection*, a new one where there is none."""
    state: TransactionState = connection.info.setdefault(_KEY, TransactionState())
    return state


def find_state(connection: Connection) -> TransactionState | None:
    """Return the state of the transaction on *connection*, if there is one."""
    return connection.info.get(_KEY)


def drop_state(info: dict[Any, Any]) -> TransactionState | None:
    """Forget the state in a DBAPI connection's *info*, and return it."""
    state: TransactionState | None = info.pop(_KEY, None)
    return state
