"""Working keys over the years: rotated by area, disabled, enabled, retired."""

from sqlalchemy import Connection

from sa_keyvault.administration.masters import enabled_state
from sa_keyvault.administration.tidying import administer
from sa_keyvault.errors import KeyNotFoundError, KeyStateError
from sa_keyvault.keyring import Operation, genuine, require_rows
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import WorkingRecord
from sa_keyvault.states import KeyState

__all__ = ["disable_working", "enable_working", "retire_working", "rotate_area"]


def rotate_area(connection: Connection, ring: KeyRing, area: str, reason: str = "") -> tuple[int, ...]:
    """Retire the active working keys of an area; the next value that is written makes a new one.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the store's installation.
        area: Whose keys.
        reason: Why, for the audit events.

    Returns:
        The numbers of the keys that were retired; what they sealed opens, and is to be re-encrypted.

    Raises:
        sa_keyvault.KeyNotFoundError: The area has no working key.
        sa_keyvault.KeyRecordError: The row of an active key, of any area, was changed outside the library, or that of a
            key that was made for this area is gone: put back after the rotation it would be active again.
    """
    with administer(connection, ring, reason) as changing:
        working = changing.working.values()
        # those of all areas: the row that says another one may have been altered to escape
        active = genuine(changing, (record for record in working if record.state is KeyState.ACTIVE))
        require_rows(changing, area)
        areas = {record.area for record in working if record.state is not KeyState.ACTIVE}
        areas |= {record.area for record in active}
        if area not in areas:
            msg = f"area {area!r} has no working key; the key store has: {', '.join(sorted(areas)) or 'none'}"
            raise KeyNotFoundError(msg, area=area)
        active = [record for record in active if record.area == area]
        changing.move_working(active, KeyState.RETIRED, "working-key-retired")
        return tuple(record.number for record in active)


def disable_working(connection: Connection, ring: KeyRing, number: int, reason: str = "") -> None:
    """Suspend a working key: its values do not open, until it is enabled again.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition.
    """
    _move(connection, ring, number, KeyState.DISABLED, "working-key-disabled", reason)


def enable_working(connection: Connection, ring: KeyRing, number: int, reason: str = "") -> None:
    """Put a disabled working key back into the state that it came from.

    Raises:
        sa_keyvault.KeyStateError: The key is not disabled.
    """
    with administer(connection, ring, reason) as changing:
        record = _made_here(changing, number)
        changing.move_working([record], enabled_state(record.state, record.former_state), "working-key-enabled")


def retire_working(connection: Connection, ring: KeyRing, number: int, reason: str = "") -> None:
    """Let a working key seal nothing any more; its values open.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition.
    """
    _move(connection, ring, number, KeyState.RETIRED, "working-key-retired", reason)


def _move(connection: Connection, ring: KeyRing, number: int, state: KeyState, action: str, reason: str) -> None:
    with administer(connection, ring, reason) as changing:
        changing.move_working([_made_here(changing, number)], state, action)


def _made_here(changing: Operation, number: int) -> WorkingRecord:
    """Return a working key, unless its row is one that somebody put there who has no key."""
    found = genuine(changing, [changing.working_key(number)])
    if found:
        return found[0]
    msg = f"working key {number} was made by no installation key of this key store; delete its row"
    raise KeyStateError(msg, key_number=number)
