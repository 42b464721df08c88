"""The worked example of the envelope format: computed without the package, opened with it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table
from sqlalchemy.dialects import sqlite

from sa_keyvault import AuthenticationError, Encrypted
from sa_keyvault.envelope import Layouts, open_envelope
from sa_keyvault.keyring.keys import KeySet, Master, WorkingKeys
from sa_keyvault.keyring.policy import Policy
from sa_keyvault.ledger import StoreRecord
from sa_keyvault.records import (
    MasterRecord,
    MasterSecret,
    WorkingRecord,
    data_key,
    signed_bytes,
    unwrap_working,
)
from sa_keyvault.secret import Secret
from sa_keyvault.statements import EncryptedColumn, Plans
from sa_keyvault.states import KeyState
from sa_keyvault.suites import AES_256_GCM, Provisioning

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("worked_example", REFERENCE / "worked_example.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = _load()
values: dict[str, bytes] = example.compute()

claimant = Table(
    example.TABLE,
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("city", String(40), nullable=False),
    Column(example.COLUMN, Encrypted(String(254), area=example.AREA, bind_to=("city",))),
)
row = {"id": 12345, "city": "Zürich"}
_STORE = StoreRecord(example.STORE_ID, 1, "", 0, "")
_POLICY = Policy(Provisioning.default(), "off")


def _master() -> Master:
    record = MasterRecord(
        id=example.MASTER_ID,
        store_id=example.STORE_ID,
        created=example.CREATED,
        changed=example.CHANGED,
        epoch=1,
        state=KeyState.ACTIVE,
        former_state="",
        suite=example.SUITE,
        lineage="0" * 32,
    )
    return Master(record, MasterSecret.from_secret(Secret(values["master secret"]), AES_256_GCM))


def _working() -> WorkingRecord:
    return WorkingRecord(
        number=example.KEY_NUMBER,
        store_id=example.STORE_ID,
        area=example.AREA,
        created=example.CREATED,
        changed=example.CHANGED,
        epoch=example.EPOCH,
        state=KeyState(example.STATE),
        former_state=example.FORMER_STATE,
        suite=example.SUITE,
        master_id=example.MASTER_ID,
        wrapped=values["wrapped"],
    )


def _secret() -> MasterSecret:
    secret = _master().secret
    assert secret is not None
    return secret


def test_page_shows_the_computed_values() -> None:
    """The hex digits in the page are those that the program prints (R-16)."""
    page = (REFERENCE / "envelope-format.md").read_text(encoding="utf-8")
    assert f"```text\n{example.render(values)}\n```" in page


def test_record_is_authenticated_as_written() -> None:
    """The associated data of a wrapped working key is as the page describes it (R-24)."""
    assert values["record AAD"] == _working().associated_data()


def test_working_key_unwraps() -> None:
    """The package unwraps the working key of the example."""
    assert unwrap_working(_working(), _secret()).expose() == example.WORKING_SECRET


def _column() -> EncryptedColumn:
    plan = Plans(sqlite.dialect()).of(claimant)
    assert plan is not None
    return plan.encrypted[example.COLUMN]


def _layouts(column: EncryptedColumn) -> Layouts:
    keys = KeySet(_STORE, _POLICY, {example.MASTER_ID: _master()}, WorkingKeys.all([_working()]), frozenset())
    opener = keys.opener(_working(), example.AREA, column.binding)
    return Layouts(lambda _: (opener, True))


def test_data_key_is_derived_as_written() -> None:
    """The package derives the data key of the example, for the label and the form of the symbols (R-15)."""
    column = _column()
    assert values["data key"] == data_key(_working(), AES_256_GCM, _secret(), column.binding).expose()


def test_binding_is_as_written() -> None:
    """The package ties a value of this row to the symbols of the example (R-15)."""
    column = _column()
    assert values["AAD"] == column.symbols_of(row)


def test_envelope_opens() -> None:
    """The package opens the envelope of the example for its row."""
    column = _column()
    assert column.values.decode(open_envelope(_layouts(column), values["selected"])) == example.VALUE


def test_envelope_does_not_open_for_another_row() -> None:
    """The envelope of the example opens for no other row (R-21, A-1)."""
    column = _column()
    with pytest.raises(AuthenticationError):
        open_envelope(_layouts(column), values["envelope"] + column.symbols_of(row | {"id": 12346}))


def test_package_seals_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the nonce of the example, the package makes the envelope of the example."""
    column = _column()
    monkeypatch.setattr("os.urandom", lambda size: example.NONCE[:size])
    keys = KeySet(_STORE, _POLICY, {example.MASTER_ID: _master()}, WorkingKeys.all([_working()]), frozenset())
    seal = keys.sealer(_working(), column.binding)
    plaintext = column.values.encode(example.VALUE)
    assert plaintext is not None
    assert [values["envelope"]] == seal([plaintext], [column.symbols_of(row)])


def test_signed_bytes_are_as_written() -> None:
    """What the installation key signs begins with its purpose and holds every field behind its length (R-23)."""
    record = _master().record
    fields = (
        record.id,
        record.store_id,
        record.created,
        record.changed,
        "1",
        "active",
        "",
        record.suite,
        record.lineage,
        "f" * 64,
    )
    expected = b"sa_keyvault/master-key/1\0" + example.length_prefixed(
        *(field.encode() for field in (*fields, "rsa")), b"wrapped"
    )
    assert expected == signed_bytes(record, "f" * 64, "rsa", b"wrapped")
