"""Primary keys as the driver hands them out, and as the text of a checkpoint."""

import datetime
import decimal
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sa_keyvault.errors import ReencryptionError

__all__ = ["RowKey", "key_from_text", "key_to_text"]

RowKey = tuple[Any, ...]
"""The primary key of a row, as the driver hands it out."""

_READERS: Mapping[str, Callable[[str], Any]] = {
    "bytes": bytes.fromhex,
    "date": datetime.date.fromisoformat,
    "decimal": decimal.Decimal,
    "uuid": uuid.UUID,
}


def key_to_text(key: RowKey) -> str:
    """Return a key as JSON; what JSON does not know stands in an object that names its type."""
    return json.dumps([_to_json(value) for value in key])


def key_from_text(text: str) -> RowKey | None:
    """Return the key that a text says; None for the empty text."""
    return tuple(_from_json(value) for value in json.loads(text)) if text else None


def _to_json(value: Any) -> Any:
    if isinstance(value, (int, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return {"date": value.isoformat()}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, uuid.UUID):
        return {"uuid": value.hex}
    msg = f"a primary key of type {type(value).__name__} cannot be kept as a checkpoint"
    raise ReencryptionError(msg)


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((name, text),) = value.items()
    return _READERS[name](text)
