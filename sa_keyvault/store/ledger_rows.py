"""The store's own record, the installations that may open it, and its audit events."""

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from sa_keyvault.errors import KeyRecordError
from sa_keyvault.ledger import MEMBERSHIP, Event, InstallationRecord, StoreRecord
from sa_keyvault.store.access import execute, values_of
from sa_keyvault.store.reading import records
from sa_keyvault.store.schema import event_table, installation_table, store_table

__all__ = [
    "add_event",
    "add_installation",
    "add_store",
    "births",
    "born_for",
    "delete_installation",
    "events",
    "installations",
    "link_events",
    "link_of",
    "linked_events",
    "membership_events",
    "replace_installation",
    "replace_store",
    "store_record",
    "unlink_beyond",
    "unlinked_events",
]

_PORTION = 10_000  # numbers in one statement: databases and drivers have a limit of parameters
_IS_BIRTH = event_table.c.action == "working-key-created"
_FIELDS = ("store_id", "version", "digest", "events", "head")


def store_record(connection: Connection) -> StoreRecord | None:
    """Return the store's own record, or None where the key store has never been initialized."""
    row = select(*(store_table.c[name] for name in _FIELDS))
    found = list(records(StoreRecord, store_table, execute(connection, row)))
    if len(found) > 1:
        msg = (
            f"{store_table.name} has {len(found)} rows, and the library writes one; restore the key store from a backup"
        )
        raise KeyRecordError(msg)
    return found[0] if found else None


def add_store(connection: Connection, record: StoreRecord) -> None:
    """Write the one row that names the store."""
    execute(connection, insert(store_table).values(id=1, **values_of(record)))


def replace_store(connection: Connection, record: StoreRecord) -> None:
    """Write the store's changed record, which tells every process that keys have changed; inside `locked`."""
    execute(connection, update(store_table).values(values_of(record)))


def installations(connection: Connection) -> dict[str, InstallationRecord]:
    """Return the installations that may open the store, by fingerprint."""
    found = records(InstallationRecord, installation_table, execute(connection, select(installation_table)))
    return {one.fingerprint: one for one in found}


def add_installation(connection: Connection, record: InstallationRecord) -> None:
    """Write a new installation."""
    execute(connection, insert(installation_table).values(values_of(record)))


def replace_installation(connection: Connection, record: InstallationRecord) -> None:
    """Write the changed signature, or certificate, of an installation; inside `locked`."""
    same = installation_table.c.fingerprint == record.fingerprint
    execute(connection, update(installation_table).where(same).values(values_of(record)))


def delete_installation(connection: Connection, fingerprint: str) -> None:
    """Delete an installation; inside `locked`."""
    execute(connection, delete(installation_table).where(installation_table.c.fingerprint == fingerprint))


def add_event(connection: Connection, event: Event) -> None:
    """Write an event that is not linked yet."""
    execute(connection, insert(event_table).values(values_of(event)))


def unlinked_events(connection: Connection) -> list[Event]:
    """Return the events that no operation has linked yet, the oldest first."""
    statement = (
        select(event_table).where(event_table.c.number.is_(None)).order_by(event_table.c.created, event_table.c.id)
    )
    return list(records(Event, event_table, execute(connection, statement)))


def link_events(connection: Connection, events: Sequence[Event]) -> None:
    """Write number and link of events; inside `locked`."""
    statement = (
        update(event_table)
        .where(event_table.c.id == bindparam("event_id"))
        .values(number=bindparam("new_number"), link=bindparam("new_link"))
    )
    rows = [{"event_id": event.id, "new_number": event.number, "new_link": event.link} for event in events]
    if rows:
        execute(connection, statement, rows)


def membership_events(connection: Connection, last: int) -> list[Event]:
    """Return the events up to number *last* that say which installation keys open the store, in order."""
    number = event_table.c.number
    statement = select(event_table).where(event_table.c.action.in_(MEMBERSHIP), number.between(1, last))
    return list(records(Event, event_table, execute(connection, statement.order_by(number))))


def births(connection: Connection, numbers: Sequence[int]) -> list[Event]:
    """Return the events of the creation of working keys."""
    found: list[Event] = []
    for start in range(0, len(numbers), _PORTION):
        subjects = {str(number) for number in numbers[start : start + _PORTION]}
        statement = select(event_table).where(_IS_BIRTH, event_table.c.subject.in_(subjects))
        # MariaDB finds texts equal that differ by blanks
        born = records(Event, event_table, execute(connection, statement))
        found += (event for event in born if event.subject in subjects)
    return found


def born_for(connection: Connection, reason: str) -> set[int]:
    """Return the numbers in those events of the creation of working keys that have a reason."""
    statement = select(event_table.c.subject).where(_IS_BIRTH, event_table.c.reason == reason)
    return {int(subject) for subject in execute(connection, statement).scalars() if subject.isdecimal()}


def linked_events(connection: Connection, first: int, last: int) -> list[Event]:
    """Return the events with places in the chain from *first* to *last*, in order."""
    number = event_table.c.number
    statement = select(event_table).where(number.between(first, last)).order_by(number)
    return list(records(Event, event_table, execute(connection, statement)))


def unlink_beyond(connection: Connection, last: int) -> int:
    """Take from events the places that are none of the chain, which has *last*; return how many had one."""
    number = event_table.c.number
    statement = update(event_table).where(~number.between(1, last)).values(number=None, link="")
    return execute(connection, statement).rowcount


def link_of(connection: Connection, number: int) -> str | None:
    """Return the link of the event with that place in the chain."""
    return execute(connection, select(event_table.c.link).where(event_table.c.number == number)).scalar()


def events(connection: Connection) -> Iterator[Event]:
    """Yield every event: the linked ones in the order of their numbers, then the others."""
    order = (event_table.c.number.is_(None), event_table.c.number, event_table.c.created, event_table.c.id)
    yield from records(Event, event_table, execute(connection, select(event_table).order_by(*order)))
