"""Real rows: customers, employees and invoices with names and addresses in a dozen languages.

The data is not part of the project; where the folder beside it is absent, these tests are skipped.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, DateTime, Engine, ForeignKey, LargeBinary, Numeric, String, inspect, select, text
from sqlalchemy import type_coerce as coerce
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    contains_eager,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from sa_keyvault import Encrypted, KeyRing

CHINOOK = Path(__file__).parents[3] / "shared" / "data" / "chinook.sqlite"
COUNTS = {"Employee": 8, "Customer": 59, "Invoice": 412}

pytestmark = pytest.mark.skipif(not CHINOOK.is_file(), reason="shared/data is not beside the repository")

Values = dict[str, Any]


class Base(DeclarativeBase):
    """Root of the models; lazy="raise" proves that what is read was loaded eagerly."""


class Employee(Base):
    """Somebody who works at the shop."""

    __tablename__ = "employee"

    employee_id: Mapped[int] = mapped_column(primary_key=True)
    last_name: Mapped[str] = mapped_column(Encrypted(String(20), area="employees"))
    first_name: Mapped[str] = mapped_column(Encrypted(String(20), area="employees"))
    title: Mapped[str | None] = mapped_column(Encrypted(String(30), area="employees"))
    reports_to: Mapped[int | None] = mapped_column(ForeignKey("employee.employee_id"))
    birth_date: Mapped[datetime | None] = mapped_column(Encrypted(DateTime, area="employees"))
    hire_date: Mapped[datetime | None] = mapped_column(Encrypted(DateTime, area="employees"))
    address: Mapped[str | None] = mapped_column(Encrypted(String(70), area="employees"))
    city: Mapped[str | None] = mapped_column(Encrypted(String(40), area="employees"))
    state: Mapped[str | None] = mapped_column(Encrypted(String(40), area="employees"))
    country: Mapped[str | None] = mapped_column(Encrypted(String(40), area="employees"))
    postal_code: Mapped[str | None] = mapped_column(Encrypted(String(10), area="employees"))
    phone: Mapped[str | None] = mapped_column(Encrypted(String(24), area="employees"))
    fax: Mapped[str | None] = mapped_column(Encrypted(String(24), area="employees"))
    email: Mapped[str | None] = mapped_column(Encrypted(String(60), area="employees"))

    manager: Mapped["Employee | None"] = relationship(remote_side=employee_id, back_populates="reports", lazy="raise")
    reports: Mapped[list["Employee"]] = relationship(back_populates="manager", lazy="raise")
    customers: Mapped[list["Customer"]] = relationship(back_populates="support_rep", lazy="raise")


class Customer(Base):
    """Somebody who buys there."""

    __tablename__ = "customer"

    customer_id: Mapped[int] = mapped_column(primary_key=True)
    first_name: Mapped[str] = mapped_column(Encrypted(String(40), area="customers"))
    last_name: Mapped[str] = mapped_column(Encrypted(String(20), area="customers"))
    company: Mapped[str | None] = mapped_column(Encrypted(String(80), area="customers"))
    address: Mapped[str | None] = mapped_column(Encrypted(String(70), area="customers"))
    city: Mapped[str | None] = mapped_column(Encrypted(String(40), area="customers"))
    state: Mapped[str | None] = mapped_column(Encrypted(String(40), area="customers"))
    country: Mapped[str | None] = mapped_column(Encrypted(String(40), area="customers"))
    postal_code: Mapped[str | None] = mapped_column(Encrypted(String(10), area="customers"))
    phone: Mapped[str | None] = mapped_column(Encrypted(String(24), area="customers"))
    fax: Mapped[str | None] = mapped_column(Encrypted(String(24), area="customers"))
    email: Mapped[str] = mapped_column(Encrypted(String(60), area="customers"))
    support_rep_id: Mapped[int | None] = mapped_column(ForeignKey(Employee.employee_id))

    support_rep: Mapped[Employee | None] = relationship(back_populates="customers", lazy="raise")
    invoices: Mapped[list["Invoice"]] = relationship(back_populates="customer", lazy="raise")


class Invoice(Base):
    """What a customer bought; its billing address is the customer's."""

    __tablename__ = "invoice"

    invoice_id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey(Customer.customer_id))
    invoice_date: Mapped[datetime]
    billing_address: Mapped[str | None] = mapped_column(Encrypted(String(70), area="customers"))
    billing_city: Mapped[str | None] = mapped_column(Encrypted(String(40), area="customers"))
    billing_state: Mapped[str | None] = mapped_column(Encrypted(String(40), area="customers"))
    billing_country: Mapped[str | None] = mapped_column(Encrypted(String(40), area="customers"))
    billing_postal_code: Mapped[str | None] = mapped_column(Encrypted(String(10), area="customers"))
    total: Mapped[float] = mapped_column(Numeric(10, 2, asdecimal=False))

    customer: Mapped[Customer] = relationship(back_populates="invoices", lazy="raise")


MODELS: tuple[type[Base], ...] = (Employee, Customer, Invoice)

Original = dict[type[Base], dict[int, Values]]
Loader = Callable[..., Any]


# -- the original ------------------------------------------------------------------------------------------------------


def read_original(model: type[Base]) -> list[Values]:
    """Return the original's rows in the order of their keys, as the values that the model is made from."""
    name = model.__name__
    with closing(sqlite3.connect(f"{CHINOOK.as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY {name}Id")]
    return [{snake_case(column): parsed(column, value) for column, value in row.items()} for row in rows]


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def parsed(column: str, value: Any) -> Any:
    return datetime.fromisoformat(value) if column.endswith("Date") and value is not None else value


@pytest.fixture(scope="module")
def original() -> Original:
    """The original's rows by model and key."""
    return {model: {row[key_name(model)]: row for row in read_original(model)} for model in MODELS}


@pytest.fixture
def chinook(engine: Engine, ring: KeyRing, original: Original) -> Engine:
    """A database with a copy of the original, made through the ORM."""
    ring.initialize(engine, Base.metadata)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(model(**row) for model in MODELS for row in original[model].values())
    return engine


# -- comparing ---------------------------------------------------------------------------------------------------------


def key_name(model: type[Base]) -> str:
    return f"{model.__tablename__}_id"


def key_of(instance: Base) -> int:
    key: int = getattr(instance, key_name(type(instance)))
    return key


def values_of(instance: Base) -> Values:
    return {attribute.key: getattr(instance, attribute.key) for attribute in inspect(type(instance)).column_attrs}


def by_key(instances: Iterable[Base | None]) -> dict[int, Values]:
    return {key_of(instance): values_of(instance) for instance in instances if instance is not None}


def test_original_has_its_rows(original: Original) -> None:
    """The original has 8 employees, 59 customers and 412 invoices."""
    assert {model.__name__: len(original[model]) for model in MODELS} == COUNTS


def test_every_value_comes_back(chinook: Engine, original: Original) -> None:
    """Every value that was copied is loaded as it is in the original."""
    with Session(chinook) as session:
        assert original == {model: by_key(session.scalars(select(model))) for model in MODELS}


def test_columns_come_back(chinook: Engine, original: Original) -> None:
    """Columns that are selected without their entity are those of the original."""
    statement = select(Customer.email, Employee.email).join(Customer.support_rep).order_by(Customer.customer_id)
    expected = [
        (customer["email"], original[Employee][customer["support_rep_id"]]["email"])
        for customer in original[Customer].values()
    ]
    with Session(chinook) as session:
        assert expected == [tuple(row) for row in session.execute(statement)]


def test_joins(chinook: Engine, original: Original) -> None:
    """Invoice, customer, employee and the employee's manager, joined: every value is the original's."""
    manager = aliased(Employee)
    statement = (
        select(Invoice, Customer, Employee, manager)
        .join(Invoice.customer)
        .join(Customer.support_rep)
        .join(Employee.manager.of_type(manager))
        .order_by(Invoice.invoice_id)
    )
    with Session(chinook) as session:
        rows = [[values_of(entity) for entity in row] for row in session.execute(statement)]
    assert [joined(original, invoice) for invoice in original[Invoice].values()] == rows


def joined(original: Original, invoice: Values) -> list[Values]:
    customer = original[Customer][invoice["customer_id"]]
    employee = original[Employee][customer["support_rep_id"]]
    return [invoice, customer, employee, original[Employee][employee["reports_to"]]]


@pytest.mark.parametrize("loader", [joinedload, selectinload, subqueryload])
def test_eager_loading(chinook: Engine, original: Original, loader: Loader) -> None:
    """Employees with their managers, customers and invoices, loaded eagerly: every value is the original's."""
    options = [loader(Employee.manager), loader(Employee.customers), loader(Employee.customers, Customer.invoices)]
    with Session(chinook) as session:
        employees = session.scalars(select(Employee).options(*options)).unique().all()
        customers = [customer for employee in employees for customer in employee.customers]
        invoices = [invoice for customer in customers for invoice in customer.invoices]
        loaded = {Employee: by_key(employees), Customer: by_key(customers), Invoice: by_key(invoices)}
        managers = {key_of(employee): by_key([employee.manager]) for employee in employees}
    assert original == loaded
    assert {key: {row["reports_to"]} - {None} for key, row in original[Employee].items()} == {
        key: set(manager) for key, manager in managers.items()
    }


@pytest.mark.parametrize("loader", [joinedload, selectinload, subqueryload])
def test_limit_with_eager_loading(chinook: Engine, original: Original, loader: Loader) -> None:
    """A LIMIT with eager loading, which wraps the entity in a subquery, loads the original's values."""
    statement = (
        select(Customer)
        .options(loader(Customer.invoices), joinedload(Customer.support_rep))
        .order_by(Customer.customer_id.desc())
        .limit(20)
        .offset(10)
    )
    with Session(chinook) as session:
        customers = session.scalars(statement).unique().all()
        loaded = by_key(customers)
        invoices = by_key(invoice for customer in customers for invoice in customer.invoices)
        employees = by_key(customer.support_rep for customer in customers)
    keys = sorted(original[Customer], reverse=True)[10:30]
    assert {key: original[Customer][key] for key in keys} == loaded
    assert {key: row for key, row in original[Invoice].items() if row["customer_id"] in keys} == invoices
    assert {key: original[Employee][key] for key in employees} == employees


def test_contains_eager(chinook: Engine, original: Original) -> None:
    """A collection filled from an explicit join has the original's values."""
    statement = select(Customer).join(Customer.invoices).options(contains_eager(Customer.invoices))
    with Session(chinook) as session:
        customers = session.scalars(statement).unique().all()
        assert original[Customer] == by_key(customers)
        assert original[Invoice] == by_key(invoice for customer in customers for invoice in customer.invoices)


# -- searching what is stored ------------------------------------------------------------------------------------------

LEAST_CHARACTERS = 4
LEAST_RANDOM_BYTES = 16
"""Size of the shortest random cell that is cut out of a file."""

LEAST_BYTES_AMONG_RANDOM = 8
"""A shorter value turns up in random bytes by chance: one of 4 bytes in 200 KiB once in 20,000 runs."""


def encrypted_attributes() -> list[Any]:
    attributes = [getattr(model, found.key) for model in MODELS for found in inspect(model).column_attrs]
    return [attribute for attribute in attributes if isinstance(attribute.type, Encrypted)]


def personal_values(original: Original) -> set[bytes]:
    """Return the values that must not be stored: those of the encrypted columns, of at least 4 characters."""
    values = {row[attribute.key] for attribute in encrypted_attributes() for row in original[attribute.class_].values()}
    texts = {str(value) for value in values if value is not None}
    days = {str(value.date()) for value in values if isinstance(value, datetime)}
    return {value.encode() for value in texts | days if len(value) >= LEAST_CHARACTERS}


def found(values: Iterable[bytes], stored: bytes) -> list[bytes]:
    return sorted(value for value in values if value in stored)


def longer(values: Iterable[bytes]) -> list[bytes]:
    return [value for value in values if len(value) >= LEAST_BYTES_AMONG_RANDOM]


def beside_numbers(values: Iterable[bytes]) -> list[bytes]:
    """Leave out short numbers: the key store writes the numbers of keys, which are random, and times as digits."""
    return [value for value in values if not value.isdigit() or len(value) >= LEAST_BYTES_AMONG_RANDOM]


def envelopes(connection: Connection) -> list[tuple[Any, int, bytes]]:
    """Return every envelope as it is stored, with the attribute and the key of its row."""
    stored = []
    for attribute in encrypted_attributes():
        key = getattr(attribute.class_, key_name(attribute.class_))
        rows = connection.execute(select(key, coerce(attribute, LargeBinary)).where(attribute.is_not(None)))
        stored += [(attribute, row[0], bytes(row[1])) for row in rows]
    return stored


def raw_cells(connection: Connection, tables: Iterable[str]) -> list[bytes]:
    """Return every value of every column of *tables* as the driver hands it out."""
    rows = [row for table in sorted(tables) for row in connection.execute(text(f"SELECT * FROM {table}"))]
    return [as_bytes(value) for row in rows for value in row]


def as_bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else str(value).encode()


def raw_files(connection: Connection) -> bytes:
    """Return the bytes of the database's files; skip where the role may not read them."""
    if connection.dialect.name == "sqlite":
        return Path(str(connection.engine.url.database)).read_bytes()
    # from 16384 (FirstNormalObjectId) on: tables, indexes and overflow tables of the users, not the server's own texts
    relations = text(
        "SELECT pg_read_binary_file(pg_relation_filepath(oid)) FROM pg_class WHERE relfilenode <> 0 AND oid >= 16384"
    )
    try:
        connection.execute(text("CHECKPOINT"))
        return b"".join(map(bytes, connection.scalars(relations)))
    except ProgrammingError:
        pytest.skip("the role may not read the server's files")


def test_search_is_awake(original: Original) -> None:
    """The search finds every one of the personal values in the original."""
    values = personal_values(original)
    assert len(values) > 400
    assert sorted(values) == found(values, CHINOOK.read_bytes())


def test_no_personal_value_in_the_tables(chinook: Engine, original: Original) -> None:
    """Every column of every table read raw: no personal value stands in it (R-32)."""
    values = personal_values(original)
    with chinook.connect() as connection:
        tables = set(inspect(connection).get_table_names())
        key_store = {table for table in tables if table.startswith("keyvault_")}
        sealed = {envelope for _, _, envelope in envelopes(connection)}
        cells, key_cells = raw_cells(connection, tables - key_store), raw_cells(connection, key_store)
    assert sealed <= set(cells)
    assert found(values, b"\x00".join(cell for cell in cells if cell not in sealed)) == []
    assert found(longer(values), b"\x00".join([*cells, *key_cells])) == []


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_no_personal_value_in_the_files(chinook: Engine, original: Original) -> None:
    """The bytes of the database's files: no personal value stands in them (R-32)."""
    values = personal_values(original)
    with chinook.connect() as connection:
        key_store = [table for table in inspect(connection).get_table_names() if table.startswith("keyvault_")]
        sealed = [envelope for _, _, envelope in envelopes(connection)]
        random = sealed + [cell for cell in raw_cells(connection, key_store) if len(cell) >= LEAST_RANDOM_BYTES]
        stored = raw_files(connection)
    assert [envelope for envelope in sealed if envelope not in stored] == []
    assert found(longer(values), stored) == []
    for cell in random:
        stored = stored.replace(cell, b"")
    assert found(beside_numbers(values), stored) == []


def test_no_envelope_shows_its_value(chinook: Engine, original: Original) -> None:
    """No envelope contains the value that it seals."""
    with chinook.connect() as connection:
        sealed = envelopes(connection)
    values = [str(original[attribute.class_][key][attribute.key]) for attribute, key, _ in sealed]
    pairs = [(value.encode(), envelope) for value, (_, _, envelope) in zip(values, sealed, strict=True)]
    assert [value for value, envelope in pairs if len(value) >= LEAST_CHARACTERS and value in envelope] == []
