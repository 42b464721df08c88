"""The door for raw pipelines: seals and opens one value for a named column and row, outside any statement."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Connection, Dialect
from sqlalchemy.sql.elements import ColumnElement

from sa_keyvault.envelope import reader
from sa_keyvault.errors import ConfigurationError, EncodingError, KeyVaultError
from sa_keyvault.keyring import Ring
from sa_keyvault.statements import EncryptedColumn, Plans, encode_column

__all__ = ["open_value", "seal_value"]


def seal_value(ring: Ring, connection: Connection, column: Any, key: Any, value: Any) -> bytes:
    """Return the envelope of *value* for *column* in the row that *key* names."""
    encrypted = _find(column, connection.dialect)
    symbols = encrypted.symbols_of(_row(encrypted, key))
    plaintext = encode_column(encrypted, [value])[0]
    if plaintext is None:
        msg = f"{encrypted.declaration.binding.label}: None is stored as NULL, without an envelope"
        raise EncodingError(msg, area=encrypted.area)
    return next(ring.sealers(encrypted.area, encrypted.binding, [len(plaintext)], connection))(plaintext, symbols)


def open_value(ring: Ring, dialect: Dialect, column: Any, key: Any, stored: bytes) -> Any:
    """Return the value in the envelope *stored*, of *column* in the row that *key* names."""
    encrypted = _find(column, dialect)
    label = str(encrypted.declaration.binding.label)

    def locate(error: KeyVaultError, _: bytes) -> KeyVaultError:
        return type(error)(f"{label}: {error}", key_number=error.key_number, area=encrypted.area, label=label)

    symbols = encrypted.symbols_of(_row(encrypted, key))
    layouts = ring.layouts(encrypted.area, encrypted.binding)
    read = reader(layouts, encrypted.values.decode, locate, encrypted.values.null)
    return read(bytes(stored) + symbols)


def _find(column: Any, dialect: Dialect) -> EncryptedColumn:
    element = column.__clause_element__() if hasattr(column, "__clause_element__") else column
    table = element.table if isinstance(element, ColumnElement) and isinstance(element, Column) else None
    plan = Plans(dialect).of(table)
    if plan is None or element.key not in plan.encrypted:
        msg = f"{column} is no encrypted column of a table"
        raise ConfigurationError(msg)
    return plan.encrypted[element.key]


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
