"""One model with columns of two areas, what is stored of it, and what other processes do with it."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, LargeBinary, String, Table, create_engine, select, type_coerce
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute, Mapped, Session, mapped_column, registry

from sa_keyvault import Encrypted, InstallationKey, KeyRing, new_passphrase, store
from sa_keyvault.keyring import Identity, Operation, Policy, operation
from sa_keyvault.states import KeyState
from sa_keyvault.suites import Provisioning

__all__ = [
    "Base",
    "Claimant",
    "change_state",
    "changing",
    "disable_in_process",
    "envelopes",
    "map_class",
    "run_processes",
    "write_in_process",
]


class Base(DeclarativeBase):
    """Root of the models."""


class Claimant(Base):
    """Somebody who claims an account."""

    __tablename__ = "claimant"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Encrypted(String(254), area="identities"))
    voice_model: Mapped[bytes | None] = mapped_column(Encrypted(LargeBinary, area="models"))


def map_class(table: Table) -> Any:
    """Return a new class that is mapped to *table*."""

    class Row:
        """A row."""

        def __init__(self, **values: Any) -> None:
            for name, value in values.items():
                setattr(self, name, value)

    registry().map_imperatively(Row, table)
    return Row


def envelopes(connection: Connection, attribute: InstrumentedAttribute[Any] = Claimant.email) -> list[bytes]:
    """Return the stored bytes of one encrypted column, in the order of the rows."""
    table = Claimant.__table__
    assert isinstance(table, Table)
    column = table.c[attribute.key]
    stored = select(type_coerce(column, LargeBinary)).where(column.is_not(None)).order_by(table.c.id)
    return [bytes(envelope) for envelope in connection.execute(stored).scalars()]


def change_state(connection: Connection, key: InstallationKey, area: str, state: KeyState) -> None:
    """Put the working keys of an area into another state, as an administrative operation does."""
    with changing(connection, key) as operation:
        records = [record for record in operation.working.values() if record.area == area]
        operation.move_working(records, state, f"working-key-{state}")


@contextmanager
def changing(connection: Connection, key: InstallationKey) -> Iterator[Operation]:
    """Change keys as an administrative operation does, by an identity that accepts every signature."""
    # the signatures stay what they are
    algorithm = next(wrap.algorithm for wrap in store.wraps(connection) if wrap.fingerprint == key.fingerprint)
    provisioning = Provisioning(hash="sha1" if algorithm.endswith("sha1") else "sha256")
    with operation(connection, Identity(key, (), Policy(provisioning, "off"), "test")) as found:
        yield found


def run_processes(
    target: Callable[..., None], url: URL, key: InstallationKey, folder: Path, arguments: Sequence[tuple[Any, ...]]
) -> list[int | None]:
    """Run *target* in one new process for each of *arguments*, at the same time; return their exit codes."""
    passphrase, key_file = new_passphrase(), folder / "installation.pem"
    key.to_file(key_file, passphrase)
    context = multiprocessing.get_context("spawn")
    # a process that fails before the barrier must not leave the others waiting
    barrier = context.Barrier(len(arguments), timeout=120)
    processes = [context.Process(target=target, args=(url, key_file, passphrase, barrier, *own)) for own in arguments]
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


def disable_in_process(url: URL, key_file: Path, passphrase: bytes, barrier: Barrier, area: str) -> None:
    """Disable the working keys of an area."""
    barrier.wait()
    engine = create_engine(url)
    with engine.begin() as connection:
        change_state(connection, InstallationKey.from_file(key_file, passphrase), area, KeyState.DISABLED)
    engine.dispose()
