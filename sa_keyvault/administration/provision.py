"""Moves the keys of a store to another provisioning; no row of the application is touched."""

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.administration.provisioned import claimed_hash
from sa_keyvault.installation import SIGNATURES
from sa_keyvault.keyring import Master, Operation, Policy, genuine, operation
from sa_keyvault.plugin import KeyRing
from sa_keyvault.states import KeyState
from sa_keyvault.suites import LEGACY_SUITES, Provisioning

__all__ = ["Provisioned", "provision"]


@dataclass(frozen=True)
class Provisioned:
    """What a change of provisioning did.

    Attributes:
        signed: Master keys that were signed anew.
        masters_made: New master keys.
        rewrapped: How many working keys were wrapped by another master key.
        masters_retired: Master keys of another suite, which wrap nothing any more.
        retired: Numbers of the working keys of another suite, and of those that a 3DES master key has wrapped; what
            they sealed opens, and is to be re-encrypted.
    """

    signed: tuple[str, ...]
    masters_made: tuple[str, ...]
    rewrapped: int
    masters_retired: tuple[str, ...]
    retired: tuple[int, ...]


def provision(connection: Connection, ring: KeyRing, reason: str = "") -> Provisioned:
    """Move the keys of a store to the provisioning of *ring*.

    In this order, in the connection's transaction: every master key that is signed by another algorithm is signed
    anew; every active master key of another suite is followed by one of its lineage, which wraps its working keys,
    and is retired; every active working key is retired that is of another suite, or that 3DES has wrapped where AES
    follows it. New working keys are made when they are needed. Every value opens before and afterwards.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the store's installation, provisioned as the store shall be; it need not be initialized.
        reason: Why, for the audit events.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library.
        sa_keyvault.KeyStateError: No master key is active.
    """
    provisioning = ring.identity.policy.provisioning
    with (
        store.locked(connection),
        operation(connection, ring.identity, reason, _accepting(connection, ring)) as changing,
    ):
        changing.active_masters()
        signed = _sign_anew(changing, provisioning)
        successors, made = _successors(changing, provisioning)
        left = [master for master in changing.masters.values() if _is_left(master, successors, provisioning)]
        weakened = _weakened(changing, left, provisioning)
        rewrapped = sum(
            changing.rewrap(changing.under(master), master, successors[master.record.lineage]).wrapped
            for master in left
        )
        return Provisioned(
            signed=signed,
            masters_made=made,
            rewrapped=rewrapped,
            masters_retired=_retire_masters(changing, left),
            retired=_retire_working(changing, provisioning, weakened),
        )


def _accepting(connection: Connection, ring: KeyRing) -> Policy:
    """Return what is read, that is what is to be left, too.

    But SHA-1 only where the store itself is still signed with it, so that nobody can bring in an old, or forged, SHA-1
    signature once it has been left.
    """
    former = claimed_hash(connection, ring.installation_key.fingerprint)
    return Policy(replace(ring.identity.policy.provisioning, hash=former), "off")


def _sign_anew(changing: Operation, provisioning: Provisioning) -> tuple[str, ...]:
    ending = "+" + SIGNATURES[provisioning.hash]
    others = [
        master
        for master in changing.masters.values()
        if not all(algorithm.endswith(ending) for algorithm in changing.algorithms_of(master))
    ]
    for master in others:
        changing.sign_anew(master)
    return tuple(master.record.id for master in others)


def _successors(changing: Operation, provisioning: Provisioning) -> tuple[dict[str, Master], tuple[str, ...]]:
    """Return the master key that wraps the working keys of each active lineage, and the ids of those made for it."""
    successors: dict[str, Master] = {}
    made = []
    active = changing.active_masters()
    suite = provisioning.master_suite
    used = store.total_usage(changing.connection)
    # of several the one that is the least worn
    for master in sorted(active, key=lambda one: (one.record.suite != suite.name, used.get(one.record.id, 0))):
        lineage = master.record.lineage
        if lineage not in successors:
            is_provisioned = master.record.suite == suite.name
            successors[lineage] = master if is_provisioned else changing.follow_master(master, suite)
            made += [] if is_provisioned else [successors[lineage].record.id]
    return successors, tuple(made)


def _is_left(master: Master, successors: dict[str, Master], provisioning: Provisioning) -> bool:
    """Whether a master key, which may open, wraps nothing any more: it is retired, or of another suite."""
    if master.secret is None or master.record.lineage not in successors:
        return False
    is_other = master.record.suite != provisioning.master_suite.name
    return is_other or master.record.state is KeyState.RETIRED


def _retire_masters(changing: Operation, left: list[Master]) -> tuple[str, ...]:
    active = [master for master in left if master.record.state is KeyState.ACTIVE]
    for master in active:
        changing.move_master(master, KeyState.RETIRED, "master-key-retired")
    return tuple(master.record.id for master in active)


def _weakened(changing: Operation, left: list[Master], provisioning: Provisioning) -> frozenset[int]:
    """Return the working keys that 3DES has wrapped until now, where it is left: a backup has them wrapped so."""
    if provisioning.master_suite.name in LEGACY_SUITES:
        return frozenset()
    weak = [master for master in left if master.record.suite in LEGACY_SUITES]
    return frozenset(record.number for master in weak for record in changing.under(master))


def _retire_working(changing: Operation, provisioning: Provisioning, weakened: frozenset[int]) -> tuple[int, ...]:
    suite = provisioning.working_suite.name
    others = [
        record
        for record in changing.working.values()
        if record.state is KeyState.ACTIVE
        and (record.suite != suite or record.number in weakened)
        and _is_at_hand(changing.masters.get(record.master_id))
    ]
    found = genuine(changing, others)
    changing.move_working(found, KeyState.RETIRED, "working-key-retired")
    return tuple(record.number for record in found)


def _is_at_hand(master: Master | None) -> bool:
    # an unknown one is no reason to pass over a working key: its row was altered, or nobody has made it
    return master is None or master.secret is not None
