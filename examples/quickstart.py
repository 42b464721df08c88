"""Quick start: a password-reset desk whose personal data is stored encrypted, each value bound to its row.

Run it with `python examples/quickstart.py`, or with the path of an SQLite file to keep and look into.
"""

import hashlib
import sys
import tempfile
from pathlib import Path

from sqlalchemy import JSON, Engine, ForeignKey, LargeBinary, String, create_engine, select, text, type_coerce
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from sa_keyvault import AuthenticationError, Encrypted, InstallationKey, KeyRing, new_passphrase


class Base(DeclarativeBase):
    """Root of the models."""

    id: Mapped[int] = mapped_column(primary_key=True)


class Claimant(Base):
    """Somebody who has lost a password."""

    __tablename__ = "claimant"
    name: Mapped[str] = mapped_column(Encrypted(String(80), area="identities"))
    email: Mapped[str] = mapped_column(Encrypted(String(254), area="identities"))
    phone: Mapped[str | None] = mapped_column(Encrypted(String(24), area="identities"))
    voice_models: Mapped[list["VoiceModel"]] = relationship()
    credentials: Mapped[list["Credential"]] = relationship()


class VoiceModel(Base):
    """What a claimant's voice is recognized by."""

    __tablename__ = "voice_model"
    claimant_id: Mapped[int] = mapped_column(ForeignKey(Claimant.id))
    model: Mapped[bytes] = mapped_column(Encrypted(LargeBinary, area="models"))
    features: Mapped[list["Feature"]] = relationship()


class Feature(Base):
    """What was measured in one recording of the voice."""

    __tablename__ = "feature"
    voice_model_id: Mapped[int] = mapped_column(ForeignKey(VoiceModel.id))
    vector: Mapped[list[float]] = mapped_column(Encrypted(JSON, area="features"))


class Credential(Base):
    """A technical account that sets the claimant's new password."""

    __tablename__ = "credential"
    claimant_id: Mapped[int] = mapped_column(ForeignKey(Claimant.id))
    secret: Mapped[str] = mapped_column(Encrypted(String(80), area="credentials"))


def generated_claimants() -> list[Claimant]:
    """Make up people; their mail domain and telephone numbers are reserved for fiction."""
    claimants = []
    for name, phone in (("Amaru Quillfeather", None), ("Brünhild Overbakke", "017"), ("Çelik Tamburlini", "018")):
        claimant = Claimant(name=name, email=f"{name.split()[1].lower()}@example.org")
        claimant.phone = phone and f"+44 20 7946 0{phone}"
        noise = hashlib.sha256(name.encode()).digest()
        claimant.voice_models = [VoiceModel(model=noise, features=[Feature(vector=[n / 256 for n in noise[:4]])])]
        claimant.credentials = [Credential(secret=f"reset-{noise.hex()[:16]}")]
        claimants.append(claimant)
    return claimants


def start(database: Path, key_file: Path, passphrase: bytes) -> Engine:
    """Do what an application does at every start-up."""
    ring = KeyRing(InstallationKey.from_file(key_file, passphrase))
    engine = create_engine(f"sqlite:///{database}", plugins=["keyvault"], keyring=ring)
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    return engine


def show_stored_and_loaded(engine: Engine) -> None:
    columns = (Claimant.name, Claimant.email, Claimant.phone, VoiceModel.model, Feature.vector, Credential.secret)
    with Session(engine) as session:
        for column in columns:
            for stored, loaded in session.execute(select(type_coerce(column, LargeBinary), column)):
                shortened = "NULL" if stored is None else f"{stored.hex():.40}…"
                shown = loaded.hex() if isinstance(loaded, bytes) else loaded
                print(f"  {column!s:17}  {shortened:41}  {shown!s:.50}")


def swap_emails(engine: Engine) -> None:
    swap = text("UPDATE claimant SET email = :email WHERE id = :id")
    with engine.begin() as connection:
        first, second = connection.scalars(text("SELECT email FROM claimant WHERE id IN (1, 2) ORDER BY id"))
        connection.execute(swap, [{"id": 1, "email": second}, {"id": 2, "email": first}])


def main(database: Path) -> None:
    key_file, passphrase = database.with_suffix(".pem"), new_passphrase()
    InstallationKey.generate().to_file(key_file, passphrase)
    engine = start(database, key_file, passphrase)
    with Session(engine) as session, session.begin():
        session.add_all(generated_claimants())
    print("What is stored, beside what is loaded:")
    show_stored_and_loaded(engine)

    print("\nThe e-mail addresses of claimants 1 and 2, swapped in SQL:")
    swap_emails(engine)
    with Session(engine) as session:
        try:
            print("  loaded:", session.scalars(select(Claimant.email)).all())
        except AuthenticationError as error:
            print(f"  refused: {error}")
    swap_emails(engine)
    engine.dispose()

    print("\nWhat a second start-up finds, with the installation key from its file:")
    engine = start(database, key_file, passphrase)
    with Session(engine) as session:
        for claimant in session.scalars(select(Claimant)):
            print(f"  {claimant.name:18}  {claimant.email:24}  {claimant.credentials[0].secret}")
        print("\nThe working keys by area:")
        for key in session.execute(text("SELECT area, number, suite, state FROM keyvault_working_key ORDER BY area")):
            print(f"  {key.area:12}  {key.number:10}  {key.suite}  {key.state}")
    engine.dispose()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "quickstart.db")
