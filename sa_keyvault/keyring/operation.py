"""One administrative operation: keys change under the store's lock, leave events, and are signed for everybody."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError, KeyRecordError, KeyStateError, KeyStoreError
from sa_keyvault.installation import (
    InstallationKey,
    resign_master,
    unwrap_master,
    verify_invitation,
    verify_master,
    wrap_master,
)
from sa_keyvault.keyring.chain import Chain
from sa_keyvault.keyring.identity import Identity
from sa_keyvault.keyring.keys import KeySet, Master
from sa_keyvault.keyring.loading import load_keys
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.keyring.transaction import state_of
from sa_keyvault.keyring.usage import reserve
from sa_keyvault.keyring.wording import require_one_line
from sa_keyvault.ledger import (
    InstallationRecord,
    inactive_states,
    store_digest,
)
from sa_keyvault.records import (
    MasterRecord,
    MasterSecret,
    WorkingRecord,
    Wrap,
    master_with_state,
    next_master,
    rewrapped,
    working_with_state,
)
from sa_keyvault.states import KeyState
from sa_keyvault.suites import Provisioning, Suite

__all__ = ["Operation", "Rewrapped", "operation", "require_reason"]

_logger = logging.getLogger("sa_keyvault")
_MAX_REASON = 1024  # characters, the width of the column `reason`


@contextmanager
def operation(
    connection: Connection,
    identity: Identity,
    reason: str = "",
    accepting: Policy | None = None,
    leaving: str = "",
) -> Iterator["Operation"]:
    """Change keys inside the block, in the connection's transaction; the caller commits.

    Args:
        connection: Where the key store is.
        identity: Who changes them.
        reason: Why, for the audit events.
        accepting: What is read, where it is more than what is made.
        leaving: Fingerprint of an installation key that nothing needs to be signed for any more.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, it is another installation's, or other installations open
            it, too, whose keys are not at hand to sign.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library, or put back.
        sa_keyvault.ConfigurationError: The reason is too long, or has control characters.
    """
    require_reason(reason)
    # the savepoint: whoever catches an error and commits all the same must not commit half an operation
    with store.locked(connection), connection.begin_nested():
        state_of(connection).has_changed_keys = True
        keys = load_keys(connection, replace(identity, policy=accepting or identity.policy))
        changing = Operation(connection, identity, reason, keys)
        changing.require_all_signers(leaving)
        changing.require_genuine_wraps((accepting or identity.policy).provisioning, leaving)
        changing.unlink_beyond()
        yield changing
        changing.finish()


def require_reason(reason: str) -> None:
    """Refuse a reason that no audit event has room for, or that is no line of text.

    Raises:
        sa_keyvault.ConfigurationError: It is too long, or has control characters.
    """
    require_one_line("reason", reason)
    if len(reason) > _MAX_REASON:
        msg = f"the reason has {len(reason)} characters, and an audit event has room for {_MAX_REASON}; shorten it"
        raise ConfigurationError(msg)


class Rewrapped(NamedTuple):
    """What became of the working keys of a master key.

    Attributes:
        wrapped: How many another master key wraps now.
        left: Numbers of those that stay, because no installation key has signed that it made them.
    """

    wrapped: int
    left: tuple[int, ...]


class Operation(Chain):
    """What one operation has changed so far: the keys, beside the chain that it notes it in; made of the same."""

    def __init__(self, connection: Connection, identity: Identity, reason: str, keys: KeySet) -> None:
        super().__init__(connection, identity, reason, keys)
        self.masters: dict[str, Master] = {master.record.id: master for master in keys.masters()}
        self.working: dict[int, WorkingRecord] = {record.number: record for record in keys.working()}
        self._wraps = {(wrap.master_id, wrap.fingerprint): wrap for wrap in store.wraps(connection)}

    def require_genuine_wraps(self, provisioning: Provisioning, leaving: str) -> None:
        """Refuse to sign for another installation key what it has not signed before; the own wraps were verified.

        Else whoever can write to the database could have a master key of his own signed for it.

        Raises:
            sa_keyvault.KeyStoreError: A wrap was deleted.
            sa_keyvault.KeyRecordError: A wrap was changed outside the library.
            sa_keyvault.ConfigurationError: One is signed with SHA-1 where SHA-256 is provisioned.
        """
        others = [key for key in self.signers if key.fingerprint not in (self.identity.key.fingerprint, leaving)]
        for key in others:
            for master in self.masters.values():
                self._require_genuine(master.record, self._wrap_for(master, key), key, provisioning)

    def _require_genuine(
        self, record: MasterRecord, wrap: Wrap, key: InstallationKey, provisioning: Provisioning
    ) -> None:
        try:
            verify_master(record, wrap, key, provisioning)
        except KeyRecordError:
            if self.installations[key.fingerprint].signature:
                raise
            # the wraps of a key that is invited were signed by the one that invited it
            verify_invitation(record, wrap, self.identity.key.public_key, provisioning)

    def _wrap_for(self, master: Master, key: InstallationKey) -> Wrap:
        if wrap := self._wraps.get((master.record.id, key.fingerprint)):
            return wrap
        msg = f"master key {master.record.id} has no wrap for installation key {key.fingerprint}; restore a backup"
        raise KeyStoreError(msg)

    # -- master keys ---------------------------------------------------------------------------------------------

    def master(self, master_id: str) -> Master:
        """Return a master key.

        Raises:
            sa_keyvault.KeyStateError: There is none of that id.
        """
        if found := self.masters.get(master_id):
            return found
        msg = f"the key store has no master key {master_id!r}; `sa-keyvault status` lists them"
        raise KeyStateError(msg)

    def active_masters(self) -> list[Master]:
        """Return the active master keys, the newest first.

        Raises:
            sa_keyvault.KeyStateError: None is active.
        """
        active = [master for master in self.masters.values() if master.record.state is KeyState.ACTIVE]
        if not active:
            msg = "no master key is active, so nothing can be moved under one; enable one, or rotate a retired one"
            raise KeyStateError(msg)
        return sorted(active, key=lambda master: (master.record.created, master.record.id), reverse=True)

    def add_master(self, record: MasterRecord, secret: MasterSecret) -> Master:
        """Write a new master key, wrapped for every installation."""
        provisioning = self.identity.policy.provisioning
        wraps = [wrap_master(record, secret, key, provisioning) for key in self.signers]
        store.add_master(self.connection, record)
        store.add_wraps(self.connection, wraps)
        self._wraps |= {(wrap.master_id, wrap.fingerprint): wrap for wrap in wraps}
        self.masters[record.id] = Master(record, secret)
        self.note("master-key-created", record.id)
        return self.masters[record.id]

    @staticmethod
    def _require_accepted(master: Master) -> None:
        if master.refusal is not None:
            raise ConfigurationError(master.refusal)

    def follow_master(self, former: Master, suite: Suite) -> Master:
        """Make a master key of the same lineage."""
        return self.add_master(*next_master(former.record, former.require_secret(), suite))

    def move_master(self, master: Master, state: KeyState, action: str) -> Master:
        """Put a master key into another state; its wraps are signed anew, and wiped where it is removed.

        Raises:
            sa_keyvault.KeyStateError: There is no such transition.
        """
        self._require_accepted(master)
        record = master_with_state(master.record, state)
        store.replace_master(self.connection, record)
        self._sign(record, is_wiped=state is KeyState.REMOVED)
        self.masters[record.id] = Master(record, master.secret if state.may_open else None)
        self.note(action, record.id)
        return self.masters[record.id]

    def sign_anew(self, master: Master) -> None:
        """Sign a master key by the algorithm that is provisioned.

        Raises:
            sa_keyvault.ConfigurationError: It is none that is accepted.
        """
        self._require_accepted(master)
        self._sign(master.record, is_wiped=False)
        self.note("master-key-signed", master.record.id)

    def algorithms_of(self, master: Master) -> set[str]:
        """Return how a master key is wrapped and signed for the installations that the store is signed for here."""
        return {self._wrap_for(master, key).algorithm for key in self.signers}

    def _sign(self, record: MasterRecord, *, is_wiped: bool) -> None:
        signed = [self._signed(record, key, is_wiped=is_wiped) for key in self.signers]
        store.replace_wraps(self.connection, signed)
        self._wraps |= {(wrap.master_id, wrap.fingerprint): wrap for wrap in signed}

    def _signed(self, record: MasterRecord, key: InstallationKey, *, is_wiped: bool) -> Wrap:
        wrap = self._wraps[record.id, key.fingerprint]
        if is_wiped:
            wrap = replace(wrap, wrapped=b"")
        return resign_master(record, wrap, key, self.identity.policy.provisioning)

    # -- working keys --------------------------------------------------------------------------------------------

    def working_key(self, number: int) -> WorkingRecord:
        """Return a working key.

        Raises:
            sa_keyvault.KeyStateError: There is none of that number.
        """
        if found := self.working.get(number):
            return found
        msg = f"the key store has no working key {number}; `sa-keyvault status` lists them"
        raise KeyStateError(msg, key_number=number)

    def under(self, master: Master) -> list[WorkingRecord]:
        """Return the working keys that a master key wraps."""
        return [record for record in self.working.values() if record.master_id == master.record.id]

    def rewrap(self, records: Sequence[WorkingRecord], former: Master, successor: Master) -> Rewrapped:
        """Wrap working keys of a master key by another of its lineage.

        A key without a birth, which somebody who knows the former master key has made, is left where it is.

        Raises:
            sa_keyvault.KeyRecordError: The record of a key was changed outside the library.
        """
        old, new = former.require_secret(), successor.require_secret()
        born = self.born(records)
        self._write(successor, [rewrapped(record, old, successor.record, new) for record in born])
        left = {record.number for record in records} - {record.number for record in born}
        if left:
            _logger.warning(
                "%d working keys (%d the first) stay under master key %s: no installation key has signed that it made "
                "them; `sa-keyvault audit verify` names them",
                len(left),
                min(left),
                former.record.id,
            )
        return Rewrapped(len(born), tuple(sorted(left)))

    def move_working(self, records: Sequence[WorkingRecord], state: KeyState, action: str) -> None:
        """Put working keys into another state; the secret is wiped where they are removed.

        Raises:
            sa_keyvault.KeyStateError: There is no such transition.
        """
        for master in list(self.masters.values()):
            own = [record for record in records if record.master_id == master.record.id]
            if own:
                secret = master.require_secret()
                self._write(master, [working_with_state(record, secret, state) for record in own])
        for record in records:
            self.note(action, str(record.number))

    def _write(self, master: Master, records: Sequence[WorkingRecord]) -> None:
        """Write working keys that *master* has wrapped anew, and count that."""
        suite = master.require_secret().suite
        # what is wrapped is never larger than its wrap
        wanted = sum(suite.usage(len(record.wrapped)) for record in records)
        if reserve(self.connection, master.record.id, wanted, suite.usage_limit // 2) < wanted:
            msg = (
                f"master key {master.record.id} of {suite.name} may not wrap {len(records)} more working keys; "
                "rotate it first, or move the installation to AES (`sa-keyvault provision`)"
            )
            raise KeyStateError(msg)
        store.replace_working(self.connection, records)
        self.working |= {record.number: record for record in records}

    # -- installations -------------------------------------------------------------------------------------------

    def let_in(self, record: InstallationRecord, wraps: Sequence[Wrap], action: str) -> None:
        """Let one more installation key open the store, for which every master key is wrapped."""
        # rows of the key from before it left, or that somebody put there
        store.delete_wraps(self.connection, record.fingerprint)
        self.add_installation(record, action)
        store.add_wraps(self.connection, wraps)
        self._wraps |= {(wrap.master_id, wrap.fingerprint): wrap for wrap in wraps}

    def own_wrap(self, master: Master) -> Wrap:
        """Return the wrap of a master key for this installation."""
        return self._wraps[master.record.id, self.identity.key.fingerprint]

    def opened(self, master: Master) -> MasterSecret:
        """Return the secret of a master key, of a disabled one, too.

        Raises:
            sa_keyvault.ConfigurationError: It is none that is accepted.
        """
        self._require_accepted(master)
        return unwrap_master(master.record, self.own_wrap(master), self.identity.key, self.identity.policy.provisioning)

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Link all events, and sign the store as it stands now, for every installation."""
        masters = [master.record for master in self.masters.values()]
        self.sign(store_digest(masters, inactive_states(self.working.values()), self.installations))
