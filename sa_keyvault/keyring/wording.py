"""What people write for the audit: the actor and the reason, which end in logs and on terminals."""

import unicodedata

from sa_keyvault.errors import ConfigurationError

__all__ = ["require_one_line", "shown"]

_CONTROLS = {"Cc", "Zl", "Zp"}  # control characters, line and paragraph separators


def require_one_line(name: str, text: str) -> None:
    """Refuse a text that could forge a second line in a log, or command a terminal.

    Args:
        name: What the text is.
        text: What was given.

    Raises:
        sa_keyvault.ConfigurationError: It has a control character, or a line break.
    """
    if any(unicodedata.category(one) in _CONTROLS for one in text):
        msg = f"the {name} has a control character or a line break; write it as one line of plain text"
        raise ConfigurationError(msg)


def shown(text: str) -> str:
    """Return a text as one line in which nothing is hidden: what is in the key store may have been written by anybody.

    Characters without a shape of their own are written as escapes, also those that turn the direction of writing.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)
