"""Master keys over the years: rotated, replaced, disabled, enabled, retired."""

from dataclasses import dataclass

from sqlalchemy import Connection

from sa_keyvault.administration.tidying import administer
from sa_keyvault.errors import KeyStateError
from sa_keyvault.keyring import Master, Operation, genuine
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import new_master
from sa_keyvault.states import KeyState

__all__ = [
    "MasterFollowed",
    "disable_master",
    "enable_master",
    "replace_master",
    "retire_master",
    "rotate_master",
]


@dataclass(frozen=True)
class MasterFollowed:
    """What came in a master key's place.

    Attributes:
        former: The master key that was followed, which is retired now.
        successor: The new one.
        rewrapped: How many working keys it wraps that the former one wrapped.
        left: Numbers of working keys that stay under the former one, because no installation key has signed that it
            made them; values under them still open.
        reencrypt: Areas whose values are under working keys of the former one, and are to be re-encrypted.
    """

    former: str
    successor: str
    rewrapped: int
    left: tuple[int, ...]
    reencrypt: tuple[str, ...]


def rotate_master(
    connection: Connection, ring: KeyRing, master_id: str | None = None, reason: str = ""
) -> MasterFollowed:
    """Give a master key a new wrapping key: the successor is of its lineage, and rewraps its working keys.

    No row of the application is touched, and no working key is changed but for its wrap. The former master key is
    retired.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the store's installation.
        master_id: Which master key; by default the newest that is active. Where none is, one that is retired.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.KeyStateError: The master key is not active, or none is and it is not retired either.
    """
    with administer(connection, ring, reason) as changing:
        former = _followed(changing, master_id)
        successor = changing.follow_master(former, ring.identity.policy.provisioning.master_suite)
        rewrapped = changing.rewrap(changing.under(former), former, successor)
        _retire(changing, former)
        return MasterFollowed(former.record.id, successor.record.id, rewrapped.wrapped, rewrapped.left, ())


def replace_master(
    connection: Connection, ring: KeyRing, master_id: str | None = None, reason: str = ""
) -> MasterFollowed:
    """Follow a master key that is compromised: the successor is of a lineage of its own.

    The former master key and its working keys are retired: what they sealed still opens, and is to be re-encrypted
    under new working keys; then the former one can be removed.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the store's installation.
        master_id: Which master key; by default the newest that is active. Where none is, one that is retired.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.KeyStateError: The master key is not active, or none is and it is not retired either.
    """
    with administer(connection, ring, reason) as changing:
        former = _followed(changing, master_id)
        below = changing.under(former)
        active = genuine(changing, (record for record in below if record.state is KeyState.ACTIVE))
        changing.move_working(active, KeyState.RETIRED, "working-key-retired")
        suite = ring.identity.policy.provisioning.master_suite
        successor = changing.add_master(*new_master(changing.store_id, suite))
        _retire(changing, former)
        areas = sorted({record.area for record in below if record.state is not KeyState.REMOVED})
        return MasterFollowed(former.record.id, successor.record.id, 0, (), tuple(areas))


def disable_master(connection: Connection, ring: KeyRing, master_id: str, reason: str = "") -> None:
    """Suspend a master key: nothing under it is sealed or opened, until it is enabled again.

    Where no other is active, no working key can be made meanwhile, and servers start to read only.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition.
    """
    _move(connection, ring, master_id, KeyState.DISABLED, "master-key-disabled", reason)


def enable_master(connection: Connection, ring: KeyRing, master_id: str, reason: str = "") -> None:
    """Put a disabled master key back into the state that it came from.

    Raises:
        sa_keyvault.KeyStateError: The key is not disabled.
    """
    with administer(connection, ring, reason) as changing:
        master = changing.master(master_id)
        changing.move_master(
            master, enabled_state(master.record.state, master.record.former_state), "master-key-enabled"
        )


def retire_master(connection: Connection, ring: KeyRing, master_id: str, reason: str = "") -> None:
    """Let a master key wrap nothing any more; what is under it opens.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition, or no other master key is active.
    """
    with administer(connection, ring, reason) as changing:
        master = changing.master(master_id)
        _require_another(changing, master)
        changing.move_master(master, KeyState.RETIRED, "master-key-retired")


def enabled_state(state: KeyState, former: str) -> KeyState:
    """Return the state that a disabled key goes back to.

    Raises:
        sa_keyvault.KeyStateError: The key is not disabled.
    """
    if state is not KeyState.DISABLED:
        msg = f"the key is {state}, not disabled, so it cannot be enabled"
        raise KeyStateError(msg)
    return KeyState(former)


def _move(connection: Connection, ring: KeyRing, master_id: str, state: KeyState, action: str, reason: str) -> None:
    with administer(connection, ring, reason) as changing:
        changing.move_master(changing.master(master_id), state, action)


def _require_another(changing: Operation, master: Master) -> None:
    """Refuse to retire the only master key under which working keys can be made: no state leads back."""
    if master.record.state is KeyState.RETIRED or [one for one in _active(changing) if one is not master]:
        return
    # a key that is disabled can be made the active one again
    first = "enable it, then " if master.record.state is KeyState.DISABLED else ""
    msg = (
        f"no other master key than {master.record.id} is active, so nothing could be written any more; {first}rotate "
        "or replace it instead, which retires it, too"
    )
    raise KeyStateError(msg)


def _retire(changing: Operation, former: Master) -> None:
    if former.record.state is not KeyState.RETIRED:
        changing.move_master(former, KeyState.RETIRED, "master-key-retired")


def _followed(changing: Operation, master_id: str | None) -> Master:
    """Return the master key that another follows: one that is retired only where none is active."""
    if master_id is None:
        return changing.active_masters()[0]
    master = changing.master(master_id)
    is_last = master.record.state is KeyState.RETIRED and not _active(changing)
    if master.record.state is not KeyState.ACTIVE and not is_last:
        msg = (
            f"master key {master_id} is {master.record.state}; only an active one is followed by another, or a retired "
            "one where none is active"
        )
        raise KeyStateError(msg)
    return master


def _active(changing: Operation) -> list[Master]:
    return [master for master in changing.masters.values() if master.record.state is KeyState.ACTIVE]
