"""Reads a column that is on its way: values bound as before beside those bound as now, plaintexts beside envelopes."""

from collections.abc import Callable
from typing import Any

from sa_keyvault.binding import Binding, split_symbols
from sa_keyvault.envelope import FORMAT, envelope_size
from sa_keyvault.errors import AuthenticationError, BindingError, KeyVaultError, MalformedEnvelopeError

__all__ = ["transitional_reader"]

Read = Callable[[Any], Any]


def transitional_reader(
    current: tuple[Binding, Read],
    former: tuple[Binding, Read] | None,
    plain: Read | None,
    locate: Callable[[KeyVaultError, bytes], KeyVaultError],
) -> Read:
    """Return the function that reads one value, whichever kind it is of.

    Args:
        current: How values are bound, and what reads an envelope followed by these symbols.
        former: How they were bound before, and what reads such an envelope; None if they never were otherwise.
        plain: What reads a value that is not encrypted; None if there is none to be read.
        locate: Makes of an error one that names the column.

    Returns:
        A function of stored bytes, followed by the former symbols (if there are any) and by those of now; or of None.
    """

    def read(stored: Any) -> Any:
        if stored is None:
            return current[1](None)
        stored = bytes(stored)
        try:
            return _read(stored)
        except (BindingError, MalformedEnvelopeError) as error:
            failure = MalformedEnvelopeError(str(error.with_traceback(None)), size=len(stored))
        located = locate(failure, stored)
        # a traceback would keep it, and it may be a plaintext
        del stored
        raise located from None

    def _read(stored: bytes) -> Any:
        # an envelope tells its own length; the end of a plaintext is known from the right only
        if plain is not None and stored[:1] != _FORMAT:
            value, _, _ = _parted(stored, current[0], None if former is None else former[0])
            return plain(value)
        if former is None:
            return current[1](stored)
        size = envelope_size(stored)
        left, before, now = _parted(stored[size:], current[0], former[0])
        if left:
            msg = f"{len(left)} bytes stand between an envelope and its row's symbols"
            raise MalformedEnvelopeError(msg)
        try:
            return current[1](stored[:size] + now)
        except AuthenticationError:
            pass
        return former[1](stored[:size] + before)

    return read


_FORMAT = bytes([FORMAT])


def _parted(stored: bytes, current: Binding, former: Binding | None) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the symbols, the former symbols, and the symbols of now."""
    head, _ = split_symbols(stored, current.symbol_count, current.form)
    now = stored[len(head) :]
    if former is None:
        return head, b"", now
    left, _ = split_symbols(head, former.symbol_count, former.form)
    return left, head[len(left) :], now
