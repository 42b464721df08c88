"""One value: opened and sealed by every peer, against the bare cipher of the same size."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, Text, select

from benchmarks.databases import Database
from benchmarks.figures import OURS, PLAIN, Figure, Goal, Scale, figures_of, missing_figures
from benchmarks.measure import Peer, calls, race
from benchmarks.peers import AREA, PGCRYPTO, Kind
from sa_keyvault import Encrypted
from sa_keyvault.statements import EncryptedColumn, Plans, encode_column
from sa_keyvault.statements.sealing import seal_plaintexts

__all__ = ["LIMIT", "SIZES", "bench_values"]

LIMIT = "AESGCM alone"
SIZES = {"16 B": 16, "1 KiB": 1024, "1 MiB": 2**20}
OPEN_GOAL = 2.0

_COUNTS = {16: 5_000, 1024: 2_000, 2**20: 5}
_IN_SQL = "works in SQL only; see the tables below"


def bench_values(
    database: Database, chosen: Sequence[Kind], reasons: dict[str, str], scale: Scale
) -> Iterator[Figure | Goal]:
    """Compare what is done to one value with the bare cipher."""
    table = Table(
        "benchmark_value",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("text", Encrypted(Text(), area=AREA), nullable=False),
    )
    database.ring.initialize(database.ringed, table.metadata)
    others = [kind for kind in chosen if kind.name not in {PLAIN, OURS, PGCRYPTO}]
    for title, size in SIZES.items():
        texts = [f"{number:08}".ljust(size, "x") for number in range(1, _COUNTS[size] + 1)]
        opening = {LIMIT: _bare_decrypt(texts), OURS: _own_open(database, table, texts)}
        sealing = {LIMIT: _bare_encrypt(texts), OURS: _own_seal(database, table, texts)}
        for kind in others:
            sealing[kind.name], opening[kind.name] = _both(kind, database, texts)
        for doing, peers in (("open", opening), ("seal", sealing)):
            found = race(peers, items=len(texts), rounds=scale.rounds)
            yield from figures_of(found, "values", f"{doing} {title}", "", LIMIT, size=size)
            yield from missing_figures({**reasons, PGCRYPTO: _IN_SQL}, "values", f"{doing} {title}", "", LIMIT)
            if doing == "open" and size == min(SIZES.values()):
                text = f"a value of {title} opened, to the bare `AESGCM.decrypt`"
                yield Goal.at_most("values", text, OPEN_GOAL, found.ratio(OURS, LIMIT))


def _bare_decrypt(texts: Sequence[str]) -> Peer:
    cipher = AESGCM(os.urandom(32))
    nonces = [os.urandom(12) for _ in texts]
    sealed = [(nonce, cipher.encrypt(nonce, text.encode(), None)) for nonce, text in zip(nonces, texts, strict=True)]
    decrypt = cipher.decrypt

    def work() -> list[bytes]:
        return [decrypt(nonce, body, None) for nonce, body in sealed]

    return calls(work)


def _bare_encrypt(texts: Sequence[str]) -> Peer:
    encrypt, urandom = AESGCM(os.urandom(32)).encrypt, os.urandom
    plaintexts = [text.encode() for text in texts]

    def work() -> list[bytes]:
        return [encrypt(urandom(12), plaintext, None) for plaintext in plaintexts]

    return calls(work)


def _both(kind: Kind, database: Database, texts: Sequence[str]) -> tuple[Peer, Peer]:
    """The functions that SQLAlchemy calls for each value, found as SQLAlchemy finds them."""
    dialect = database.bare.dialect
    made = kind.make().dialect_impl(dialect)
    bind, result = made.bind_processor(dialect), made.result_processor(dialect, None)
    if bind is None or result is None:
        msg = f"{kind.name} encrypts nothing"
        raise AssertionError(msg)
    stored = [bytes(value) if isinstance(value := bind(text), memoryview) else value for text in texts]
    loaded = [result(value) for value in stored]
    take = kind.take
    if [value if take is None else take(value) for value in loaded] != list(texts):
        msg = f"{kind.name} does not open what it has sealed"
        raise AssertionError(msg)

    def seal() -> list[Any]:
        return [bind(text) for text in texts]

    def open_() -> list[Any]:
        return [result(value) for value in stored]

    if take is None:
        return calls(seal), calls(open_)

    def open_late() -> list[str]:
        return [take(result(value)) for value in stored]

    return calls(seal), calls(open_late)


def _column(database: Database, table: Table) -> EncryptedColumn:
    plan = Plans(database.ringed.dialect).of(table)
    if plan is None:
        msg = "the benchmark's table has no encrypted column"
        raise AssertionError(msg)
    return plan.encrypted["text"]


def _own_seal(database: Database, table: Table, texts: Sequence[str]) -> Peer:
    """All that a statement does to its values: encoding, the symbols of each row, counting usage, sealing."""
    column = _column(database, table)
    rows = [{"id": number} for number in range(1, len(texts) + 1)]

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with database.ringed.begin() as connection:
            yield lambda: seal_plaintexts(column, encode_column(column, texts), rows, connection, database.ring)

    return prepare


def _own_open(database: Database, table: Table, texts: Sequence[str]) -> Peer:
    """What SQLAlchemy calls for a column of a SELECT, found as SQLAlchemy finds it: from stored bytes to text."""
    column = _column(database, table)
    rows = [{"id": number} for number in range(1, len(texts) + 1)]
    with database.ringed.begin() as connection:
        envelopes = seal_plaintexts(column, encode_column(column, texts), rows, connection, database.ring)
    stored = [bytes(sealed or b"") + column.symbols_of(row) for sealed, row in zip(envelopes, rows, strict=True)]
    process = result_processor(database, table)
    if [process(value) for value in stored] != list(texts):
        msg = "the sealed values do not open to what was sealed"
        raise AssertionError(msg)

    def work() -> list[str]:
        return [process(value) for value in stored]

    return calls(work)


def result_processor(database: Database, table: Table) -> Callable[[Any], Any]:
    """Return what SQLAlchemy calls for the encrypted column of a table."""
    dialect = database.ringed.dialect
    (selected,) = select(table.c.text).compile(database.ringed)._result_columns  # noqa: SLF001 - no public name
    process = selected.type.dialect_impl(dialect).result_processor(dialect, LargeBinary())
    if process is None:
        msg = "the selected column is opened by nobody"
        raise AssertionError(msg)
    return process
