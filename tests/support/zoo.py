"""A model with every way the ORM lays classes over tables."""

from typing import Annotated

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.ext.declarative import ConcreteBase
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, declared_attr, mapped_column, relationship

from sa_keyvault import Encrypted

__all__ = [
    "Animal",
    "Base",
    "Car",
    "Cat",
    "Company",
    "Dog",
    "Employee",
    "Engineer",
    "Manager",
    "Note",
    "Truck",
    "Vehicle",
]


class Base(DeclarativeBase):
    """Declarative base of the zoo."""


Secret = Annotated[str, mapped_column(Encrypted(String(100), area="identities"))]


class WithPhone:
    """A mixin with an encrypted column."""

    phone: Mapped[str | None] = mapped_column(Encrypted(String(40), area="identities"))


class Company(Base):
    """Has employees."""

    __tablename__ = "company"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[Secret]
    employees: Mapped[list["Employee"]] = relationship(back_populates="company", order_by="Employee.id")


class Employee(WithPhone, Base):
    """Base of joined-table inheritance."""

    __tablename__ = "employee"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[Secret]
    company_id: Mapped[int | None] = mapped_column(ForeignKey("company.id"))
    company: Mapped[Company | None] = relationship(back_populates="employees")
    notes: Mapped[list["Note"]] = relationship(order_by="Note.id")
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "employee"}  # noqa: RUF012


class Engineer(Employee):
    """Has a table of its own, joined by its key."""

    __tablename__ = "engineer"

    id: Mapped[int] = mapped_column(ForeignKey("employee.id"), primary_key=True)
    machine: Mapped[Secret]
    __mapper_args__ = {"polymorphic_identity": "engineer"}  # noqa: RUF012


class Manager(Employee):
    """Has another."""

    __tablename__ = "manager"

    id: Mapped[int] = mapped_column(ForeignKey("employee.id"), primary_key=True)
    budget: Mapped[Secret]
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012


class Note(Base):
    """Belongs to an employee; its key has two columns."""

    __tablename__ = "note"

    employee_id: Mapped[int] = mapped_column(ForeignKey("employee.id"), primary_key=True)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[Secret]


class Animal(Base):
    """Base of single-table inheritance."""

    __tablename__ = "animal"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[Secret]
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012


class Dog(Animal):
    """Adds a column to the single table."""

    bark: Mapped[str | None] = mapped_column(Encrypted(String(40), area="identities"), use_existing_column=True)
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012


class Cat(Animal):
    """Adds nothing."""

    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012


class Vehicle(ConcreteBase, Base):
    """Base of concrete inheritance: its union needs one label for the columns that meet."""

    __tablename__ = "vehicle"

    id: Mapped[int] = mapped_column(primary_key=True)
    plate: Mapped[str] = mapped_column(Encrypted(String(20), area="identities", context="vehicle plate"))

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, object]:  # noqa: N805
        return {"polymorphic_identity": cls.__name__, "concrete": True}


class Car(Vehicle):
    """A whole table of its own."""

    __tablename__ = "car"

    id: Mapped[int] = mapped_column(primary_key=True)
    plate: Mapped[str] = mapped_column(Encrypted(String(20), area="identities", context="vehicle plate"))
    seats: Mapped[str | None] = mapped_column(Encrypted(String(20), area="identities"))


class Truck(Vehicle):
    """Another."""

    __tablename__ = "truck"

    id: Mapped[int] = mapped_column(primary_key=True)
    plate: Mapped[str] = mapped_column(Encrypted(String(20), area="identities", context="vehicle plate"))
    load: Mapped[bytes | None] = mapped_column(Encrypted(LargeBinary, area="identities"))


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    """Base of mapped dataclasses."""


class Point(DataclassBase):
    """A mapped dataclass with a default."""

    __tablename__ = "point"

    id: Mapped[int] = mapped_column(init=False, primary_key=True)
    label: Mapped[str] = mapped_column(Encrypted(String(40)))
    color: Mapped[str] = mapped_column(Encrypted(String(40)), default="m4rk3d-red")


__all__ += ["DataclassBase", "Point"]
