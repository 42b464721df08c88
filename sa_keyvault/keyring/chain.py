"""The chain of audit events under one operation, and the installation keys that sign it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import KeyRecordError, KeyStateError, KeyStoreError
from sa_keyvault.installation import InstallationKey, is_signed_by, public_key_of, sign_store
from sa_keyvault.keyring.births import Births
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import KeySet
from sa_keyvault.ledger import MEMBERSHIP, Event, InstallationRecord, StoreRecord, chained
from sa_keyvault.records import WorkingRecord

__all__ = ["Chain"]

_logger = logging.getLogger("sa_keyvault")


class Chain:
    """What one operation has noted so far, and who opens the store.

    Args:
        connection: Where the key store is.
        identity: Who changes it.
        reason: Why.
        keys: The keys as they were found.
    """

    def __init__(self, connection: Connection, identity: Identity, reason: str, keys: KeySet) -> None:
        self.connection = connection
        self.identity = identity
        known = store.installations(connection)
        self.installations: dict[str, InstallationRecord] = {
            name: _present(known, name) for name in sorted(keys.members)
        }
        self._public_keys = {name: public_key_of(one) for name, one in self.installations.items()}
        self._record = keys.record
        self._reason = reason
        self._noted: set[str] = set()
        self.births: Births = Births(connection, keys.record, self._is_genuine)

    @property
    def record(self) -> StoreRecord:
        """The store's own record, as the operation found it."""
        return self._record

    @property
    def store_id(self) -> str:
        """The key store."""
        return self._record.store_id

    @property
    def signers(self) -> list[InstallationKey]:
        """The installation keys that the store is signed with."""
        return [key for key in self.identity.signers if key.fingerprint in self.installations]

    def require_all_signers(self, leaving: str) -> None:
        """Refuse what could not be signed for every installation.

        Raises:
            sa_keyvault.KeyStoreError: The key of one of them is not at hand.
        """
        missing = self.installations.keys() - {key.fingerprint for key in self.identity.signers} - {leaving}
        if missing:
            msg = (
                f"the key store is also opened by installation key {min(missing)}, for which nothing can be signed "
                "here; give that key, too, or let it leave the store first"
            )
            raise KeyStoreError(msg)

    def unlink_beyond(self) -> None:
        """Take their numbers from events that nothing was signed with: the next ones need these numbers."""
        if count := store.unlink_beyond(self.connection, self._record.events):
            text = "%d audit events had places that are none of the chain; `sa-keyvault audit verify` tells of them"
            _logger.warning(text, count)

    def note(self, action: str, subject: str) -> None:
        """Write an audit event."""
        event = self.identity.event(self.store_id, action, subject, self._reason)
        self._noted.add(event.id)
        store.add_event(self.connection, event)

    def born(self, records: Sequence[WorkingRecord]) -> list[WorkingRecord]:
        """Return those working keys whose creation an installation key has signed."""
        numbers = self.births.among(record.number for record in records)
        return [record for record in records if record.number in numbers]

    # -- installations -------------------------------------------------------------------------------------------

    def require_new(self, fingerprint: str) -> None:
        """Refuse an installation key that is known already.

        Raises:
            sa_keyvault.KeyStateError: It opens the store, or is invited to.
        """
        if fingerprint in self.installations:
            msg = f"installation key {fingerprint} opens this key store already, or is invited"
            raise KeyStateError(msg)

    def add_installation(self, record: InstallationRecord, action: str) -> None:
        """Let one more installation key open the store."""
        store.delete_installation(self.connection, record.fingerprint)
        store.add_installation(self.connection, record)
        self.installations[record.fingerprint] = record
        self._public_keys[record.fingerprint] = public_key_of(record)
        self.note(action, record.fingerprint)

    def remove_installation(self, fingerprint: str) -> None:
        """Let an installation key open the store no more; its public half stays, for the events that it signed.

        Raises:
            sa_keyvault.KeyStateError: It does not open the store, or it is the one that asks.
        """
        known = self.installations.get(fingerprint)
        if known is None:
            msg = f"installation key {fingerprint} does not open this key store; `sa-keyvault status` lists them"
            raise KeyStateError(msg)
        if fingerprint == self.identity.key.fingerprint:
            msg = f"installation key {fingerprint} cannot let itself leave; give the other one"
            raise KeyStateError(msg)
        store.delete_wraps(self.connection, fingerprint)
        store.replace_installation(self.connection, replace(known, algorithm="", signature=b""))
        self.note("installation-left", fingerprint)
        del self.installations[fingerprint]

    def bind_certificate(self, certificate: bytes) -> None:
        """Keep the certificate of the own installation key in the store; it is written at the end."""
        own = self.identity.key.fingerprint
        self.installations[own] = replace(self.installations[own], certificate=certificate)
        self.note("installation-certified", own)

    # -- the end -------------------------------------------------------------------------------------------------

    def sign(self, digest: str) -> None:
        """Link all events, and sign the store, whose keys and members have *digest*, for every installation."""
        record = self._linked()
        record = replace(record, version=record.version + 1, digest=digest)
        store.replace_store(self.connection, record)
        for key in self.signers:
            store.replace_installation(self.connection, self._signed_store(record, key))

    def _linked(self) -> StoreRecord:
        record, events = self._record, []
        # what others did in passing comes first: the clock of a server that leaves may be ahead
        for event in sorted(store.unlinked_events(self.connection), key=lambda event: event.id in self._noted):
            # an event that somebody else wrote is left for the audit to find
            if self._is_own(event) and self._is_genuine(event):
                record, linked = chained(record, event)
                events.append(linked)
        store.link_events(self.connection, events)
        return record

    def _is_own(self, event: Event) -> bool:
        """Whether an event may be linked now: one of who opens the store is never left over from another operation.

        Else an old one whose place in the chain was taken away would count once more.
        """
        return event.action not in MEMBERSHIP or event.id in self._noted

    def _is_genuine(self, event: Event) -> bool:
        key = self._public_keys.get(event.fingerprint)
        return event.store_id == self.store_id and key is not None and is_signed_by(event, key)

    def _signed_store(self, record: StoreRecord, key: InstallationKey) -> InstallationRecord:
        certificate = self.installations[key.fingerprint].certificate
        return sign_store(record, key, self.identity.policy.provisioning, certificate)


def _present(known: Mapping[str, InstallationRecord], fingerprint: str) -> InstallationRecord:
    if found := known.get(fingerprint):
        return found
    msg = f"the row of installation key {fingerprint}, which opens the key store, was deleted; restore it from a backup"
    raise KeyRecordError(msg)
