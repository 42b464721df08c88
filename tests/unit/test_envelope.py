"""The stored bytes: their layout, and that nothing else opens."""

import os
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sa_keyvault import envelope
from sa_keyvault.envelope import FORMAT, HEADER_SIZE, Sealer
from sa_keyvault.errors import AuthenticationError, MalformedEnvelopeError
from sa_keyvault.secret import Secret
from sa_keyvault.suites import AES_256_GCM, derive

_Open = Callable[[bytes], bytes]

_KEY = Secret(bytes(range(32)))
_NUMBER = 0x01020304
_SYMBOLS = b"5:1"
_PLAINTEXTS = [b"", b"a", bytes(16), b"x" * 41]

_NUMBERS = st.integers(1, 2**32 - 1)


def _functions(number: int = _NUMBER, key: Secret = _KEY) -> tuple[Sealer, _Open]:
    """Return what seals under *key*, and what opens as a key ring does: each number has a key of its own."""

    def find(prefix: bytes) -> tuple[envelope.Opener, bool]:
        envelope.key_number(prefix.ljust(HEADER_SIZE, b"\x00"))
        own = key if prefix == envelope.key_prefix(number) else derive(key, salt=key, purpose=(prefix,), size=32)
        return envelope.opener(AES_256_GCM, AES_256_GCM.cipher(own)), True

    sealer = envelope.sealer(number, AES_256_GCM, AES_256_GCM.cipher(key))
    return sealer, partial(envelope.open_envelope, envelope.Layouts(find))


_SEAL, _OPEN = _functions()


def _sealed(plaintext: bytes) -> bytes:
    return _SEAL([plaintext], [_SYMBOLS])[0]


def _refused(stored: bytes, symbols: bytes = _SYMBOLS, open_: _Open = _OPEN) -> bool:
    """Whether *stored* is refused with the right class; anything else that is raised, is raised."""
    try:
        open_(stored + symbols)
    except (AuthenticationError, MalformedEnvelopeError) as error:
        # less than a header and its symbols could ever be, or another format: there is nothing to authenticate
        begins_as_envelope = len(stored + symbols) >= HEADER_SIZE and (stored + symbols)[0] == FORMAT
        return isinstance(error, AuthenticationError) == begins_as_envelope
    return False


# -- layout ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plaintext", _PLAINTEXTS)
def test_layout(plaintext: bytes) -> None:
    """An envelope is format, key number, length of the body, nonce, ciphertext and tag (R-1)."""
    stored = _sealed(plaintext)
    size = 12 + len(plaintext) + 16
    header = b"\xf8" + bytes.fromhex("01020304") + size.to_bytes(4, "big")
    # the suite's own cipher, told each input: the symbols are the associated data
    body = AES_256_GCM.cipher(_KEY).seal(stored[9:21], plaintext, _SYMBOLS)
    assert header + stored[9:21] + body == stored


def test_format_byte_never_begins_a_text() -> None:
    """The format byte is no beginning of any UTF-8 text, so a plaintext is never taken for an envelope (A-19)."""
    text = [bytes([FORMAT]) + rest for rest in (b"", b"\x80", b"\x80" * 3, b"\x80" * 5)]
    decoded = [candidate.decode(errors="replace")[0] for candidate in text]
    assert decoded == ["\ufffd"] * len(text)


@settings(deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=40), _NUMBERS)
@example(b"", b"", 1)
@example(b"", b"", 2**32 - 1)
def test_round_trip(plaintext: bytes, symbols: bytes, number: int) -> None:
    """What was sealed opens with its own key and symbols."""
    seal, open_ = _functions(number)
    assert plaintext == open_(seal([plaintext], [symbols])[0] + symbols)


@settings(deadline=None)
@given(st.binary(max_size=300), _NUMBERS)
def test_parse_is_the_inverse_of_build(plaintext: bytes, number: int) -> None:
    """Key number, size and prefix that are read from an envelope are those that it was built of (R-19)."""
    stored = _functions(number)[0]([plaintext], [b""])[0]
    header = envelope.key_prefix(number) + (len(stored) - HEADER_SIZE).to_bytes(4, "big")
    expected = (number, len(stored), header)
    assert expected == (envelope.key_number(stored), envelope.envelope_size(stored), stored[:HEADER_SIZE])


@settings(deadline=None)
@given(st.binary(max_size=30))
@example(b"\xf8")
@example(b"\xf8\x00\x00\x00\x01\xff\xff\xff\xff")
def test_parser_raises_nothing_else(stored: bytes) -> None:
    """Whatever is stored, the parser names a key number or refuses with one class (R-19)."""
    try:
        number = envelope.key_number(stored)
    except MalformedEnvelopeError:
        assert len(stored) < HEADER_SIZE or stored[0] != FORMAT
        return
    assert stored[:5] == envelope.key_prefix(number)


@pytest.mark.parametrize("size", [0, 1, 100])
def test_envelope_size_is_the_one_in_the_header(size: int) -> None:
    """The size of an envelope is read from its header, whatever stands behind it."""
    stored = _sealed(bytes(size))
    assert (len(stored), len(stored)) == (envelope.envelope_size(stored), envelope.envelope_size(stored + _SYMBOLS))


@pytest.mark.parametrize("size", [0, 1, 254, 70_000])
def test_max_envelope_size_holds_every_envelope(size: int) -> None:
    """A column that is wide enough by `max_envelope_size` holds the envelope, with 64 bytes for any suite."""
    largest = envelope.max_envelope_size(size)
    assert (9 + size + 64, True) == (largest, len(_sealed(bytes(size))) <= largest)


@pytest.mark.parametrize("size", [0, 1, 7, 64])
def test_length_gives_nothing_else_away(size: int) -> None:
    """Values of one size have envelopes of one size: nothing is compressed (A-22)."""
    assert len({len(_sealed(value)) for value in (bytes(size), os.urandom(size), b"a" * size)}) == 1


# -- tampering ---------------------------------------------------------------------------------------------------------


def _flips(stored: bytes) -> Iterator[bytes]:
    number = int.from_bytes(stored, "big")
    return ((number ^ 1 << bit).to_bytes(len(stored), "big") for bit in range(8 * len(stored)))


@pytest.mark.parametrize("plaintext", [os.urandom(size) for size in range(20)], ids=len)
def test_every_flipped_bit_is_refused(plaintext: bytes) -> None:
    """No envelope opens with any of its bits flipped (R-20, A-13)."""
    stored = _sealed(plaintext)
    assert [flipped for flipped in _flips(stored) if not _refused(flipped)] == []


@pytest.mark.parametrize("plaintext", _PLAINTEXTS)
def test_every_flipped_bit_of_the_symbols_is_refused(plaintext: bytes) -> None:
    """No envelope opens with any bit of its row's symbols flipped (R-21, A-1)."""
    stored = _sealed(plaintext)
    assert [flipped for flipped in _flips(_SYMBOLS) if not _refused(stored, flipped)] == []


@pytest.mark.parametrize("plaintext", _PLAINTEXTS)
@pytest.mark.parametrize("symbols", [_SYMBOLS, b""], ids=["with symbols", "alone"])
def test_every_truncation_is_refused(plaintext: bytes, symbols: bytes) -> None:
    """No part of an envelope opens, be it empty, a byte, or all but one (R-20, A-14)."""
    stored = _sealed(plaintext)
    assert [size for size in range(len(stored)) if not _refused(stored[:size], symbols)] == []


@pytest.mark.parametrize("plaintext", _PLAINTEXTS)
def test_every_appended_byte_is_refused(plaintext: bytes) -> None:
    """No envelope opens with a byte more behind it or in front of it (R-19, A-14)."""
    stored = _sealed(plaintext)
    changed = [candidate for byte in range(256) for candidate in (stored + bytes([byte]), bytes([byte]) + stored)]
    assert [candidate for candidate in changed if not _refused(candidate)] == []


@pytest.mark.parametrize("stored", [b"", b"\xf8", b"plaintext", b"plaintext that is longer than a header"])
def test_what_never_was_an_envelope_is_refused(stored: bytes) -> None:
    """A plaintext in an encrypted column is refused by opener and parser alike (A-14, A-19)."""
    with pytest.raises(MalformedEnvelopeError):
        envelope.key_number(stored)
    assert _refused(stored)


@pytest.mark.parametrize("byte", [byte for byte in range(256) if byte != FORMAT])
def test_every_other_format_byte_is_refused(byte: int) -> None:
    """255 of the 256 format bytes are refused by the parser, the size and the opener alike (R-19, A-16)."""
    stored = bytes([byte]) + _sealed(b"value")[1:]
    for parse in (envelope.key_number, envelope.envelope_size):
        with pytest.raises(MalformedEnvelopeError, match="format 0xf8"):
            parse(stored)
    assert _refused(stored)


@pytest.mark.parametrize("number", [0, 1, _NUMBER - 1, _NUMBER + 1, 2**32 - 1])
def test_changed_key_number_is_refused(number: int) -> None:
    """An envelope that names another key does not open with that one (R-22, A-17)."""
    changed = envelope.key_prefix(number) + _sealed(b"value")[5:]
    other = _functions(number, Secret(bytes(32)))[1]
    assert (number, True) == (envelope.key_number(changed), _refused(changed, open_=other))


def test_envelope_of_one_key_opens_under_no_other() -> None:
    """An envelope opens under the key that sealed it only, even if another key has its number (R-22, A-21)."""
    assert _refused(_sealed(b"value"), open_=_functions(key=Secret(bytes(32)))[1])


@pytest.mark.parametrize("length", [0, 1, 27, 28, 34, 2**31 - 1, 2**31, 2**32 - 1])
def test_changed_length_is_refused_without_allocation(length: int) -> None:
    """A length field up to 4 GiB ends in an error, and in no buffer of that size (A-18)."""
    stored = _sealed(b"value")
    changed = stored[:5] + length.to_bytes(4, "big") + stored[9:]
    tracemalloc.start()
    try:
        refused = _refused(changed)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (refused, peak < 1_000_000) == (True, True)


@pytest.mark.parametrize("length", range(12 + 16 + 5 + len(_SYMBOLS) + 1))
def test_length_that_takes_in_the_symbols_is_refused(length: int) -> None:
    """A length field that moves the border between body and symbols ends in an error (A-18, A-53)."""
    stored = _sealed(b"value")
    changed = stored[:5] + length.to_bytes(4, "big") + stored[9:]
    assert (length != len(stored) - 9) == _refused(changed)


def test_refusals_are_one_error() -> None:
    """A wrong key, a changed body, another row and cut bytes end in one text: which of them is not told (A-34)."""
    stored = _sealed(b"value")
    changed = stored[:-1] + bytes([stored[-1] ^ 1])
    attempts = [
        (stored, b"6:1", _OPEN),
        (changed, b"5:1", _OPEN),
        (stored, b"5:1", _functions(key=Secret(bytes(32)))[1]),
    ]
    texts = set()
    for candidate, symbols, open_ in attempts:
        with pytest.raises(AuthenticationError) as caught:
            open_(candidate + symbols)
        texts.add(str(caught.value))
    assert texts == {f"{len(stored) + 3} stored bytes do not open with their key for their row"}


def test_refusal_keeps_no_context() -> None:
    """The error of an opener has no cause or context whose frames would keep the bytes alive (R-38, A-74)."""
    with pytest.raises(AuthenticationError) as caught:
        _OPEN(envelope.key_prefix(_NUMBER) + bytes(15))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


# -- nonces ------------------------------------------------------------------------------------------------------------


def test_what_is_found_while_all_is_forgotten_is_not_kept() -> None:
    """An opener that one thread finds while another forgets all, because a key was disabled, is found anew (R-29)."""
    found: list[bytes] = []

    def find(prefix: bytes) -> tuple[envelope.Opener, bool]:
        found.append(prefix)
        if len(found) == 1:
            layouts.clear()
        return envelope.opener(AES_256_GCM, AES_256_GCM.cipher(_KEY)), True

    layouts = envelope.Layouts(find)
    stored = _sealed(_PLAINTEXTS[1]) + _SYMBOLS
    for _ in range(3):
        assert _PLAINTEXTS[1] == envelope.open_envelope(layouts, stored)
    assert [envelope.key_prefix(_NUMBER)] * 2 == found


def test_nonces_are_unique() -> None:
    """A value that is sealed again gets a new nonce, so its ciphertext is another one (R-13, A-52)."""
    stored = [_sealed(b"value") for _ in range(10_000)]
    assert (len({one[9:21] for one in stored}), len({one[21:] for one in stored})) == (10_000, 10_000)


def test_no_nonce_without_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the operating system's generator nothing is sealed (R-13, A-50)."""

    def fail(size: int) -> bytes:
        raise OSError(size)

    monkeypatch.setattr(os, "urandom", fail)
    seal = _functions()[0]
    with pytest.raises(OSError, match="12"):
        seal([b"value"], [_SYMBOLS])


# -- pending envelopes -------------------------------------------------------------------------------------------------


def test_pending_envelope_is_a_header_alone() -> None:
    """A pending envelope is a header with key number 0 and no body."""
    assert envelope.pending_envelope() == bytes.fromhex("f8 00000000 00000000")


def test_pending_envelope_opens_under_no_key() -> None:
    """A pending envelope that is left behind is refused, even by a key whose number is 0 (A-63)."""
    pending = envelope.pending_envelope()
    expected = (0, HEADER_SIZE, True, True)
    refusals = _refused(pending), _refused(pending, open_=_functions(0)[1])
    assert expected == (envelope.key_number(pending), envelope.envelope_size(pending), *refusals)
