"""A value that does not open is reported and left as it is, and the others are done."""

import pytest
from sqlalchemy import Engine
from support.jobs import CLAIMANTS, claimant, job_parts, kinds, open_values, raw_values, set_raw
from support.leaks import marked

from sa_keyvault import KeyRing, KeyStateError, ReencryptionError, store
from sa_keyvault import administration as administer
from sa_keyvault.reencryption import Pace, examine, reencrypt, reencrypting
from sa_keyvault.states import KeyState

_SPOILED = (5, 50, 70)


@pytest.fixture
def spoiled(rotated: Engine, plain: Engine) -> list[bytes]:
    """Three values are changed: one bit, cut, and no envelope at all; the stored bytes of the whole column."""
    with plain.begin() as connection:
        stored = raw_values(connection, CLAIMANTS, "email")
        changed = [
            stored[4][:-1] + bytes([stored[4][-1] ^ 1]),
            stored[49][:-1],
            b"no envelope",
        ]
        for number, value in zip(_SPOILED, changed, strict=True):
            set_raw(connection, CLAIMANTS, "email", number, value)
        return raw_values(connection, CLAIMANTS, "email")


def test_reported_and_left(rotated: Engine, plain: Engine, spoiled: list[bytes]) -> None:
    """Values that do not open are reported with row, column and reason, and stay; all others move (A-13, A-14)."""
    report = reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=20, unreadable_limit=3))
    assert [("email", (number,)) for number in _SPOILED] == [(one.column, one.key) for one in report.unreadable]
    assert [bool(one.reason) and marked() not in one.reason for one in report.unreadable] == [True, True, True]
    # the other column of these rows is written all the same
    assert (report.rows, report.is_finished) == (100, False)
    with plain.connect() as connection:
        stored = raw_values(connection, CLAIMANTS, "email")
        assert kinds(connection, CLAIMANTS, "voice_model") == {"active", "null"}
    left = [number for number, (before, after) in enumerate(zip(spoiled, stored, strict=True), 1) if before == after]
    assert list(_SPOILED) == left
    with plain.begin() as connection:
        connection.execute(CLAIMANTS.delete().where(CLAIMANTS.c.id.in_(_SPOILED)))
    with rotated.connect() as connection:
        assert open_values(connection, CLAIMANTS, "email") == [
            claimant(number)[:1] for number in range(1, 101) if number not in _SPOILED
        ]
    report = reencrypt(rotated, CLAIMANTS)
    assert (report.rows, report.is_finished) == (0, True)


def test_limit(rotated: Engine, plain: Engine, spoiled: list[bytes]) -> None:
    """One more than the limit stops the job before its batch is written; what was written before is kept."""
    with pytest.raises(ReencryptionError, match="3 values do not open, the first of them in column 'email'"):
        reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=20, unreadable_limit=2))
    with plain.connect() as connection:
        stored = raw_values(connection, CLAIMANTS, "email")
        assert [(part.after, part.owner) for part in job_parts(connection)] == [("[60]", "")]
    assert (set(spoiled[:60]) & set(stored), spoiled[60:]) == ({spoiled[4], spoiled[49]}, stored[60:])


def test_no_limit_given(rotated: Engine, plain: Engine, spoiled: list[bytes]) -> None:
    """By default the first value that does not open stops the job; mended, the next run finishes it."""
    with pytest.raises(ReencryptionError, match="1 values do not open"):
        reencrypt(rotated, CLAIMANTS, pace=Pace(batch_size=20))
    with plain.connect() as connection:
        assert spoiled == raw_values(connection, CLAIMANTS, "email")
    with rotated.begin() as connection:
        for number in _SPOILED:
            connection.execute(CLAIMANTS.update().where(CLAIMANTS.c.id == number).values(email=marked("mended")))
    assert reencrypt(rotated, CLAIMANTS).is_finished


def test_examination_reports_them(rotated: Engine, spoiled: list[bytes]) -> None:
    """A dry run finds the same values, and counts the rows that could be written."""
    report = examine(rotated, reencrypting(CLAIMANTS, ["email"]), Pace(unreadable_limit=3))
    assert ([(number,) for number in _SPOILED], 97) == ([one.key for one in report.unreadable], report.rows)


def test_disabled_key(rotated: Engine, plain: Engine, admin: KeyRing) -> None:
    """Values under a key that is disabled are no damage: the job stops and says which key (R-26)."""
    with plain.begin() as connection:
        number = next(
            record.number
            for record in store.working_in_area(connection, "identities")
            if record.state is KeyState.RETIRED
        )
        administer.disable_working(connection, admin, number)
        before = raw_values(connection, CLAIMANTS, "email")
    with pytest.raises(KeyStateError, match=f"{number}"):
        reencrypt(rotated, CLAIMANTS, pace=Pace(unreadable_limit=1000))
    with plain.begin() as connection:
        assert before == raw_values(connection, CLAIMANTS, "email")
        administer.enable_working(connection, admin, number)
    assert reencrypt(rotated, CLAIMANTS).is_finished
