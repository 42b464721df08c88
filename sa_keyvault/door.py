"""The door for raw pipelines: seals and opens one value for a named column and row, outside any statement."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sqlalchemy import Column, Connection, Dialect
from sqlalchemy.sql.elements import ColumnElement

from sa_keyvault.envelope import reader
from sa_keyvault.errors import ConfigurationError, EncodingError, KeyVaultError, MalformedEnvelopeError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements import EncryptedColumn, Plans, encode_column

__all__ = ["Door"]


class Door:
    """Seals and opens single values; a column is looked into once, not for each of its values.

    Args:
        ring: The key ring, which is initialized.
        dialect: Of the engine that the values come from and go to.
    """

    def __init__(self, ring: Ring, dialect: Dialect) -> None:
        self._ring = ring
        self._plans = Plans(dialect)
        # by identity, which lasts because the column is kept: to hash a binding takes as long as to open a value
        self._readers: dict[int, tuple[EncryptedColumn, Callable[[Any], Any]]] = {}

    def seal(self, connection: Connection, column: Any, key: Any, value: Any) -> bytes:
        """Return the envelope of *value* for *column* in the row that *key* names."""
        encrypted = self._find(column)
        symbols = encrypted.symbols_of(_row(encrypted, key))
        plaintext = encode_column(encrypted, [value])[0]
        if plaintext is None:
            msg = f"{encrypted.declaration.binding.label}: None is stored as NULL, without an envelope"
            raise EncodingError(msg, area=encrypted.area)
        seal = self._ring.sealer(encrypted.area, encrypted.binding, [len(plaintext)], connection)
        return seal([plaintext], [symbols])[0]

    def open(self, column: Any, key: Any, stored: object) -> Any:
        """Return the value in the envelope *stored*, of *column* in the row that *key* names."""
        encrypted = self._find(column)
        if not isinstance(stored, (bytes, bytearray, memoryview)):
            # bytes(…) of a number makes that many of them
            label = encrypted.declaration.binding.label
            msg = (
                f"{label}: an envelope is bytes, and {type(stored).__name__} is none; give the bytes as they are stored"
            )
            raise MalformedEnvelopeError(msg, area=encrypted.area, label=str(label))
        symbols = encrypted.symbols_of(_row(encrypted, key))
        return self._reader(encrypted)(bytes(stored) + symbols)

    def _find(self, column: Any) -> EncryptedColumn:
        element = column.__clause_element__() if hasattr(column, "__clause_element__") else column
        table = element.table if isinstance(element, ColumnElement) and isinstance(element, Column) else None
        plan = self._plans.of(table)
        if plan is None or element.key not in plan.encrypted:
            msg = f"{column} is no encrypted column of a table"
            raise ConfigurationError(msg)
        return plan.encrypted[element.key]

    def _reader(self, column: EncryptedColumn) -> Callable[[Any], Any]:
        known = self._readers.get(id(column))
        if known is None:
            layouts = self._ring.layouts(column.area, column.binding)
            read = reader(layouts, column.values.decode, partial(_located, column), column.values.null)
            self._readers[id(column)] = known = column, read
        return known[1]


def _located(column: EncryptedColumn, error: KeyVaultError, _: bytes) -> KeyVaultError:
    label = str(column.binding.label)
    return type(error)(f"{label}: {error}", key_number=error.key_number, area=column.area, label=label)


def _row(column: EncryptedColumn, key: Any) -> Mapping[str, Any]:
    names = column.symbol_keys
    if isinstance(key, Mapping):
        row: Mapping[str, Any] = key
    else:
        row = dict(zip(names, key if isinstance(key, tuple) else (key,), strict=False))
    if row.keys() != set(names):
        msg = f"{column.declaration.binding.label} needs the symbols {', '.join(names)}; {len(row)} were given"
        raise ConfigurationError(msg)
    return row
