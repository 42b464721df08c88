"""The records of master and working keys: their fields, their states, and the bytes that are signed or sealed."""

import datetime
import enum
import os
import secrets
from dataclasses import dataclass, replace

from sa_keyvault.binding import Binding, length_prefixed
from sa_keyvault.errors import KeyRecordError, KeyStateError
from sa_keyvault.secret import Secret
from sa_keyvault.suites import (
    AES_256_GCM,
    AUTHENTICATION_FAILURES,
    Suite,
    derive,
    random_secret,
    suite_named,
)

__all__ = [
    "KeyState",
    "MasterRecord",
    "MasterSecret",
    "WorkingRecord",
    "Wrap",
    "data_key",
    "new_id",
    "new_master",
    "new_working",
    "signed_bytes",
    "timestamp",
    "unwrap_working",
    "with_state",
]


class KeyState(enum.StrEnum):
    """State of a key.

    Source:
        NIST SP 800-57 part 1 revision 5 section 7: active, deactivated (retired), suspended (disabled),
        destroyed (removed).
    """

    ACTIVE = "active"
    RETIRED = "retired"
    DISABLED = "disabled"
    REMOVED = "removed"

    @property
    def may_seal(self) -> bool:
        """Whether the key may protect new data."""
        return self is KeyState.ACTIVE

    @property
    def may_open(self) -> bool:
        """Whether the key may process data that it protects."""
        return self in (KeyState.ACTIVE, KeyState.RETIRED)


_MASTER_SECRET_SIZE = 2 * (4 + 32)  # bytes; two length-prefixed halves

_TRANSITIONS = frozenset(
    {
        (KeyState.ACTIVE, KeyState.RETIRED),
        (KeyState.ACTIVE, KeyState.DISABLED),
        (KeyState.RETIRED, KeyState.DISABLED),
        (KeyState.RETIRED, KeyState.REMOVED),
        (KeyState.DISABLED, KeyState.RETIRED),
    }
)


def new_id() -> str:
    """Return 128 random bits as 32 hex digits."""
    return secrets.token_hex(16)


def timestamp() -> str:
    """Return now as UTC text, `2026-11-23T20:49:00Z`; text is the same on every database, so it can be signed."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class MasterRecord:
    """A master key without its secret, which is in its wraps.

    Attributes:
        id: 32 hex digits.
        store_id: Key store that it belongs to, 32 hex digits.
        created: UTC, ISO 8601.
        epoch: Number of state changes so far, from 1.
        state: What it may do.
        former_state: The state that a disabled key came from, else empty.
        suite: Algorithm that wraps working keys under it.
        lineage: Shared by all master keys with one binding key, 32 hex digits.
    """

    id: str
    store_id: str
    created: str
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
    """The two halves of a master key's secret.

    Attributes:
        wrapping: Wraps working keys, 32 bytes.
        binding: Salt of every derivation, 32 bytes; kept when the wrapping key is rotated.
    """

    wrapping: Secret
    binding: Secret

    def to_secret(self) -> Secret:
        """Return both halves, each behind its length (4 bytes)."""
        return Secret(length_prefixed(self.wrapping.expose(), self.binding.expose()))

    @classmethod
    def from_secret(cls, secret: Secret) -> "MasterSecret":
        """Take apart what `to_secret` joined.

        Raises:
            sa_keyvault.KeyRecordError: The bytes are no master key's secret.
        """
        joined = secret.expose()
        halves = joined[4:36], joined[40:72]
        if len(joined) != _MASTER_SECRET_SIZE or length_prefixed(*halves) != joined:
            msg = f"an unwrapped secret of {len(joined)} bytes is no master key"
            raise KeyRecordError(msg, size=len(joined))
        return cls(Secret(halves[0]), Secret(halves[1]))


@dataclass(frozen=True)
class WorkingRecord:
    """A working key with its wrapped secret.

    Attributes:
        number: Random, 1 to 2^32-1; drawn, not counted, because a number that a rollback
            set free must not be given to another key.
        store_id: Key store that it belongs to.
        area: Part of the application's model that it serves.
        created: UTC, ISO 8601.
        epoch: Number of state changes so far, from 1.
        state: What it may do.
        former_state: The state that a disabled key came from, else empty.
        suite: Algorithm that seals values under it.
        master_id: Master key that wraps it.
        wrapped: Nonce (12), wrapped secret, tag (16).
    """

    number: int
    store_id: str
    area: str
    created: str
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
            b"%d" % self.epoch,
            self.state.encode(),
            self.former_state.encode(),
            self.suite.encode(),
            self.master_id.encode(),
        )


def signed_bytes(record: MasterRecord, fingerprint: str, algorithm: str, wrapped: bytes) -> bytes:
    """Return what the installation key signs for one wrap of a master key."""
    fields = (*record.fields(), fingerprint.encode(), algorithm.encode(), wrapped)
    return b"sa_keyvault/master-key/1\0" + length_prefixed(*fields)


def new_master(store_id: str) -> tuple[MasterRecord, MasterSecret]:
    """Make an active master key of a lineage of its own."""
    record = MasterRecord(
        id=new_id(),
        store_id=store_id,
        created=timestamp(),
        epoch=1,
        state=KeyState.ACTIVE,
        former_state="",
        suite=AES_256_GCM.name,
        lineage=new_id(),
    )
    return record, MasterSecret(random_secret(32), random_secret(32))


def new_working(master: MasterRecord, secret: MasterSecret, area: str, suite: Suite) -> WorkingRecord:
    """Make an active working key of *area* under *master*."""
    record = WorkingRecord(
        number=secrets.randbelow(2**32 - 1) + 1,
        store_id=master.store_id,
        area=area,
        created=timestamp(),
        epoch=1,
        state=KeyState.ACTIVE,
        former_state="",
        suite=suite.name,
        master_id=master.id,
        wrapped=b"",
    )
    return _wrapped(record, secret, random_secret(suite.key_size))


def _wrapped(record: WorkingRecord, master: MasterSecret, secret: Secret) -> WorkingRecord:
    nonce = os.urandom(AES_256_GCM.nonce_size)
    cipher = AES_256_GCM.cipher(master.wrapping)
    wrapped = nonce + cipher.seal(nonce, secret.expose(), record.associated_data())
    return replace(record, wrapped=wrapped)


def unwrap_working(record: WorkingRecord, master: MasterSecret) -> Secret:
    """Return the secret of a working key.

    Raises:
        sa_keyvault.KeyRecordError: A field of the record is not what was wrapped.
    """
    size = AES_256_GCM.nonce_size
    nonce, rest = record.wrapped[:size], record.wrapped[size:]
    cipher = AES_256_GCM.cipher(master.wrapping)
    try:
        return Secret(cipher.open(nonce, rest, record.associated_data()))
    except AUTHENTICATION_FAILURES:
        pass
    msg = (
        f"the record of working key {record.number} of area {record.area!r} was changed outside the library; "
        "restore it from a backup of the key store"
    )
    raise KeyRecordError(msg, key_number=record.number, area=record.area)


def data_key(record: WorkingRecord, master: MasterSecret, binding: Binding) -> Secret:
    """Derive the key that seals the data of one column, keyed by the binding key.

    It is derived for version, suite, area, number and column, so that an envelope opens nowhere else.

    Raises:
        sa_keyvault.KeyRecordError: A field of the record is not what was wrapped.
        sa_keyvault.KeyStateError: The key is removed.
    """
    purpose = (
        b"sa_keyvault/data-key/1",
        record.suite.encode(),
        record.area.encode(),
        b"%d" % record.number,
        *binding.fields(),
    )
    secret = unwrap_working(record, master)
    if record.state is KeyState.REMOVED:
        msg = f"working key {record.number} of area {record.area!r} is removed: its secret was wiped"
        raise KeyStateError(msg, key_number=record.number, area=record.area)
    return derive(secret, salt=master.binding, purpose=purpose, size=suite_named(record.suite).key_size)


def with_state(record: WorkingRecord, master: MasterSecret, state: KeyState) -> WorkingRecord:
    """Return the record of a working key in another state, wrapped anew.

    Raises:
        sa_keyvault.KeyStateError: There is no such transition.
    """
    back = record.state is KeyState.DISABLED and state == record.former_state
    if not back and (record.state, state) not in _TRANSITIONS:
        msg = f"working key {record.number} is {record.state}; it cannot become {state}"
        raise KeyStateError(msg, key_number=record.number, area=record.area)
    secret = unwrap_working(record, master)
    former = record.state.value if state is KeyState.DISABLED else ""
    changed = replace(record, state=state, former_state=former, epoch=record.epoch + 1)
    return _wrapped(changed, master, Secret(b"") if state is KeyState.REMOVED else secret)
