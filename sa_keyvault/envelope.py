"""The stored bytes: header and body of one sealed value.

 offset  size  field
 0       1     format: 0xF8 + version (never the first byte of a UTF-8 text)
 1       4     working key number, big-endian
 5       4     length of the body, big-endian
 9       n     body: nonce or IV, ciphertext, tag, as the suite of the working key defines

The suite is a property of the working key's record, never of the envelope: no byte can be flipped
to choose a weaker one. The header is authenticated by what it leads to: format and number are part of what the key
is derived for, and another length takes another tag.
"""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any

from sa_keyvault.errors import AuthenticationError, KeyVaultError, MalformedEnvelopeError
from sa_keyvault.suites import AUTHENTICATION_FAILURES, MAX_BODY_OVERHEAD, Cipher, Suite

__all__ = [
    "FORMAT",
    "HEADER_SIZE",
    "Layout",
    "Layouts",
    "Opener",
    "Sealer",
    "envelope_size",
    "joined_sealer",
    "key_number",
    "key_prefix",
    "max_envelope_size",
    "open_all",
    "open_envelope",
    "opener",
    "pending_envelope",
    "reader",
    "sealer",
]

FORMAT = 0xF8
"""Version 0. 0xF8 to 0xFF never begin a UTF-8 text (RFC 3629 section 3)."""

HEADER_SIZE = 9
_MAX_LAYOUTS = 4096  # of one column; values of unbounded length would fill the memory
_HEADER = Struct(">BII")
_PREFIX = Struct(">BI")
_LENGTH = Struct(">I")
_LOOKUP = Struct(">5sI")

Sealer = Callable[[Sequence[bytes], Sequence[bytes]], list[bytes]]
"""(plaintexts, the symbols of each one's row) -> envelopes."""

Opener = tuple[Callable[[bytes, bytes, bytes], bytes], int]
"""(nonce, ciphertext and tag, AAD) -> plaintext, and the offset at which the ciphertext begins."""

Layout = tuple[Callable[[bytes, bytes, bytes], bytes], slice, slice, slice]
"""(nonce, ciphertext and tag, AAD) -> plaintext, and where nonce, ciphertext and symbols are."""


def key_prefix(number: int) -> bytes:
    """Return the first five bytes of every envelope of a key: format and key number."""
    return _PREFIX.pack(FORMAT, number)


def key_number(stored: bytes) -> int:
    """Return the key number in the header of *stored*.

    Raises:
        sa_keyvault.MalformedEnvelopeError: *stored* does not begin with a whole header of this format.
    """
    if len(stored) < HEADER_SIZE or stored[0] != FORMAT:
        raise _malformed(len(stored))
    number: int = _HEADER.unpack_from(stored)[1]
    return number


def _malformed(size: int) -> MalformedEnvelopeError:
    msg = f"{size} stored bytes are no envelope: they do not begin with a header of format {FORMAT:#x}"
    return MalformedEnvelopeError(msg, size=size)


def envelope_size(stored: bytes) -> int:
    """Return the size in bytes of the envelope that *stored* begins with, by its header."""
    key_number(stored)
    return HEADER_SIZE + int(_HEADER.unpack_from(stored)[2])


def max_envelope_size(plaintext_size: int) -> int:
    """Return the size in bytes that an envelope of such a plaintext has at most, in any suite."""
    return HEADER_SIZE + plaintext_size + MAX_BODY_OVERHEAD


def pending_envelope() -> bytes:
    """Return a header without key and body: the place of a value whose row has no key yet.

    It opens under no key (number 0 is never drawn), so one that is left behind is noticed.
    """
    return _HEADER.pack(FORMAT, 0, 0)


def sealer(number: int, suite: Suite, cipher: Cipher) -> Sealer:
    """Return the function that seals values of one column under one working key."""
    prefix, nonce_size, body_size = key_prefix(number), suite.nonce_size, suite.body_size
    seal_body, pack_length, urandom = cipher.seal, _LENGTH.pack, os.urandom

    def seal(plaintexts: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
        headers = {size: prefix + pack_length(body_size(size)) for size in set(map(len, plaintexts))}
        # drawn at once, because asking the operating system costs as much as an encryption; and for this call only:
        # what is left over and kept would be used twice after a fork
        take = BytesIO(urandom(nonce_size * len(plaintexts))).read
        return [
            headers[len(plaintext)] + (nonce := take(nonce_size)) + seal_body(nonce, plaintext, row)
            for plaintext, row in zip(plaintexts, symbols, strict=True)
        ]

    return seal


def joined_sealer(shares: Sequence[tuple[Sealer, int]]) -> Sealer:
    """Return the function that seals the first plaintexts with the first sealer, as many as its share, and so on."""

    def seal(plaintexts: Sequence[bytes], symbols: Sequence[bytes]) -> list[bytes]:
        envelopes: list[bytes] = []
        for seal_share, share in shares:
            part = slice(len(envelopes), len(envelopes) + share)
            envelopes += seal_share(plaintexts[part], symbols[part])
        return envelopes

    return seal


def opener(suite: Suite, cipher: Cipher) -> Opener:
    """Return what opens values of one column under one working key: the cipher's own function, and an offset."""
    return cipher.open, HEADER_SIZE + suite.nonce_size


class Layouts(dict[bytes, Layout]):
    """Where the parts of one column's envelopes are, by header: made once for each key and length.

    Args:
        find: Returns the opener of an envelope that begins with these five bytes, and whether to keep it: that of a
            key which is not committed may be gone the next time. May raise a `KeyVaultError`.
    """

    def __init__(self, find: Callable[[bytes], tuple[Opener, bool]]) -> None:
        super().__init__()
        self._find = find
        self._openers: dict[bytes, Opener] = {}

    def __missing__(self, header: bytes) -> Layout:
        prefix, size = _LOOKUP.unpack(header)
        if prefix[0] != FORMAT:
            # the error of a header that is cut: whoever has the whole value says how long it is
            msg = "another format"
            raise struct.error(msg)
        openers = self._openers
        (decrypt, start), is_kept = self._opener(prefix, openers)
        end = HEADER_SIZE + size
        layout = decrypt, slice(HEADER_SIZE, start), slice(start, end), slice(end, None)
        if is_kept and len(self) < _MAX_LAYOUTS:
            self[header] = layout
            if openers is not self._openers:
                # cleared by another thread meanwhile: what was found may be of a key that is disabled now
                self.pop(header, None)
        return layout

    def _opener(self, prefix: bytes, openers: dict[bytes, Opener]) -> tuple[Opener, bool]:
        if known := openers.get(prefix):
            return known, True
        found, is_kept = self._find(prefix)
        if is_kept:
            openers[prefix] = found
        return found, is_kept

    def clear(self) -> None:
        """Forget all of them: the state of a key has changed."""
        # in this order, and another dict: a thread that is looking sees that what it has found is not to be kept
        self._openers = {}
        super().clear()


def reader(
    layouts: Mapping[bytes, Layout],
    decode: Callable[[bytes], Any],
    locate: Callable[[KeyVaultError, bytes], KeyVaultError],
    null: Callable[[], Any] = lambda: None,
) -> Callable[[Any], Any]:
    """Return the function that opens values of one column, whatever key they are under.

    What follows the envelope is authenticated as it stands: stored bytes that run on past the length
    in the header, and symbols of another row, both end in an `AuthenticationError`.

    Args:
        layouts: Of the column's envelopes.
        decode: Plaintext to value.
        locate: Makes of an error one that names the column.
        null: Makes what NULL is read as.

    Returns:
        A function of the envelope followed by its row's symbols, or None.
    """
    header = slice(HEADER_SIZE)

    # the hot path: one dict look-up gives the opener, and tells the area's keys from all others; everything is done
    # in this one frame, because each further one would cost a tenth of a decryption; the slices are made beforehand,
    # because Python up to 3.11 makes a slice object at each use
    def read(stored: Any) -> Any:
        if stored is None:
            return null()
        failure: KeyVaultError
        try:
            decrypt, nonce, ciphertext, symbols = layouts[stored[header]]
            return decode(decrypt(stored[nonce], stored[ciphertext], stored[symbols]))
        except KeyVaultError as error:
            failure = error
        except TypeError:
            if type(stored) is bytes:
                raise
            return read(bytes(stored))
        except _FAILURES as error:
            failure = _failure(type(error), len(stored))
        # no context, no inner frames and no local here: they would keep ciphertext and plaintext alive in a traceback
        located = locate(failure.with_traceback(None), stored)
        del stored
        raise located from None

    return read


_FAILURES: tuple[type[Exception], ...] = (*AUTHENTICATION_FAILURES, struct.error)
_REFUSALS: tuple[type[Exception], ...] = (KeyVaultError, *_FAILURES)


def _failure(kind: type[Exception], size: int) -> KeyVaultError:
    """Return what a failure of that kind means; the failure itself may hold the plaintext."""
    if issubclass(kind, struct.error):
        return _malformed(size)
    if issubclass(kind, UnicodeDecodeError):
        msg = "an opened value is no text: the column's inner type has changed"
        return MalformedEnvelopeError(msg, size=size)
    msg = f"{size} stored bytes do not open with their key for their row"
    return AuthenticationError(msg, size=size)


def open_all(layouts: Mapping[bytes, Layout], stored: Sequence[bytes]) -> tuple[list[bytes], list[bytes]] | None:
    """Open envelopes of one column, each followed by its row's symbols.

    Returns:
        The plaintexts and the symbols; None where one does not open, which `reader` says more about.
    """
    header = slice(HEADER_SIZE)
    try:
        found = list(map(layouts.__getitem__, [one[header] for one in stored]))
        symbols = [one[at] for one, (_, _, _, at) in zip(stored, found, strict=True)]
        # loops over lists, without a frame for each value
        plaintexts = [
            decrypt(one[nonce], one[ciphertext], row)
            for one, (decrypt, nonce, ciphertext, _), row in zip(stored, found, symbols, strict=True)
        ]
    except _REFUSALS:
        return None
    return plaintexts, symbols


def open_envelope(layouts: Mapping[bytes, Layout], stored: bytes) -> bytes:
    """Open one envelope, followed by its row's symbols, and return its plaintext as it is.

    Raises:
        sa_keyvault.AuthenticationError: Key, stored bytes and row do not fit together.
    """
    plaintext: bytes = reader(layouts, bytes, lambda error, _: error)(stored)
    return plaintext
