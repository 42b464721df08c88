"""What stands in for a plaintext on its way: the envelope of a parameter, and the type of a selected value."""

import datetime
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, cast

from sqlalchemy import Dialect
from sqlalchemy.types import TypeEngine, UserDefinedType

from sa_keyvault.binding import Binding, Label
from sa_keyvault.dialects import require_supported, ring_of
from sa_keyvault.envelope import envelope_size, reader
from sa_keyvault.errors import AuthenticationError, KeyVaultError, MalformedEnvelopeError
from sa_keyvault.types.declared import Declaration
from sa_keyvault.types.inner import value_codec
from sa_keyvault.types.plaintext import plaintext_reader
from sa_keyvault.types.transition import transitional_reader

if TYPE_CHECKING:
    from sqlalchemy.sql.type_api import _ResultProcessorType

__all__ = ["RowValue", "SealedValue", "bytes_reader"]


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
        former: What they had in common before, where some may still be bound so.
        plaintext_until: Until when values are read that are not encrypted.
    """

    cache_ok: bool | None = True

    def __init__(
        self,
        inner: TypeEngine[Any],
        area: str,
        binding: Binding,
        former: Binding | None = None,
        plaintext_until: datetime.date | None = None,
    ) -> None:
        self.inner = inner
        self.area = area
        self.binding = binding
        self.former = former
        self.plaintext_until = plaintext_until

    def result_processor(self, dialect: Dialect, coltype: object) -> "_ResultProcessorType[Any]":
        """Return the function that opens a selected value."""
        require_supported(dialect)
        values, ring = value_codec(self.inner, dialect), ring_of(dialect)
        locate = partial(_located, self.area, self.binding.label)
        open_one = partial(reader, decode=values.decode, locate=locate, null=values.null)
        read = open_one(ring.layouts(self.area, self.binding))
        if self.former is not None or self.plaintext_until is not None:
            former = None if self.former is None else (self.former, open_one(ring.layouts(self.area, self.former)))
            plain = _accepted(self.plaintext_until, plaintext_reader(self.inner, dialect))
            read = transitional_reader((self.binding, read), former, plain, locate)
        return cast("_ResultProcessorType[Any]", read)


def bytes_reader(declaration: Declaration, dialect: Dialect) -> Callable[[Any], bytes | None]:
    """Return the function that opens a selected value of a column, and does not decode it."""
    type_, former, ring = declaration.type_, declaration.former, ring_of(dialect)

    def locate(error: KeyVaultError, _: bytes) -> KeyVaultError:
        return error

    read = reader(ring.layouts(type_.area, declaration.binding), bytes, locate)
    if former is None and type_.accept_plaintext_until is None:
        return read
    before = (
        None if former is None else (former.binding, reader(ring.layouts(type_.area, former.binding), bytes, locate))
    )
    encode, plain = value_codec(type_.inner, dialect).encode, plaintext_reader(type_.inner, dialect)
    accepted = _accepted(type_.accept_plaintext_until, lambda stored: encode(plain(stored)))
    return transitional_reader((declaration.binding, read), before, accepted, locate)


def _accepted(until: datetime.date | None, read: Callable[[Any], Any]) -> Callable[[Any], Any] | None:
    """Return *read* with an end: SQLAlchemy keeps a processor for as long as the process runs."""
    if until is None:
        return None

    def read_until(stored: Any) -> Any:
        if _today() <= until:
            return read(stored)
        size = len(stored) if isinstance(stored, (str, bytes)) else 0
        msg = f"a stored value is no envelope, and plaintexts were accepted until {until} only"
        raise MalformedEnvelopeError(msg, size=size)

    return read_until


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _located(area: str, label: Label, error: KeyVaultError, stored: bytes) -> KeyVaultError:
    """Return *error* with the column it happened in."""
    reason = str(error)
    if isinstance(error, AuthenticationError) and envelope_size(stored) >= len(stored):
        reason = (
            "the stored bytes came without their row's symbols, or were cut; select the mapped column, "
            "or open them with ring.open(column, key, stored)"
        )
    return type(error)(f"{label}: {reason}", key_number=error.key_number, area=area, label=str(label), size=len(stored))
