"""How a column becomes one of bytes, and one of another type again; no value is lost on the way.

SQLite takes bytes in a column of any type, so there nothing is altered: a copy of the table would lose its triggers
and CHECK constraints.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from alembic.operations import Operations
from sqlalchemy import Connection, Enum, LargeBinary, String, Uuid, inspect, text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

from sa_keyvault.decorators import undecorated
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.migrations.column_operations import ColumnOperation
from sa_keyvault.types import is_binary, storage_length

__all__ = ["become_bytes", "become_plain", "is_plain_already", "storage"]

_LONGEST = 2**32 - 1  # bytes; MariaDB's LONGBLOB


def storage(type_: TypeEngine[Any]) -> LargeBinary:
    """Return the type of a column that holds the envelopes of values of *type_*, on every database."""
    return LargeBinary(storage_length(type_) or _LONGEST)


def become_bytes(operations: Operations, operation: ColumnOperation, existing: TypeEngine[Any]) -> None:
    """Make the column one of bytes: those of the texts of its values, but for SQLite.

    Raises:
        sa_keyvault.ConfigurationError: SQLite enforces the type of the column.
    """
    connection, wanted = operations.get_bind(), storage(operation.type_)
    if connection.dialect.name == "sqlite":
        _require_lax(connection, operation)
        _require_no_default(connection, operation)
    elif connection.dialect.name == "postgresql":
        name = _quoted(connection, operation)
        using = name if is_binary(existing, connection.dialect) else f"convert_to({name}::text, 'UTF8')"
        with _settled_texts(connection):
            _alter(operations, operation, wanted, {"postgresql_using": using})
    else:
        _spell_in_utf8(operations, operation)
        _alter(operations, operation, wanted, {})


def is_plain_already(connection: Connection, operation: ColumnOperation) -> bool:
    """Whether a decryption was stopped after its values were decrypted: MariaDB commits at every ALTER."""
    is_mariadb = connection.dialect.name in ("mysql", "mariadb")
    return is_mariadb and not is_binary(_column(connection, operation)["type"], connection.dialect)


def become_plain(operations: Operations, operation: ColumnOperation, wanted: TypeEngine[Any]) -> None:
    """Give a column of bytes, which are the texts of values, the type of these values."""
    connection, dialect = operations.get_bind(), operations.get_bind().dialect
    if dialect.name == "postgresql":
        with _settled_texts(connection):
            _alter(operations, operation, wanted, {"postgresql_using": _from_bytes(connection, operation, wanted)})
    elif dialect.name != "sqlite":
        is_taken = isinstance(undecorated(wanted, dialect), Uuid) or is_binary(wanted, dialect)
        if not is_taken:
            # first to text and no further: these bytes are taken as they are, in the character set that is named
            _alter(operations, operation, mysql.LONGTEXT(charset="utf8mb4"), {})
        _alter(operations, operation, wanted, {})


def _from_bytes(connection: Connection, operation: ColumnOperation, wanted: TypeEngine[Any]) -> str:
    name, dialect = _quoted(connection, operation), connection.dialect
    if is_binary(wanted, dialect):
        return name
    value = f"convert_from({name}, 'UTF8')"
    # a cast to VARCHAR(n) would cut a longer value, where an assignment refuses it
    is_text = isinstance(plain := undecorated(wanted, dialect), String) and not isinstance(plain, Enum)
    return value if is_text else f"{value}::{wanted.compile(dialect)}"


@contextmanager
def _settled_texts(connection: Connection) -> Iterator[None]:
    """Make the texts of dates and times the same whatever the session's settings are."""
    names = ("datestyle", "timezone")
    before = {
        name: connection.execute(text("SELECT current_setting(:name)"), {"name": name}).scalar() for name in names
    }
    for name, value in zip(names, ("ISO, YMD", "UTC"), strict=True):
        _set(connection, name, value)
    yield
    for name, former in before.items():
        _set(connection, name, str(former))


def _set(connection: Connection, name: str, value: str) -> None:
    connection.execute(text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})


def _require_lax(connection: Connection, operation: ColumnOperation) -> None:
    """Refuse a STRICT table: it takes no bytes in a column of another type."""
    prefix = f"{connection.dialect.identifier_preparer.quote(operation.schema)}." if operation.schema else ""
    rows = connection.execute(text(f"PRAGMA {prefix}table_list")).mappings()
    strict = [str(row["name"]) for row in rows if row["strict"]]
    if operation.table_name not in strict or is_binary(_column(connection, operation)["type"], connection.dialect):
        return
    msg = (
        f"{operation.table_name} is a STRICT table, whose column {operation.column_name!r} takes no bytes; "
        "make it a column of type ANY first (batch_alter_table), and run this migration again"
    )
    raise ConfigurationError(msg)


def _require_no_default(connection: Connection, operation: ColumnOperation) -> None:
    if _column(connection, operation)["default"] is None:
        return
    msg = (
        f"column {operation.column_name!r} of {operation.table_name} has a default, which the database would store "
        "unencrypted; drop it first (batch_alter_table), and run this migration again"
    )
    raise ConfigurationError(msg)


def _spell_in_utf8(operations: Operations, operation: ColumnOperation) -> None:
    """Make texts in UTF-8 of a column of MariaDB whose bytes would be something else."""
    statement = text(
        "SELECT data_type, character_set_name FROM information_schema.columns "
        "WHERE table_schema = coalesce(:schema, database()) AND table_name = :table AND column_name = :column"
    )
    names = {"schema": operation.schema, "table": operation.table_name, "column": operation.column_name}
    data_type, charset = operations.get_bind().execute(statement, names).one()
    if data_type in _PACKED or charset not in (None, "utf8mb4"):
        _alter(operations, operation, mysql.LONGTEXT(charset="utf8mb4"), {})


_PACKED = ("inet4", "inet6", "uuid")
"""Types of MariaDB that become 4 or 16 bytes where all others become their texts."""


def _alter(
    operations: Operations, operation: ColumnOperation, wanted: TypeEngine[Any], options: Mapping[str, Any]
) -> None:
    column = _column(operations.get_bind(), operation)
    # a batch has operations of its own, which wait until it ends
    alter_column = partial(
        Operations(operations.migration_context).alter_column,
        operation.table_name,
        operation.column_name,
        existing_type=column["type"],
        existing_nullable=column["nullable"],
        existing_comment=column.get("comment"),
        schema=operation.schema,
    )
    if column["default"] is not None:
        # the database would store it unencrypted; PostgreSQL cannot make bytes of it, either
        alter_column(server_default=None)
    alter_column(type_=wanted, **options)


def _quoted(connection: Connection, operation: ColumnOperation) -> str:
    return str(connection.dialect.identifier_preparer.quote(operation.column_name))


def _column(connection: Connection, operation: ColumnOperation) -> Any:
    found = inspect(connection).get_columns(operation.table_name, schema=operation.schema)
    return next(one for one in found if one["name"] == operation.column_name)
