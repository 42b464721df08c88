"""What a key ring is told to do: how long keys are used, how often it looks, who it says that it is."""

import datetime
import getpass
import math
import os
import socket
from dataclasses import dataclass

from sa_keyvault.errors import ConfigurationError
from sa_keyvault.keyring.wording import require_one_line
from sa_keyvault.records import WorkingRecord, timestamp_of
from sa_keyvault.suites import Suite

__all__ = ["Settings", "default_actor"]

_MAX_ACTOR = 128  # characters, the width of the column `actor`


@dataclass(frozen=True)
class Settings:
    """What a key ring is told to do.

    Attributes:
        refresh_seconds: After how long a change of keys made elsewhere is noticed at the latest.
        working_keys_per_area: How many active keys share the new values of an area.
        usage_limit: How much a working key seals at most, in the unit of its suite.
        working_key_days: How old a working key gets before a new one follows it.
        master_key_days: How old a master key gets before a new one follows it, at a start.
        removal_delay: How long a key has been retired before it can be removed; twice `refresh_seconds` at least,
            because until then another process could still seal under it.
        actor: Who the audit events name.
        trusted: Certificates in PEM, in one of which the installation key's chain must end; empty to ask for none.

    Raises:
        sa_keyvault.ConfigurationError: One of them is not usable.
    """

    refresh_seconds: float = 30.0
    working_keys_per_area: int = 1
    usage_limit: int | None = None
    working_key_days: int | None = None
    master_key_days: int | None = None
    removal_delay: datetime.timedelta = datetime.timedelta(hours=24)
    actor: str = ""
    trusted: bytes = b""

    def __post_init__(self) -> None:
        for name in ("working_keys_per_area", "usage_limit", "working_key_days", "master_key_days"):
            _require_positive(name, getattr(self, name))
        _require_seconds("refresh_seconds", self.refresh_seconds)
        if len(self.actor) > _MAX_ACTOR:
            msg = f"actor has {len(self.actor)} characters; {_MAX_ACTOR} are possible"
            raise ConfigurationError(msg)
        require_one_line("actor", self.actor)

    def limit_of(self, suite: Suite) -> int:
        """Return how much a working key of *suite* may be used."""
        half = suite.usage_limit // 2
        return half if self.usage_limit is None else min(half, self.usage_limit)

    def is_retired_long_enough(self, changed: str) -> bool:
        """Whether a key that has been retired since then can be removed."""
        return changed <= timestamp_of(datetime.datetime.now(datetime.UTC) - self.effective_delay)

    @property
    def effective_delay(self) -> datetime.timedelta:
        """How long a key has really to be retired before it can be removed."""
        return max(self.removal_delay, datetime.timedelta(seconds=2 * self.refresh_seconds))

    def is_too_old(self, record: WorkingRecord) -> bool:
        """Whether a working key has reached the end of its cryptoperiod (NIST SP 800-57 part 1 section 5.3)."""
        return self.working_key_days is not None and record.created <= _before(self.working_key_days)

    def is_master_too_old(self, created: str) -> bool:
        """Whether a master key that was created then has reached the end of its cryptoperiod."""
        return self.master_key_days is not None and created <= _before(self.master_key_days)


def default_actor() -> str:
    """Return the user and the machine that this process runs as."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:_MAX_ACTOR]


def _before(days: int) -> str:
    return timestamp_of(datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days))


def _require_seconds(name: str, value: float) -> None:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        msg = f"{name}={value!r} must be a number of seconds, finite and not negative"
        raise ConfigurationError(msg)


def _require_positive(name: str, value: int | None) -> None:
    if value is not None and (not isinstance(value, int) or value < 1):
        msg = f"{name}={value!r} must be a whole number of at least 1"
        raise ConfigurationError(msg)
