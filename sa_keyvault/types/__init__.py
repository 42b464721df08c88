"""The column type: what it carries, how it is declared, and how a selected value finds its row."""

from sa_keyvault.types.declared import Declaration, declaration_of, encrypted_columns
from sa_keyvault.types.encrypted import Encrypted
from sa_keyvault.types.inner import ValueCodec, storage_length, value_codec
from sa_keyvault.types.values import SealedValue
from sa_keyvault.types.walk import find_symbols

__all__ = [
    "Declaration",
    "Encrypted",
    "SealedValue",
    "ValueCodec",
    "declaration_of",
    "encrypted_columns",
    "find_symbols",
    "storage_length",
    "value_codec",
]
