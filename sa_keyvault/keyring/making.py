"""Makes working keys under a master key that still has use left."""

from collections.abc import Callable

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import KeyStateError
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import KeySet
from sa_keyvault.ledger import reason_of_birth
from sa_keyvault.records import WorkingRecord, new_working

__all__ = ["Reserve", "make_working"]

Reserve = Callable[[str, int, int], int]
"""(key id, wanted, limit) -> how much of the use that is wanted the key still has; it is reserved."""


def make_working(
    connection: Connection, keys: KeySet, area: str, identity: Identity, reserve: Reserve
) -> WorkingRecord:
    """Make a working key of *area* and write it.

    Args:
        connection: Where the key store is.
        keys: The keys of the store.
        area: Area of the new key.
        identity: Whose provisioning the key is of, and who signs the event of its birth.
        reserve: Counts the use of the master key.

    Raises:
        sa_keyvault.KeyStateError: No master key is active, or all that are active are worn out.
        sa_keyvault.ConfigurationError: The active master keys are none that the ring accepts.
    """
    suite = identity.policy.provisioning.working_suite
    for master in keys.sealing_masters():
        secret = master.require_secret()
        wanted = secret.suite.usage(suite.key_size)
        if reserve(master.record.id, wanted, secret.suite.usage_limit // 2) < wanted:
            continue
        record = new_working(master.record, secret, area, suite)
        while store.working_numbers(connection, [record.number]):
            # of 100,000 numbers that are drawn at random two are likely to be the same
            record = new_working(master.record, secret, area, suite)
        store.add_working(connection, record)
        subject, why = str(record.number), reason_of_birth(area)
        store.add_event(connection, identity.event(keys.store_id, "working-key-created", subject, why))
        return record
    msg = (
        f"every active master key has wrapped as many keys as its suite allows, so area {area!r} gets no new one; "
        "ring.initialize() makes a new master key"
    )
    raise KeyStateError(msg, area=area)
