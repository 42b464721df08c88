"""Destroys keys, slowly: after a delay, beside no older transaction, and with nothing left that depends on them."""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, text

from sa_keyvault import store
from sa_keyvault.administration.counting import ValueCount, count_values
from sa_keyvault.administration.tidying import administer
from sa_keyvault.errors import KeyStateError
from sa_keyvault.plugin import KeyRing
from sa_keyvault.records import MasterRecord, WorkingRecord
from sa_keyvault.states import KeyState

__all__ = ["remove_master", "remove_working"]

_INNODB_CACHE_SECONDS = 0.2

# a key's times have no fractions of seconds: what began in the same second may have begun before
_OLDER_TRANSACTIONS = {
    "postgresql": (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND xact_start < CAST(:since AS timestamptz) + interval '1 second'"
    ),
    "mysql": (
        "SELECT count(*) FROM information_schema.innodb_trx "
        "JOIN information_schema.processlist ON processlist.id = trx_mysql_thread_id "
        "WHERE trx_mysql_thread_id <> connection_id() AND processlist.db = database() "
        "AND trx_started <= convert_tz(:since, '+00:00', @@session.time_zone)"
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
        _require_no_older_transaction(connection, record.changed)
        if forced is not None and forced != number:
            msg = f"forced={forced} is not the number of working key {number}; type that one again to lose its values"
            raise KeyStateError(msg, key_number=number)
        if forced is None:
            _require_known_columns(connection, record)
            _require_no_values(number, count_values(connection))
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
        _require_no_older_transaction(connection, master.record.changed)
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
            f"{ring.settings.removal_delay}; wait, so that no process still seals under it"
        )
        raise KeyStateError(msg)


def _require_no_older_transaction(connection: Connection, since: str) -> None:
    """Refuse where a transaction is open that may have sealed under the key before it was retired.

    On SQLite the operation's own write lock is the proof; PostgreSQL and MariaDB show what the role may see.
    """
    dialect = "mysql" if connection.dialect.name == "mariadb" else connection.dialect.name
    if query := _OLDER_TRANSACTIONS.get(dialect):
        shown = {"since": since if dialect == "postgresql" else since.replace("T", " ").rstrip("Z")}
        count = connection.execute(text(query), shown).scalar_one()
        if count and dialect == "mysql":
            # what InnoDB shows may be 0.1 s old, and have a transaction that has ended
            time.sleep(_INNODB_CACHE_SECONDS)
            count = connection.execute(text(query), shown).scalar_one()
        if count:
            msg = (
                f"{count} transactions are open that began before the key was retired at {since}, and may hold values "
                "under it; end them first"
            )
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


def _require_no_values(number: int, counts: Sequence[ValueCount]) -> None:
    own = [count for count in counts if count.number == number]
    if own:
        total = sum(count.values for count in own)
        where = ", ".join(f"{count.table_name}.{count.column_name} ({count.values})" for count in own)
        msg = f"{total} values depend on working key {number}: {where}; re-encrypt them first"
        raise KeyStateError(msg, key_number=number)
