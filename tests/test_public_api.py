"""The public face of the package: its names, its docstrings, and the parameters that SQLAlchemy looks at."""

import ast
import datetime
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Integer, String
from sqlalchemy.types import TypeDecorator, TypeEngine

import sa_keyvault
from sa_keyvault import Encrypted

_PACKAGE = Path(sa_keyvault.__file__).parent
_MODULES = ["sa_keyvault", *(found.name for found in pkgutil.walk_packages(sa_keyvault.__path__, "sa_keyvault."))]

_NAMES = [
    "AnchorWarning",
    "AuthenticationError",
    "BindingError",
    "CertificateExpiryWarning",
    "ConfigurationError",
    "DecryptionError",
    "EncodingError",
    "Encrypted",
    "EncryptionError",
    "InstallationKey",
    "InstallationKeyError",
    "KeyManagementError",
    "KeyNotFoundError",
    "KeyRecordError",
    "KeyRing",
    "KeyStateError",
    "KeyStoreError",
    "KeyStoreUnreachableError",
    "KeyVaultError",
    "KeyVaultWarning",
    "LegacyAlgorithmWarning",
    "MalformedEnvelopeError",
    "PassphraseWarning",
    "Pkcs11InstallationKey",
    "PlaintextAcceptedWarning",
    "PlaintextLogWarning",
    "Provisioning",
    "ReencryptionError",
    "UnsupportedOperatorError",
    "UnsupportedStatementError",
    "new_passphrase",
    "passphrase_from_file",
    "storage_length",
]


# -- names -------------------------------------------------------------------------------------------------------------


def test_public_names() -> None:
    """The package has exactly the documented names; a change here is a change for every user."""
    assert sa_keyvault.__all__ == _NAMES


def test_public_names_are_sorted() -> None:
    """`__all__` is sorted and has no name twice."""
    assert sorted(set(sa_keyvault.__all__)) == sa_keyvault.__all__


def test_public_names_are_all_that_is_imported() -> None:
    """Whatever the package itself imports is public, and nothing is public that it does not have."""
    tree = ast.parse((_PACKAGE / "__init__.py").read_text("utf-8"))
    imported = [
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(imported) == sa_keyvault.__all__


@pytest.mark.parametrize("name", _NAMES)
def test_public_name_is_importable(name: str) -> None:
    """Every public name can be imported from the package."""
    assert getattr(sa_keyvault, name).__name__ == name


@pytest.mark.parametrize("name", _MODULES)
def test_names_of_a_module(name: str) -> None:
    """Every module says in `__all__` what it has for others, has it, and names nothing twice."""
    module = importlib.import_module(name)
    missing = [entry for entry in module.__all__ if not hasattr(module, entry)]
    assert ([], len(set(module.__all__))) == (missing, len(module.__all__))


# -- docstrings --------------------------------------------------------------------------------------------------------

_Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(body: list[ast.stmt], path: str) -> Iterator[tuple[str, _Documented]]:
    """Yield the public classes, functions and methods of a module or class, by dotted name."""
    for node in body:
        if isinstance(node, _Documented) and not node.name.startswith("_"):
            yield f"{path}.{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{path}.{node.name}")


def _has_docstring(node: _Documented) -> bool:
    """Whether a definition has a docstring, or takes over that of another by an assignment to `__doc__`."""
    assigned = (target for part in node.body if isinstance(part, ast.Assign) for target in part.targets)
    return bool(ast.get_docstring(node)) or any(isinstance(one, ast.Name) and one.id == "__doc__" for one in assigned)


def _undocumented(text: str) -> list[str]:
    return [path for path, node in _public(ast.parse(text).body, "module") if not _has_docstring(node)]


def _source(name: str) -> str:
    return inspect.getsource(importlib.import_module(name))


@pytest.mark.parametrize("name", _MODULES)
def test_everything_public_has_a_docstring(name: str) -> None:
    """Every public function, class and method of every module has a docstring."""
    assert _undocumented(_source(name)) == []


def test_missing_docstrings_are_found() -> None:
    """The search finds functions, classes, methods and nested classes without a docstring, so it can find one."""
    text = """
def documented(): "text"
def function(): ...
async def coroutine(): ...
def _private(): ...
class Class:
    __doc__ = Other.__doc__
    def method(self): ...
    @property
    def attribute(self): ...
    def __repr__(self): ...
    class Nested: ...
class _Private:
    def method(self): ...
"""
    expected = ["function", "coroutine", "Class.method", "Class.attribute", "Class.Nested"]
    assert _undocumented(text) == [f"module.{name}" for name in expected]


@pytest.mark.parametrize("name", _NAMES)
def test_public_name_has_a_docstring_at_run_time(name: str) -> None:
    """`help` of every public name says something."""
    assert (getattr(sa_keyvault, name).__doc__ or "").strip()


@pytest.mark.parametrize("name", _MODULES)
def test_first_line_of_a_module(name: str) -> None:
    """The first line of every module is a sentence that says why it exists."""
    first, *_ = (ast.get_docstring(ast.parse(_source(name))) or "\n").splitlines()
    assert re.fullmatch(r"[A-Z].{10,}\.", first)


# -- typing ------------------------------------------------------------------------------------------------------------


def test_package_is_typed() -> None:
    """The package tells type checkers that it is typed (PEP 561)."""
    assert files("sa_keyvault").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", _NAMES)
def test_public_signatures_are_annotated(name: str) -> None:
    """Every parameter and result of what is public is annotated, but for what the standard library defines."""
    public = getattr(sa_keyvault, name)
    if not inspect.isclass(public):
        own = [public]
    else:
        own = [
            getattr(member, "__func__", member)
            for key, member in vars(public).items()
            if not key.startswith("_")
            and (inspect.isfunction(member) or isinstance(member, (staticmethod, classmethod)))
        ]
    bare = [
        f"{function.__qualname__}({parameter.name})"
        for function in own
        for parameter in inspect.signature(function).parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    results = [function.__qualname__ for function in own if "return" not in function.__annotations__]
    assert (bare, results) == ([], [])


# -- what SQLAlchemy looks at ------------------------------------------------------------------------------------------


def _members(module: ModuleType) -> Iterator[type[Any]]:
    return (member for member in vars(module).values() if inspect.isclass(member))


_TYPES = sorted(
    {
        member
        for name in _MODULES
        for member in _members(importlib.import_module(name))
        if issubclass(member, TypeEngine) and member.__module__.startswith("sa_keyvault")
    },
    key=lambda type_: type_.__name__,
)


def _parameters(type_: type[Any]) -> list[inspect.Parameter]:
    return [one for one in inspect.signature(type_.__init__).parameters.values() if one.name != "self"]


def test_column_types() -> None:
    """The classes that the following tests look at are found."""
    assert Encrypted in _TYPES


@pytest.mark.parametrize("type_", _TYPES)
def test_parameters_of_types_are_positional_or_keyword(type_: type[Any]) -> None:
    """SQLAlchemy takes only such parameters into its statement-cache key; all others drop out of it (DESIGN 7)."""
    assert {one.kind for one in _parameters(type_)} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


@pytest.mark.parametrize("type_", _TYPES)
def test_types_declare_that_they_can_be_cached(type_: type[Any]) -> None:
    """`cache_ok` is declared in every class itself: SQLAlchemy does not inherit it (DESIGN 7)."""
    assert vars(type_).get("cache_ok") is True


_GIVEN: dict[str, Any] = {
    "inner": String(7),
    "area": "identities",
    "context": "label",
    "bind_to": ("tenant",),
    "formerly": ("former", ("id",)),
    "accept_plaintext_until": datetime.date(2030, 1, 1),
}


def test_parameters_of_encrypted() -> None:
    """`Encrypted` has the documented parameters, in order, with their defaults."""
    expected = [
        ("inner", String),
        ("area", "default"),
        ("context", None),
        ("bind_to", ()),
        ("formerly", None),
        ("accept_plaintext_until", None),
    ]
    assert expected == [(one.name, one.default) for one in _parameters(Encrypted)]


def test_parameters_of_encrypted_are_kept() -> None:
    """`Encrypted` keeps each parameter under its own public name."""
    made = Encrypted(*_GIVEN.values())
    assert {one.name: getattr(made, one.name) for one in _parameters(Encrypted)} == _GIVEN


def test_statement_cache_tells_columns_apart() -> None:
    """Types with any parameter changed have different statement-cache keys, equal ones the same (DESIGN 7)."""
    other: dict[str, Any] = {
        "inner": Integer(),
        "area": "models",
        "context": "other",
        "bind_to": ("tenant", "site"),
        "formerly": ("former", ("id", "tenant")),
        "accept_plaintext_until": datetime.date(2031, 1, 1),
    }
    assert _GIVEN.keys() == other.keys() == {one.name for one in _parameters(Encrypted)}
    variants = [_GIVEN, *({**_GIVEN, name: value} for name, value in other.items())]
    keys = {Encrypted(**variant)._static_cache_key for variant in variants}
    assert (len(variants), True) == (len(keys), Encrypted(**_GIVEN)._static_cache_key in keys)


def test_a_keyword_only_parameter_would_drop_out() -> None:
    """A type that takes a setting as keyword-only has one cache key for two settings: the rule above is needed."""

    class Lossy(TypeDecorator[str]):
        impl = String
        cache_ok = True

        def __init__(self, *, area: str) -> None:
            super().__init__()
            self.area = area

    assert Lossy(area="identities")._static_cache_key == Lossy(area="models")._static_cache_key
