"""How the library runs statements of its own on the application's tables: unseen by the hooks, in the same schemas."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table

from sa_keyvault import store

__all__ = ["CRITERIA_OF_OTHERS", "internal", "postgresql_relation", "schema_of"]

CRITERIA_OF_OTHERS = "sa_keyvault_criteria_of_others"
"""Execution option of a statement of the library's own that has criteria of the application's."""


def internal(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the execution options of a statement of the library's own, beside one that has *options*."""
    translate = options.get("schema_translate_map")
    return {store.INTERNAL: True, "stream_results": False, "yield_per": None, "schema_translate_map": translate}


def schema_of(table: Table, options: Mapping[str, Any]) -> str | None:
    """Return the schema that a statement with *options* finds *table* in; the connection's are among them."""
    translate = options.get("schema_translate_map") or {}
    schema: str | None = translate.get(table.schema, table.schema)
    return schema


def postgresql_relation(connection: Connection, table: Table, options: Mapping[str, Any]) -> str:
    """Return the quoted name of *table*, to be cast to `regclass`."""
    preparer, schema = connection.dialect.identifier_preparer, schema_of(table, options)
    name = preparer.quote(table.name)
    return f"{preparer.quote_schema(schema)}.{name}" if schema else name
