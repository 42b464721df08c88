"""Master keys, their wraps, and working keys."""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from sa_keyvault.errors import KeyRecordError
from sa_keyvault.ledger import StateMark
from sa_keyvault.records import MasterRecord, WorkingRecord, Wrap
from sa_keyvault.states import KeyState
from sa_keyvault.store.access import execute, values_of
from sa_keyvault.store.reading import records, typed_columns, typed_values
from sa_keyvault.store.schema import master_table, working_table, wrap_table

__all__ = [
    "active_in_area",
    "add_master",
    "add_working",
    "add_wraps",
    "delete_wraps",
    "inactive",
    "masters",
    "newest_active",
    "replace_master",
    "replace_working",
    "replace_wraps",
    "working",
    "working_counts",
    "working_from",
    "working_in_area",
    "working_numbers",
    "wraps",
]

_PORTION = 10_000  # rows
_FIRST = -(2**63)  # so that a number that no key has is found, and refused
_MAX_NUMBER = 2**32 - 1  # of a working key; an envelope has four bytes for it


def masters(connection: Connection) -> list[MasterRecord]:
    """Return every master key, the oldest first."""
    rows = execute(connection, select(master_table).order_by(master_table.c.created, master_table.c.id))
    return [replace(one, state=_state(one.state)) for one in records(MasterRecord, master_table, rows)]


def wraps(connection: Connection) -> list[Wrap]:
    """Return every wrap of every master key."""
    return list(records(Wrap, wrap_table, execute(connection, select(wrap_table))))


def add_master(connection: Connection, record: MasterRecord) -> None:
    """Write a new master key."""
    execute(connection, insert(master_table).values(values_of(record)))


def replace_master(connection: Connection, record: MasterRecord) -> None:
    """Write a changed master key; inside `locked`."""
    execute(connection, update(master_table).where(master_table.c.id == record.id).values(values_of(record)))


def add_wraps(connection: Connection, wraps: Sequence[Wrap]) -> None:
    """Write new wraps."""
    execute(connection, insert(wrap_table), [values_of(wrap) for wrap in wraps])


def replace_wraps(connection: Connection, wraps: Sequence[Wrap]) -> None:
    """Write changed wraps; inside `locked`."""
    for wrap in wraps:
        same = (wrap_table.c.master_id == wrap.master_id) & (wrap_table.c.fingerprint == wrap.fingerprint)
        execute(connection, update(wrap_table).where(same).values(values_of(wrap)))


def delete_wraps(connection: Connection, fingerprint: str) -> None:
    """Delete all wraps of one installation key; inside `locked`."""
    execute(connection, delete(wrap_table).where(wrap_table.c.fingerprint == fingerprint))


def working(connection: Connection, numbers: Sequence[int] | None = None) -> list[WorkingRecord]:
    """Return the working keys with these numbers, or all of them."""
    if numbers is not None:
        return _working_records(connection, select(working_table).where(working_table.c.number.in_(numbers)))
    found: list[WorkingRecord] = []
    portion = working_from(connection, _FIRST, _PORTION)
    # in portions, because drivers keep a whole result in memory beside the records that are made of it
    while portion:
        found += portion
        portion = working_from(connection, portion[-1].number + 1, _PORTION)
    return found


def working_from(connection: Connection, first: int, count: int) -> list[WorkingRecord]:
    """Return the next *count* working keys in the order of their numbers, from *first* on."""
    number = working_table.c.number
    wanted = select(working_table).where(number >= first).order_by(number).limit(count)
    return _working_records(connection, wanted)


def working_in_area(connection: Connection, area: str) -> list[WorkingRecord]:
    """Return the working keys of one area."""
    return _working_records(connection, select(working_table).where(working_table.c.area == area))


def active_in_area(connection: Connection, area: str) -> list[WorkingRecord]:
    """Return the active working keys of one area."""
    columns = working_table.c
    wanted = select(working_table).where(columns.area == area, columns.state == KeyState.ACTIVE.value)
    return _working_records(connection, wanted)


def newest_active(connection: Connection, area: str, suite: str, count: int) -> list[WorkingRecord]:
    """Return the *count* newest active working keys of one area and suite."""
    columns = working_table.c
    wanted = (
        select(working_table)
        .where(columns.area == area, columns.suite == suite, columns.state == KeyState.ACTIVE.value)
        .order_by(columns.created.desc(), columns.number.desc())
        .limit(count)
    )
    return _working_records(connection, wanted)


def inactive(connection: Connection) -> dict[int, StateMark]:
    """Return the state of every working key that is not active, by number."""
    number, state, epoch = working_table.c.number, working_table.c.state, working_table.c.epoch
    marks = execute(connection, select(state, epoch).where(state != KeyState.ACTIVE.value).distinct())
    found: dict[int, StateMark] = {}
    # state by state, because there are few of them, and drivers hand out numbers alone much quicker
    for mark in list(records(StateMark, working_table, marks)):
        same = select(number).where(state == mark.state, epoch == mark.epoch)
        numbers = _numbers(list(execute(connection, same).scalars()))
        found |= dict.fromkeys(numbers, StateMark(_state(mark.state), mark.epoch))
    return found


def working_counts(connection: Connection) -> Counter[tuple[str, str, KeyState]]:
    """Return how many working keys there are under each master key, of each suite, in each state."""
    master_id, suite, state = working_table.c.master_id, working_table.c.suite, working_table.c.state
    wanted = select(master_id, suite, state, func.count()).group_by(master_id, suite, state)
    rows = list(map(tuple, execute(connection, wanted)))
    for column, values in zip((master_id, suite, state), zip(*rows, strict=True), strict=False):
        typed_values(str, working_table, column.name, values)
    return Counter({(above, name, _state(text)): count for above, name, text, count in rows})


def _working_records(connection: Connection, statement: Select[Any]) -> list[WorkingRecord]:
    found: list[WorkingRecord] = []
    # equal texts of many records are kept once: a store may have a hundred thousand of them
    intern = sys.intern
    for columns in typed_columns(WorkingRecord, working_table, execute(connection, statement)):
        number, store_id, area, created, changed, epoch, state, former, suite, master_id, wrapped = columns
        found += map(
            WorkingRecord,
            _numbers(number),
            map(intern, store_id),
            map(intern, area),
            map(intern, created),
            map(intern, changed),
            epoch,
            map(_state, state),
            map(intern, former),
            map(intern, suite),
            map(intern, master_id),
            wrapped,
        )
    return found


def _numbers(found: Sequence[Any]) -> Sequence[int]:
    numbers = typed_values(int, working_table, "number", found)
    if numbers and not 0 < min(numbers) <= max(numbers) <= _MAX_NUMBER:
        msg = (
            f"a row of {working_table.name} has a number that is none from 1 to {_MAX_NUMBER}; it was written outside "
            "the library; delete it, or restore the key store from a backup"
        )
        raise KeyRecordError(msg)
    return numbers


def working_numbers(connection: Connection, numbers: Iterable[int]) -> set[int]:
    """Return those of *numbers* that the key store has."""
    wanted = list(numbers)
    if not wanted:
        return set()
    return set(execute(connection, select(working_table.c.number).where(working_table.c.number.in_(wanted))).scalars())


def add_working(connection: Connection, record: WorkingRecord) -> None:
    """Write a new working key."""
    execute(connection, insert(working_table).values(values_of(record)))


def replace_working(connection: Connection, records: Sequence[WorkingRecord]) -> None:
    """Write changed working keys; inside `locked`."""
    names = [column.name for column in working_table.columns if not column.primary_key]
    statement = (
        update(working_table)
        .where(working_table.c.number == bindparam("key_number"))
        .values({name: bindparam(f"new_{name}") for name in names})
    )
    rows = [
        {"key_number": record.number, **{f"new_{name}": getattr(record, name) for name in names}} for record in records
    ]
    if rows:
        execute(connection, statement, rows)


def _state(text: str) -> KeyState:
    # an unknown state is left as it stands: the signature or seal over it decides, and refuses the key
    return _STATES.get(text, text)  # type: ignore[arg-type]


_STATES = {state.value: state for state in KeyState}
