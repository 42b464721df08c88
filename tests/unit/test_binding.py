"""The binding context: one reading only, whatever the labels and symbols are."""

import datetime
import decimal
import itertools
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from struct import Struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sa_keyvault import binding
from sa_keyvault.binding import Binding, Label, SymbolForm, join_symbols, split_symbols
from sa_keyvault.envelope import Layouts, open_envelope, opener, sealer
from sa_keyvault.errors import AuthenticationError, BindingError, KeyRecordError
from sa_keyvault.records import data_key, new_master, new_working
from sa_keyvault.suites import AES_256_GCM

Row = tuple[bytes, ...]

_LENGTH = Struct(">I")
_COLON = SymbolForm.COLON

# the characters that symbols are made of, so that one can look like the end of another
_TEXTS = st.one_of(st.binary(max_size=12), st.text("0123456789:", max_size=12).map(str.encode))
_ROWS = st.lists(_TEXTS, min_size=1, max_size=4).map(tuple)
_PLAIN_TEXTS = _TEXTS.map(lambda text: text.replace(b":", b""))
_PLAIN_ROWS = st.lists(_PLAIN_TEXTS, min_size=1, max_size=4).map(tuple)
_NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_LABELS = st.lists(_NAMES, min_size=1, max_size=4).map(lambda parts: Label(tuple(parts)))


def _joined(row: Row, form: SymbolForm = SymbolForm.LENGTH) -> bytes:
    return join_symbols(row, form)


def _strings(alphabet: bytes, longest: int) -> list[bytes]:
    return [bytes(text) for size in range(longest + 1) for text in itertools.product(alphabet, repeat=size)]


# -- labels and symbols have one reading -------------------------------------------------------------------------------


def _fields(joined: bytes) -> Iterable[bytes]:
    """Take apart what `length_prefixed` joined."""
    while joined:
        (size,) = _LENGTH.unpack_from(joined)
        assert len(joined) >= 4 + size
        yield joined[4 : 4 + size]
        joined = joined[4 + size :]


@settings(deadline=None)
@given(st.lists(st.binary(max_size=20)))
@example([b"", b""])
def test_length_prefixed_has_an_inverse(fields: list[bytes]) -> None:
    """Fields behind their lengths can be told apart again, so no two sequences are joined alike (R-16)."""
    assert fields == list(_fields(binding.length_prefixed(*fields)))


def test_length_prefixed_layout() -> None:
    """Each field stands behind its length, 4 bytes big-endian."""
    assert binding.length_prefixed(b"", b"ab") == bytes.fromhex("00000000 00000002 6162")


@settings(deadline=None)
@given(_LABELS)
def test_label_has_an_inverse(label: Label) -> None:
    """The bytes of a label give back its parts, so labels are injective (R-15, R-16)."""
    assert label.parts == tuple(part.decode() for part in _fields(bytes(label)))
    assert Label.from_bytes(bytes(label)) == label


@settings(deadline=None)
@given(st.binary(max_size=20))
@example(b"")
@example(b"\0\0")
@example(b"\0\0\0\2a")
@example(b"\0\0\0\1\xff")
def test_other_bytes_are_no_label(data: bytes) -> None:
    """Bytes are a label's, to the last one, or an error of the library (R-16)."""
    with suppress(KeyRecordError):
        assert bytes(Label.from_bytes(data)) == data


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("", "a", "b"), ("a", "b")),
        (("a.b",), ("a", "b")),
        (("a", "bc", "d"), ("ab", "c", "d")),
        (("", "a", "b"), ("", "", "ab")),
        (("caf\u00e9",), ("cafe\u0301",)),
    ],
)
def test_labels_that_look_alike_differ(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Labels that read alike, or whose joined texts are the same, have different bytes (R-16, A-5)."""
    assert bytes(Label(one)) != bytes(Label(other))


def test_label_text() -> None:
    """A label reads as a dotted name without the schema that is not there."""
    assert [str(Label(("", "claimant", "email"))), str(Label(("x", "claimant", "email")))] == [
        "claimant.email",
        "x.claimant.email",
    ]


@settings(deadline=None)
@given(*[st.tuples(_LABELS, st.integers(1, 40), st.sampled_from(SymbolForm))] * 2)
@example((Label(("t",)), 1, _COLON), (Label(("t",)), 1, SymbolForm.LENGTH))
@example((Label(("t",)), 1, _COLON), (Label(("t",)), 11, _COLON))
def test_bindings_are_injective(one: tuple[Label, int, SymbolForm], other: tuple[Label, int, SymbolForm]) -> None:
    """Two bindings have the same fields only if label, number of symbols and form are the same (R-15, R-16)."""
    assert (one == other) == (Binding(*one).fields() == Binding(*other).fields())


def test_binding_fields() -> None:
    """A binding is the bytes of its label, the number of symbols in decimal, and the name of their form (R-16)."""
    label = Label(("", "t", "name"))
    assert (bytes(label), b"2", b"length") == Binding(label, 2, SymbolForm.LENGTH).fields()


# -- symbols are parsed from the right ---------------------------------------------------------------------------------


def test_symbol_layout() -> None:
    """A symbol is a colon and its text; or its text, a colon, and its length in bytes in decimal."""
    row = (b"12345", b"", "é".encode())
    expected = [b":12345::\xc3\xa9", b"12345:5:0\xc3\xa9:2"]
    assert expected == [_joined(row, _COLON), _joined(row)]


@settings(deadline=None)
@given(st.binary(max_size=40), _ROWS)
@example(b"x5:", (b"admin",))
@example(b"1", (b"", b""))
def test_split_is_the_inverse_of_joining(stored: bytes, row: Row) -> None:
    """Symbols are found at the right end of any bytes, and what stands before them is left (R-16)."""
    assert (stored, row) == split_symbols(stored + _joined(row), len(row), SymbolForm.LENGTH)


@settings(deadline=None)
@given(st.binary(max_size=40), _PLAIN_ROWS)
@example(b":", (b"1",))
@example(b"1:", (b"", b""))
def test_split_is_the_inverse_of_joining_with_colons(stored: bytes, row: Row) -> None:
    """Symbols without colons are found behind theirs, at the right end of any bytes (R-16)."""
    assert (stored, row) == split_symbols(stored + _joined(row, _COLON), len(row), _COLON)


@pytest.mark.parametrize(
    "suffix",
    [b"", b"1", b"5", b":", b"a:", b":1", b"ab:3", b"a:01", b"a:+1", b"a:-1", b"a: 1", b"a:1 ", b"a:1\n", b"a:\xb9"],
)
def test_split_refuses_what_joining_never_makes(suffix: bytes) -> None:
    """Missing colons, lengths that are not minimal and lengths that do not fit are refused (A-18)."""
    with pytest.raises(BindingError):
        split_symbols(suffix, 1, SymbolForm.LENGTH)


def test_split_refuses_a_length_that_python_would_not_read() -> None:
    """A length of thousands of digits is refused like any other that does not fit (A-18)."""
    with pytest.raises(BindingError):
        split_symbols(b"a:" + b"1" * 5_000, 1, SymbolForm.LENGTH)


@pytest.mark.parametrize(("suffix", "form"), [(b"a:1", SymbolForm.LENGTH), (b":1", _COLON), (b"1", _COLON)])
def test_split_refuses_too_few_symbols(suffix: bytes, form: SymbolForm) -> None:
    """A row with one symbol is no row with two (R-16)."""
    with pytest.raises(BindingError):
        split_symbols(suffix, 2, form)


@settings(deadline=None)
@given(st.binary(max_size=24), st.integers(1, 3), st.sampled_from(SymbolForm))
def test_split_reads_nothing_that_joining_does_not_make(suffix: bytes, count: int, form: SymbolForm) -> None:
    """Whatever is parsed joins to the same bytes again; everything else is a BindingError (R-16)."""
    try:
        rest, row = split_symbols(suffix, count, form)
    except BindingError:
        return
    assert (suffix, count) == (rest + _joined(row, form), len(row))


# -- stored bytes cannot become part of a symbol -----------------------------------------------------------------------


def _stolen(rows: Iterable[Row], join: Callable[[Row], bytes]) -> list[tuple[Row, bytes, Row]]:
    """Return each row whose value would open in another row with some of its symbols among the stored bytes."""
    owner = {join(row): row for row in rows}
    return [
        (row, suffix[:split], owner[suffix[split:]])
        for suffix, row in owner.items()
        for split in range(1, len(suffix))
        if suffix[split:] in owner
    ]


_SINGLE = [(text,) for text in _strings(b"12:x", 5)]
_DOUBLE = list(itertools.product(_strings(b"12:", 3), repeat=2))
_TRIPLE = list(itertools.product(_strings(b"1:", 2), repeat=3))


@pytest.mark.parametrize("rows", [_SINGLE, _DOUBLE, _TRIPLE], ids=["one symbol", "two symbols", "three symbols"])
def test_no_split_of_a_suffix_names_another_row(rows: list[Row]) -> None:
    """Over all rows of short alphabets, no part of a row's symbols moved into the stored bytes leaves another row."""
    assert _stolen(rows, _joined) == []


@pytest.mark.parametrize("rows", [_SINGLE, _DOUBLE, _TRIPLE], ids=["one symbol", "two symbols", "three symbols"])
def test_no_split_of_a_suffix_with_colons_names_another_row(rows: list[Row]) -> None:
    """The same holds behind colons for rows whose sealed texts have none, whatever texts the database holds (A-53)."""
    sealed = {_joined(row, _COLON) for row in rows if not any(b":" in text for text in row)}
    stolen = [
        (suffix, row)
        for row in rows
        for suffix in sealed
        if suffix.endswith(_joined(row, _COLON)) and suffix != _joined(row, _COLON)
    ]
    assert (stolen, len(sealed) > 1) == ([], True)


def test_the_search_finds_what_a_length_in_front_allows() -> None:
    """With the length in front of a symbol the same search finds the known pair, so it can find one (A-53)."""
    rows = [(b"x5:admin",), (b"admin",)]
    found = _stolen(rows, lambda row: b"".join(b"%d:%b" % (len(text), text) for text in row))
    assert found == [((b"x5:admin",), b"8:x", (b"admin",))]


def test_the_search_finds_what_a_colon_in_a_text_allows() -> None:
    """Texts with colons do collide behind colons: they take the other form, as they do (A-53)."""
    found = _stolen([(b"a:b",), (b"b",)], lambda row: _joined(row, _COLON))
    assert found == [((b"a:b",), b":a", (b"b",))]


def test_the_search_finds_what_an_uncounted_row_allows() -> None:
    """Rows with different numbers of symbols do collide: the number must be authenticated, as it is (A-53)."""
    assert _stolen([(b"1", b"2"), (b"2",)], _joined) == [((b"1", b"2"), b"1:1", (b"2",))]


_MASTER, _SECRET = new_master("0" * 32, AES_256_GCM)
_WORKING = new_working(_MASTER, _SECRET, "identities", AES_256_GCM)


def _column(binding: Binding) -> tuple[Callable[[bytes, bytes], bytes], Callable[[bytes], bytes]]:
    """Return what seals and opens the values of one column under the one working key."""
    cipher = AES_256_GCM.cipher(data_key(_WORKING, AES_256_GCM, _SECRET, binding))
    one = opener(AES_256_GCM, cipher)
    seal_all = sealer(_WORKING.number, AES_256_GCM, cipher)

    def seal(plaintext: bytes, symbols: bytes) -> bytes:
        return seal_all([plaintext], [symbols])[0]

    return seal, partial(open_envelope, Layouts(lambda _: (one, True)))


def _opens(open_: Callable[[bytes], bytes], stored: bytes) -> bool:
    try:
        return open_(stored) == b"plaintext"
    except AuthenticationError:
        return False


def _tails(symbols: bytes) -> list[bytes]:
    return [symbols[:split] for split in range(len(symbols) + 1)]


def _pairs(texts: st.SearchStrategy[bytes]) -> st.SearchStrategy[tuple[Row, Row]]:
    return st.integers(1, 3).flatmap(lambda count: st.tuples(*[st.tuples(*[texts] * count)] * 2))


@settings(deadline=None)
@given(_pairs(_TEXTS))
@example(((b"x5:admin",), (b"admin",)))
@example(((b"1", b"23"), (b"12", b"3")))
def test_no_stored_bytes_open_in_another_row(rows: tuple[Row, Row]) -> None:
    """An envelope with any part of its row's symbols behind it opens in its own row only (R-21, A-1, A-6, A-53)."""
    own, other = rows
    seal, open_ = _column(Binding(Label(("t",)), len(own), SymbolForm.LENGTH))
    envelope = seal(b"plaintext", _joined(own))
    opened = [tail for tail in _tails(_joined(own)) if _opens(open_, envelope + tail + _joined(other))]
    assert opened == ([b""] if own == other else [])


@settings(deadline=None)
@given(_pairs(_PLAIN_TEXTS), _pairs(_TEXTS))
@example(((b"15",), (b"5",)), ((b"",), (b"15",)))
@example(((b"1", b"23"), (b"12", b"3")), ((b"1", b"23"), (b"", b"1:23")))
def test_no_stored_bytes_open_in_another_row_with_colons(sealed: tuple[Row, Row], stored: tuple[Row, Row]) -> None:
    """The same holds behind colons, whatever texts stand in the database's rows (R-21, A-1, A-6, A-53)."""
    own = sealed[0]
    seal, open_ = _column(Binding(Label(("t",)), len(own), _COLON))
    symbols = _joined(own, _COLON)
    envelope = seal(b"plaintext", symbols)
    rows = [row for row in (sealed[1], *stored) if len(row) == len(own)]
    opened = [row for row in rows for tail in _tails(symbols) if _opens(open_, envelope + tail + _joined(row, _COLON))]
    assert opened == [row for row in rows if row == own]


@settings(deadline=None)
@given(st.tuples(_ROWS, _ROWS).filter(lambda rows: len(rows[0]) != len(rows[1])))
@example(((b"1", b"2"), (b"2",)))
def test_no_stored_bytes_open_in_a_row_with_other_symbols(rows: tuple[Row, Row]) -> None:
    """The number of symbols is authenticated: no tail makes up for a symbol more or less (R-21, A-53)."""
    own, other = rows
    seal, _ = _column(Binding(Label(("t",)), len(own), SymbolForm.LENGTH))
    _, foreign = _column(Binding(Label(("t",)), len(other), SymbolForm.LENGTH))
    envelope = seal(b"plaintext", _joined(own))
    assert [tail for tail in _tails(_joined(own)) if _opens(foreign, envelope + tail + _joined(other))] == []


@settings(deadline=None)
@given(_LABELS, _LABELS, _ROWS)
def test_no_envelope_opens_in_another_column(own: Label, other: Label, row: Row) -> None:
    """An envelope opens under the label it was sealed under, and no other (R-21, A-2, A-3)."""
    seal, _ = _column(Binding(own, len(row), SymbolForm.LENGTH))
    _, open_ = _column(Binding(other, len(row), SymbolForm.LENGTH))
    assert (own == other) == _opens(open_, seal(b"plaintext", _joined(row)) + _joined(row))


def test_no_envelope_opens_under_another_form() -> None:
    """An envelope whose symbols were written in one form opens in no column that reads the other (R-21, A-53)."""
    bindings = [Binding(Label(("t",)), 1, form) for form in SymbolForm]
    symbols = b":0"
    opened = [
        _opens(_column(other)[1], _column(own)[0](b"plaintext", symbols) + symbols)
        for own in bindings
        for other in bindings
    ]
    assert opened == [True, False, False, True]


# -- canonical text ----------------------------------------------------------------------------------------------------

_KEY = uuid.UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
_HEX = b"7d4448409dc011d1b2455ffdce74fad2"


@pytest.mark.parametrize("value", [1, True, 1.0, decimal.Decimal(1), decimal.Decimal("1.00"), "1", "+1", "01"])
def test_integer_has_one_form(value: object) -> None:
    """What a database stores as one integer has one canonical text (R-17, A-54)."""
    assert binding.canonical_integer(value) == b"1"


@settings(deadline=None)
@given(st.integers())
@example(-(2**63))
@example(2**63 - 1)
@example(0)
def test_integer_is_decimal(value: int) -> None:
    """An integer is written in decimal, so different integers differ (R-16)."""
    assert str(value).encode() == binding.canonical_integer(value)


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "-", "+", "1.0", "1e3", "0x1", "1_0", " 1", "1 ", "\u0661", b"1", [1]),
        *(1.5, float("nan"), float("inf"), decimal.Decimal("1.5"), decimal.Decimal("NaN")),
        *("--5", "+-5", "5" * 5_000),
        *(decimal.Decimal("Infinity"), decimal.Decimal("sNaN")),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_integer_refuses(value: object) -> None:
    """What names no integer is refused with the library's own error (R-17, A-54)."""
    with pytest.raises(BindingError):
        binding.canonical_integer(value)


def test_integer_of_a_large_decimal() -> None:
    """A whole decimal of any size is the integer it equals: the decimal context's precision has no part in it."""
    assert binding.canonical_integer(decimal.Decimal("1E+30")) == b"1" + b"0" * 30


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("")
@example("a\x00b")
@example("\U0001f511")
@example("k" * 100_000)
def test_text_is_utf8(value: str) -> None:
    """Text of any length and content has its UTF-8 as canonical text (A-62)."""
    assert value == binding.canonical_text(value).decode()


def test_text_keeps_what_a_collation_ignores() -> None:
    """Case, accents, normal forms and trailing blanks tell texts apart (A-55)."""
    texts = ["abc", "ABC", "\u00e1bc", "a\u0301bc", "abc "]
    assert len(texts) == len({binding.canonical_text(text) for text in texts})


@pytest.mark.parametrize("value", [None, 1, True, b"a", ["a"], _KEY])
def test_text_refuses(value: object) -> None:
    """What is no text is refused, not converted: 1 is not '1' (A-54, A-58)."""
    with pytest.raises(BindingError):
        binding.canonical_text(value)


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
def test_text_refuses_lone_surrogates(value: str) -> None:
    """A text that has no UTF-8 form is refused with the library's own error (A-62)."""
    with pytest.raises(BindingError, match="lone surrogates"):
        binding.canonical_text(value)


@pytest.mark.parametrize("value", ["ab", "ab ", "ab        "])
def test_trimmed_text_has_one_form(value: str) -> None:
    """The blanks that databases add to or strip from a CHAR are no part of its canonical text (A-56)."""
    assert binding.canonical_trimmed_text(value) == b"ab"


@pytest.mark.parametrize("value", [" ab", "a b", "ab\t", "ab\n", "ab\u00a0", "ab\x00"])
def test_trimmed_text_keeps_everything_else(value: str) -> None:
    """Only blanks at the end are stripped: databases keep all others (A-56)."""
    assert value.encode() == binding.canonical_trimmed_text(value)


@pytest.mark.parametrize("value", [None, 1, b"ab", "\ud800"])
def test_trimmed_text_refuses(value: object) -> None:
    """A CHAR refuses what a text refuses (A-62)."""
    with pytest.raises(BindingError):
        binding.canonical_trimmed_text(value)


@pytest.mark.parametrize("value", [_KEY, str(_KEY), str(_KEY).upper(), _KEY.hex, _KEY.hex.upper()])
def test_uuid_has_one_form(value: object) -> None:
    """A UUID object and its usual texts have one canonical text (A-61)."""
    assert binding.canonical_uuid(value) == _HEX


@settings(deadline=None)
@given(st.uuids(), st.uuids())
def test_uuid_is_injective(one: uuid.UUID, other: uuid.UUID) -> None:
    """Different UUIDs have different canonical texts, 32 hex digits each (R-16)."""
    texts = binding.canonical_uuid(one), binding.canonical_uuid(other)
    assert (one == other, 32, 32) == (texts[0] == texts[1], len(texts[0]), len(texts[1]))


@pytest.mark.parametrize("value", [None, "", "7d44", 5, _KEY.bytes, "g" * 32, _KEY.hex + "0"])
def test_uuid_refuses(value: object) -> None:
    """What is no UUID is refused (A-61)."""
    with pytest.raises(BindingError):
        binding.canonical_uuid(value)


@pytest.mark.parametrize(
    "value",
    [" " + "1" * 31, "1" * 31 + "\n", "1_" * 15 + "11", "\uff11" * 32, int("1" * 32)],
    ids=["leading blank", "trailing newline", "underscores", "full-width digits", "integer"],
)
def test_uuid_refuses_what_only_python_reads(value: object) -> None:
    """A text that Python's parser takes for a UUID but no database does is refused (R-17, A-61)."""
    with pytest.raises(BindingError):
        binding.canonical_uuid(value)


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_have_one_form(value: object) -> None:
    """Bytes are written in lower-case hex, whatever a driver returns them as (A-54)."""
    assert binding.canonical_bytes(value) == b"00ff"


@settings(deadline=None)
@given(st.binary())
def test_bytes_have_an_inverse(value: bytes) -> None:
    """The hex digits give back the bytes, so different bytes differ (R-16)."""
    assert value == bytes.fromhex(binding.canonical_bytes(value).decode())


@pytest.mark.parametrize("value", [None, "00ff", 255, [0, 255]])
def test_bytes_refuse(value: object) -> None:
    """What are no bytes is refused (A-54)."""
    with pytest.raises(BindingError):
        binding.canonical_bytes(value)


@settings(deadline=None)
@given(st.dates())
@example(datetime.date(1, 1, 1))
@example(datetime.date(9999, 12, 31))
def test_date_has_an_inverse(value: datetime.date) -> None:
    """A date is written in ISO 8601 with four digits of the year, so different dates differ (R-16)."""
    text = binding.canonical_date(value).decode()
    assert (value, 10) == (datetime.date.fromisoformat(text), len(text))


@pytest.mark.parametrize(
    "value",
    [None, "2026-11-23", 20261123, datetime.datetime(2026, 11, 23, tzinfo=datetime.UTC), datetime.time(0)],
)
def test_date_refuses(value: object) -> None:
    """A moment is no date, and neither is a text: databases would store something else (A-57)."""
    with pytest.raises(BindingError):
        binding.canonical_date(value)


_CANONICAL = [
    binding.canonical_integer,
    binding.canonical_text,
    binding.canonical_trimmed_text,
    binding.canonical_uuid,
    binding.canonical_bytes,
    binding.canonical_date,
]


@pytest.mark.parametrize("canonical", _CANONICAL)
def test_missing_value_is_refused(canonical: Callable[[object], bytes]) -> None:
    """NULL names no row, and is not the empty text either (R-18, A-58)."""
    with pytest.raises(BindingError, match="NoneType"):
        canonical(None)
