"""Imports go downward or to the left only, as DESIGN section 8 draws it; and the checker of that is awake."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sa_keyvault

_PACKAGE = Path(sa_keyvault.__file__).parent

# from the lowest floor up, each from left to right
_FLOORS = (
    ("errors",),
    ("secret", "binding", "suites", "envelope", "codec"),
    ("states", "records", "private_file", "ledger", "installation", "store", "keyring"),
    ("decorators", "dialects", "types", "statements", "door", "columns", "plugin"),
    ("administration", "reencryption"),
    ("cli", "migrations"),
)
_PLACES = {name: place for place, name in enumerate(name for floor in _FLOORS for name in floor)}
_CRYPTOGRAPHERS = {"suites", "installation"}
_EXCEPTIONS = {("errors", "sqlalchemy.exc")}

Imports = dict[str, set[str]]
"""What each module imports, both by dotted name."""


# -- the checker -------------------------------------------------------------------------------------------------------


def _modules(package: Path) -> dict[str, Path]:
    """Return the files of *package* by dotted name; a package has the name of its folder."""
    files = {path.relative_to(package.parent).with_suffix("").parts: path for path in package.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for parts, path in files.items()}


def _imported(tree: ast.AST, module: str, is_package: bool, modules: Iterable[str]) -> Iterator[str]:
    """Yield every name that a module imports, wherever in it: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package else -1]
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            names = [f"{source}.{alias.name}" for alias in node.names]
            # `from package import module` depends on that module, all else on the package itself
            yield from (name if name in modules else source for name in names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "__import__",
            "import_module",
            "importlib.import_module",
        }:
            yield "an import that is made at run time"


def _imports(package: Path) -> Imports:
    modules = _modules(package)
    return {
        name: set(_imported(ast.parse(path.read_text("utf-8")), name, path.name == "__init__.py", modules))
        for name, path in modules.items()
    }


def _part(module: str) -> str:
    """Return the part of the package that a module belongs to; empty for the package itself."""
    return [*module.split("."), ""][1]


def _upward(imports: Imports) -> list[str]:
    """Return the imports of the package's own parts that go up, to the right, or to the package itself."""
    root = min(imports, key=len)
    return [
        f"{module} -> {target}"
        for module, targets in imports.items()
        if module != root
        for target in targets
        if target.split(".")[0] == root
        and _part(target) != _part(module)
        and (target == root or _PLACES[_part(target)] > _PLACES[_part(module)])
    ]


def _cycle(imports: Mapping[str, set[str]]) -> list[str]:
    """Return a cycle of modules that import each other, or nothing."""
    try:
        TopologicalSorter({name: targets & imports.keys() for name, targets in imports.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def _outside(imports: Imports, library: str) -> list[tuple[str, str]]:
    """Return which part imports what of another library."""
    return [
        (_part(module), target)
        for module, targets in imports.items()
        for target in targets
        if target.split(".")[0] == library
    ]


# -- the package -------------------------------------------------------------------------------------------------------

_IMPORTS = _imports(_PACKAGE)
_SUBPACKAGES = sorted({_part(module) for module in _IMPORTS if module.count(".") == 2})


def test_every_module_has_a_place() -> None:
    """The floors have the parts of the package, no more and no less."""
    assert _PLACES.keys() == {_part(module) for module in _IMPORTS} - {""}


def test_documentation_draws_the_floors() -> None:
    """The page on the architecture draws the floors as they are, and says why each part exists."""
    page = _PACKAGE.parent / "docs" / "explanation" / "architecture.md"
    if not page.exists():
        pytest.skip("the documentation is not there")
    text = page.read_text("utf-8")
    drawn = re.findall(r"^floor \d.* {2,}(\w+(?: -> \w+)*)$", text, re.MULTILINE)
    floors = [tuple(line.split(" -> ")) for line in reversed(drawn)]
    described = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert (floors, described) == (list(_FLOORS), [name for floor in _FLOORS for name in floor])


def test_no_import_goes_up() -> None:
    """Every part imports from a lower floor, or from the left on its own."""
    assert _upward(_IMPORTS) == []


@pytest.mark.parametrize("part", _SUBPACKAGES)
def test_no_cycle_in_a_subpackage(part: str) -> None:
    """The modules of a subpackage do not import each other in a circle."""
    inside = {module: targets for module, targets in _IMPORTS.items() if _part(module) == part}
    assert _cycle(inside) == []


def test_no_cycle_at_all() -> None:
    """No modules of the package import each other in a circle."""
    assert _cycle(_IMPORTS) == []


def test_subpackages() -> None:
    """The parts that are packages of small modules are these."""
    assert _SUBPACKAGES == [
        "administration",
        "cli",
        "installation",
        "keyring",
        "migrations",
        "reencryption",
        "statements",
        "store",
        "suites",
        "types",
    ]


def test_cryptography_has_two_doors() -> None:
    """Only `suites` and `installation` import cryptography (R-14)."""
    assert {part for part, _ in _outside(_IMPORTS, "cryptography")} == _CRYPTOGRAPHERS


def test_tokens_have_one_door() -> None:
    """Only `installation` imports pkcs11."""
    assert {part for part, _ in _outside(_IMPORTS, "pkcs11")} == {"installation"}


def test_alembic_has_one_door() -> None:
    """Only `migrations` imports Alembic."""
    assert {part for part, _ in _outside(_IMPORTS, "alembic")} == {"migrations"}


def test_sqlalchemy_begins_at_the_store() -> None:
    """Nothing below `store` imports SQLAlchemy, but for the mixin of the errors."""
    found = {(part, target) for part, target in _outside(_IMPORTS, "sqlalchemy") if part}
    assert {(part, target) for part, target in found if _PLACES[part] < _PLACES["store"]} == _EXCEPTIONS


def test_no_import_is_made_at_run_time() -> None:
    """No module imports by a name that is computed, but for the models that a user names to the command."""
    found = [module for module, targets in _IMPORTS.items() if "an import that is made at run time" in targets]
    assert found == ["sa_keyvault.cli.models"]


def test_no_import_of_random_or_pickle() -> None:
    """No module imports a generator that can be predicted, or a decoder that runs code (R-13, R-19)."""
    forbidden = {"random", "pickle", "marshal", "shelve", "dill"}
    found = [(module, target) for module, targets in _IMPORTS.items() for target in targets]
    assert [(module, target) for module, target in found if target.split(".")[0] in forbidden] == []


# -- canaries ----------------------------------------------------------------------------------------------------------


def _planted(folder: Path, files: Mapping[str, str]) -> Imports:
    """Return the imports of a small package with these files."""
    package = folder / "sa_keyvault"
    for name, text in {"__init__.py": "", **files}.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return _imports(package)


@pytest.mark.parametrize(
    "text",
    [
        "import sa_keyvault.store",
        "import sa_keyvault.store as keys",
        "from sa_keyvault import store",
        "from sa_keyvault.store import load",
        "from . import store",
        "from .store import load",
        "def late():\n    from sa_keyvault.store import load",
        "class Late:\n    def method(self):\n        import sa_keyvault.store",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sa_keyvault.store import Key",
        "try:\n    from sa_keyvault.store import load\nexcept ImportError:\n    pass",
    ],
)
def test_planted_upward_import_is_found(tmp_path: Path, text: str) -> None:
    """An import that goes up is found in every form, in functions and under TYPE_CHECKING too."""
    imports = _planted(tmp_path, {"envelope.py": text, "store.py": ""})
    assert _upward(imports) == ["sa_keyvault.envelope -> sa_keyvault.store"]


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (
            {"codec.py": "", "suites.py": "from sa_keyvault.codec import Codec"},
            "sa_keyvault.suites -> sa_keyvault.codec",
        ),
        ({"store.py": "from sa_keyvault import KeyRing"}, "sa_keyvault.store -> sa_keyvault"),
        (
            {"types/__init__.py": "", "types/walk.py": "from ..plugin import KeyRing", "plugin.py": ""},
            "sa_keyvault.types.walk -> sa_keyvault.plugin",
        ),
        (
            {"keyring/__init__.py": "", "keyring/ring.py": "import sa_keyvault.types.inner", "types/inner.py": ""},
            "sa_keyvault.keyring.ring -> sa_keyvault.types.inner",
        ),
    ],
    ids=["to the right", "to the package itself", "relative, from a subpackage", "into a subpackage"],
)
def test_planted_import_in_the_wrong_direction_is_found(tmp_path: Path, files: dict[str, str], found: str) -> None:
    """Imports to the right, to the package itself and across subpackages are found."""
    assert [found] == _upward(_planted(tmp_path, files))


def test_planted_downward_import_is_let_through(tmp_path: Path) -> None:
    """Imports that go down or to the left are none of the checker's business."""
    files = {
        "errors.py": "",
        "binding.py": "from sa_keyvault.errors import BindingError",
        "suites.py": "from .binding import length_prefixed",
        "types/__init__.py": "from sa_keyvault.types.inner import value_codec",
        "types/inner.py": "from sa_keyvault import suites",
    }
    assert _upward(_planted(tmp_path, files)) == []


def test_planted_cycle_is_found(tmp_path: Path) -> None:
    """Modules that import each other in a circle are found, also if one of them does so in a function."""
    files = {
        "types/__init__.py": "",
        "types/one.py": "from sa_keyvault.types import two",
        "types/two.py": "from .three import x",
        "types/three.py": "def late():\n    from sa_keyvault.types.one import y",
    }
    found = _cycle(_planted(tmp_path, files))
    assert {f"sa_keyvault.types.{name}" for name in ("one", "two", "three")} == set(found)


def test_planted_libraries_are_found(tmp_path: Path) -> None:
    """Imports of other libraries are found, be they submodules, renamed or made in a function."""
    files = {
        "codec.py": "import cryptography.hazmat as primitives",
        "records.py": "def late():\n    from sqlalchemy.orm import Session",
    }
    imports = _planted(tmp_path, files)
    expected = ([("codec", "cryptography.hazmat")], [("records", "sqlalchemy.orm")])
    assert expected == (_outside(imports, "cryptography"), _outside(imports, "sqlalchemy"))


def test_planted_import_at_run_time_is_found(tmp_path: Path) -> None:
    """An import by a computed name is found."""
    imports = _planted(tmp_path, {"codec.py": "import importlib\nimportlib.import_module('sa_keyvault.' + 'store')"})
    assert "an import that is made at run time" in imports["sa_keyvault.codec"]
