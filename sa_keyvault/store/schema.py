"""The tables of the key store."""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

__all__ = [
    "column_table",
    "event_table",
    "installation_table",
    "job_table",
    "master_table",
    "store_table",
    "tables",
    "usage_table",
    "working_table",
    "wrap_table",
]

_TABLE_OPTIONS: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"), ("collate", "utf8mb4_bin"))
}

tables: MetaData = MetaData()

store_table: Table = Table(
    "keyvault_store",
    tables,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("head", String(64), nullable=False),
    **_TABLE_OPTIONS,
)
installation_table: Table = Table(
    "keyvault_installation",
    tables,
    Column("fingerprint", String(64), primary_key=True),
    Column("public_key", LargeBinary(2048), nullable=False),
    Column("certificate", LargeBinary(65535), nullable=False),
    Column("algorithm", String(64), nullable=False),
    Column("signature", LargeBinary(2048), nullable=False),
    **_TABLE_OPTIONS,
)
event_table: Table = Table(
    "keyvault_event",
    tables,
    Column("id", String(32), primary_key=True),
    Column("store_id", String(32), nullable=False),
    Column("created", String(20), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(32), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("reason", String(1024), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("algorithm", String(64), nullable=False),
    Column("signature", LargeBinary(2048), nullable=False),
    # of events that were written in passing both are empty until the next operation links them
    Column("number", BigInteger, nullable=True, unique=True),
    Column("link", String(64), nullable=False),
    # who opens the store, and the births of some keys, are found without a look at all other events
    Index("ix_keyvault_event_action", "action", "subject"),
    **_TABLE_OPTIONS,
)
master_table: Table = Table(
    "keyvault_master_key",
    tables,
    Column("id", String(32), primary_key=True),
    Column("store_id", String(32), nullable=False),
    Column("created", String(20), nullable=False),
    Column("changed", String(20), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    Column("former_state", String(8), nullable=False),
    Column("suite", String(32), nullable=False),
    Column("lineage", String(32), nullable=False),
    **_TABLE_OPTIONS,
)
wrap_table: Table = Table(
    "keyvault_master_wrap",
    tables,
    Column("master_id", String(32), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("algorithm", String(64), nullable=False),
    Column("wrapped", LargeBinary(2048), nullable=False),
    Column("signature", LargeBinary(2048), nullable=False),
    **_TABLE_OPTIONS,
)
working_table: Table = Table(
    "keyvault_working_key",
    tables,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
    Column("area", String(64), nullable=False),
    Column("created", String(20), nullable=False),
    Column("changed", String(20), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),
    Column("former_state", String(8), nullable=False),
    Column("suite", String(32), nullable=False),
    Column("master_id", String(32), nullable=False),
    Column("wrapped", LargeBinary(256), nullable=False),
    # the newest keys of an area are found without a look at all others
    Index("ix_keyvault_working_key_area", "area", "created"),
    **_TABLE_OPTIONS,
)
job_table: Table = Table(
    "keyvault_job",
    tables,
    Column("job_id", String(32), primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("name", String(255), nullable=False),
    # keys of rows, as JSON; empty: from the first row, or to the last
    Column("after", Text, nullable=False),
    Column("until", Text, nullable=False),
    Column("done_rows", BigInteger, nullable=False),
    Column("is_finished", Boolean(create_constraint=False), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("changed", String(20), nullable=False),
    **_TABLE_OPTIONS,
)
usage_table: Table = Table(
    "keyvault_usage",
    tables,
    Column("id", String(32), primary_key=True),
    Column("key_id", String(32), nullable=False, index=True),
    Column("amount", BigInteger, nullable=False),
    **_TABLE_OPTIONS,
)
column_table: Table = Table(
    "keyvault_column",
    tables,
    Column("schema_name", String(128), primary_key=True),
    Column("table_name", String(128), primary_key=True),
    Column("column_name", String(128), primary_key=True),
    Column("label", LargeBinary(1024), nullable=False),
    Column("area", String(64), nullable=False),
    Column("inner_type", String(255), nullable=False),
    **_TABLE_OPTIONS,
)
