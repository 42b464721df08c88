"""One model with columns of two areas, what is stored of it, and what another process does with it."""

import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, LargeBinary, String, Table, create_engine, select, type_coerce
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, Session, mapped_column

from sa_keyvault import Encrypted, InstallationKey, KeyRing, new_passphrase

__all__ = ["Base", "Claimant", "envelopes", "run_processes", "write_in_process"]


class Base(DeclarativeBase):
    """Root of the models."""


class Claimant(Base):
    """Somebody who claims an account."""

    __tablename__ = "claimant"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Encrypted(String(254), area="identities"))
    voice_model: Mapped[bytes | None] = mapped_column(Encrypted(LargeBinary, area="models"))


def envelopes(connection: Connection, attribute: InstrumentedAttribute[Any] = Claimant.email) -> list[bytes]:
    """Return the stored bytes of one encrypted column, in the order of the rows."""
    table = Claimant.__table__
    assert isinstance(table, Table)
    column = table.c[attribute.key]
    stored = select(type_coerce(column, LargeBinary)).where(column.is_not(None)).order_by(table.c.id)
    return [bytes(envelope) for envelope in connection.execute(stored).scalars()]


def run_processes(
    url: URL, installation_key: InstallationKey, folder: Path, emails: Sequence[Sequence[str]], **options: Any
) -> list[int | None]:
    """Let one new process for each of *emails* initialize and write at the same time; return their exit codes."""
    passphrase, key_file = new_passphrase(), folder / "installation.pem"
    installation_key.to_file(key_file, passphrase)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(emails))
    processes = [
        context.Process(target=write_in_process, args=(url, key_file, passphrase, barrier, own, options))
        for own in emails
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def write_in_process(
    url: URL, key_file: Path, passphrase: bytes, barrier: Barrier, emails: Sequence[str], options: dict[str, Any]
) -> None:
    """Initialize a ring of this process's own together with the other processes, and insert claimants one by one."""
    ring = KeyRing(InstallationKey.from_file(key_file, passphrase), **options)
    engine = create_engine(url, plugins=["keyvault"], keyring=ring)
    barrier.wait()
    ring.initialize(engine, Base.metadata)
    for email in emails:
        with Session(engine) as session:
            session.add(Claimant(email=email))
            session.commit()
    engine.dispose()
