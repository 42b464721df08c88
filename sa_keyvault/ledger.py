"""The store's own record, its installations and its audit events: their fields, and the bytes that are signed."""

import secrets
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from sa_keyvault.binding import length_prefixed
from sa_keyvault.records import MasterRecord, WorkingRecord, timestamp
from sa_keyvault.states import KeyState
from sa_keyvault.suites import sha256_hex

__all__ = [
    "MEMBERSHIP",
    "Event",
    "InstallationRecord",
    "StateMark",
    "StoreRecord",
    "chained",
    "inactive_states",
    "members",
    "members_after",
    "new_event",
    "reason_of_birth",
    "store_digest",
]


@dataclass(frozen=True)
class StoreRecord:
    """What a whole key store is signed by: the state that it was left in by the last operation.

    Attributes:
        store_id: 32 hex digits.
        version: Number of operations so far, from 1.
        digest: `store_digest` of the keys, and of who opens them.
        events: How many audit events are linked.
        head: Link of the last of them, empty where there is none.
    """

    store_id: str
    version: int
    digest: str
    events: int
    head: str

    def signed_bytes(self, fingerprint: str, algorithm: str) -> bytes:
        """Return what each installation key signs."""
        return b"sa_keyvault/store/1\0" + length_prefixed(
            self.store_id.encode(),
            b"%d" % self.version,
            self.digest.encode(),
            b"%d" % self.events,
            self.head.encode(),
            fingerprint.encode(),
            algorithm.encode(),
        )


class StateMark(NamedTuple):
    """The state of a working key, as the store's digest has it.

    Attributes:
        state: Its state.
        epoch: How many changes of state led to it.
    """

    state: KeyState
    epoch: int


@dataclass(frozen=True)
class InstallationRecord:
    """An installation key that may open the store.

    Attributes:
        fingerprint: SHA-256 of its SubjectPublicKeyInfo, 64 hex digits.
        public_key: Its SubjectPublicKeyInfo, DER.
        certificate: The certificate that was issued for it, with its chain, PEM; empty where there is none.
        algorithm: How the store's record is signed.
        signature: Over the store's record.
    """

    fingerprint: str
    public_key: bytes
    certificate: bytes
    algorithm: str
    signature: bytes


@dataclass(frozen=True)
class Event:
    """One thing that happened to a key.

    Attributes:
        id: 32 hex digits: nanoseconds since 1970, then 64 random bits.
        store_id: Key store that it happened in.
        created: UTC, ISO 8601.
        actor: Who did it.
        action: What was done.
        subject: Id, number or fingerprint of the key.
        reason: Why, in the actor's words.
        fingerprint: Installation key that signed it.
        algorithm: How it is signed.
        signature: Over the fields above.
        number: Place in the chain, from 1; None until an operation links it.
        link: Hash over this event and the link before, 64 hex digits; empty until then.
    """

    id: str
    store_id: str
    created: str
    actor: str
    action: str
    subject: str
    reason: str
    fingerprint: str
    algorithm: str
    signature: bytes
    number: int | None
    link: str

    def signed_bytes(self) -> bytes:
        """Return what the installation key signs."""
        return b"sa_keyvault/event/1\0" + length_prefixed(
            self.id.encode(),
            self.store_id.encode(),
            self.created.encode(),
            self.actor.encode(),
            self.action.encode(),
            self.subject.encode(),
            self.reason.encode(),
            self.fingerprint.encode(),
            self.algorithm.encode(),
        )


def new_event(
    store_id: str, actor: str, action: str, subject: str, reason: str, fingerprint: str, algorithm: str
) -> Event:
    """Return an event of now that is neither signed nor linked."""
    return Event(
        # the time comes first, so that events of one second keep their order
        id=f"{time.time_ns():016x}{secrets.token_hex(8)}",
        store_id=store_id,
        created=timestamp(),
        actor=actor,
        action=action,
        subject=subject,
        reason=reason,
        fingerprint=fingerprint,
        algorithm=algorithm,
        signature=b"",
        number=None,
        link="",
    )


def reason_of_birth(area: str) -> str:
    """Return the reason of the event that a working key is made: it tells the area, which the row alone could hide."""
    return f"for area {area}"


def members(events: Iterable[Event]) -> frozenset[str]:
    """Return the fingerprints of the installation keys that open a store, by its linked events in their order.

    The rows alone prove nothing: that it is these keys is in the store's digest.
    """
    found: frozenset[str] = frozenset()
    for event in events:
        found = members_after(event, found)
    return found


def members_after(event: Event, before: frozenset[str]) -> frozenset[str]:
    """Return the fingerprints of the installation keys that open a store after one of its linked events."""
    if event.action == "store-created" and event.number == 1:
        return before | {event.fingerprint}
    if event.action in ("installation-joined", "installation-invited"):
        return before | {event.subject}
    if event.action == "installation-left":
        return before - {event.subject}
    return before


def invited(events: Iterable[Event]) -> set[str]:
    """Return the fingerprints of members that were invited and have not accepted yet, by events in their order."""
    found: set[str] = set()
    for event in events:
        if event.action == "installation-invited":
            found.add(event.subject)
        elif event.action in ("installation-joined", "installation-left"):
            found.discard(event.subject)
        elif event.action == "installation-accepted":
            found.discard(event.fingerprint)
    return found


MEMBERSHIP = ("store-created", "installation-joined", "installation-invited", "installation-left")
"""Actions that `members` looks at."""


def chained(record: StoreRecord, event: Event) -> tuple[StoreRecord, Event]:
    """Link *event* behind the last one of a store; return both changed."""
    number = record.events + 1
    content = length_prefixed(b"%d" % number, record.head.encode(), event.signed_bytes(), event.signature)
    link = sha256_hex(b"sa_keyvault/event-link/1\0" + content)
    return replace(record, events=number, head=link), replace(event, number=number, link=link)


def inactive_states(records: Iterable[WorkingRecord]) -> dict[int, StateMark]:
    """Return the states of those working keys that are not active, by number."""
    return {one.number: StateMark(one.state, one.epoch) for one in records if one.state is not KeyState.ACTIVE}


def store_digest(
    masters: Iterable[MasterRecord], inactive: Mapping[int, StateMark], installations: Iterable[str]
) -> str:
    """Return a digest of the states of all masters, of the working keys that are not active, and of the members.

    Active working keys are left out because they are made in passing, without the store's lock; each other state is
    reached by an operation. So an older record that is put back, with whatever valid signature, is noticed.

    Args:
        masters: All master keys.
        inactive: States of all working keys that are not active, by number.
        installations: Fingerprints of all members.
    """
    numbers: defaultdict[StateMark, list[str]] = defaultdict(list)
    for number, mark in inactive.items():
        numbers[mark].append(str(number))
    entries: list[tuple[str, ...]] = sorted(("master", one.id, one.state, str(one.epoch)) for one in masters)
    entries += sorted(
        ("working", mark.state, str(mark.epoch), ",".join(sorted(group))) for mark, group in numbers.items()
    )
    entries += sorted(("installation", fingerprint) for fingerprint in installations)
    fields = (part.encode() for entry in entries for part in entry)
    return sha256_hex(b"sa_keyvault/keys/1\0" + length_prefixed(*fields))
