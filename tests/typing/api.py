"""What users write, for the type checkers only; never run."""

from typing import assert_type

from sqlalchemy import LargeBinary, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from sa_keyvault import (
    Encrypted,
    InstallationKey,
    KeyRing,
    Pkcs11InstallationKey,
    Provisioning,
    new_passphrase,
    passphrase_from_file,
    storage_length,
)


class Base(DeclarativeBase):
    """Declarative base."""


class Claimant(Base):
    """A mapped class with encrypted columns."""

    __tablename__ = "claimant"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Encrypted(String(254), area="identities"))
    voice_model: Mapped[bytes | None] = mapped_column(Encrypted(LargeBinary, area="models", bind_to=("tenant",)))
    tenant: Mapped[str] = mapped_column(String(20))


key = InstallationKey.from_file("installation.pem", passphrase=new_passphrase())
token_key = Pkcs11InstallationKey(
    module="/usr/lib/softhsm/libsofthsm2.so", token="server", label="sa_keyvault", pin=passphrase_from_file("pin")
)
assert_type(KeyRing(token_key).installation_key, InstallationKey)
ring = KeyRing(key, provisioning=Provisioning.default(), refresh_seconds=10)
engine = create_engine("sqlite://", plugins=["keyvault"], keyring=ring)
ring.initialize(engine, Base.metadata)

with Session(engine) as session:
    claimant = session.scalars(select(Claimant)).one()
    assert_type(claimant.email, str)
    assert_type(claimant.voice_model, bytes | None)

assert_type(ring.seal(Claimant.email, 5, "x"), bytes)
assert_type(storage_length(String(20)), int | None)
