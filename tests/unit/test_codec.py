"""The plaintext bytes of values: both directions, their layout, and what is refused without showing it."""

import datetime
import decimal
import enum
import math
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import JSON, Enum
from sqlalchemy.engine.default import DefaultDialect

from sa_keyvault import codec
from sa_keyvault.codec import Codec, checked, enumeration
from sa_keyvault.errors import EncodingError, MalformedEnvelopeError
from sa_keyvault.types import value_codec

_NAMES = ["new", "in progress", "", "\u00fcberf\u00e4llig"]
_ENUM = enumeration(_NAMES)
_CODECS = {
    plain.name: checked(plain)
    for plain in (
        *(codec.TEXT, codec.BYTES, codec.BOOLEAN, codec.INTEGER, codec.FLOAT, codec.DECIMAL, codec.DATE),
        *(codec.TIME, codec.DATETIME, codec.INTERVAL, codec.UUID, _ENUM),
    )
}

_ZONES = st.one_of(
    st.none(),
    st.integers(-86_399, 86_399).map(lambda offset: datetime.timezone(datetime.timedelta(seconds=offset))),
)
_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(exclude_categories=["Cs"])),
    "bytes": st.binary(),
    "boolean": st.booleans(),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(),
    "decimal": st.decimals(allow_nan=False),
    "date": st.dates(),
    # without `fold`: it says nothing beside an offset, and no database keeps it
    "time": st.times(timezones=_ZONES).map(lambda value: value.replace(fold=0)),
    "datetime": st.datetimes(timezones=_ZONES).map(lambda value: value.replace(fold=0)),
    "interval": st.timedeltas(),
    "uuid": st.uuids(),
    "enum": st.sampled_from(_NAMES),
}

_DOCUMENTED = re.compile(r"^ ([a-z]+) +(variable|2 \+ n|\d+) ", re.MULTILINE)


def _documented() -> dict[str, str]:
    """Return the size of each encoding by name, as the table in the module's docstring has it."""
    return dict(_DOCUMENTED.findall(str(codec.__doc__)))


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same in type, sign and offset too."""
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return (type(one), one, repr(one)) == (type(other), other, repr(other))


# -- both directions ---------------------------------------------------------------------------------------------------


def test_every_documented_codec_is_tested() -> None:
    """The table of the docstring has the codecs of this file, and JSON, whose text the dialect writes."""
    assert _documented().keys() == _CODECS.keys() | {"json"} == _VALUES.keys() | {"json"}


@pytest.mark.parametrize("name", _CODECS)
def test_round_trip(name: str) -> None:
    """Every value comes back as it was, with its type, its zeros and its offset."""

    @settings(deadline=None)
    @given(_VALUES[name])
    def round_trip(value: Any) -> None:
        assert _same(value, _CODECS[name].decode(_CODECS[name].encode(value)))

    round_trip()


@pytest.mark.parametrize("name", _CODECS)
def test_injective(name: str) -> None:
    """Different values have different encodings (R-18)."""

    @settings(deadline=None)
    @given(_VALUES[name], _VALUES[name])
    def injective(one: Any, other: Any) -> None:
        plaintexts = _CODECS[name].encode(one), _CODECS[name].encode(other)
        # moments at different offsets may be equal, and zeros of different signs are
        assert plaintexts[0] != plaintexts[1] or _same(one, other)

    injective()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", ""),
        ("text", "a\x00b"),
        ("text", "\U0001f511"),
        ("bytes", b""),
        ("integer", -(2**63)),
        ("integer", 2**63 - 1),
        ("float", -0.0),
        ("float", math.inf),
        ("float", -math.inf),
        ("float", math.nan),
        ("float", 5e-324),
        ("decimal", decimal.Decimal("1.50")),
        ("decimal", decimal.Decimal("-0.00")),
        ("decimal", decimal.Decimal("1E+400")),
        ("decimal", decimal.Decimal("Infinity")),
        ("decimal", decimal.Decimal("3." + "1" * 60)),
        ("date", datetime.date.min),
        ("date", datetime.date.max),
        ("time", datetime.time.max),
        ("time", datetime.time(12, tzinfo=datetime.UTC)),
        ("datetime", datetime.datetime.min),  # noqa: DTZ901 - without an offset on purpose
        ("datetime", datetime.datetime.max),  # noqa: DTZ901
        ("interval", datetime.timedelta.min),
        ("interval", datetime.timedelta.max),
        ("interval", datetime.timedelta(microseconds=-1)),
        ("uuid", uuid.UUID(int=0)),
        ("enum", ""),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_round_trip_at_the_edges(name: str, value: Any) -> None:
    """The smallest, largest and emptiest values come back as they were (R-18, A-57)."""
    assert _same(value, _CODECS[name].decode(_CODECS[name].encode(value)))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("bytes", bytearray(b"ab"), b"ab"),
        ("bytes", memoryview(b"ab"), b"ab"),
        ("boolean", 1, True),
        ("boolean", 0, False),
        ("integer", True, 1),
        ("integer", decimal.Decimal("5.00"), 5),
        ("float", 2, 2.0),
        ("float", decimal.Decimal("0.5"), 0.5),
        ("decimal", 7, decimal.Decimal(7)),
        ("decimal", 0.1, decimal.Decimal("0.1")),
        ("date", datetime.datetime(2026, 11, 23, 20, 49, tzinfo=datetime.UTC), datetime.date(2026, 11, 23)),
        ("uuid", "7d444840-9dc0-11d1-b245-5ffdce74fad2", uuid.UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")),
    ],
    ids=lambda value: "memoryview" if isinstance(value, memoryview) else repr(value)[:30],
)
def test_values_of_related_types(name: str, value: Any, expected: Any) -> None:
    """What SQLAlchemy's own type takes for such a value is stored as that value."""
    assert _same(expected, _CODECS[name].decode(_CODECS[name].encode(value)))


def test_signaling_nan_is_no_decimal() -> None:
    """A quiet NaN is a decimal that comes back, a signaling one is refused: it would raise wherever it is used."""
    assert _CODECS["decimal"].decode(_CODECS["decimal"].encode(decimal.Decimal("NaN"))).is_qnan()
    with pytest.raises(EncodingError):
        _CODECS["decimal"].encode(decimal.Decimal("sNaN"))


# -- layout ------------------------------------------------------------------------------------------------------------

_PLUS_ONE = datetime.timezone(datetime.timedelta(hours=1))

_LAYOUTS: list[tuple[str, Any, str]] = [
    ("text", "\u00fc\U0001f511", "c3bc f09f9491"),
    ("bytes", b"\x00\xff", "00ff"),
    ("boolean", False, "00"),
    ("boolean", True, "01"),
    ("integer", 1, "00000000 00000001"),
    ("integer", -2, "ffffffff fffffffe"),
    ("float", 1.0, "3ff00000 00000000"),
    ("float", -2.5, "c0040000 00000000"),
    ("decimal", decimal.Decimal("-1.50"), "2d312e3530"),
    ("decimal", decimal.Decimal("1E+3"), "31452b33"),
    ("date", datetime.date(2026, 11, 23), "07ea 0b 17"),
    ("time", datetime.time(20, 49, 1, 7), "14 31 01 00000007 80000000"),
    ("time", datetime.time(20, 49, 1, 7, tzinfo=datetime.UTC), "14 31 01 00000007 00000000"),
    ("datetime", datetime.datetime(2026, 11, 23, 20, 49, 1, 7), "07ea0b17 14 31 01 00000007 80000000"),  # noqa: DTZ001
    ("datetime", datetime.datetime(2026, 11, 23, 20, 49, 1, tzinfo=_PLUS_ONE), "07ea0b17 143101 00000000 00000e10"),
    ("interval", datetime.timedelta(days=1, seconds=2, microseconds=3), "00000001 00000002 00000003"),
    ("interval", datetime.timedelta(microseconds=-1), "ffffffff 0001517f 000f423f"),
    ("uuid", uuid.UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2"), "7d4448409dc011d1b2455ffdce74fad2"),
    ("enum", "new", "0003 6e6577 000000000000000000"),
    ("enum", "", "0000 000000000000000000000000"),
    ("enum", "\u00fcberf\u00e4llig", "000c c3bc62657266c3a46c6c6967"),
]


@pytest.mark.parametrize(("name", "value", "expected"), _LAYOUTS, ids=lambda value: repr(value)[:30])
def test_layout(name: str, value: Any, expected: str) -> None:
    """A value is encoded byte by byte as the table in the docstring says."""
    assert bytes.fromhex(expected) == _CODECS[name].encode(value)


@pytest.mark.parametrize(("name", "value", "encoded"), _LAYOUTS, ids=lambda value: repr(value)[:30])
def test_layout_is_read(name: str, value: Any, encoded: str) -> None:
    """Bytes that another program wrote by the table are read as the value."""
    assert _same(value, _CODECS[name].decode(bytes.fromhex(encoded)))


def test_every_codec_has_a_layout() -> None:
    """No codec is left out of the layouts above."""
    assert _CODECS.keys() == {name for name, _, _ in _LAYOUTS}


def test_json_layout() -> None:
    """JSON is encoded as its text."""
    column = value_codec(JSON(), DefaultDialect())
    plaintext = column.encode({"a": [1, None, "\u00fc"]})
    assert (plaintext, column.decode(plaintext or b"")) == (b'{"a": [1, null, "\\u00fc"]}', {"a": [1, None, "\u00fc"]})


@pytest.mark.parametrize("name", _CODECS)
def test_documented_size(name: str) -> None:
    """The size in the table is the size that the codec states; where it varies, there is no bound."""
    size = _documented()[name]
    expected = {"variable": None, "2 + n": 2 + max(len(entry.encode()) for entry in _NAMES)}
    assert (expected[size] if size in expected else int(size)) == _CODECS[name].max_size


@pytest.mark.parametrize("name", [name for name, plain in _CODECS.items() if plain.max_size is not None])
def test_fixed_length(name: str) -> None:
    """Every value of a type of fixed width has an encoding of the same length, which gives nothing away (A-22)."""

    @settings(deadline=None)
    @given(_VALUES[name])
    def fixed_length(value: Any) -> None:
        assert _CODECS[name].max_size == len(_CODECS[name].encode(value))

    fixed_length()


@settings(deadline=None)
@given(st.lists(st.text("a\u00e9\x00", max_size=6), min_size=1, unique=True))
@example(["a", "a\x00"])
def test_enum_of_any_names(names: list[str]) -> None:
    """The names of any enum come back, all from encodings of one length (A-22)."""
    plain = enumeration(names)
    encoded = [plain.encode(name) for name in names]
    assert (names, {plain.max_size}) == ([plain.decode(text) for text in encoded], set(map(len, encoded)))


def test_enum_without_names() -> None:
    """An enum without names has encodings of the length alone."""
    assert enumeration([]).max_size == 2


# -- refusals show no value --------------------------------------------------------------------------------------------

_SENTINEL = "zq7-s3nt1nel"


class _Holder:
    """A value of no known type that shows itself to whoever prints it."""

    def __repr__(self) -> str:
        return _SENTINEL


class _Colour(enum.Enum):
    RED = _SENTINEL


_REFUSED: list[tuple[str, Any]] = [
    *((name, value) for name in _CODECS for value in (_Holder(), _Colour.RED, [_SENTINEL], {_SENTINEL: 1}, 1j, None)),
    *(("text", value) for value in (_SENTINEL.encode(), _SENTINEL + "\ud800", 5)),
    *(("bytes", value) for value in (_SENTINEL, 5)),
    *(("boolean", value) for value in (_SENTINEL, 2, 0.5, decimal.Decimal("sNaN"))),
    *(("integer", value) for value in (_SENTINEL, "5", 5.0, 2**63, -(2**63) - 1, decimal.Decimal("1.5"))),
    *(("integer", decimal.Decimal(text)) for text in ("NaN", "sNaN", "Infinity", "1E+25")),
    *(("float", value) for value in (_SENTINEL, "1.0", 10**400, decimal.Decimal("sNaN"))),
    *(("decimal", value) for value in (_SENTINEL, "1.5", math.nan, math.inf)),
    *(("date", value) for value in (_SENTINEL, "2026-11-23", datetime.time(1), 20261123)),
    *(("time", value) for value in (_SENTINEL, "20:49", datetime.date(2026, 11, 23), 5)),
    *(("datetime", value) for value in (_SENTINEL, "2026-11-23T20:49:00", datetime.date(2026, 11, 23), 5.0)),
    *(("interval", value) for value in (_SENTINEL, 5, datetime.time(1))),
    *(("uuid", value) for value in (_SENTINEL, 5, "g" * 32, b"\x00" * 16)),
    *(("enum", value) for value in (b"new", 5)),
]


def _chain(error: BaseException) -> Iterator[BaseException]:
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (link := waiting.pop()) is not None:
            yield link
            waiting += [link.__cause__, link.__context__]


def _shown(error: BaseException) -> str:
    """Return everything that an error, its causes and its contexts show."""
    links = [f"{link} {link!r} {link.args!r} {vars(link)!r}" for link in _chain(error)]
    notes = [f"{getattr(link, 'object', '')!r} {getattr(link, '__notes__', '')!r}" for link in _chain(error)]
    return " ".join(links + notes)


@pytest.mark.parametrize(("name", "value"), _REFUSED, ids=lambda value: repr(value).replace(_SENTINEL, "value")[:30])
def test_refused_values(name: str, value: Any) -> None:
    """A value that the codec cannot carry is an EncodingError, without the value in text or context (R-38, A-74)."""
    with pytest.raises(EncodingError) as caught:
        _CODECS[name].encode(value)
    assert (
        _SENTINEL in _shown(caught.value),
        caught.value.__cause__,
        caught.value.__context__,
    ) == (False, None, None)


def test_the_search_sees_what_an_unchecked_codec_shows() -> None:
    """The same search finds the value in the error of a codec that is not checked, so it can find one (A-74)."""
    with pytest.raises(UnicodeEncodeError) as caught:
        codec.TEXT.encode(_SENTINEL + "\ud800")
    assert _SENTINEL in _shown(caught.value)


def test_refusal_names_type_and_column_type() -> None:
    """The text of a refusal names the type of the value and the type of the column."""
    with pytest.raises(EncodingError, match=r"^a value of type str cannot be stored in an encrypted integer column$"):
        _CODECS["integer"].encode(_SENTINEL)


def test_offset_with_a_fraction_of_a_second_is_refused() -> None:
    """A UTC offset that the layout has no place for is refused, not rounded (A-57)."""
    zone = datetime.timezone(datetime.timedelta(microseconds=1))
    for name, value in (
        ("time", datetime.time(1, tzinfo=zone)),
        ("datetime", datetime.datetime(2026, 11, 23, tzinfo=zone)),
    ):
        with pytest.raises(EncodingError, match="fraction of a second"):
            _CODECS[name].encode(value)


def test_decimal_that_a_float_cannot_hold_is_refused() -> None:
    """A decimal beyond the range of binary64 is refused like such an integer, not stored as infinity."""
    with pytest.raises(EncodingError):
        _CODECS["float"].encode(decimal.Decimal("1E+400"))


def test_enum_refuses_a_name_that_it_does_not_have() -> None:
    """A name outside the enum is refused: it could be longer than the others, and would never be read again (A-22)."""
    with pytest.raises(EncodingError):
        _CODECS["enum"].encode("a name that is longer than all others")


# -- damaged plaintexts ------------------------------------------------------------------------------------------------

_SIZED = {name: plain.max_size for name, plain in _CODECS.items() if plain.max_size is not None and name != "enum"}

_DAMAGED: list[tuple[str, bytes]] = [
    *((name, bytes(size)) for name, exact in _SIZED.items() for size in (0, exact - 1, exact + 1)),
    ("text", b"\xff"),
    ("text", _SENTINEL.encode() + b"\xc3"),
    ("boolean", b"\x02"),
    ("decimal", b""),
    ("decimal", _SENTINEL.encode()),
    ("decimal", b"1.5\xff"),
    ("date", bytes.fromhex("07ea 00 17")),
    ("date", bytes.fromhex("07ea 0b 1f")),
    ("date", bytes.fromhex("0000 01 01")),
    ("time", bytes.fromhex("18 00 00 00000000 00000000")),
    ("time", bytes.fromhex("14 31 01 000f4240 00000000")),
    ("time", bytes.fromhex("14 31 01 00000007 00015180")),
    ("datetime", bytes.fromhex("07ea0d17 14 31 01 00000007 80000000")),
    ("interval", bytes.fromhex("7fffffff 00000000 00000000")),
    ("enum", b""),
    ("enum", b"\x00"),
    ("enum", bytes.fromhex("0001 ff 0000000000000000000000")),
]


@pytest.mark.parametrize(
    ("name", "plaintext"), _DAMAGED, ids=lambda value: value if isinstance(value, str) else value.hex()
)
def test_damaged_plaintexts(name: str, plaintext: bytes) -> None:
    """Opened bytes that are no such value are a MalformedEnvelopeError, without the bytes in it (R-38, A-74)."""
    with pytest.raises(MalformedEnvelopeError) as caught:
        _CODECS[name].decode(plaintext)
    expected = (len(plaintext), False, None, None)
    shown = _SENTINEL in _shown(caught.value)
    assert expected == (caught.value.size, shown, caught.value.__cause__, caught.value.__context__)


@pytest.mark.parametrize("encoded", ["0003 6e6578 00", "ffff 6e6577 00", "0004 6e6577 00", "0002 6e6577 00"])
def test_damaged_enum_of_a_column(encoded: str) -> None:
    """Opened bytes that are none of the column's names are a MalformedEnvelopeError (R-38, A-74)."""
    column = value_codec(Enum("new", "used"), DefaultDialect())
    with pytest.raises(MalformedEnvelopeError) as caught:
        column.decode(bytes.fromhex(encoded))
    assert caught.value.__context__ is None


def test_enum_that_grows() -> None:
    """An enum that gets a longer name still reads what was stored before."""
    grown = enumeration([*_NAMES, "a name that is longer than all others"])
    assert [grown.decode(_ENUM.encode(name)) for name in _NAMES] == _NAMES


@pytest.mark.parametrize("name", _CODECS)
def test_decoding_raises_nothing_else(name: str) -> None:
    """Any bytes at all are a value of the type or a MalformedEnvelopeError (R-19)."""

    @settings(deadline=None)
    @given(st.binary(max_size=24))
    def decoding(plaintext: bytes) -> None:
        with suppress(MalformedEnvelopeError):
            _CODECS[name].decode(plaintext)

    decoding()


def test_checked_keeps_name_and_size() -> None:
    """A checked codec has the name and size of the one it checks."""
    plain = Codec("text", str.encode, bytes.decode, 5)
    assert (plain.name, plain.max_size) == (checked(plain).name, checked(plain).max_size)


@pytest.mark.parametrize("error", [ArithmeticError, AttributeError, LookupError, TypeError, ValueError])
def test_checked_hides_errors_of_both_directions(error: type[Exception]) -> None:
    """What a codec's own functions raise is replaced by the library's error, with no trace of it (A-74)."""

    def fail(value: object) -> Any:
        raise error(value)

    failing = checked(Codec("text", fail, fail, None))
    with pytest.raises(EncodingError) as encoding:
        failing.encode(_SENTINEL)
    with pytest.raises(MalformedEnvelopeError) as decoding:
        failing.decode(_SENTINEL.encode())
    assert _SENTINEL not in _shown(encoding.value) + _shown(decoding.value)
