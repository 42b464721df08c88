"""Actor and reason: what they may hold, and how they are shown."""

import pytest
from conftest import RingMaker

from sa_keyvault import ConfigurationError
from sa_keyvault.keyring import require_reason, shown

HOSTILE = ["a\nb", "a\rb", "a\x1b[31mb", "a\x00b", "a\x7fb", "a\x9bb", "a\u2028b"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_controls_are_refused(text: str, make_ring: RingMaker) -> None:
    """Neither reason nor actor may hold a control character or a line break."""
    with pytest.raises(ConfigurationError, match="the reason has a control character or a line break; write it"):
        require_reason(text)
    with pytest.raises(ConfigurationError, match="the actor has a control character or a line break; write it"):
        make_ring(actor=text)


@pytest.mark.parametrize("text", ["", "incident 7", "Änderung für Zoë, 密钥 🔑", "a\\nb", "5\u00a0%"], ids=ascii)
def test_text_is_let_through(text: str, make_ring: RingMaker) -> None:
    """Any other text is as good as another."""
    require_reason(text)
    assert make_ring(actor=text).identity.actor == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zoë 密钥 🔑", "Zoë 密钥 🔑"),
        ("a\nb", r"a\nb"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202eabc", r"\u202eabc"),
        ("\udc80", r"\udc80"),
    ],
    ids=ascii,
)
def test_shown(text: str, expected: str) -> None:
    """What is not printable is shown as an escape, and all else as it is."""
    assert shown(text) == expected
