"""The states of keys, and how one leads to another."""

import enum

__all__ = ["KeyState", "may_become"]


class KeyState(enum.StrEnum):
    """State of a key.

    Source:
        NIST SP 800-57 part 1 revision 5 section 7: active, deactivated (retired), suspended (disabled),
        destroyed (removed).
    """

    ACTIVE = "active"
    RETIRED = "retired"
    DISABLED = "disabled"
    REMOVED = "removed"

    @property
    def may_seal(self) -> bool:
        """Whether the key may protect new data."""
        return self is KeyState.ACTIVE

    @property
    def may_open(self) -> bool:
        """Whether the key may process data that it protects."""
        return self in (KeyState.ACTIVE, KeyState.RETIRED)


_TRANSITIONS = frozenset(
    {
        (KeyState.ACTIVE, KeyState.RETIRED),
        (KeyState.ACTIVE, KeyState.DISABLED),
        (KeyState.RETIRED, KeyState.DISABLED),
        (KeyState.RETIRED, KeyState.REMOVED),
        (KeyState.DISABLED, KeyState.RETIRED),
    }
)


def may_become(state: KeyState, former: str, wanted: KeyState) -> bool:
    """Whether a key in *state*, to which it came from *former*, may be put into the state *wanted*.

    A disabled key goes back to where it came from, or is retired.
    """
    return (state is KeyState.DISABLED and wanted == former) or (state, wanted) in _TRANSITIONS
