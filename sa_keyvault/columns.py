"""The encrypted columns of an application's metadata, as the key store remembers them."""

import warnings
from collections.abc import Iterable

from sqlalchemy import Connection, MetaData, inspect, select, type_coerce
from sqlalchemy.types import NullType

from sa_keyvault import store
from sa_keyvault.envelope import FORMAT
from sa_keyvault.errors import PlaintextAcceptedWarning
from sa_keyvault.keyring import DeclaredColumn
from sa_keyvault.types import Declaration, encrypted_columns, type_name

__all__ = ["declarations_of", "declared", "warn_of_plaintext"]

_SAMPLE = 100  # values; a column that is being encrypted in place has both kinds


def declarations_of(metadata: MetaData | None) -> Iterable[Declaration]:
    """Yield the encrypted columns of all tables.

    Raises:
        sa_keyvault.ConfigurationError: One of them cannot be honoured.
    """
    for table in metadata.tables.values() if metadata is not None else ():
        yield from encrypted_columns(table)


def declared(declaration: Declaration) -> DeclaredColumn:
    """Return what the key store remembers of a column, and how to look at its stored values."""
    column, table = declaration.column, declaration.column.table

    def sample(connection: Connection) -> list[bytes]:
        schema = connection.schema_for_object(table)
        inspector = inspect(connection)
        if not inspector.has_table(table.name, schema=schema):
            return []
        if column.name not in {found["name"] for found in inspector.get_columns(table.name, schema=schema)}:
            return []
        raw = select(type_coerce(column, NullType())).where(column.is_not(None)).limit(_SAMPLE)
        found = store.execute(connection, raw).scalars()
        values = [bytes(stored) for stored in found if isinstance(stored, (bytes, memoryview))]
        return [stored for stored in values if stored[:1] == bytes([FORMAT])]

    row = store.ColumnRow(
        schema_name=str(table.schema or ""),
        table_name=str(table.name),
        column_name=str(column.name),
        label=bytes(declaration.binding.label),
        area=declaration.type_.area,
        inner_type=type_name(declaration.type_.inner),
    )
    former = declaration.former
    return DeclaredColumn(row, sample, None if former is None else bytes(former.binding.label))


def warn_of_plaintext(declarations: Iterable[Declaration]) -> None:
    """Warn of the columns that are read although their values are not encrypted."""
    open_columns = [
        f"{declaration.column} (until {declaration.type_.accept_plaintext_until})"
        for declaration in declarations
        if declaration.type_.accept_plaintext_until is not None
    ]
    if open_columns:
        msg = (
            f"values that are not encrypted are read in {', '.join(open_columns)}, and nothing shows who wrote them; "
            "encrypt the rest (`sa-keyvault reencrypt`), then take accept_plaintext_until away"
        )
        warnings.warn(msg, PlaintextAcceptedWarning, stacklevel=3)
