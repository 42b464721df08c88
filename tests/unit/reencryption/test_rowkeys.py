"""Primary keys are written into a checkpoint and read again."""

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sa_keyvault import ReencryptionError
from sa_keyvault.reencryption.rowkeys import RowKey, key_from_text, key_to_text

VALUES = st.one_of(
    st.integers(),
    st.text(),
    st.binary(),
    st.dates(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
"""What drivers hand out for columns that can name a row."""

TYPES = st.sampled_from(["bytes", "date", "decimal", "uuid", "int", "{}"])


@given(st.lists(VALUES, min_size=1, max_size=4).map(tuple))
def test_key_comes_back(key: RowKey) -> None:
    """A key of any kind comes back from its text, each value with its type."""
    found = key_from_text(key_to_text(key))
    assert found is not None
    assert repr(key) == repr(found)


@given(st.lists(st.one_of(TYPES, VALUES), min_size=1, max_size=2).map(tuple), st.lists(VALUES, min_size=1).map(tuple))
def test_keys_do_not_collide(one: RowKey, other: RowKey) -> None:
    """Keys have one text exactly if they are one key: 1, "1" and b"1" are three (A-54)."""
    assert (repr(one) == repr(other)) == (key_to_text(one) == key_to_text(other))


@pytest.mark.parametrize("make", [bytearray, memoryview])
def test_buffers_are_bytes(make: Any) -> None:
    """A key that a driver hands out as a buffer comes back as bytes."""
    assert key_from_text(key_to_text((make(b"\x00\xff"),))) == (b"\x00\xff",)


def test_empty_text_is_no_key() -> None:
    """A checkpoint without a key says: from the first row, or to the last."""
    assert key_from_text("") is None


@pytest.mark.parametrize("value", [1.5, None, datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC), datetime.time()])
def test_other_types_are_refused(value: object) -> None:
    """A key of a type that databases reformat is refused, and the message does not show it."""
    with pytest.raises(ReencryptionError, match=f"type {type(value).__name__} cannot be kept") as caught:
        key_to_text((1, value))
    assert "2026" not in str(caught.value)
