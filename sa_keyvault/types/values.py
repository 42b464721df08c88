"""What stands in for a plaintext on its way: the envelope of a parameter, and the type of a selected value."""

from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from sqlalchemy import Dialect
from sqlalchemy.types import TypeEngine, UserDefinedType

from sa_keyvault.binding import Binding, Label
from sa_keyvault.dialects import require_supported, ring_of
from sa_keyvault.envelope import envelope_size, reader
from sa_keyvault.errors import AuthenticationError, KeyVaultError
from sa_keyvault.types.inner import value_codec

if TYPE_CHECKING:
    from sqlalchemy.sql.type_api import _ResultProcessorType

__all__ = ["RowValue", "SealedValue"]


class SealedValue:
    """An envelope on its way to the driver, with the value it was made from for whoever asks for the parameters.

    Attributes:
        envelope: The bytes to store.
        plaintext: The value as the application gave it.
    """

    __slots__ = ("envelope", "plaintext")

    def __init__(self, envelope: bytes, plaintext: Any) -> None:
        self.envelope: bytes = envelope
        self.plaintext: Any = plaintext

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self.envelope)} bytes>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        msg = "a sealed value can be neither pickled nor copied: it holds its plaintext"
        raise TypeError(msg)


class RowValue(UserDefinedType[Any]):
    """Type of an envelope that was selected together with its row's symbols; made by `column_expression` only.

    Args:
        inner: Type of the values.
        area: Area of the column.
        binding: What the column's envelopes have in common.
    """

    cache_ok: bool | None = True

    def __init__(self, inner: TypeEngine[Any], area: str, binding: Binding) -> None:
        self.inner = inner
        self.area = area
        self.binding = binding

    def result_processor(self, dialect: Dialect, coltype: object) -> "_ResultProcessorType[Any]":
        """Return the function that opens a selected value."""
        require_supported(dialect)
        values = value_codec(self.inner, dialect)
        layouts = ring_of(dialect).layouts(self.area, self.binding)
        locate = partial(_located, self.area, self.binding.label)
        return cast("_ResultProcessorType[Any]", reader(layouts, values.decode, locate, values.null))


def _located(area: str, label: Label, error: KeyVaultError, stored: bytes) -> KeyVaultError:
    """Return *error* with the column it happened in."""
    reason = str(error)
    if isinstance(error, AuthenticationError) and envelope_size(stored) >= len(stored):
        reason = (
            "the stored bytes came without their row's symbols, or were cut; select the mapped column, "
            "or open them with ring.open(column, key, stored)"
        )
    return type(error)(f"{label}: {reason}", key_number=error.key_number, area=area, label=str(label), size=len(stored))
