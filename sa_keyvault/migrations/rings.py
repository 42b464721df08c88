"""The key ring of a migration: that of the engine, or the one that the environment names."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from sa_keyvault.administration import sealing_provisioning_of
from sa_keyvault.dialects import ring_of
from sa_keyvault.errors import ConfigurationError, LegacyAlgorithmWarning
from sa_keyvault.installation import has_own_secret, installation_key_at, passphrase_from_file
from sa_keyvault.keyring import find_store
from sa_keyvault.plugin import KeyRing

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

__all__ = ["joined_ring"]

_RING = "sa_keyvault_ring"
_KEY = "SA_KEYVAULT_INSTALLATION_KEY"
_ANCHOR = "SA_KEYVAULT_ANCHOR"
_PASSPHRASE = "SA_KEYVAULT_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable


def joined_ring(context: "MigrationContext") -> KeyRing:
    """Return a ring that has read the key store on the migration's connection, and made what is missing of it.

    A ring of its own: what a migration does in its transaction reaches no other before it is committed.

    Raises:
        sa_keyvault.ConfigurationError: Neither the engine nor the environment has an installation key.
    """
    connection = context.connection
    assert connection is not None  # noqa: S101 - operations that need a ring are refused without one
    if _RING not in context.opts:
        context.opts[_RING] = _ring_for(connection)
    ring: KeyRing = context.opts[_RING]
    # again for every operation: those before it may have changed keys
    ring.join(connection)
    return ring


def _ring_for(connection: Connection) -> KeyRing:
    try:
        found = ring_of(connection.dialect)
    except ConfigurationError:
        return _from_environment(connection)
    return _separate(found) if isinstance(found, KeyRing) else _from_environment(connection)


def _separate(ring: KeyRing) -> KeyRing:
    identity, settings = ring.identity, ring.settings
    with warnings.catch_warnings():
        # the ring that it is taken from has said so
        warnings.simplefilter("ignore", LegacyAlgorithmWarning)
        return KeyRing(
            identity.key,
            identity.policy.provisioning,
            refresh_seconds=settings.refresh_seconds,
            working_keys_per_area=settings.working_keys_per_area,
            usage_limit=settings.usage_limit,
            fips=identity.policy.fips,
            working_key_days=settings.working_key_days,
            master_key_days=settings.master_key_days,
            removal_delay=settings.removal_delay,
            actor=settings.actor,
            anchor=identity.anchor,
            also=identity.others,
        )


def _from_environment(connection: Connection) -> KeyRing:
    location, passphrase = os.environ.get(_KEY), os.environ.get(_PASSPHRASE)
    if location is None or (passphrase is None and not has_own_secret(location)):
        msg = (
            f"this migration needs the installation key; set {_KEY} and {_PASSPHRASE}, "
            'or make the engine in env.py with plugins=["keyvault"] and keyring=…'
        )
        raise ConfigurationError(msg)
    key = installation_key_at(location, passphrase_from_file(Path(passphrase or "")))
    anchor = os.environ.get(_ANCHOR)
    if find_store(connection) is None:
        return KeyRing(key, anchor=anchor)
    return KeyRing(key, sealing_provisioning_of(connection, key), anchor=anchor)
