"""One value: opened and sealed, against the bare cipher of the same size."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, String, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.measure import Comparison, Peer, compare
from sa_keyvault import Encrypted, KeyRing
from sa_keyvault.statements import EncryptedColumn, Plans, encode_column
from sa_keyvault.statements.sealing import seal_plaintexts

__all__ = ["OPEN_GOAL", "SEAL_GOAL", "compare_values"]

OPEN_GOAL = 2.2
SEAL_GOAL = 2.5

_COUNT = 10_000
_AREA = "benchmark_values"


class Base(DeclarativeBase):
    """Root of the models."""


class Value(Base):
    """A row with one encrypted text."""

    __tablename__ = "benchmark_value"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Encrypted(String(254), area=_AREA))


def texts(count: int) -> list[str]:
    """Return texts of the size of an address: 26 bytes."""
    return [f"person{number:08}@example.org" for number in range(count)]


def compare_values(engine: Engine, ring: KeyRing, rounds: int) -> Iterator[Comparison]:
    """Compare what is done to one value with the bare cipher."""
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Value(id=number, email=text) for number, text in enumerate(texts(_COUNT), 1))
    decrypt, encrypt = _bare_decrypt(), _bare_encrypt()
    measure = partial(compare, items=_COUNT, rounds=rounds)
    yield measure("open one value", decrypt, _result_processor(engine), goal=OPEN_GOAL)
    yield measure("seal one value", encrypt, _sealer(engine, ring), goal=SEAL_GOAL)
    yield measure("seal one value, as a statement does", encrypt, _statement(engine, ring), goal=None)


def _bare_decrypt() -> Peer:
    cipher = AESGCM(os.urandom(32))
    nonces = [os.urandom(12) for _ in range(_COUNT)]
    bodies = [cipher.encrypt(nonce, text.encode(), None) for nonce, text in zip(nonces, texts(_COUNT), strict=True)]
    sealed, decrypt = list(zip(nonces, bodies, strict=True)), cipher.decrypt

    def work() -> None:
        for nonce, body in sealed:
            decrypt(nonce, body, None)

    return lambda: nullcontext(work)


def _result_processor(engine: Engine) -> Peer:
    """What SQLAlchemy calls for a column of a SELECT, found as SQLAlchemy finds it."""
    compiled = select(Value.email).compile(engine)
    (column,) = compiled._result_columns  # noqa: SLF001 - there is no public name
    process = column.type.dialect_impl(engine.dialect).result_processor(engine.dialect, None)
    if process is None:
        msg = "the selected column is opened by nobody"
        raise AssertionError(msg)
    with engine.connect() as connection:
        stored = list(connection.exec_driver_sql(str(compiled)).scalars())
    if [process(value) for value in stored] != texts(_COUNT):
        msg = "the stored values do not open to what was stored"
        raise AssertionError(msg)

    def work() -> None:
        for value in stored:
            process(value)

    return lambda: nullcontext(work)


def _bare_encrypt() -> Peer:
    encrypt, urandom = AESGCM(os.urandom(32)).encrypt, os.urandom
    plaintexts = [text.encode() for text in texts(_COUNT)]

    def work() -> None:
        for plaintext in plaintexts:
            encrypt(urandom(12), plaintext, None)

    return lambda: nullcontext(work)


def _column(engine: Engine) -> EncryptedColumn:
    plan = Plans(engine.dialect).of(Value.__table__)
    if plan is None:
        msg = "the benchmark's table has no encrypted column"
        raise AssertionError(msg)
    return plan.encrypted["email"]


def _sealer(engine: Engine, ring: KeyRing) -> Peer:
    """The sealer of an area, taken once per value, with the symbols of the value's row."""
    column = _column(engine)
    rows = [(text.encode(), column.symbols_of({"id": number})) for number, text in enumerate(texts(_COUNT), 1)]

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with engine.begin() as connection:
            sealers = ring.sealers(_AREA, column.binding, [len(text) for text, _ in rows], connection)

        def work() -> None:
            for plaintext, symbols in rows:
                next(sealers)(plaintext, symbols)

        yield work

    return prepare


def _statement(engine: Engine, ring: KeyRing) -> Peer:
    """All that a statement does to its values: encoding, the symbols of each row, sealing."""
    column = _column(engine)
    values, rows = texts(_COUNT), [{"id": number} for number in range(1, _COUNT + 1)]

    @contextmanager
    def prepare() -> Iterator[Callable[[], object]]:
        with engine.begin() as connection:
            yield lambda: seal_plaintexts(column, encode_column(column, values), rows, connection, ring)

    return prepare
