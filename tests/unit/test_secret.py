"""Secrets never print, and are neither pickled nor copied."""

import copy
import pickle

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sa_keyvault.secret import Secret

_MATERIAL = b"0123456789abcdef" * 2


@pytest.mark.parametrize("show", [repr, str, format, ascii])
def test_masked(show: object) -> None:
    """Every way to print a secret shows its size only (R-39, A-75)."""
    assert callable(show)
    assert show(Secret(_MATERIAL)) == "<Secret: 32 bytes>"


def test_masked_in_containers() -> None:
    """A secret inside a container is masked too (A-75)."""
    assert repr({"key": [Secret(_MATERIAL)]}) == "{'key': [<Secret: 32 bytes>]}"


def test_masked_as_a_subclass() -> None:
    """A subclass prints under its own name, masked."""

    class Passphrase(Secret):
        __slots__ = ()

    assert repr(Passphrase(b"abc")) == "<Passphrase: 3 bytes>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_not_pickled(protocol: int) -> None:
    """Pickling is refused in every protocol, and the refusal shows no material (R-39, A-49)."""
    with pytest.raises(TypeError, match=r"^a Secret can be neither pickled nor copied$"):
        pickle.dumps(Secret(_MATERIAL), protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_not_copied(duplicate: object) -> None:
    """Shallow and deep copies are refused (R-39, A-49)."""
    assert callable(duplicate)
    with pytest.raises(TypeError, match=r"^a Secret can be neither pickled nor copied$"):
        duplicate(Secret(_MATERIAL))


def test_not_copied_within_a_container() -> None:
    """A deep copy of what holds a secret is refused too (A-49)."""
    with pytest.raises(TypeError):
        copy.deepcopy({"keys": [Secret(_MATERIAL)]})


def test_has_no_dictionary() -> None:
    """A secret has no `__dict__`, so `vars` and serializers that walk it find nothing (A-75)."""
    with pytest.raises(TypeError):
        vars(Secret(_MATERIAL))


@settings(deadline=None)
@given(st.binary(max_size=64))
@example(b"")
def test_exposed(material: bytes) -> None:
    """`expose` returns the material as it was given."""
    assert material == Secret(material).expose()


def test_equal_only_to_itself() -> None:
    """Secrets are not compared byte by byte: there is no comparison that could leak by its timing (R-39, A-78)."""
    assert Secret(_MATERIAL) != Secret(_MATERIAL)
