"""The error tree: what the docstring draws is what there is, and nothing in it can be wrapped by SQLAlchemy."""

import inspect
import re

import pytest
from sqlalchemy.exc import DontWrapMixin

import sa_keyvault
from sa_keyvault import errors

_LINE = re.compile(r"^(?P<indent>(?:[│ ]   )*)(?P<branch>├── |└── )?(?P<name>[A-Z]\w+) {2,}(?P<note>.+)$")
_ALSO = re.compile(r"; also (\w+)$")
_ROOTS = {"KeyVaultError": ("DontWrapMixin", "Exception"), "KeyVaultWarning": ("UserWarning",)}
_CLASSES = [getattr(errors, name) for name in errors.__all__]
_ERRORS = [cls for cls in _CLASSES if issubclass(cls, errors.KeyVaultError)]


def _drawn(text: str) -> dict[str, tuple[str, ...]]:
    """Return the bases of each class by name, as the tree in *text* draws them."""
    bases: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for line in text.splitlines():
        if not (match := _LINE.match(line)):
            continue
        depth = len(match["indent"]) // 4 + bool(match["branch"])
        path[depth:] = [match["name"]]
        also = tuple(_ALSO.findall(match["note"]))
        bases[match["name"]] = (path[depth - 1], *also) if depth else _ROOTS[match["name"]]
    return bases


def test_drawn_tree_is_the_class_tree() -> None:
    """The tree drawn in the docstring has the classes and bases of the module, no more and no less."""
    defined = {
        name: tuple(base.__name__ for base in cls.__bases__)
        for name, cls in vars(errors).items()
        if inspect.isclass(cls) and cls.__module__ == errors.__name__
    }
    assert _drawn(str(errors.__doc__)) == defined


def test_drawn_tree_is_read() -> None:
    """The reader of the drawing sees depth and second bases, so that the comparison above can fail."""
    drawing = "KeyVaultError     base\n├── One     x\n│   └── Two     y; also TypeError\n└── Three     z\n"
    expected = {
        "KeyVaultError": _ROOTS["KeyVaultError"],
        "One": ("KeyVaultError",),
        "Two": ("One", "TypeError"),
        "Three": ("KeyVaultError",),
    }
    assert expected == _drawn(drawing)


def test_all_is_the_sorted_tree() -> None:
    """`__all__` is sorted and names every class of the tree."""
    assert sorted(_drawn(str(errors.__doc__))) == errors.__all__


@pytest.mark.parametrize("cls", _CLASSES)
def test_class_is_public(cls: type[Exception]) -> None:
    """Every error and warning can be imported from the package itself."""
    assert cls is getattr(sa_keyvault, cls.__name__)


@pytest.mark.parametrize("cls", _ERRORS)
def test_error_is_not_wrapped(cls: type[errors.KeyVaultError]) -> None:
    """Every error mixes in DontWrapMixin, so that no StatementError prints the parameters (R-38)."""
    assert issubclass(cls, DontWrapMixin)


@pytest.mark.parametrize("cls", _ERRORS)
def test_fields(cls: type[errors.KeyVaultError]) -> None:
    """An error carries its message and the four fields that an operator needs."""
    error = cls("no such thing", key_number=7, area="identities", label="claimant.email", size=61)
    expected = ("no such thing", 7, "identities", "claimant.email", 61)
    assert expected == (str(error), error.key_number, error.area, error.label, error.size)


@pytest.mark.parametrize("cls", _ERRORS)
def test_fields_are_none_where_nothing_is_concerned(cls: type[errors.KeyVaultError]) -> None:
    """Fields that were not given are None."""
    expected = {"key_number": None, "area": None, "label": None, "size": None}
    assert expected == vars(cls("no such thing"))


def test_message_is_the_only_argument() -> None:
    """Fields stay out of `args`, where logs and reports would print them a second time."""
    assert errors.KeyStateError("no such thing", area="identities").args == ("no such thing",)
