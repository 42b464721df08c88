"""The records of master and working keys: their fields, and the bytes that are signed or sealed."""

import datetime
import os
import secrets
from dataclasses import dataclass, replace
from typing import TypeVar

from sa_keyvault.binding import Binding, length_prefixed
from sa_keyvault.errors import KeyRecordError, KeyStateError
from sa_keyvault.secret import Secret
from sa_keyvault.states import KeyState, may_become
from sa_keyvault.suites import AUTHENTICATION_FAILURES, Suite, derive, random_secret

__all__ = [
    "MasterRecord",
    "MasterSecret",
    "WorkingRecord",
    "Wrap",
    "data_key",
    "master_with_state",
    "new_id",
    "new_master",
    "new_working",
    "next_master",
    "rewrapped",
    "signed_bytes",
    "timestamp",
    "timestamp_of",
    "unwrap_working",
    "unwraps",
    "working_with_state",
]


_BINDING_KEY_SIZE = 32  # bytes, the output of the hash of HKDF (RFC 5869 section 3.1)


def new_id() -> str:
    """Return 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def timestamp() -> str:
    """Return now as UTC text, `2026-11-23T20:49:00Z`; text is the same on every database, so it can be signed."""
    return timestamp_of(datetime.datetime.now(datetime.UTC))


def timestamp_of(time: datetime.datetime) -> str:
    """Return a time as UTC text; such texts sort as their times do."""
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class MasterRecord:
    """A master key without its secret, which is in its wraps.

    Attributes:
        id: 32 hex digits.
        store_id: Key store that it belongs to, 32 hex digits.
        created: UTC, ISO 8601.
        changed: When its state changed last, likewise.
        epoch: Number of state changes so far, from 1.
        state: What it may do.
        former_state: The state that a disabled key came from, else empty.
        suite: Algorithm that wraps working keys under it.
        lineage: Shared by all master keys with one binding key, 32 hex digits.
    """

    id: str
    store_id: str
    created: str
    changed: str
    epoch: int
    state: KeyState
    former_state: str
    suite: str
    lineage: str

    def fields(self) -> tuple[bytes, ...]:
        """Return every field as bytes, in the order above."""
        return (
            self.id.encode(),
            self.store_id.encode(),
            self.created.encode(),
            self.changed.encode(),
            b"%d" % self.epoch,
            self.state.encode(),
            self.former_state.encode(),
            self.suite.encode(),
            self.lineage.encode(),
        )


@dataclass(frozen=True)
class Wrap:
    """A master key's secret, wrapped for one installation key and signed with it.

    Attributes:
        master_id: The master key.
        fingerprint: SHA-256 of the installation key's SubjectPublicKeyInfo, 64 hex digits.
        algorithm: How the secret is wrapped, and how record and wrap are signed.
        wrapped: The wrapped secret.
        signature: Over `signed_bytes`.
    """

    master_id: str
    fingerprint: str
    algorithm: str
    wrapped: bytes
    signature: bytes


@dataclass(frozen=True)
class MasterSecret:
    """The two halves of a master key's secret, and the suite that the first of them is a key of.

    Attributes:
        suite: Wraps working keys.
        wrapping: The suite's key.
        binding: Salt of every derivation, 32 bytes; kept when the wrapping key is rotated.
    """

    suite: Suite
    wrapping: Secret
    binding: Secret

    def to_secret(self) -> Secret:
        """Return both halves, each behind its length (4 bytes)."""
        return Secret(length_prefixed(self.wrapping.expose(), self.binding.expose()))

    @classmethod
    def from_secret(cls, secret: Secret, suite: Suite) -> "MasterSecret":
        """Take apart what `to_secret` joined.

        Raises:
            sa_keyvault.KeyRecordError: The bytes are no secret of a master key of *suite*.
        """
        joined, start = secret.expose(), 4 + suite.key_size
        halves = joined[4:start], joined[start + 4 :]
        if len(halves[1]) != _BINDING_KEY_SIZE or length_prefixed(*halves) != joined:
            msg = f"an unwrapped secret of {len(joined)} bytes is no master key of {suite.name}"
            raise KeyRecordError(msg, size=len(joined))
        return cls(suite, Secret(halves[0]), Secret(halves[1]))


@dataclass(frozen=True, slots=True)
class WorkingRecord:
    """A working key with its wrapped secret.

    Attributes:
        number: Random, 1 to 2^32-1; drawn, not counted, because a number that a rollback
            set free must not be given to another key.
        store_id: Key store that it belongs to.
        area: Part of the application's model that it serves.
        created: UTC, ISO 8601.
        changed: When its state changed last, likewise.
        epoch: Number of state changes so far, from 1.
        state: What it may do.
        former_state: The state that a disabled key came from, else empty.
        suite: Algorithm that seals values under it.
        master_id: Master key that wraps it.
        wrapped: Nonce, wrapped secret and tag, as the master key's suite defines.
    """

    number: int
    store_id: str
    area: str
    created: str
    changed: str
    epoch: int
    state: KeyState
    former_state: str
    suite: str
    master_id: str
    wrapped: bytes

    def associated_data(self) -> bytes:
        """Return what the wrap authenticates: every other field of the record."""
        return b"sa_keyvault/working-key/1\0" + length_prefixed(
            b"%d" % self.number,
            self.store_id.encode(),
            self.area.encode(),
            self.created.encode(),
            self.changed.encode(),
            b"%d" % self.epoch,
            self.state.encode(),
            self.former_state.encode(),
            self.suite.encode(),
            self.master_id.encode(),
        )


_Record = TypeVar("_Record", MasterRecord, WorkingRecord)


def signed_bytes(record: MasterRecord, fingerprint: str, algorithm: str, wrapped: bytes) -> bytes:
    """Return what the installation key signs for one wrap of a master key."""
    fields = (*record.fields(), fingerprint.encode(), algorithm.encode(), wrapped)
    return b"sa_keyvault/master-key/1\0" + length_prefixed(*fields)


def new_master(store_id: str, suite: Suite) -> tuple[MasterRecord, MasterSecret]:
    """Make an active master key of a lineage of its own."""
    now = timestamp()
    record = MasterRecord(
        id=new_id(),
        store_id=store_id,
        created=now,
        changed=now,
        epoch=1,
        state=KeyState.ACTIVE,
        former_state="",
        suite=suite.name,
        lineage=new_id(),
    )
    return record, MasterSecret(suite, random_secret(suite.key_size), random_secret(_BINDING_KEY_SIZE))


def next_master(record: MasterRecord, secret: MasterSecret, suite: Suite) -> tuple[MasterRecord, MasterSecret]:
    """Make an active master key of the same lineage: another wrapping key, the same binding key."""
    fresh, fresh_secret = new_master(record.store_id, suite)
    return replace(fresh, lineage=record.lineage), replace(fresh_secret, binding=secret.binding)


def new_working(master: MasterRecord, secret: MasterSecret, area: str, suite: Suite) -> WorkingRecord:
    """Make an active working key of *area* under *master*."""
    now = timestamp()
    record = WorkingRecord(
        number=secrets.randbelow(2**32 - 1) + 1,
        store_id=master.store_id,
        area=area,
        created=now,
        changed=now,
        epoch=1,
        state=KeyState.ACTIVE,
        former_state="",
        suite=suite.name,
        master_id=master.id,
        wrapped=b"",
    )
    return _wrapped(record, secret, random_secret(suite.key_size))


def _wrapped(record: WorkingRecord, master: MasterSecret, secret: Secret) -> WorkingRecord:
    nonce = os.urandom(master.suite.nonce_size)
    cipher = master.suite.cipher(master.wrapping)
    wrapped = nonce + cipher.seal(nonce, secret.expose(), record.associated_data())
    return replace(record, wrapped=wrapped)


def unwrap_working(record: WorkingRecord, master: MasterSecret) -> Secret:
    """Return the secret of a working key.

    Raises:
        sa_keyvault.KeyRecordError: A field of the record is not what was wrapped.
    """
    size = master.suite.nonce_size
    nonce, rest = record.wrapped[:size], record.wrapped[size:]
    cipher = master.suite.cipher(master.wrapping)
    try:
        return Secret(cipher.open(nonce, rest, record.associated_data()))
    except AUTHENTICATION_FAILURES:
        pass
    msg = (
        f"the record of working key {record.number} of area {record.area!r} was changed outside the library; "
        "restore it from a backup of the key store"
    )
    raise KeyRecordError(msg, key_number=record.number, area=record.area)


def unwraps(record: WorkingRecord, master: MasterSecret) -> bool:
    """Whether the record of a working key is as it was wrapped."""
    try:
        unwrap_working(record, master)
    except KeyRecordError:
        return False
    return True


def rewrapped(record: WorkingRecord, former: MasterSecret, master: MasterRecord, secret: MasterSecret) -> WorkingRecord:
    """Return the record of a working key, wrapped by another master key of the same lineage.

    Raises:
        sa_keyvault.KeyRecordError: A field of the record is not what was wrapped.
    """
    return _wrapped(replace(record, master_id=master.id), secret, unwrap_working(record, former))


def data_key(record: WorkingRecord, suite: Suite, master: MasterSecret, binding: Binding) -> Secret:
    """Derive the key that seals the data of one column, keyed by the binding key.

    It is derived for version, suite, area, number and column, so that an envelope opens nowhere else.

    Args:
        record: The working key.
        suite: The suite that it names.
        master: Secret of its master key.
        binding: What the column's envelopes have in common.

    Raises:
        sa_keyvault.KeyRecordError: A field of the record is not what was wrapped.
        sa_keyvault.KeyStateError: The key is removed.
    """
    purpose = (
        b"sa_keyvault/data-key/1",
        suite.name.encode(),
        record.area.encode(),
        b"%d" % record.number,
        *binding.fields(),
    )
    secret = unwrap_working(record, master)
    if record.state is KeyState.REMOVED:
        msg = f"working key {record.number} of area {record.area!r} is removed: its secret was wiped"
        raise KeyStateError(msg, key_number=record.number, area=record.area)
    return derive(secret, salt=master.binding, purpose=purpose, size=suite.key_size)


def master_with_state(record: MasterRecord, state: KeyState) -> MasterRecord:
    """Return the record of a master key in another state; its wraps are to be signed anew.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition.
    """
    if not may_become(record.state, record.former_state, state):
        msg = f"master key {record.id} is {record.state}; it cannot become {state}"
        raise KeyStateError(msg)
    return _moved(record, state)


def working_with_state(record: WorkingRecord, master: MasterSecret, state: KeyState) -> WorkingRecord:
    """Return the record of a working key in another state, wrapped anew.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition.
        sa_keyvault.KeyRecordError: A field of the record is not what was wrapped.
    """
    if not may_become(record.state, record.former_state, state):
        msg = f"working key {record.number} is {record.state}; it cannot become {state}"
        raise KeyStateError(msg, key_number=record.number, area=record.area)
    secret = unwrap_working(record, master)
    return _wrapped(_moved(record, state), master, Secret(b"") if state is KeyState.REMOVED else secret)


def _moved(record: _Record, state: KeyState) -> _Record:
    former = record.state.value if state is KeyState.DISABLED else ""
    return replace(record, state=state, former_state=former, epoch=record.epoch + 1, changed=timestamp())
