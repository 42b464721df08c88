"""Moves the keys of a store to another provisioning; no row of the application is touched."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import KeyStateError
from sa_keyvault.installation import SIGNATURES, InstallationKey, resign_master, wrap_master
from sa_keyvault.keyring import KeySet, Master, Policy, load_keys, reserve, state_of
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import WorkingRecord, master_with_state, next_master, rewrapped, working_with_state
from sa_keyvault.states import KeyState
from sa_keyvault.suites import Provisioning

__all__ = ["Provisioned", "provision"]


@dataclass(frozen=True)
class Provisioned:
    """What a change of provisioning did.

    Attributes:
        signed: Master keys that were signed anew.
        masters_made: New master keys.
        rewrapped: How many working keys were wrapped by another master key.
        masters_retired: Master keys of another suite, which wrap nothing any more.
        retired: Numbers of the working keys of another suite; what they sealed opens, and is to be re-encrypted.
    """

    signed: tuple[str, ...]
    masters_made: tuple[str, ...]
    rewrapped: int
    masters_retired: tuple[str, ...]
    retired: tuple[int, ...]


def provision(connection: Connection, ring: KeyRing) -> Provisioned:
    """Move the keys of a store to the provisioning of *ring*.

    In this order, in the connection's transaction: every master key that is signed by another algorithm is signed
    anew; every active master key of another suite is followed by one of its lineage, which wraps its working keys,
    and is retired; every active working key of another suite is retired. New working keys are made when they are
    needed. Every value opens before and afterwards.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the store's installation, provisioned as the store shall be; it need not be initialized.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library.
        sa_keyvault.KeyStateError: No master key is active.
    """
    with store.locked(connection):
        state_of(connection).has_changed_keys = True
        # what is to be left must be read first
        accepting = Policy(replace(ring.policy.provisioning, hash="sha1"), "off")
        keys = load_keys(connection, ring.installation_key, accepting)
        if not any(master.record.state is KeyState.ACTIVE for master in keys.masters()):
            msg = "no master key is active, so nothing can be moved; enable one first"
            raise KeyStateError(msg)
        move = _Move(connection, ring.installation_key, ring.policy.provisioning, keys)
        return Provisioned(
            signed=move.sign_anew(),
            masters_made=move.make_masters(),
            rewrapped=move.rewrap(),
            masters_retired=move.retire_masters(),
            retired=move.retire_working(),
        )


class _Move:
    """One change of provisioning on its way.

    Args:
        connection: Where the key store is.
        key: The installation key.
        provisioning: What is moved to.
        keys: The keys as they were found.
    """

    def __init__(self, connection: Connection, key: InstallationKey, provisioning: Provisioning, keys: KeySet) -> None:
        self._connection = connection
        self._key = key
        self._provisioning = provisioning
        self._masters = {master.record.id: master for master in keys.masters()}
        self._working = {record.number: record for record in keys.working()}
        wraps = store.wraps(connection)
        self._wraps = {wrap.master_id: wrap for wrap in wraps if wrap.fingerprint == key.fingerprint}
        self._successors: dict[str, Master] = {}

    def sign_anew(self) -> tuple[str, ...]:
        """Sign every master key that is signed by another algorithm; return their ids."""
        ending = "+" + SIGNATURES[self._provisioning.hash]
        others = [wrap for wrap in self._wraps.values() if not wrap.algorithm.endswith(ending)]
        for wrap in others:
            record = self._masters[wrap.master_id].record
            store.replace_master(self._connection, record, resign_master(record, wrap, self._key, self._provisioning))
        return tuple(wrap.master_id for wrap in others)

    def make_masters(self) -> tuple[str, ...]:
        """Find or make the master key that wraps the working keys of each lineage; return the ids of the new ones."""
        made = []
        for master in list(self._masters.values()):
            lineage = master.record.lineage
            if master.record.state is not KeyState.ACTIVE or lineage in self._successors:
                continue
            successor = self._active_master(lineage)
            if successor is None:
                successor = self._make_master(master)
                made.append(successor.record.id)
            self._successors[lineage] = successor
        return tuple(made)

    def _active_master(self, lineage: str) -> Master | None:
        suite = self._provisioning.master_suite.name
        for master in self._masters.values():
            record = master.record
            if (record.lineage, record.suite, record.state) == (lineage, suite, KeyState.ACTIVE):
                return master
        return None

    def _make_master(self, former: Master) -> Master:
        record, secret = next_master(former.record, former.require_secret(), self._provisioning.master_suite)
        store.add_master(self._connection, record, wrap_master(record, secret, self._key, self._provisioning))
        self._masters[record.id] = Master(record, secret)
        return self._masters[record.id]

    def rewrap(self) -> int:
        """Wrap the working keys of every master key that is left by its successor; return how many."""
        count = 0
        for master in list(self._masters.values()):
            if not self._is_left(master):
                continue
            successor = self._successors[master.record.lineage]
            former, secret = master.require_secret(), successor.require_secret()
            below = [record for record in self._working.values() if record.master_id == master.record.id]
            self._write(successor, [rewrapped(record, former, successor.record, secret) for record in below])
            count += len(below)
        return count

    def _is_left(self, master: Master) -> bool:
        """Whether a master key, which may open, wraps nothing any more: it is retired, or of another suite."""
        if master.secret is None or master.record.lineage not in self._successors:
            return False
        is_other = master.record.suite != self._provisioning.master_suite.name
        return is_other or master.record.state is KeyState.RETIRED

    def retire_masters(self) -> tuple[str, ...]:
        """Retire every active master key that is left; return their ids."""
        left = [master.record for master in self._masters.values() if self._is_left(master)]
        active = [record for record in left if record.state is KeyState.ACTIVE]
        for record in active:
            retired = master_with_state(record, KeyState.RETIRED)
            wrap = resign_master(retired, self._wraps[record.id], self._key, self._provisioning)
            store.replace_master(self._connection, retired, wrap)
        return tuple(record.id for record in active)

    def retire_working(self) -> tuple[int, ...]:
        """Retire every active working key of another suite; return their numbers."""
        suite = self._provisioning.working_suite.name
        retired = []
        for master in self._masters.values():
            others = [
                record
                for record in self._working.values()
                if (record.master_id, record.state) == (master.record.id, KeyState.ACTIVE) and record.suite != suite
            ]
            if master.secret is None or not others:
                continue
            secret = master.secret
            self._write(master, [working_with_state(record, secret, KeyState.RETIRED) for record in others])
            retired += [record.number for record in others]
        return tuple(retired)

    def _write(self, master: Master, records: Sequence[WorkingRecord]) -> None:
        """Write working keys that *master* has wrapped anew, and count that."""
        suite = master.require_secret().suite
        # what is wrapped is never larger than its wrap
        wanted = sum(suite.usage(len(record.wrapped)) for record in records)
        if reserve(self._connection, master.record.id, wanted, suite.usage_limit // 2) < wanted:
            msg = (
                f"master key {master.record.id} of {suite.name} may not wrap {len(records)} more working keys; "
                "choose master='aes'"
            )
            raise KeyStateError(msg)
        store.replace_working(self._connection, records)
        self._working |= {record.number: record for record in records}
