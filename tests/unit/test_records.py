"""The records of keys: their states, and that no field of them can be changed unnoticed."""

import dataclasses
import datetime
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_keyvault import records, suites
from sa_keyvault.binding import Binding, Label, SymbolForm, length_prefixed
from sa_keyvault.errors import KeyRecordError, KeyStateError
from sa_keyvault.records import MasterRecord, MasterSecret, WorkingRecord
from sa_keyvault.secret import Secret
from sa_keyvault.states import KeyState
from sa_keyvault.suites import (
    AES_256_GCM,
    TRIPLE_DES_SHA1,
    TRIPLE_DES_SHA256,
    Aes256Gcm,
    Suite,
    TripleDesCbcHmac,
    random_secret,
)

_STORE = "0123456789abcdef" * 2
_MASTER, _SECRET = records.new_master(_STORE, AES_256_GCM)
_WORKING = records.new_working(_MASTER, _SECRET, "identities", AES_256_GCM)

# all that a key can be wrapped by, and be a key of
_SUITES = (AES_256_GCM, TRIPLE_DES_SHA256, TRIPLE_DES_SHA1)
_BY_SUITE = pytest.mark.parametrize("suite", _SUITES, ids=lambda suite: suite.name)

_MASTER_FIELDS = [field.name for field in dataclasses.fields(MasterRecord)]
_WORKING_FIELDS = [field.name for field in dataclasses.fields(WorkingRecord)]


def _changed(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, KeyState):
        return KeyState.RETIRED if value is KeyState.ACTIVE else KeyState.ACTIVE
    if isinstance(value, int):
        return value + 1
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1])
    return f"{value}x"


def _in_state(state: KeyState, former: KeyState | None = None) -> WorkingRecord:
    """Return the working key in *state*, reached by its transitions."""
    record = _WORKING
    ways = {
        KeyState.ACTIVE: [],
        KeyState.RETIRED: [KeyState.RETIRED],
        KeyState.DISABLED: [KeyState.RETIRED, KeyState.DISABLED] if former is KeyState.RETIRED else [KeyState.DISABLED],
        KeyState.REMOVED: [KeyState.RETIRED, KeyState.REMOVED],
    }
    for step in ways[state]:
        record = records.working_with_state(record, _SECRET, step)
    return record


# -- states ------------------------------------------------------------------------------------------------------------

_USES = {
    KeyState.ACTIVE: (True, True),
    KeyState.RETIRED: (False, True),
    KeyState.DISABLED: (False, False),
    KeyState.REMOVED: (False, False),
}

# state, state that a disabled key came from, the states it may go to (DESIGN section 2)
_ALLOWED: list[tuple[KeyState, KeyState | None, set[KeyState]]] = [
    (KeyState.ACTIVE, None, {KeyState.RETIRED, KeyState.DISABLED}),
    (KeyState.RETIRED, None, {KeyState.DISABLED, KeyState.REMOVED}),
    (KeyState.DISABLED, KeyState.ACTIVE, {KeyState.ACTIVE, KeyState.RETIRED}),
    (KeyState.DISABLED, KeyState.RETIRED, {KeyState.RETIRED}),
    (KeyState.REMOVED, None, set()),
]
_PERMITTED = [(*start, to) for *start, allowed in _ALLOWED for to in KeyState if to in allowed]
_FORBIDDEN = [(*start, to) for *start, allowed in _ALLOWED for to in KeyState if to not in allowed]


@pytest.mark.parametrize("state", KeyState)
def test_uses_of_a_state(state: KeyState) -> None:
    """Only active keys seal; only active and retired keys open (R-26)."""
    assert _USES[state] == (state.may_seal, state.may_open)


def test_states_are_stored_by_name() -> None:
    """The four states are stored under the words of the documentation."""
    assert [*KeyState] == ["active", "retired", "disabled", "removed"]


def test_all_transitions_are_tested() -> None:
    """All 16 pairs of states are covered, those of a disabled key for both states that it can come from."""
    pairs = [(start, to) for start, _, to in _PERMITTED + _FORBIDDEN]
    assert (len(pairs), len(set(pairs))) == (20, 16)


@pytest.mark.parametrize(("start", "former", "to"), _PERMITTED)
def test_permitted_transition(start: KeyState, former: KeyState | None, to: KeyState) -> None:
    """A permitted transition gives the state, counts the epoch, and remembers where a disabled key came from (R-25)."""
    record = _in_state(start, former)
    changed = records.working_with_state(record, _SECRET, to)
    expected = (to, record.epoch + 1, start.value if to is KeyState.DISABLED else "")
    assert expected == (changed.state, changed.epoch, changed.former_state)


@pytest.mark.parametrize(("start", "former", "to"), _FORBIDDEN)
def test_forbidden_transition(start: KeyState, former: KeyState | None, to: KeyState) -> None:
    """Every other transition is refused with the key and both states named (R-25)."""
    record = _in_state(start, former)
    with pytest.raises(KeyStateError, match=rf"^working key \d+ is {start}; it cannot become {to}$") as caught:
        records.working_with_state(record, _SECRET, to)
    assert (record.number, "identities") == (caught.value.key_number, caught.value.area)


@pytest.mark.parametrize(("start", "former", "to"), _PERMITTED)
def test_transition_keeps_what_names_the_key(start: KeyState, former: KeyState | None, to: KeyState) -> None:
    """A transition changes state, former state, epoch, time of change and wrap, and nothing else (R-25)."""
    record = replace(_in_state(start, former), changed="2001-01-01T00:00:00Z")
    record = records._wrapped(record, _SECRET, random_secret(32))
    changed = records.working_with_state(record, _SECRET, to)
    kept = [name for name in _WORKING_FIELDS if getattr(changed, name) == getattr(record, name)]
    expected = {"number", "store_id", "area", "created", "suite", "master_id"}
    assert expected == set(kept) - {"former_state"}


@pytest.mark.parametrize(("start", "former", "to"), _PERMITTED)
def test_transition_keeps_the_secret_until_it_is_removed(
    start: KeyState, former: KeyState | None, to: KeyState
) -> None:
    """A key keeps its secret through all states, until its removal wipes it (R-25)."""
    record = _in_state(start, former)
    secret = records.unwrap_working(record, _SECRET).expose()
    expected = b"" if to is KeyState.REMOVED else secret
    assert expected == records.unwrap_working(records.working_with_state(record, _SECRET, to), _SECRET).expose()


def test_transition_of_a_changed_record_is_refused() -> None:
    """A record that was changed outside the library is not made valid by a transition (R-27, A-35)."""
    with pytest.raises(KeyRecordError):
        records.working_with_state(replace(_WORKING, area="models"), _SECRET, KeyState.RETIRED)


def test_older_record_has_an_older_epoch() -> None:
    """A record from before a transition is still valid, and its epoch tells (R-28, A-28)."""
    retired = records.working_with_state(_WORKING, _SECRET, KeyState.RETIRED)
    assert records.unwrap_working(_WORKING, _SECRET).expose() == records.unwrap_working(retired, _SECRET).expose()
    assert (_WORKING.epoch, retired.epoch) == (1, 2)


# -- working keys ------------------------------------------------------------------------------------------------------


def test_new_working_key() -> None:
    """A new working key is active, of epoch 1, of the area, store and master key it was made for."""
    expected = ("identities", _STORE, 1, KeyState.ACTIVE, "", "aes-256-gcm", _MASTER.id, 12 + 32 + 16)
    assert expected == (
        _WORKING.area,
        _WORKING.store_id,
        _WORKING.epoch,
        _WORKING.state,
        _WORKING.former_state,
        _WORKING.suite,
        _WORKING.master_id,
        len(_WORKING.wrapped),
    )


@pytest.mark.parametrize(("drawn", "number"), [(0, 1), (2**32 - 2, 2**32 - 1)])
def test_number_range(drawn: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest number that can be drawn is 1, the highest 2^32-1: 0 is the pending envelope's."""
    limits = []

    def draw(limit: int) -> int:
        limits.append(limit)
        return drawn

    monkeypatch.setattr(secrets, "randbelow", draw)
    assert (number, [2**32 - 1]) == (
        records.new_working(_MASTER, _SECRET, "identities", AES_256_GCM).number,
        limits,
    )


def test_new_working_keys_differ() -> None:
    """Every working key has a number, a secret and a nonce of its own (R-13)."""
    made = [records.new_working(_MASTER, _SECRET, "identities", AES_256_GCM) for _ in range(200)]
    secrets_of = {records.unwrap_working(record, _SECRET).expose() for record in made}
    nonces = {record.wrapped[:12] for record in made}
    assert (len({record.number for record in made}), len(secrets_of), len(nonces)) == (200, 200, 200)


@pytest.mark.parametrize("name", _WORKING_FIELDS)
def test_every_field_of_a_working_record_is_authenticated(name: str) -> None:
    """A working key with any field changed is refused, be it its state or its area (R-24, R-27, A-25, A-27, A-35)."""
    changed = replace(_WORKING, **{name: _changed(getattr(_WORKING, name))})
    with pytest.raises(KeyRecordError, match="was changed outside the library"):
        records.unwrap_working(changed, _SECRET)


@pytest.mark.parametrize("state", [state for state in KeyState if state is not KeyState.ACTIVE])
def test_forged_state_is_refused(state: KeyState) -> None:
    """A state that was changed in the table is refused in both directions (R-27, A-35)."""
    for record in (replace(_WORKING, state=state), replace(_in_state(state), state=KeyState.ACTIVE)):
        with pytest.raises(KeyRecordError):
            records.unwrap_working(record, _SECRET)


def test_forged_former_state_is_refused() -> None:
    """A disabled key cannot be made to have come from active: it would become active again (R-27, A-35)."""
    forged = replace(_in_state(KeyState.DISABLED, KeyState.RETIRED), former_state="active")
    with pytest.raises(KeyRecordError):
        records.working_with_state(forged, _SECRET, KeyState.ACTIVE)


def test_swapped_wraps_are_refused() -> None:
    """The wrapped secrets of two areas cannot be swapped under one master key (R-24, A-25)."""
    other = records.new_working(_MASTER, _SECRET, "models", AES_256_GCM)
    for record in (replace(_WORKING, wrapped=other.wrapped), replace(other, wrapped=_WORKING.wrapped)):
        with pytest.raises(KeyRecordError):
            records.unwrap_working(record, _SECRET)


def _refusals(suite: Suite, forge: Callable[[bytes], Iterable[bytes]]) -> set[str]:
    """Return what is said of the forgeries of a wrap under a master key of *suite*, none of which unwraps."""
    master, secret = records.new_master(_STORE, suite)
    record = records.new_working(master, secret, "identities", AES_256_GCM)
    assert suite.body_size(AES_256_GCM.key_size) == len(record.wrapped)
    texts = set()
    for forged in forge(record.wrapped):
        with pytest.raises(KeyRecordError) as caught:
            records.unwrap_working(replace(record, wrapped=forged), secret)
        texts.add(str(caught.value).replace(str(record.number), "N"))
    return texts


_CHANGED = (
    "the record of working key N of area 'identities' was changed outside the library; "
    "restore it from a backup of the key store"
)


@_BY_SUITE
def test_cut_wrap_is_refused(suite: Suite) -> None:
    """No part of a wrapped secret is accepted, whatever has wrapped it, and all fail alike (R-24, A-14, A-79)."""
    assert {_CHANGED} == _refusals(suite, lambda whole: [whole[:size] for size in range(len(whole))])


@_BY_SUITE
def test_wrap_with_a_flipped_bit_is_refused(suite: Suite) -> None:
    """Every bit of a wrapped secret counts, whatever has wrapped it, and all fail alike (R-20, A-13, A-79)."""

    def flipped(whole: bytes) -> list[bytes]:
        number = int.from_bytes(whole, "big")
        return [(number ^ 1 << bit).to_bytes(len(whole), "big") for bit in range(8 * len(whole))]

    assert {_CHANGED} == _refusals(suite, flipped)


def test_another_master_key_unwraps_nothing() -> None:
    """A working key is unwrapped by its own master key only."""
    with pytest.raises(KeyRecordError) as caught:
        records.unwrap_working(_WORKING, records.new_master(_STORE, AES_256_GCM)[1])
    assert (_WORKING.number, "identities", None) == (
        caught.value.key_number,
        caught.value.area,
        caught.value.__context__,
    )


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@settings(deadline=None)
@given(*[st.tuples(_TEXT, _TEXT, _TEXT, _TEXT)] * 2)
def test_associated_data_is_injective(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    """Texts cannot move from one field of a record to the next unnoticed (R-16, R-24)."""
    names = ("store_id", "area", "created", "master_id")
    first, second = (replace(_WORKING, **dict(zip(names, texts, strict=True))) for texts in (one, other))
    assert (one == other) == (first.associated_data() == second.associated_data())


def test_associated_data_of_neighbours() -> None:
    """A character that moves to the next field changes the associated data (R-16, R-24)."""
    first = replace(_WORKING, store_id="ab", area="c")
    assert first.associated_data() != replace(_WORKING, store_id="a", area="bc").associated_data()


# -- data keys ---------------------------------------------------------------------------------------------------------


_BINDING = Binding(Label(("", "claimant", "email")), 2, SymbolForm.COLON)


def _data_key(
    record: WorkingRecord,
    secret: Secret,
    master: MasterSecret = _SECRET,
    binding: Binding = _BINDING,
    suite: Suite = AES_256_GCM,
) -> bytes:
    """Return the data key of *record* with the working secret *secret*, wrapped under *master*."""
    return records.data_key(records._wrapped(record, master, secret), suite, master, binding).expose()


def _derived(working: WorkingRecord, suite: Suite) -> bytes:
    """Return the data key of *working* as it is documented."""
    secret = records.unwrap_working(working, _SECRET)
    purpose = (b"sa_keyvault/data-key/1", suite.name.encode(), b"identities", str(working.number).encode())
    purpose = (*purpose, bytes(_BINDING.label), b"2", b"colon")
    return suites.derive(secret, salt=_SECRET.binding, purpose=purpose, size=suite.key_size).expose()


@_BY_SUITE
def test_data_key_is_derived_as_documented(suite: Suite) -> None:
    """A data key is HKDF of the working secret, with the binding key as salt and all that it is bound to as info."""
    size = {"aes-256-gcm": 32, "3des-cbc-hmac-sha256": 56, "3des-cbc-hmac-sha1": 44}[suite.name]
    working = records.new_working(_MASTER, _SECRET, "identities", suite)
    found = records.data_key(working, suite, _SECRET, _BINDING).expose()
    assert (_derived(working, suite), size) == (found, len(found))


@pytest.mark.parametrize("suite", _SUITES[1:], ids=lambda suite: suite.name)
def test_both_keys_of_3des_are_one_derivation(suite: TripleDesCbcHmac) -> None:
    """A data key of 3DES is one derivation: its first 24 bytes encrypt, the rest is the key of the HMAC (R-7)."""
    working, iv, aad = records.new_working(_MASTER, _SECRET, "identities", suite), bytes(range(8)), b":12345"
    derived = _derived(working, suite)
    sealed = suite.cipher(records.data_key(working, suite, _SECRET, _BINDING)).seal(iv, b"secret!", aad)
    ciphertext = Cipher(TripleDES(derived[:24]), CBC(iv)).encryptor().update(b"secret!\x01")
    message = aad + iv + ciphertext + (8 * len(aad)).to_bytes(8, "big")
    assert ciphertext + hmac.digest(derived[24:], message, suite.algorithm.name) == sealed


def test_data_key_changes_with_what_it_is_bound_to() -> None:
    """One working secret gives each area, number, suite, lineage and column its own data key (R-2, R-15, A-4, A-15)."""
    secret = random_secret(32)
    keys = [
        _data_key(_WORKING, secret),
        _data_key(replace(_WORKING, area="models"), secret),
        _data_key(replace(_WORKING, number=_WORKING.number ^ 1), secret),
        _data_key(_WORKING, secret, suite=Aes256Gcm(name="aes-256-gcm-test")),
        _data_key(_WORKING, secret, MasterSecret(AES_256_GCM, _SECRET.wrapping, random_secret(32))),
        _data_key(_WORKING, random_secret(32)),
        _data_key(_WORKING, secret, binding=replace(_BINDING, label=Label(("", "claimant", "phone")))),
        _data_key(_WORKING, secret, binding=replace(_BINDING, symbol_count=1)),
        _data_key(_WORKING, secret, binding=replace(_BINDING, form=SymbolForm.LENGTH)),
    ]
    assert len(keys) == len(set(keys))


def test_data_key_survives_a_rotation() -> None:
    """A new wrapping key of the same lineage, a new epoch and another state leave the data key as it is (R-30)."""
    rotated = MasterSecret(AES_256_GCM, random_secret(32), _SECRET.binding)
    secret = records.unwrap_working(_WORKING, _SECRET)
    retired = replace(_WORKING, state=KeyState.RETIRED, epoch=2, master_id="f" * 32)
    assert records.data_key(_WORKING, AES_256_GCM, _SECRET, _BINDING).expose() == _data_key(retired, secret, rotated)


def test_data_key_of_a_changed_record_is_refused() -> None:
    """No data key is derived from a record that was changed (R-27, A-35)."""
    with pytest.raises(KeyRecordError):
        records.data_key(replace(_WORKING, area="models"), AES_256_GCM, _SECRET, _BINDING)


def test_removed_key_opens_nothing_that_it_sealed() -> None:
    """What is left of a removed key gives no key of the data that it sealed (R-26, A-43)."""
    with pytest.raises(KeyStateError, match="removed"):
        records.data_key(_in_state(KeyState.REMOVED), AES_256_GCM, _SECRET, _BINDING)


# -- master keys -------------------------------------------------------------------------------------------------------


def test_new_master_key() -> None:
    """A new master key is active, of epoch 1, of the store it was made for and a lineage of its own."""
    expected = (_STORE, 1, KeyState.ACTIVE, "", "aes-256-gcm", True)
    ids = re.compile(r"[0-9a-f]{32}")
    shaped = ids.fullmatch(_MASTER.id) is not None and ids.fullmatch(_MASTER.lineage) is not None
    record = (_MASTER.store_id, _MASTER.epoch, _MASTER.state, _MASTER.former_state, _MASTER.suite)
    assert expected == (*record, shaped and _MASTER.id != _MASTER.lineage)


def test_new_master_keys_differ() -> None:
    """Two master keys share no id, lineage, wrapping key or binding key (R-13)."""
    made = [records.new_master(_STORE, AES_256_GCM) for _ in range(2)]
    values = [
        *(value for record, _ in made for value in (record.id, record.lineage)),
        *(half.expose() for _, secret in made for half in (secret.wrapping, secret.binding)),
    ]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("name", _MASTER_FIELDS)
def test_every_field_of_a_master_record_is_signed(name: str) -> None:
    """Any change of any field of a master record changes what is signed (R-23, R-27, A-27)."""
    changed = replace(_MASTER, **{name: _changed(getattr(_MASTER, name))})
    signed, forged = (records.signed_bytes(record, "f", "a", b"w") for record in (_MASTER, changed))
    assert signed != forged


@pytest.mark.parametrize("given", [("g", "a", b"w"), ("f", "b", b"w"), ("f", "a", b"x"), ("fa", "", b"w")])
def test_every_field_of_a_wrap_is_signed(given: tuple[str, str, bytes]) -> None:
    """Fingerprint, algorithm and wrapped secret of a wrap are signed along (R-23, A-24, A-33)."""
    assert records.signed_bytes(_MASTER, "f", "a", b"w") != records.signed_bytes(_MASTER, *given)


def test_signed_bytes_layout() -> None:
    """What is signed is a purpose with its version, then each field behind its length (R-16)."""
    fields = [str(getattr(_MASTER, name)).encode() for name in _MASTER_FIELDS]
    expected = b"sa_keyvault/master-key/1\0" + length_prefixed(*fields, b"f", b"a", b"w")
    assert expected == records.signed_bytes(_MASTER, "f", "a", b"w")


def test_purposes_are_told_apart() -> None:
    """What is signed of a master key and what a working key's wrap authenticates begin differently."""
    signed, authenticated = records.signed_bytes(_MASTER, "f", "a", b"w"), _WORKING.associated_data()
    assert signed.partition(b"\0")[0] != authenticated.partition(b"\0")[0]


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_master_secret_round_trip(wrapping: bytes, binding: bytes) -> None:
    """Both halves of a master key's secret come back as they were."""
    secret = MasterSecret.from_secret(
        MasterSecret(AES_256_GCM, Secret(wrapping), Secret(binding)).to_secret(), AES_256_GCM
    )
    assert (wrapping, binding) == (secret.wrapping.expose(), secret.binding.expose())


def test_master_secret_layout() -> None:
    """A master key's secret is both halves, each behind its length."""
    secret = MasterSecret(AES_256_GCM, Secret(b"w" * 32), Secret(b"b" * 32)).to_secret()
    assert bytes([0, 0, 0, 32]) + b"w" * 32 + bytes([0, 0, 0, 32]) + b"b" * 32 == secret.expose()


@pytest.mark.parametrize("size", [0, 1, 35, 36, 40, 71, 73, 100])
def test_master_secret_of_another_size_is_refused(size: int) -> None:
    """Bytes that are cut or too long are no master key, and the error shows none of them (R-38)."""
    whole = MasterSecret(AES_256_GCM, Secret(b"\xaa" * 32), Secret(b"\xbb" * 32)).to_secret().expose()
    joined = (whole + bytes(28))[:size]
    with pytest.raises(KeyRecordError, match=rf"^an unwrapped secret of {size} bytes is no master key of aes-256-gcm$"):
        MasterSecret.from_secret(Secret(joined), AES_256_GCM)


@pytest.mark.parametrize("sizes", [(32, 31), (32, 0), (31, 32), (0, 32), (16, 48), (33, 32), (32, 33)])
def test_master_secret_with_halves_of_another_size_is_refused(sizes: tuple[int, int]) -> None:
    """Both halves must have 32 bytes: a short binding key would be a weak salt of every derivation."""
    joined = length_prefixed(*(bytes(size) for size in sizes))
    with pytest.raises(KeyRecordError):
        MasterSecret.from_secret(Secret(joined), AES_256_GCM)


def test_records_show_no_secret() -> None:
    """The `repr` of a master key's secret shows sizes only (R-39, A-75)."""
    assert (
        repr(_SECRET) == f"MasterSecret(suite={AES_256_GCM!r}, wrapping=<Secret: 32 bytes>, binding=<Secret: 32 bytes>)"
    )


# -- ids and times -----------------------------------------------------------------------------------------------------


def test_new_ids_differ() -> None:
    """Ids are 32 hex digits, no two alike (R-13)."""
    ids = {records.new_id() for _ in range(1_000)}
    assert (len(ids), all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)) == (1_000, True)


def test_timestamp() -> None:
    """A timestamp is the present in UTC, to the second (R-45)."""
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    stamp = datetime.datetime.strptime(records.timestamp(), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
    assert before <= stamp <= datetime.datetime.now(datetime.UTC)
