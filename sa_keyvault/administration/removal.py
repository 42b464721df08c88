"""Destroys keys, slowly: after a delay, beside no older transaction, and with nothing left that depends on them."""

import datetime
import time
from collections.abc import Sequence

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from sa_keyvault import store
from sa_keyvault.administration.counting import ValueCount, count_newest_values, missing_columns
from sa_keyvault.administration.tidying import administer
from sa_keyvault.errors import KeyStateError
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import MasterRecord, WorkingRecord, timestamp_of
from sa_keyvault.states import KeyState

__all__ = ["remove_master", "remove_working"]

_INNODB_CACHE_SECONDS = 0.2
_CLOCK_SECONDS = 10  # how much the clocks of servers and database may differ

_OLDER_TRANSACTIONS = {
    "postgresql": (
        # a transaction that the role may not see counts as an old one
        "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND (query = '<insufficient privilege>' "
        "OR xact_start < CAST(:since AS timestamptz) + interval '1 second')) "
        "+ (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database())"
    ),
    # of the whole server: a connection with another default database can write here, and a prepared one has none
    "mysql": (
        "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id <> connection_id() "
        "AND trx_started <= convert_tz(:since, '+00:00', 'SYSTEM')"
    ),
}


def remove_working(
    connection: Connection, ring: KeyRing, number: int, reason: str = "", forced: int | None = None
) -> None:
    """Destroy a working key: its secret is wiped, its record stays. Final.

    Args:
        connection: In a transaction, or about to begin one; the caller commits.
        ring: Of the store's installation.
        number: Which working key; it has been retired for the ring's `removal_delay`.
        reason: Why, for the audit events.
        forced: The key's number again, to destroy it although values depend on it: they are lost for ever.
            The delay holds all the same.

    Raises:
        sa_keyvault.KeyStateError: The key is not retired, or not for long enough, or an older transaction is open,
            or values depend on it.
    """
    with administer(connection, ring, reason) as changing:
        record = changing.working_key(number)
        _require_retired(record, f"working key {number}", ring)
        _require_no_older_transaction(connection, record.changed, ring)
        if forced is not None and forced != number:
            msg = f"forced={forced} is not the number of working key {number}; type that one again to lose its values"
            raise KeyStateError(msg, key_number=number)
        if forced is None:
            _require_known_columns(connection, record)
            _require_no_values(number, count_newest_values(connection))
        changing.move_working([record], KeyState.REMOVED, "working-key-removed")


def remove_master(connection: Connection, ring: KeyRing, master_id: str, reason: str = "") -> None:
    """Destroy a master key: its wraps are wiped, its record stays. Final.

    Raises:
        sa_keyvault.KeyStateError: The key is not retired, or not for long enough, or an older transaction is open,
            or working keys depend on it.
    """
    with administer(connection, ring, reason) as changing:
        master = changing.master(master_id)
        _require_retired(master.record, f"master key {master_id}", ring)
        _require_no_older_transaction(connection, master.record.changed, ring)
        numbers = [record.number for record in changing.under(master) if record.state is not KeyState.REMOVED]
        if numbers:
            msg = (
                f"{len(numbers)} working keys depend on master key {master_id}, for instance {min(numbers)}; "
                "re-encrypt their values and remove them first"
            )
            raise KeyStateError(msg)
        changing.move_master(master, KeyState.REMOVED, "master-key-removed")


def _require_retired(record: MasterRecord | WorkingRecord, name: str, ring: KeyRing) -> None:
    if record.state is not KeyState.RETIRED:
        msg = f"{name} is {record.state}; only a retired key can be removed"
        raise KeyStateError(msg)
    if not ring.settings.is_retired_long_enough(record.changed):
        msg = (
            f"{name} has been retired since {record.changed}, which is less than the removal delay of "
            f"{ring.settings.effective_delay}; wait, so that no process still seals under it"
        )
        raise KeyStateError(msg)


def _require_no_older_transaction(connection: Connection, changed: str, ring: KeyRing) -> None:
    """Refuse where a transaction is open that may have sealed under the key.

    Other servers do so until they have noticed that it is retired. On SQLite the operation's own write lock is the
    proof; what PostgreSQL and MariaDB do not show to the role counts as open.
    """
    dialect = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
    query = _OLDER_TRANSACTIONS.get(dialect)
    if query is None:
        return
    if dialect == "postgresql" and connection.get_isolation_level() != "READ COMMITTED":
        msg = "a key is removed in a READ COMMITTED transaction only, which sees all values; use such a one"
        raise KeyStateError(msg)
    noticed = datetime.datetime.fromisoformat(changed) + datetime.timedelta(
        seconds=2 * ring.settings.refresh_seconds + _CLOCK_SECONDS
    )
    since = timestamp_of(min(noticed, datetime.datetime.now(datetime.UTC)))
    shown = {"since": since if dialect == "postgresql" else since.replace("T", " ").rstrip("Z")}
    count = _open_transactions(connection, query, shown)
    if count and dialect == "mysql":
        # what InnoDB shows may be 0.1 s old, and have a transaction that has ended
        time.sleep(_INNODB_CACHE_SECONDS)
        count = _open_transactions(connection, query, shown)
    if count:
        msg = (
            f"{count} transactions are open that began before {since}, or are hidden from this role, and may have "
            "sealed under the key; end them, or use a role that sees them (pg_read_all_stats, PROCESS)"
        )
        raise KeyStateError(msg)


def _open_transactions(connection: Connection, query: str, shown: dict[str, str]) -> int:
    try:
        return int(connection.execute(text(query), shown).scalar_one())
    except DBAPIError:
        msg = "this role may not see the open transactions of others; grant it PROCESS, or use another role"
    raise KeyStateError(msg)


def _require_known_columns(connection: Connection, record: WorkingRecord) -> None:
    """Refuse where values of the area may be in columns that nobody has declared, so that they cannot be counted."""
    areas = {row.area for row in store.columns(connection).values()}
    if record.area not in areas and store.usage(connection, str(record.number)):
        msg = (
            f"working key {record.number} has sealed values of area {record.area!r}, and the key store knows no column "
            "of it to count them in; call ring.initialize(engine, metadata) with the metadata of all models first"
        )
        raise KeyStateError(msg, key_number=record.number, area=record.area)
    if missing := missing_columns(connection).get(record.area):
        msg = (
            f"the values of area {record.area!r} in {missing} cannot be counted; use a role that may read "
            "them, or, if none are left there (renamed, dropped), force it with the number typed again"
        )
        raise KeyStateError(msg, key_number=record.number, area=record.area)
    if connection.dialect.name == "postgresql":
        # hidden rows are an error then, and not left out of the count
        connection.execute(text("SET LOCAL row_security = off"))


def _require_no_values(number: int, counts: Sequence[ValueCount]) -> None:
    own = [count for count in counts if count.number == number]
    if own:
        total = sum(count.values for count in own)
        where = ", ".join(f"{count.name} ({count.values})" for count in own)
        msg = f"{total} values depend on working key {number}: {where}; re-encrypt them first"
        raise KeyStateError(msg, key_number=number)
