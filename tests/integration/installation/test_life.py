"""The life of an installation, as an administrator lives it over the years, on each database."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import EngineMaker
from sqlalchemy import URL, Engine, delete, insert, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import flag_modified
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import (
    InstallationKey,
    KeyRecordError,
    KeyRing,
    KeyStateError,
    KeyStoreError,
    Pkcs11InstallationKey,
    store,
)
from sa_keyvault import administration as administer
from sa_keyvault.states import KeyState

pytestmark = pytest.mark.alone

EMAILS = {number: marked(f"person{number}@example.org") for number in range(1, 11)}


class Life:
    """An installation: its database, its servers, its administrator."""

    def __init__(self, url: URL, anchor: Path, make_engine: EngineMaker) -> None:
        self.plain = make_engine(url)
        self._url, self._anchor, self._make_engine = url, anchor, make_engine

    def server(self, key: InstallationKey) -> Engine:
        """Start a server."""
        ring = KeyRing(key, refresh_seconds=0, anchor=self._anchor)
        engine = self._make_engine(self._url, ring)
        ring.initialize(engine, Base.metadata)
        return engine

    def administrator(self, key: InstallationKey, *also: InstallationKey) -> KeyRing:
        """Return the administrator's ring."""
        return KeyRing(key, refresh_seconds=0, removal_delay=timedelta(0), actor="ada", also=also)

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Return all rows of the key store."""
        with self.plain.connect() as connection:
            return {
                table.name: [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in store.tables.sorted_tables
            }

    def put_back(self, rows: dict[str, list[dict[str, Any]]], *names: str) -> None:
        """Put older rows in the place of some tables' rows."""
        with self.plain.begin() as connection:
            for name in names or rows:
                connection.execute(delete(store.tables.tables[name]))
                if rows[name]:
                    connection.execute(insert(store.tables.tables[name]), rows[name])

    def doctor(self, key: InstallationKey) -> list[str]:
        """Return what the doctor finds wrong."""
        with self.plain.connect() as connection:
            return [one.check for one in administer.examine(connection, self.administrator(key)) if not one.is_good]


def read(engine: Engine) -> dict[int, str]:
    """Return what a server reads."""
    with Session(engine) as session:
        return {one.id: one.email for one in session.scalars(select(Claimant))}


def rewrite(engine: Engine) -> None:
    """Write all values again."""
    with Session(engine) as session, session.begin():
        for claimant in session.scalars(select(Claimant)):
            flag_modified(claimant, "email")


def test_life_of_an_installation(  # noqa: PLR0915 - a life is one story
    url: URL,
    tmp_path: Path,
    make_engine: EngineMaker,
    installation_key: InstallationKey,
    key: Pkcs11InstallationKey,
) -> None:
    """Through years of rotations, an incident, a restored store and the change to a token every value opens."""
    life = Life(url, tmp_path / "anchor.json", make_engine)
    first, second = life.server(installation_key), life.server(installation_key)
    Base.metadata.create_all(life.plain)
    with Session(first) as session, session.begin():
        session.add_all(Claimant(id=number, email=email) for number, email in EMAILS.items())
    admin = life.administrator(installation_key)
    assert read(second) == EMAILS

    # a year of rotations
    for month in range(12):
        with life.plain.begin() as connection:
            if month % 6 == 5:
                administer.rotate_master(connection, admin, reason=f"month {month}")
            administer.rotate_area(connection, admin, "identities", f"month {month}")
        rewrite(first if month % 2 else second)
    assert read(first) == read(second) == EMAILS

    # what is retired is removed
    with life.plain.begin() as connection:
        retired = [one for one in store.working(connection) if one.state is KeyState.RETIRED]
        for record in retired:
            administer.remove_working(connection, admin, record.number)
        for master in store.masters(connection):
            if master.state is KeyState.RETIRED:
                administer.remove_master(connection, admin, master.id)
    assert len(retired) == 12
    assert life.doctor(installation_key) == []

    # a key is disabled and enabled; its old row is put back, and refused
    before = life.contents()
    with life.plain.begin() as connection:
        (active,) = [one for one in store.working_in_area(connection, "identities") if one.state is KeyState.ACTIVE]
        administer.disable_working(connection, admin, active.number, "incident")
    for server in (first, second):
        try:
            read(server)
        except KeyStateError:
            continue
        raise AssertionError(server)
    disabled = life.contents()
    life.put_back(before, "keyvault_working_key")
    assert life.doctor(installation_key) == ["key store"]
    refused(life, installation_key, KeyRecordError)
    life.put_back(disabled)
    with life.plain.begin() as connection:
        administer.enable_working(connection, admin, active.number)
    assert read(first) == EMAILS

    # a master key is compromised
    with life.plain.begin() as connection:
        done = administer.replace_master(connection, admin, reason="incident")
    assert done.reencrypt == ("identities", "models")
    rewrite(first)
    with life.plain.begin() as connection:
        for record in store.working(connection):
            if record.master_id == done.former and record.state is not KeyState.REMOVED:
                administer.remove_working(connection, admin, record.number)
        administer.remove_master(connection, admin, done.former)
    newest = life.server(installation_key)
    assert read(newest) == EMAILS

    # the whole key store of a year ago is put back
    present = life.contents()
    life.put_back(before)
    refused(life, installation_key, KeyStoreError)
    life.put_back(present)
    assert read(life.server(installation_key)) == EMAILS

    # the installation key moves to a token, servers change over one by one, the former key leaves
    with life.plain.begin() as connection:
        administer.add_installation(connection, admin, key, "token")
    on_token = life.server(key)
    assert read(first) == read(on_token) == EMAILS
    with life.plain.begin() as connection:
        administer.rotate_master(connection, life.administrator(key, installation_key))
    with life.plain.begin() as connection:
        administer.remove_installation(connection, life.administrator(key), installation_key.fingerprint)
    refused(life, installation_key, KeyStoreError)
    rewrite(on_token)
    assert read(life.server(key)) == EMAILS
    assert life.doctor(key) == []
    with life.plain.connect() as connection:
        report = administer.verify_events(connection, [key.fingerprint])
    assert report.findings == ()


def refused(life: Life, key: InstallationKey, error: type[Exception]) -> None:
    """Start a server that must be refused."""
    try:
        life.server(key)
    except error:
        return
    msg = "a server started that must be refused"
    raise AssertionError(msg)
