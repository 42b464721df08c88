"""Types made from the names that the key store remembers: those of SQLAlchemy, and nothing else is called."""

import pytest
import sqlalchemy
from sqlalchemy import JSON, LargeBinary, Numeric, String

from sa_keyvault.migrations.remembered_types import inner_type


@pytest.mark.parametrize("type_", [String(254), Numeric(12, 4), LargeBinary(), JSON()], ids=repr)
def test_a_type_is_made_again(type_: sqlalchemy.types.TypeEngine[object]) -> None:
    """A type of SQLAlchemy's own is made from its name."""
    assert repr(inner_type(repr(type_))) == repr(type_)


@pytest.mark.parametrize(
    "name", ["", "String", "os.system('true')", "Enum(5)", "ARRAY()", "TypeDecorator()", "types()", "(" * 5000]
)
def test_another_name_is_no_type(name: str) -> None:
    """A name that does not say all of a type is none."""
    assert inner_type(name) is None


def test_only_types_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """What SQLAlchemy exports beside its types is not called with what the database says (A-44)."""
    called: list[str] = []
    monkeypatch.setattr(sqlalchemy, "create_engine", called.append)
    assert inner_type("create_engine('sqlite:///made.db')") is None
    assert called == []
