"""The one session of each PKCS#11 token in this process: opened, shared, and opened again when it was lost."""

import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import pkcs11
from pkcs11 import PKCS11Error, Session, Token

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.secret import Secret

__all__ = ["TokenRefusalError", "TokenSession", "token_session"]

_T = TypeVar("_T")

# python-pkcs11 lets go of the GIL around every call, and initializes modules without OS_LOCKING_OK: threads with
# sessions of their own get errors. So every call into it is made by one thread at a time.
_LOCK = RLock()
if hasattr(os, "register_at_fork"):
    # a fork waits for the running call, so a child finds neither this lock taken nor the module in mid-call
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)

# by name, because releases of python-pkcs11 differ in which they have; the base class itself means "not initialized"
_LOST = frozenset({
    *("PKCS11Error", "SessionHandleInvalid", "SessionClosed", "UserNotLoggedIn"),
    *("ObjectHandleInvalid", "KeyHandleInvalid"),
    *("DeviceError", "DeviceMemory", "DeviceRemoved", "HostMemory"),
    *("SlotIDInvalid", "TokenNotPresent", "TokenNotRecognised"),
})  # fmt: skip
_WRONG_PIN = ("PinIncorrect", "PinInvalid", "PinLenRange")
_PIN_PROBLEMS = {
    "PinLocked": "has a locked PIN; its security officer sets a new one",
    "PinExpired": "has an expired PIN; set a new one",
    "UserPinNotInitialized": "has no user PIN yet; its security officer sets one",
    **dict.fromkeys(
        _WRONG_PIN,
        "refuses the PIN; correct it: it is not tried again, because a token locks itself after a few wrong ones",
    ),
}

_DIGEST_KEY = secrets.token_bytes(32)


class TokenRefusalError(Exception):
    """The token is there, and did not do what it was asked for; only its kind is told, never the token's text."""


class _Module:
    """A PKCS#11 module, loaded into this process."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._pid = os.getpid()
        self.starts: int = 0

    def library(self) -> Any:
        """Return the initialized module; in a forked child it is initialized anew, as the standard asks.

        Raises:
            sa_keyvault.InstallationKeyError: It cannot be loaded.
        """
        if self._pid != os.getpid():
            self.restart()
        with suppress(PKCS11Error):
            return pkcs11.lib(self._path)
        msg = f"{self._path} cannot be loaded as a PKCS#11 module; `ldd` shows if a library that it needs is missing"
        raise InstallationKeyError(msg)

    def restart(self) -> None:
        """Initialize the module anew; every session with its tokens ends."""
        self._pid = os.getpid()
        self.starts += 1
        with suppress(PKCS11Error):
            # fails where the module itself has noticed the fork
            pkcs11.lib(self._path).finalize()


class TokenSession:
    """The session with one token, shared by all keys in it: a token has one login for the whole process."""

    def __init__(self, module: _Module, label: str) -> None:
        self._module = module
        self._label = label
        self._session: Session | None = None
        self._start = -1
        self._has_been_open = False
        self._refused: set[bytes] = set()

    def run(self, pin: Callable[[], Secret], work: Callable[[Session], _T]) -> _T:
        """Return what *work* returns, while no other thread uses the token; once more if the session was lost.

        Raises:
            sa_keyvault.InstallationKeyError: The token is out of reach, or refuses the PIN.
            TokenRefusalError: It does not do what it is asked for.
        """
        lost = ""
        with _LOCK:
            for _ in range(2):
                session = self._opened(pin)
                try:
                    return work(session)
                except PKCS11Error as error:
                    name = type(error).__name__
                if name not in _LOST:
                    raise TokenRefusalError(name)
                self._session, lost = None, name
        msg = f"the token {self._label!r} was lost twice in a row ({lost}); insert it again, or restart its service"
        raise InstallationKeyError(msg)

    def _opened(self, pin: Callable[[], Secret]) -> Session:
        self._module.library()
        if self._session is None or self._start != self._module.starts:
            self._session = self._log_in(self._found(), pin)
            self._start, self._has_been_open = self._module.starts, True
        return self._session

    def _found(self) -> Token:
        try:
            return self._found_at_once()
        except InstallationKeyError:
            if not self._has_been_open:
                raise
        # some modules see a token that was out only after a new start; it costs the other tokens their sessions
        self._module.restart()
        return self._found_at_once()

    def _found_at_once(self) -> Token:
        library = self._module.library()
        try:
            token: Token = library.get_token(token_label=self._label)
        except pkcs11.NoSuchToken:
            problem = "is not there; insert it, or correct the label (`softhsm2-util --show-slots`, `pkcs11-tool -L`)"
        except pkcs11.MultipleTokensReturned:
            problem = "is there more than once; give each token a label of its own"
        except PKCS11Error as error:
            problem = f"cannot be looked for ({type(error).__name__}); insert it again, or restart its service"
        else:
            return token
        msg = f"the token {self._label!r} {problem}"
        raise InstallationKeyError(msg)

    def _log_in(self, token: Token, pin: Callable[[], Secret]) -> Session:
        fetched = pin()
        digest = hmac.digest(_DIGEST_KEY, fetched.expose(), "sha256")
        problem = (
            "has refused this PIN before; it is not tried again in this process, because a token locks itself "
            "after a few wrong ones; correct it, or restart the process"
        )
        if digest not in self._refused:
            session, refusal = _try_pin(token, fetched)
            if session is not None:
                return session
            if refusal in _WRONG_PIN:
                self._refused.add(digest)
            problem = _PIN_PROBLEMS.get(refusal, f"lets nobody log in ({refusal}); restart its service")
        msg = f"the token {self._label!r} {problem}"
        raise InstallationKeyError(msg)


def _try_pin(token: Token, pin: Secret) -> tuple[Session | None, str]:
    """Return a session, or the name of the refusal; nothing is raised here, where a traceback would keep the PIN."""
    try:
        return token.open(user_pin=pin.expose().decode()), ""
    except pkcs11.UserAlreadyLoggedIn:
        # another session of this process did it, and the login is for the process
        with suppress(PKCS11Error):
            return token.open(), ""
    except UnicodeDecodeError:
        return None, "PinInvalid"
    except PKCS11Error as error:
        return None, type(error).__name__
    return None, "UserAlreadyLoggedIn"


_modules: dict[Path, _Module] = {}
_sessions: dict[tuple[Path, str], TokenSession] = {}


def token_session(path: Path, label: str) -> TokenSession:
    """Return the one session of this process with the token that is labelled so.

    Raises:
        sa_keyvault.InstallationKeyError: The module is no file with an absolute path.
    """
    if not path.is_absolute() or not path.is_file():
        # a bare name would be looked for along LD_LIBRARY_PATH, and a relative one wherever the process was started
        msg = f"the PKCS#11 module {str(path)!r} is no file with an absolute path; give the path of the token's library"
        raise InstallationKeyError(msg)
    with _LOCK:
        # a module that is loaded under two names would be initialized twice, which it refuses
        real = path.resolve()
        module = _modules.setdefault(real, _Module(path))
        return _sessions.setdefault((real, label), TokenSession(module, label))
