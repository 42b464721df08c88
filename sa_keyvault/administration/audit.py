"""Verifies the audit events of a key store: an auditor needs no secret for it."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError, KeyRecordError
from sa_keyvault.installation import is_signed_by, is_store_signed, public_key_of
from sa_keyvault.keyring import anchor_problem, require_store
from sa_keyvault.ledger import Event, InstallationRecord, StoreRecord, chained, invited, members, members_after

__all__ = ["AuditReport", "verify_events"]


@dataclass(frozen=True)
class AuditReport:
    """What a verification found.

    Attributes:
        events: How many events there are.
        unlinked: How many of them no operation has linked yet: they were written in passing.
        findings: What is wrong, in words; empty where nothing is.
    """

    events: int
    unlinked: int
    findings: tuple[str, ...]


def verify_events(
    connection: Connection, fingerprints: Collection[str] = (), anchor: str | os.PathLike[str] | None = None
) -> AuditReport:
    """Verify that no event was changed, removed or moved, and that every key has its birth, every birth its key.

    Args:
        connection: Where the key store is; it is only read.
        fingerprints: The installation keys that are trusted; by default all that the key store names.
        anchor: File of a server that remembers the last event it has seen, so that a chain whose end was cut off
            together with the signatures over it is noticed; it is only read.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store.
        sa_keyvault.ConfigurationError: The anchor is not there, cannot be read, or is none.
    """
    record, events = require_store(connection), list(store.events(connection))
    installations = store.installations(connection)
    linked = [event for event in events if event.number is not None and 1 <= event.number <= record.events]
    unlinked = [event for event in events if event.number is None]
    problems = dict(_signatures(record, [*linked, *unlinked], installations))
    sound = [event for event in (*linked, *unlinked) if event.id not in problems]
    findings = [
        *_store_signature(record, installations, fingerprints or members(linked) - invited(sound)),
        *problems.values(),
        *_beyond(record, events),
        *_chain(record, linked),
        *_births(connection, sound),
        *_anchored(record, linked, None if anchor is None else Path(anchor)),
    ]
    return AuditReport(len(events), len(unlinked), tuple(findings))


def _store_signature(
    record: StoreRecord, installations: Mapping[str, InstallationRecord], trusted: Collection[str]
) -> Iterator[str]:
    for fingerprint in sorted(trusted):
        installation = installations.get(fingerprint)
        if installation is not None and not installation.signature:
            yield f"installation key {fingerprint} is invited, and has not joined yet: it has signed nothing"
        elif installation is None or not _is_store_signed(record, installation):
            yield f"the record of the key store is not signed by installation key {fingerprint}"
    if not trusted:
        yield "no installation key opens this key store"


def _is_store_signed(record: StoreRecord, installation: InstallationRecord) -> bool:
    try:
        return is_store_signed(record, installation)
    except KeyRecordError:
        return False


def _signatures(
    record: StoreRecord, events: Sequence[Event], installations: Mapping[str, InstallationRecord]
) -> Iterator[tuple[str, str]]:
    """Verify each event: by a key that was a member at its place in the chain; one in passing, that is one now.

    Yields:
        The id of an event that fails, and what is wrong.
    """
    present: frozenset[str] = frozenset()
    for event in events:
        name = f"event {event.id} ({event.action} of {event.subject})"
        installation = installations.get(event.fingerprint)
        trusted = present
        if event.number is not None:
            present = members_after(event, present)
        if event.number == 1:
            # the first key lets itself in
            trusted = present
        if event.store_id != record.store_id:
            yield event.id, f"{name} is of key store {event.store_id}"
        elif installation is None or event.fingerprint not in trusted:
            yield event.id, f"{name} is signed by installation key {event.fingerprint}, which is not trusted"
        elif not _is_genuine(event, installation):
            yield event.id, f"{name} was changed: its signature does not fit"


def _is_genuine(event: Event, installation: InstallationRecord) -> bool:
    try:
        return is_signed_by(event, public_key_of(installation))
    except KeyRecordError:
        return False


def _beyond(record: StoreRecord, events: Sequence[Event]) -> Iterator[str]:
    for event in events:
        if event.number is not None and not 1 <= event.number <= record.events:
            yield (
                f"event {event.id} ({event.action} of {event.subject}) has number {event.number}, and the key store "
                f"was signed with the numbers 1 to {record.events}: somebody else put it there"
            )


def _chain(record: StoreRecord, linked: Sequence[Event]) -> Iterator[str]:
    chain = replace(record, events=0, head="")
    for event in linked:
        if event.number != chain.events + 1:
            yield f"the events between number {chain.events} and {event.number} are missing or were moved"
            chain = replace(chain, events=(event.number or 0) - 1)
        chain, expected = chained(chain, event)
        if expected.link != event.link:
            yield f"event number {event.number} was changed or moved: its link does not fit"
            chain = replace(chain, head=event.link)
    if (chain.events, chain.head) != (record.events, record.head):
        yield f"the chain ends with event number {chain.events}, the key store was signed with {record.events}"


def _anchored(record: StoreRecord, linked: Sequence[Event], anchor: Path | None) -> Iterator[str]:
    if anchor is None:
        return
    if not anchor.exists():
        msg = f"the anchor {anchor} is not there; start a server with it, or name another one"
        raise ConfigurationError(msg)
    if problem := anchor_problem(anchor, record, {event.number: event.link for event in linked}.get):
        yield f"the key store {problem}"


def _births(connection: Connection, events: Sequence[Event]) -> Iterator[str]:
    born = {event.subject for event in events if event.action in ("master-key-created", "working-key-created")}
    for master in store.masters(connection):
        if master.id not in born:
            yield f"master key {master.id} has no event of its creation"
    present = set()
    for working in store.working(connection):
        present.add(str(working.number))
        if str(working.number) not in born:
            yield f"working key {working.number} of area {working.area!r} has no event of its creation"
    for event in events:
        if event.action == "working-key-created" and event.subject not in present:
            yield f"working key {event.subject} was made ({event.reason}), and its row is gone"
