"""Who a key ring is to its key store: the installation key, what it accepts, and in whose name it acts."""

import logging
from dataclasses import dataclass
from pathlib import Path

from sa_keyvault.installation import InstallationKey, sign_event
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.wording import shown
from sa_keyvault.ledger import Event

__all__ = ["Identity"]

_logger = logging.getLogger("sa_keyvault")


@dataclass(frozen=True)
class Identity:
    """Who a key ring is to its key store.

    Attributes:
        key: The installation key; the only one whose signatures are trusted.
        others: Installation keys of other servers that are at hand, to sign for them as well.
        policy: What the ring makes and accepts.
        actor: Who the audit events name.
        anchor: File that remembers in which state the key store was seen last; None for none.
    """

    key: InstallationKey
    others: tuple[InstallationKey, ...]
    policy: Policy
    actor: str
    anchor: Path | None = None

    @property
    def signers(self) -> tuple[InstallationKey, ...]:
        """Every installation key at hand."""
        return (self.key, *self.others)

    def event(self, store_id: str, action: str, subject: str, reason: str = "") -> Event:
        """Return a signed event of now, and log it."""
        _logger.info("%s: %s %s %s", shown(self.actor), action, shown(subject), shown(reason))
        return sign_event(store_id, self.actor, action, subject, reason, self.key, self.policy.provisioning)
