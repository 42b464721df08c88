"""The column type: what it carries, how it is declared, and how a selected value finds its row."""

from sa_keyvault.types.declared import Declaration, declaration_of, encrypted_columns
from sa_keyvault.types.encrypted import Encrypted
from sa_keyvault.types.inner import ValueCodec, storage_length, type_name, value_codec
from sa_keyvault.types.plaintext import (
    is_binary,
    plaintext_reader,
    plaintext_writer,
    require_convertible,
    value_converter,
)
from sa_keyvault.types.values import SealedValue, bytes_reader
from sa_keyvault.types.walk import find_symbols

__all__ = [
    "Declaration",
    "Encrypted",
    "SealedValue",
    "ValueCodec",
    "bytes_reader",
    "declaration_of",
    "encrypted_columns",
    "find_symbols",
    "is_binary",
    "plaintext_reader",
    "plaintext_writer",
    "require_convertible",
    "storage_length",
    "type_name",
    "value_codec",
    "value_converter",
]
