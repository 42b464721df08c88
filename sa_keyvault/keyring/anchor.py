"""The anchor: a file outside the database that remembers in which state the key store was seen last."""

import json
import logging
import warnings
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sa_keyvault.errors import AnchorWarning, ConfigurationError, KeyStoreError
from sa_keyvault.keyring.anchor_file import locked_anchor, read_anchor_file, write_anchor_file
from sa_keyvault.ledger import StoreRecord

__all__ = ["advance_anchor", "advance_anchor_or_warn", "anchor_problem", "verify_anchor"]

_logger = logging.getLogger("sa_keyvault")


def verify_anchor(path: Path, record: StoreRecord, link_of: Callable[[int], str | None]) -> None:
    """Compare the key store's record with the anchor, which may be missing yet.

    A key store that is restored from a backup as a whole, signatures included, is older than its anchor.

    Args:
        path: The file.
        record: The store's own record, whose signature was verified.
        link_of: Returns the link of the audit event with that place in the chain.

    Raises:
        sa_keyvault.KeyStoreError: The key store is older than the anchor, or another one.
        sa_keyvault.ConfigurationError: The file cannot be read, or is no anchor.
    """
    if problem := anchor_problem(path, record, link_of):
        msg = f"the key store {problem}: an older one was restored; delete the anchor if that was on purpose"
        raise KeyStoreError(msg)


def anchor_problem(path: Path, record: StoreRecord, link_of: Callable[[int], str | None]) -> str | None:
    """Return what shows that the key store is not the one of the anchor, or not as new; None where all fits.

    Raises:
        sa_keyvault.ConfigurationError: The file cannot be read, or is no anchor.
    """
    known, problem = _read(path), None
    if known is None:
        return None
    if known.store_id != record.store_id:
        problem = f"is key store {record.store_id}, the anchor {path} is of {known.store_id}"
    elif record.version < known.version:
        problem = f"has version {record.version}, the anchor {path} has seen version {known.version}"
    elif record.version == known.version and record != known:
        problem = f"has another content in version {record.version} than the anchor {path} has seen"
    elif record.events < known.events:
        problem = f"has {record.events} audit events, the anchor {path} has seen {known.events}"
    elif known.events and link_of(known.events) != known.head:
        # operations went on from an older store until its version was greater
        problem = f"has another audit event number {known.events} than the anchor {path} has seen"
    return problem


def advance_anchor(path: Path, record: StoreRecord) -> None:
    """Write what was seen of the key store, unless another process has seen a newer one.

    Args:
        path: The file; it is made where it is missing. Delete it on purpose after a restore that was intended.
        record: The store's own record as it is committed: an anchor that is ahead of the store refuses every start.

    Raises:
        sa_keyvault.ConfigurationError: The file cannot be read or written, or is no anchor.
    """
    # in one step: else a slower process puts its older record over a newer one that it has not seen
    with locked_anchor(path):
        known = _read(path)
        if known is None or known.version <= record.version:
            write_anchor_file(path, json.dumps(asdict(record)).encode() + b"\n")


def advance_anchor_or_warn(path: Path, record: StoreRecord) -> bool:
    """Advance the anchor of a server that goes on all the same; return whether that succeeded."""
    try:
        advance_anchor(path, record)
    except ConfigurationError as error:
        problem = f"{error}; meanwhile the restore of an older key store may go unnoticed"
    else:
        return True
    _logger.warning("%s", problem)
    warnings.warn(problem, AnchorWarning, stacklevel=2)
    return False


def _read(path: Path) -> StoreRecord | None:
    data = read_anchor_file(path)
    if data is None:
        return None
    try:
        return _record(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        problem = type(error).__name__
    msg = f"the anchor {path} cannot be read ({problem}); restore it, or delete it on purpose"
    raise ConfigurationError(msg)


def _record(content: Any) -> StoreRecord:
    record = StoreRecord(**content)
    for field in fields(record):
        # not isinstance: true is an integer, too
        if type(getattr(record, field.name)) is not field.type:
            raise TypeError
    return record
