"""What every operation does first: keys that are worn out are written retired, stray ones are wrapped anew."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.installation import InstallationKey
from sa_keyvault.keyring import Master, Operation, Settings, intact, operation
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import WorkingRecord
from sa_keyvault.states import KeyState

__all__ = ["administer"]


@contextmanager
def administer(
    connection: Connection, ring: KeyRing, reason: str, joining: tuple[InstallationKey, ...] = ()
) -> Iterator[Operation]:
    """Change keys inside the block, after what is overdue has been done.

    Args:
        connection: Where the key store is.
        ring: Of an installation key that opens it.
        reason: Why.
        joining: Installation keys that shall open it.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library, or put back.
    """
    identity = replace(ring.identity, others=(*ring.identity.others, *joining))
    with operation(connection, identity, reason) as changing:
        _rewrap_strays(changing)
        _retire_worn(changing, ring.settings)
        yield changing


def _rewrap_strays(changing: Operation) -> None:
    """Wrap working keys anew whose master key was retired while their transaction was open."""
    successors = {master.record.lineage: master for master in _active(changing)}
    for master in list(changing.masters.values()):
        successor = successors.get(master.record.lineage)
        if successor is not None and master.record.state is KeyState.RETIRED and changing.under(master):
            # a row that was altered must not keep operations from other keys
            changing.rewrap(intact(changing, changing.under(master)), master, successor)


def _active(changing: Operation) -> list[Master]:
    masters = changing.masters.values()
    return [one for one in masters if one.record.state is KeyState.ACTIVE and one.secret is not None]


def _retire_worn(changing: Operation, settings: Settings) -> None:
    """Retire working keys that are worn out, or whose master key was replaced while their transaction was open."""
    used = store.total_usage(changing.connection)
    lineages = {master.record.lineage for master in _active(changing)}
    worn = []
    for record in changing.working.values():
        master = changing.masters.get(record.master_id)
        if record.state is not KeyState.ACTIVE or master is None or master.secret is None:
            continue
        is_replaced = master.record.state is KeyState.RETIRED and master.record.lineage not in lineages
        if (
            is_replaced
            or settings.is_too_old(record)
            or used.get(str(record.number), 0) >= _limit(changing, record, settings)
        ):
            worn.append(record)
    changing.move_working(intact(changing, worn), KeyState.RETIRED, "working-key-retired")


def _limit(changing: Operation, record: WorkingRecord, settings: Settings) -> float:
    try:
        return settings.limit_of(changing.identity.policy.provisioning.suite_named(record.suite))
    except ConfigurationError:
        # a suite that is not known here is left to those who know it
        return math.inf
