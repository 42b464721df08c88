"""The stored bytes: header and body of one sealed value.

 offset  size  field
 0       1     format: 0xF8 + version (never the first byte of a UTF-8 text)
 1       4     working key number, big-endian
 5       4     length of the body, big-endian
 9       n     body: nonce or IV, ciphertext, tag, as the suite of the working key defines

The suite is a property of the working key's record, never of the envelope: no byte can be flipped
to choose a weaker one.
"""

import os
import struct
from collections.abc import Callable
from struct import Struct

from sa_keyvault.errors import AuthenticationError, MalformedEnvelopeError
from sa_keyvault.suites import AUTHENTICATION_FAILURES, MAX_BODY_OVERHEAD, Cipher, Suite

__all__ = [
    "FORMAT",
    "HEADER_SIZE",
    "Opener",
    "Sealer",
    "envelope_size",
    "key_number",
    "key_prefix",
    "max_envelope_size",
    "opener",
    "pending_envelope",
    "sealer",
]

FORMAT = 0xF8
"""Version 0. 0xF8 to 0xFF never begin a UTF-8 text (RFC 3629 section 3)."""

HEADER_SIZE = 9
_HEADER = Struct(">BII")
_PREFIX = Struct(">BI")
_LENGTH = Struct(">I")

Sealer = Callable[[bytes, bytes, bytes], bytes]
"""(plaintext, prefix of the binding, symbols) -> envelope."""

Opener = Callable[[bytes, bytes], bytes]
"""(envelope followed by its row's symbols, prefix of the binding) -> plaintext."""


def key_prefix(number: int) -> bytes:
    """Return the first five bytes of every envelope of a key: format and key number."""
    return _PREFIX.pack(FORMAT, number)


def key_number(stored: bytes) -> int:
    """Return the key number in the header of *stored*.

    Raises:
        sa_keyvault.MalformedEnvelopeError: *stored* does not begin with a whole header of this format.
    """
    if len(stored) < HEADER_SIZE or stored[0] != FORMAT:
        msg = f"{len(stored)} stored bytes are no envelope: they do not begin with a header of format {FORMAT:#x}"
        raise MalformedEnvelopeError(msg, size=len(stored))
    number: int = _HEADER.unpack_from(stored)[1]
    return number


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


_FAILURES: tuple[type[Exception], ...] = (*AUTHENTICATION_FAILURES, struct.error)


def sealer(number: int, suite: Suite, cipher: Cipher) -> Sealer:
    """Return the function that seals values under one working key."""
    prefix, nonce_size, body_size = key_prefix(number), suite.nonce_size, suite.body_size
    seal_body, pack_length, urandom = cipher.seal, _LENGTH.pack, os.urandom

    def seal(plaintext: bytes, binding: bytes, symbols: bytes) -> bytes:
        header = prefix + pack_length(body_size(len(plaintext)))
        nonce = urandom(nonce_size)
        return header + nonce + seal_body(nonce, plaintext, header + binding + symbols)

    return seal


def opener(suite: Suite, cipher: Cipher) -> Opener:
    """Return the function that opens values under one working key.

    What follows the envelope is authenticated as it stands: stored bytes that run on past the length
    in the header, and symbols of another row, both end in an `AuthenticationError`.
    """
    body = HEADER_SIZE + suite.nonce_size
    open_body, unpack_length = cipher.open, _LENGTH.unpack_from

    def open_(stored: bytes, binding: bytes) -> bytes:
        try:
            end = HEADER_SIZE + unpack_length(stored, 5)[0]
            return open_body(stored[9:body], stored[body:end], stored[:9] + binding + stored[end:])
        except _FAILURES:
            # no context: it would keep the frame, and with it the ciphertext, alive in a traceback
            pass
        msg = f"{len(stored)} stored bytes do not open with their key for their row"
        raise AuthenticationError(msg, size=len(stored))

    return open_
