"""Values in other schemas than the models' own: they depend on their keys as well, and those of others do not."""

import secrets
from collections.abc import Iterator

import pytest
from conftest import EngineMaker
from sqlalchemy import URL, Engine, event, text
from sqlalchemy.orm import Session
from support.leaks import marked
from support.models import Base, Claimant

from sa_keyvault import KeyRing, KeyStateError, KeyStoreError, store
from sa_keyvault import administration as administer
from sa_keyvault.administration.counting import count_newest_values
from sa_keyvault.states import KeyState

EMAIL = marked("grace@example.org")


@pytest.fixture
def tenant(application: Engine, plain: Engine, url: URL, sqlite_schemas: None) -> Iterator[str]:
    """The name of another schema: on MariaDB another database, on SQLite an attached one."""
    name = f"tenant_{secrets.token_hex(4)}"
    if url.get_backend_name() == "sqlite":
        name = "tenant"
    else:
        with plain.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {name}"))
    yield name
    if url.get_backend_name() in ("mysql", "mariadb"):
        with plain.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {name}"))


@pytest.fixture
def sqlite_schemas(application: Engine, plain: Engine, url: URL) -> None:
    """Attach another file to every connection to SQLite."""
    if url.get_backend_name() == "sqlite":
        for engine in (application, plain):
            engine.dispose()
            event.listen(engine, "connect", lambda raw, _: raw.execute(f"ATTACH '{url.database}.tenant' AS tenant"))


def write(engine: Engine, schema: str, email: str = EMAIL) -> Engine:
    """Write a row of the model to another schema; return an engine that reads it from there."""
    translated = engine.execution_options(schema_translate_map={None: schema})
    Base.metadata.create_all(translated)
    with Session(translated) as session, session.begin():
        session.add(Claimant(id=1, email=email))
    return translated


def empty(engine: Engine) -> None:
    """Delete the rows in the models' own schema."""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM claimant"))


def junk(plain: Engine, schema: str, value: bytes) -> None:
    """Let another application have a value in a table of the same name in a schema of its own."""
    with plain.begin() as connection:
        Base.metadata.create_all(connection.execution_options(schema_translate_map={None: schema}))
        stored = {"email": value}
        connection.execute(text(f"INSERT INTO {schema}.claimant (id, email) VALUES (1, :email)"), stored)


def rotated(plain: Engine, admin: KeyRing) -> int:
    """Rotate the area; return the key that its values are under."""
    with plain.begin() as connection:
        (number,) = administer.rotate_area(connection, admin, "identities")
    return number


@pytest.mark.alone
def test_values_of_a_tenant_keep_their_key(application: Engine, plain: Engine, admin: KeyRing, tenant: str) -> None:
    """Values that a `schema_translate_map` put into another schema are counted, and keep their key (R-31)."""
    translated = write(application, tenant)
    empty(application)
    number = rotated(plain, admin)
    with plain.begin() as connection:
        (found,) = (one for one in administer.status(connection, admin).working if one.number == number)
    assert ({f"{tenant}.claimant.email": 1}, "1 values depend on it") == (found.values, found.obstacle)
    refused = pytest.raises(KeyStateError, match=rf"1 values depend .* {tenant}\.claimant\.email \(1\); re-encrypt")
    with plain.connect() as connection, refused:
        administer.remove_working(connection, admin, number)
    with Session(translated) as session:
        assert session.get_one(Claimant, 1).email == EMAIL


@pytest.mark.alone
def test_values_of_a_tenant_are_counted_before_the_key_store_is_dropped(
    application: Engine, plain: Engine, tenant: str
) -> None:
    """What the key store counts before it is dropped has every schema's values, each with its own name."""
    write(application, tenant)
    with plain.connect() as connection:
        found = {count.name: count.values for count in administer.count_values(connection)}
        newest = {count.name: count.values for count in count_newest_values(connection)}
    assert {"claimant.email": 1, "claimant.voice_model": 1, f"{tenant}.claimant.email": 1} == found == newest


@pytest.mark.alone
@pytest.mark.parametrize("value", [b"\1\0\0\0\7" + bytes(40), b"no envelope"], ids=["key-7", "plain"])
def test_values_of_another_application_are_not_counted(
    application: Engine, plain: Engine, admin: KeyRing, tenant: str, value: bytes
) -> None:
    """An equally named table of an application with other keys keeps no key, and the doctor finds nothing in it."""
    junk(plain, tenant, value)
    empty(application)
    number = rotated(plain, admin)
    with plain.begin() as connection:
        assert administer.count_values(connection) == []
        findings = {one.check: one.is_good for one in administer.examine(connection, admin)}
        assert findings["values"]
        administer.remove_working(connection, admin, number)
    with plain.connect() as connection:
        assert [one.state for one in store.working(connection, [number])] == [KeyState.REMOVED]


_ROLES = {
    "postgresql": (
        "CREATE ROLE {role} LOGIN IN ROLE pg_read_all_stats",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
    ),
    "mysql": (
        "CREATE USER {role}",
        "GRANT ALL ON {database}.* TO {role}",
        "GRANT PROCESS ON *.* TO {role}",
        "GRANT INSERT ON {tenant}.* TO {role}",
    ),
}


@pytest.fixture
def role(plain: Engine, url: URL, tenant: str) -> Iterator[str]:
    """A role that may read the models' own schema only."""
    name = f"role_{secrets.token_hex(4)}"
    is_postgresql = url.get_backend_name() == "postgresql"
    with plain.begin() as connection:
        for statement in _ROLES["postgresql" if is_postgresql else "mysql"]:
            connection.execute(text(statement.format(role=name, database=url.database, tenant=tenant)))
    yield name
    with plain.begin() as connection:
        if is_postgresql:
            connection.execute(text(f"DROP OWNED BY {name}"))
        connection.execute(text(f"DROP {'ROLE' if is_postgresql else 'USER'} {name}"))


@pytest.mark.alone
@pytest.mark.parametrize("url", ["postgresql", "mariadb"], indirect=True)
def test_hidden_schemas_are_no_empty_ones(
    application: Engine, plain: Engine, url: URL, admin: KeyRing, make_engine: EngineMaker, tenant: str, role: str
) -> None:
    """A schema that the role may not read refuses removal and the doctor's word, and does not count as empty (R-31)."""
    write(application, tenant)
    empty(application)
    number = rotated(plain, admin)
    with make_engine(url.set(username=role)).connect() as connection:
        (found,) = (one for one in administer.status(connection, admin).working if one.number == number)
        (finding,) = (one for one in administer.examine(connection, admin) if one.check == "values")
        with pytest.raises(KeyStateError, match=rf"in {tenant}\.claimant\.email \(this role may not read it\)"):
            administer.remove_working(connection, admin, number)
    assert f"{tenant}.claimant.email (this role may not read it) cannot be counted" == found.obstacle
    assert not finding.is_good
    assert f"{tenant}.claimant.email" in finding.detail


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_hidden_rows_are_not_left_out(
    application: Engine, plain: Engine, url: URL, admin: KeyRing, make_engine: EngineMaker, role: str
) -> None:
    """Rows that a policy hides from the role refuse the removal with an error that says so (R-31)."""
    number = rotated(plain, admin)
    with plain.begin() as connection:
        connection.execute(text("ALTER TABLE claimant ENABLE ROW LEVEL SECURITY"))
    refused = pytest.raises(KeyStoreError, match=r"in claimant\.email cannot be counted .* use a role that may read")
    with make_engine(url.set(username=role)).connect() as connection, refused:
        administer.remove_working(connection, admin, number)
