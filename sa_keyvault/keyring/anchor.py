"""The anchor: a file outside the database that remembers in which state the key store was seen last."""

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sa_keyvault.errors import ConfigurationError, KeyStoreError
from sa_keyvault.ledger import StoreRecord

__all__ = ["check_anchor"]


def check_anchor(path: Path, record: StoreRecord, link_of: Callable[[int], str | None]) -> None:
    """Compare the key store's record with the anchor, and advance the anchor.

    A key store that is restored from a backup as a whole, signatures included, is older than its anchor.

    Args:
        path: The file; it is made where it is missing. Delete it on purpose after a restore that was intended.
        record: The store's own record, whose signature was verified.
        link_of: Returns the link of the audit event with that place in the chain.

    Raises:
        sa_keyvault.KeyStoreError: The key store is older than the anchor, or another one.
        sa_keyvault.ConfigurationError: The file cannot be read or written, or is no anchor.
    """
    known = _read(path)
    if known is None:
        _write(path, record)
        return
    problem = None
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
    if problem:
        msg = f"the key store {problem}: an older one was restored; delete the anchor if that was on purpose"
        raise KeyStoreError(msg)
    if record.version > known.version:
        _write(path, record)


def _read(path: Path) -> StoreRecord | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return StoreRecord(**content)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        problem = type(error).__name__
    msg = f"the anchor {path} cannot be read ({problem}); restore it, or delete it on purpose"
    raise ConfigurationError(msg)


def _write(path: Path, record: StoreRecord) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        temporary.write_text(json.dumps(asdict(record)) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        msg = f"the anchor {path} cannot be written ({error.strerror}); give the process the right to"
        raise ConfigurationError(msg) from None
