"""Examines whether a key store is in order: signatures, keys, events, values, clock."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, MetaData, func, select, text

from sa_keyvault.administration.audit import verify_events
from sa_keyvault.administration.counting import count_values, hidden_columns
from sa_keyvault.errors import KeyStateError, KeyStoreError, KeyVaultError
from sa_keyvault.keyring import KeySet, load_keys
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import unwrap_working
from sa_keyvault.states import KeyState
from sa_keyvault.suites import fips_status
from sa_keyvault.types import encrypted_columns

__all__ = ["Finding", "examine", "examine_values"]

_MAX_CLOCK_SECONDS = 5.0
_STEP = 1000  # values, between two words about the progress
_CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(sysdate(6))",
    "mariadb": "SELECT unix_timestamp(sysdate(6))",
}


@dataclass(frozen=True)
class Finding:
    """What one examination found.

    Attributes:
        check: What was examined.
        is_good: Whether it is in order.
        detail: What was found, in words.
    """

    check: str
    is_good: bool
    detail: str


def examine(connection: Connection, ring: KeyRing) -> Iterator[Finding]:
    """Examine a key store; it is only read.

    Args:
        connection: Where the key store is.
        ring: Of an installation key that opens it.

    Yields:
        A finding of each check; where the key store does not open, the first is the last.
    """
    try:
        keys = load_keys(connection, ring.identity)
    except KeyVaultError as error:
        yield Finding("key store", is_good=False, detail=str(error))
        return
    detail = f"{len(keys.masters())} master keys, {len(keys.working())} working keys, version {keys.version}"
    yield Finding("key store", is_good=True, detail=f"signatures and states hold: {detail}")
    yield _sealing(keys)
    yield _unwrapped(keys)
    yield _audited(connection, ring)
    yield _counted(connection, keys)
    yield _clock(connection)
    yield Finding("algorithms", is_good=True, detail="; ".join(keys.weaknesses()) or "none is outdated")
    active = fips_status().is_active
    yield Finding("fips", is_good=True, detail=f"{'a' if active else 'no'} FIPS provider is active")


def examine_values(
    connection: Connection,
    metadata: MetaData,
    limit: int | None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Finding]:
    """Open values of every encrypted column.

    Args:
        connection: Of an engine whose ring is initialized.
        metadata: Where the columns are.
        limit: How many values of each column; None for all.
        on_progress: Called now and then with how many values of a column were opened, and of how many.

    Yields:
        A finding of each column.
    """
    for table in metadata.sorted_tables:
        for declaration in encrypted_columns(table):
            column = declaration.column
            name = f"values of {table.name}.{column.name}"
            try:
                count = _opened(connection, column, limit, on_progress)
            except KeyVaultError as error:
                yield Finding(name, is_good=False, detail=str(error))
            else:
                yield Finding(name, is_good=True, detail=f"{count} open")


def _opened(
    connection: Connection, column: Column[Any], limit: int | None, on_progress: Callable[[int, int], None] | None
) -> int:
    """Open values of a column; return how many."""
    wanted = select(column).where(column.is_not(None)).limit(limit)
    total = 0
    if on_progress is not None:
        total = connection.scalar(select(func.count()).where(column.is_not(None))) or 0
    count = 0
    for count, _ in enumerate(connection.execute(wanted), 1):
        if on_progress is not None and count % _STEP == 0:
            on_progress(count, total)
    return count


def _sealing(keys: KeySet) -> Finding:
    try:
        count = len(keys.sealing_masters())
    except KeyStateError as error:
        return Finding("master keys", is_good=False, detail=str(error))
    return Finding("master keys", is_good=True, detail=f"{count} active")


def _unwrapped(keys: KeySet) -> Finding:
    secrets = {master.record.id: master.secret for master in keys.masters()}
    broken, count = [], 0
    for record in keys.working():
        secret = secrets.get(record.master_id)
        if secret is None:
            continue
        try:
            unwrap_working(record, secret)
            count += 1
        except KeyVaultError as error:
            broken.append(str(error))
    if broken:
        return Finding("working keys", is_good=False, detail=f"{len(broken)} do not unwrap: {broken[0]}")
    return Finding("working keys", is_good=True, detail=f"{count} unwrap")


def _audited(connection: Connection, ring: KeyRing) -> Finding:
    report = verify_events(connection, [ring.installation_key.fingerprint])
    if report.findings:
        return Finding("audit", is_good=False, detail=f"{len(report.findings)} findings: {report.findings[0]}")
    return Finding("audit", is_good=True, detail=f"{report.events} events, {report.unlinked} not linked yet")


def _counted(connection: Connection, keys: KeySet) -> Finding:
    openable = {record.number for record in keys.working() if record.state is not KeyState.REMOVED}
    if hidden := hidden_columns(connection):
        detail = f"{', '.join(hidden)} cannot be counted: this role may not read it"
        return Finding("values", is_good=False, detail=detail)
    try:
        counts = count_values(connection)
    except KeyStoreError as error:
        return Finding("values", is_good=False, detail=str(error))
    lost = [one for one in counts if one.number is not None and one.number not in openable]
    plain = [one for one in counts if one.number is None]
    if lost:
        total, first = sum(one.values for one in lost), lost[0]
        detail = f"{total} values are under keys that are gone, for instance {first.number} ({first.name})"
        return Finding("values", is_good=False, detail=detail)
    if plain:
        total, first = sum(one.values for one in plain), plain[0]
        detail = f"{total} values are not encrypted, for instance in {first.name}"
        return Finding("values", is_good=False, detail=detail)
    return Finding(
        "values", is_good=True, detail=f"{sum(one.values for one in counts)}, each under a key that is there"
    )


def _clock(connection: Connection) -> Finding:
    query = _CLOCKS.get(connection.dialect.name)
    if query is None:
        return Finding("clock", is_good=True, detail="the database has the clock of this machine")
    difference = abs(float(connection.execute(text(query)).scalar_one()) - time.time())
    is_good = difference <= _MAX_CLOCK_SECONDS
    return Finding("clock", is_good=is_good, detail=f"the database differs by {difference:.1f} s")
