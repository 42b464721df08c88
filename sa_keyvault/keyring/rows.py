"""Which rows of working keys an operation may go by: those that are as an installation key has left them."""

import logging
from collections.abc import Collection, Iterable

from sa_keyvault import store
from sa_keyvault.errors import KeyRecordError
from sa_keyvault.keyring.operation import Operation
from sa_keyvault.records import MasterSecret, WorkingRecord, unwraps
from sa_keyvault.states import KeyState

__all__ = ["genuine", "intact", "require_rows"]

_logger = logging.getLogger("sa_keyvault")

_LOOKED_FOR = 1000  # rows, of which one that is gone is enough


def intact(changing: Operation, records: Iterable[WorkingRecord]) -> list[WorkingRecord]:
    """Return those working keys whose records are as they were wrapped; the others are logged.

    Raises:
        sa_keyvault.ConfigurationError: A master key is none that is accepted.
    """
    every = {record.number: record for record in records}
    found = _intact(changing, every.values())
    _warn(every.keys() - {record.number for record in found})
    return found


def genuine(changing: Operation, records: Iterable[WorkingRecord]) -> list[WorkingRecord]:
    """Return the working keys without rows that somebody put there who has no key; these are logged.

    Raises:
        sa_keyvault.KeyRecordError: The record of a key that was made here was changed outside the library.
        sa_keyvault.ConfigurationError: A master key is none that is accepted.
    """
    every = {record.number: record for record in records}
    found = _intact(changing, every.values())
    strange = every.keys() - {record.number for record in found}
    if altered := changing.births.among(strange):
        record = every[min(altered)]
        msg = (
            f"the record of working key {record.number}, now of area {record.area!r}, was changed outside the library; "
            "restore it from a backup of the key store"
        )
        raise KeyRecordError(msg, key_number=record.number, area=record.area)
    _warn(strange)
    return found


def require_rows(changing: Operation, area: str) -> None:
    """Refuse to go on where the row of a working key of an area is gone: put back it would be what it was.

    Raises:
        sa_keyvault.KeyRecordError: The row of a key that was made for the area was deleted.
    """
    births = changing.births
    gone = sorted(births.among(births.in_area(area) - changing.working.keys()))
    # a row that was committed since the others were read is not gone
    gone = sorted(set(gone) - store.working_numbers(changing.connection, gone[:_LOOKED_FOR]))
    if gone:
        msg = (
            f"the row of working key {gone[0]}, which was made for area {area!r}, was deleted; restore it from a "
            "backup of the key store, or retire the other keys of the area one by one"
        )
        raise KeyRecordError(msg, key_number=gone[0], area=area)
    if not births.is_chain_whole:
        _logger.warning(
            "audit events were changed or deleted, so whether the rows of all working keys of area %r are there cannot "
            "be told; `sa-keyvault audit verify` tells which",
            area,
        )


def _warn(strange: Collection[int]) -> None:
    if strange:
        _logger.warning(
            "%d rows of working keys (%d the first) are not as they were wrapped, and are left alone; "
            "`sa-keyvault audit verify` tells which of them nobody has made",
            len(strange),
            min(strange),
        )


def _intact(changing: Operation, records: Iterable[WorkingRecord]) -> list[WorkingRecord]:
    secrets = dict[str, MasterSecret | None]()
    return [record for record in records if _is_intact(changing, record, secrets)]


def _is_intact(changing: Operation, record: WorkingRecord, secrets: dict[str, MasterSecret | None]) -> bool:
    if record.master_id not in secrets:
        secrets[record.master_id] = _secret_of(changing, record.master_id)
    secret = secrets[record.master_id]
    return secret is not None and record.store_id == changing.store_id and unwraps(record, secret)


def _secret_of(changing: Operation, master_id: str) -> MasterSecret | None:
    master = changing.masters.get(master_id)
    if master is None or master.record.state is KeyState.REMOVED:
        return None
    return master.secret or changing.opened(master)
