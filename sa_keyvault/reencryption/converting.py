"""What is to be stored in place of what is stored: opens values as they are bound now, or reads them as they were."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, Dialect

from sa_keyvault.envelope import FORMAT, open_all, reader
from sa_keyvault.errors import (
    AuthenticationError,
    DecryptionError,
    KeyNotFoundError,
    KeyVaultError,
    MalformedEnvelopeError,
)
from sa_keyvault.keyring import Ring
from sa_keyvault.reencryption.changes import ColumnChange
from sa_keyvault.reencryption.rowkeys import RowKey
from sa_keyvault.reencryption.walking import Walk
from sa_keyvault.types import ValueCodec, plaintext_reader, plaintext_writer, value_codec, value_converter

__all__ = ["Batch", "Block", "Converter", "Plaintexts", "Resealed", "Row", "Unread"]

_FORMAT = bytes([FORMAT])
_OTHERWISE_BOUND = (AuthenticationError, MalformedEnvelopeError)  # the latter where its key is of another area
_PREFIX = slice(5)  # format and key number

Row = tuple[Any, ...]


class Block:
    """Values as the driver hands them out, by columns: loops over columns are quick.

    Args:
        columns: As `Walk` selects them.
    """

    def __init__(self, columns: Sequence[Sequence[Any]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @property
    def rows(self) -> list[Row]:
        """The same, row by row."""
        return list(zip(*self.columns, strict=True))

    def chosen(self, selectors: Sequence[bool]) -> "Block":
        """Return the rows at the places that are true."""
        return Block([list(compress(column, selectors)) for column in self.columns])


@dataclass(frozen=True)
class Batch:
    """What became of a batch.

    Attributes:
        last: The last key of it; None where there was no row.
        rows: How many rows were written, or would have been.
    """

    last: RowKey | None
    rows: int


class Plaintexts(list[bytes | None]):
    """What a column holds in each row of a block; not shown, because tracebacks print the locals of every frame."""

    def __repr__(self) -> str:
        return f"<{len(self)} plaintexts>"


Unread = tuple[Row, KeyVaultError]
"""A row whose value does not open, and why."""


class Resealed(NamedTuple):
    """What a column is to hold in each row of a batch.

    Attributes:
        selectors: Whether the value of a row is sealed again; the others stay.
        envelopes: Those that are new.
        bound: What is to be read from every row afterwards, as it was read before.
    """

    selectors: list[bool]
    envelopes: list[bytes]
    bound: Sequence[bytes | None]


class Converter:
    """Opens and seals the values of one column.

    Args:
        change: What is done to it.
        walk: Where in a row is what.
        ring: The key ring.
        dialect: Of the engine.
    """

    def __init__(self, change: ColumnChange, walk: Walk, ring: Ring, dialect: Dialect) -> None:
        values = value_codec(change.declaration.type_.inner, dialect)
        self.change = change
        self.value_at: int = walk.value_at(change)
        self.symbols_at: int = walk.symbols_at(change, 0)
        self._ring = ring
        self._layouts = ring.layouts(change.ties[0].area, change.ties[0].binding)
        self._ties = [
            (walk.symbols_at(change, number), reader(ring.layouts(tie.area, tie.binding), bytes, _as_it_is))
            for number, tie in enumerate(change.ties)
        ]
        self._read_plain = _plain_reader(change, values, dialect)
        self._write_plain = _plain_writer(change, values, dialect)
        self._recode = _recoder(change, values, dialect)

    @property
    def is_plain_work(self) -> bool:
        """Whether all values are envelopes that are bound in one way, and to be sealed again."""
        others = (self._read_plain, self._write_plain, self._recode)
        return len(self._ties) == 1 and all(one is None for one in others)

    @property
    def area(self) -> str:
        """Area of the working keys that seal its values."""
        return self.change.ties[0].area

    def open(self, block: Block, current: frozenset[bytes]) -> tuple[Plaintexts, list[Unread]]:
        """Return the plaintext of this column in each row, None where it may stay as it is; and those that do not open.

        Args:
            block: The rows.
            current: What envelopes begin with that are under an active key.
        """
        if self.is_plain_work:
            opened = self._open_all(block, current)
            if opened is not None:
                return opened, []
        plaintexts = Plaintexts()
        unread: list[Unread] = []
        for row in block.rows:
            try:
                plaintexts.append(self._open(row, current))
            except (DecryptionError, KeyNotFoundError) as error:
                plaintexts.append(None)
                unread.append((row, error.with_traceback(None)))
        return plaintexts, unread

    def _open_all(self, block: Block, current: frozenset[bytes]) -> Plaintexts | None:
        """Open envelopes and nothing else, as nearly all are; None where one of them is not like the others."""
        stored, symbols = block.columns[self.value_at], block.columns[self.symbols_at]
        try:
            selectors = [one is not None and one[_PREFIX] not in current for one in stored]
            bound = [one + row for one, row in compress(zip(stored, symbols, strict=True), selectors)]
            opened = self._open_bound(bound)
        except TypeError:
            # a driver's other types of bytes, or texts
            return None
        return None if opened is None else Plaintexts(_filled([None] * len(stored), selectors, opened[0]))

    def _open(self, row: Row, current: frozenset[bytes]) -> bytes | None:
        stored = row[self.value_at]
        if stored is None:
            return None
        if type(stored) is not bytes and isinstance(stored, (bytearray, memoryview)):
            stored = bytes(stored)
        if type(stored) is bytes and stored[:1] == _FORMAT:
            return self._open_envelope(stored, row, current)
        if self._write_plain is not None:
            return None
        if self._read_plain is not None:
            return self._read_plain(stored)
        msg = f"{len(stored)} stored bytes are no envelope"
        raise MalformedEnvelopeError(msg, size=len(stored))

    def _open_envelope(self, stored: bytes, row: Row, current: frozenset[bytes]) -> bytes | None:
        may_stay = stored[_PREFIX] in current and self._write_plain is None and self._recode is None
        if may_stay and len(self._ties) == 1:
            return None
        try:
            plaintext = self._read(0, stored, row)
        except _OTHERWISE_BOUND:
            if len(self._ties) == 1:
                raise
        else:
            return None if may_stay else plaintext
        return self._open_former(stored, row)

    def _open_former(self, stored: bytes, row: Row) -> bytes:
        last = len(self._ties) - 1
        for number in range(1, last):
            try:
                return self._read(number, stored, row)
            except _OTHERWISE_BOUND:
                continue
        return self._read(last, stored, row)

    def _read(self, number: int, stored: bytes, row: Row) -> bytes:
        at, read = self._ties[number]
        return bytes(read(stored + as_bytes(row[at])))

    def convert(self, plaintexts: Plaintexts, block: Block, connection: Connection) -> list[Any]:
        """Return what is to be stored in each row: made of its plaintext, or what is there where that is None."""
        stored = block.columns[self.value_at]
        if self._write_plain is not None:
            write = self._write_plain
            return [old if one is None else write(one) for old, one in zip(stored, plaintexts, strict=True)]
        if self._recode is not None:
            recode = self._recode
            plaintexts = Plaintexts(None if one is None else recode(one) for one in plaintexts)
        symbols = block.columns[self.symbols_at]
        if set(map(type, symbols)) != {bytes}:
            symbols = [as_bytes(one) for one in symbols]
        selectors = [one is not None for one in plaintexts]
        given = Plaintexts(compress(plaintexts, selectors))
        return _filled(stored, selectors, self._seal(given, list(compress(symbols, selectors)), connection))

    def reseal(
        self, stored: Sequence[bytes | None], current: frozenset[bytes], connection: Connection
    ) -> Resealed | None:
        """Seal again what is under no active key, where that is all there is to do; None where a value does not open.

        Args:
            stored: The value of each row, followed by the symbols that it is bound to.
            current: What envelopes begin with that are under an active key.
            connection: In the transaction that writes.
        """
        selectors = [one is not None and one[_PREFIX] not in current for one in stored]
        opened = self._open_bound(list(compress(stored, selectors)))
        if opened is None:
            return None
        plaintexts, symbols = opened
        envelopes = self._seal(plaintexts, symbols, connection)
        bound = [envelope + row for envelope, row in zip(envelopes, symbols, strict=True)]
        return Resealed(selectors, envelopes, _filled(stored, selectors, bound))

    def _open_bound(self, stored: Sequence[Any]) -> tuple[Plaintexts, list[bytes]] | None:
        opened = open_all(self._layouts, stored)
        return None if opened is None else (Plaintexts(opened[0]), opened[1])

    def _seal(self, plaintexts: Plaintexts, symbols: Sequence[bytes], connection: Connection) -> list[bytes]:
        tie, given = self.change.ties[0], cast("Sequence[bytes]", plaintexts)
        seal = self._ring.sealer(tie.area, tie.binding, list(map(len, given)), connection)
        return seal(given, symbols)


def _filled(kept: Sequence[Any], selectors: Iterable[bool], given: Sequence[Any]) -> list[Any]:
    """Return what is kept, with what is given in the places that are true."""
    if len(given) == len(kept):
        return list(given)
    left = iter(given)
    return [next(left) if is_given else old for old, is_given in zip(kept, selectors, strict=True)]


def _plain_reader(change: ColumnChange, values: ValueCodec, dialect: Dialect) -> Callable[[Any], bytes | None] | None:
    """Return what makes the plaintext of a value that is not encrypted."""
    if change.before is None:
        return None
    read, encode = plaintext_reader(change.before, dialect), values.encode
    convert = value_converter(change.before, change.declaration.type_.inner, dialect)
    if convert is None:
        return lambda stored: encode(read(stored))
    return lambda stored: encode(convert(read(stored)))


def _plain_writer(change: ColumnChange, values: ValueCodec, dialect: Dialect) -> Callable[[bytes], Any] | None:
    """Return what makes of a plaintext the value that is stored where it is not encrypted."""
    if change.after is None:
        return None
    write, decode = plaintext_writer(change.after, dialect), values.decode
    convert = value_converter(change.declaration.type_.inner, change.after, dialect)
    if convert is None:
        return lambda plaintext: write(decode(plaintext))
    return lambda plaintext: write(convert(decode(plaintext)))


def _recoder(change: ColumnChange, values: ValueCodec, dialect: Dialect) -> Callable[[bytes], bytes | None] | None:
    """Return what makes of the plaintext of a value of another type the one of its own."""
    if change.former_type is None:
        return None
    decode, encode = value_codec(change.former_type, dialect).decode, values.encode
    convert = value_converter(change.former_type, change.declaration.type_.inner, dialect)
    if convert is None:
        return lambda plaintext: encode(decode(plaintext))
    return lambda plaintext: encode(convert(decode(plaintext)))


def as_bytes(value: Any) -> bytes:
    """Return bytes that a driver hands out as another type: MariaDB's has symbols as text where no envelope is."""
    if type(value) is bytes:
        return value
    return value.encode() if isinstance(value, str) else bytes(value)


def _as_it_is(error: KeyVaultError, _: bytes) -> KeyVaultError:
    return error
