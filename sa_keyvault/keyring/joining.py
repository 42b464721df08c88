"""How one more installation key gets to open a store: at once where it is at hand, else by invitation."""

from dataclasses import replace

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import KeyRecordError, KeyStoreError
from sa_keyvault.installation import (
    InstallationKey,
    is_store_signed,
    public_key_of,
    resign_master,
    sign_store,
    verify_invitation,
    wrap_master,
    wrap_master_for,
)
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import Master
from sa_keyvault.keyring.loading import require_store
from sa_keyvault.keyring.operation import Operation
from sa_keyvault.ledger import InstallationRecord
from sa_keyvault.records import MasterRecord, Wrap
from sa_keyvault.states import KeyState

__all__ = ["accept", "admit", "invite"]


def admit(changing: Operation, key: InstallationKey) -> None:
    """Let an installation key that is at hand open the store: it signs for itself.

    Raises:
        sa_keyvault.KeyStateError: It does so already.
    """
    changing.require_new(key.fingerprint)
    provisioning = changing.identity.policy.provisioning

    def wrapped(master: Master) -> Wrap:
        if master.record.state is KeyState.REMOVED:
            return resign_master(master.record, _wiped(changing, master, key.fingerprint), key, provisioning)
        return wrap_master(master.record, changing.opened(master), key, provisioning)

    wraps = [wrapped(master) for master in changing.masters.values()]
    changing.let_in(sign_store(changing.record, key, provisioning), wraps, "installation-joined")


def invite(changing: Operation, record: InstallationRecord, wrapping: str) -> None:
    """Wrap every master key for an installation key that is elsewhere; this one signs until that one accepts.

    Args:
        changing: The operation.
        record: The other key's, without a signature.
        wrapping: How it can unwrap, one of `WRAPPINGS`.

    Raises:
        sa_keyvault.KeyStateError: It opens the store already, or is invited.
    """
    changing.require_new(record.fingerprint)
    own, provisioning = changing.identity.key, changing.identity.policy.provisioning
    public_key = public_key_of(record)

    def wrapped(master: Master) -> Wrap:
        if master.record.state is KeyState.REMOVED:
            return resign_master(master.record, _wiped(changing, master, record.fingerprint), own, provisioning)
        return wrap_master_for(master.record, changing.opened(master), public_key, wrapping, own, provisioning)

    wraps = [wrapped(master) for master in changing.masters.values()]
    changing.let_in(record, wraps, "installation-invited")


def _wiped(changing: Operation, master: Master, fingerprint: str) -> Wrap:
    return replace(changing.own_wrap(master), fingerprint=fingerprint, wrapped=b"")


def accept(connection: Connection, identity: Identity, inviter: InstallationRecord, reason: str) -> None:
    """Sign for oneself what another installation key has signed, which is trusted; the store itself does not change.

    Args:
        connection: Where the key store is; inside `locked`.
        identity: Of the installation key that is invited.
        inviter: Record of the key that has signed store and wraps.
        reason: Why, for the audit event.

    Raises:
        sa_keyvault.KeyRecordError: Store or wrap was not signed by the inviter, or does not open with the own key.
        sa_keyvault.KeyStoreError: A master key has no wrap for the own key.
        sa_keyvault.InstallationKeyError: The own key cannot unwrap or sign so.
    """
    record = require_store(connection)
    if not is_store_signed(record, inviter):
        msg = f"the record of key store {record.store_id} is not signed by installation key {inviter.fingerprint}"
        raise KeyRecordError(msg)
    own, provisioning, trusted = identity.key, identity.policy.provisioning, public_key_of(inviter)
    wraps = {wrap.master_id: wrap for wrap in store.wraps(connection) if wrap.fingerprint == own.fingerprint}

    def signed(master: MasterRecord) -> Wrap:
        wrap = wraps.get(master.id)
        if wrap is None:
            msg = f"master key {master.id} has no wrap for installation key {own.fingerprint}; have it invited again"
            raise KeyStoreError(msg)
        verify_invitation(master, wrap, trusted, provisioning)
        if master.state is not KeyState.REMOVED:
            # that it opens is proved here, and not at the first start
            own.unwrap(wrap.wrapped, wrap.algorithm.partition("+")[0])
        return resign_master(master, wrap, own, provisioning)

    store.replace_wraps(connection, [signed(master) for master in store.masters(connection)])
    store.replace_installation(connection, sign_store(record, own, provisioning))
    store.add_event(connection, identity.event(record.store_id, "installation-accepted", own.fingerprint, reason))
