"""An RSA key in a PKCS#11 token: found, checked, and used."""

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa
from pkcs11 import MGF, Attribute, AttributeTypeInvalid, KeyType, Mechanism, MechanismFlag, ObjectClass, Session

from sa_keyvault.errors import InstallationKeyError
from sa_keyvault.installation.algorithms import SIGNATURES, WRAPPINGS, wrapping_scheme
from sa_keyvault.installation.strength import KEY_SIZE, refuse_weak_public
from sa_keyvault.installation.token_sessions import TokenRefusalError, token_session
from sa_keyvault.secret import Secret

__all__ = ["TokenKey", "make_key"]

_T = TypeVar("_T")

_Parameters = tuple[Mechanism, Any]

_SHA256, _SHA1 = WRAPPINGS
_DECRYPTION: Mapping[str, _Parameters] = {
    _SHA256: (Mechanism.RSA_PKCS_OAEP, (Mechanism.SHA256, MGF.SHA256, None)),
    _SHA1: (Mechanism.RSA_PKCS_OAEP, (Mechanism.SHA_1, MGF.SHA1, None)),
}
_SIGNING: Mapping[str, _Parameters] = {
    SIGNATURES["sha256"]: (Mechanism.SHA256_RSA_PKCS_PSS, (Mechanism.SHA256, MGF.SHA256, 32)),
    SIGNATURES["sha1"]: (Mechanism.SHA1_RSA_PKCS, None),
}

# what an attribute must be, and what is said if it is not
_REQUIRED: tuple[tuple[Attribute, bool, str], ...] = (
    (Attribute.SENSITIVE, True, "is not sensitive, so it can be read"),
    (Attribute.EXTRACTABLE, False, "is extractable, so it can leave the token"),
    (Attribute.DECRYPT, True, "may not decrypt"),
    (Attribute.SIGN, True, "may not sign"),
)
_MAKER = "Pkcs11InstallationKey.generate()"


class TokenKey:
    """The one RSA private key of that label and id; looked for again whenever the session is a new one.

    Args:
        module: The token's library.
        token: Label of the token.
        name: Label and id of the key; what is None does not matter.
        pin: Fetches the PIN, for each login.

    Raises:
        sa_keyvault.InstallationKeyError: There is no such key, or it is not acceptable.
    """

    def __init__(
        self, module: Path, token: str, name: tuple[str | None, bytes | None], pin: Callable[[], Secret]
    ) -> None:
        self._label, self._id = name
        self._token = token
        self._pin = pin
        self._session = token_session(module, token)
        self._found: tuple[Session, Any] | None = None
        self.public_key: rsa.RSAPublicKey = self._use(self._public_key_on)
        self.algorithms: frozenset[str] = self._use(_listed_algorithms)
        # the list does not say with which hashes OAEP works: SoftHSM 2.6 lists it, and does SHA-1 only
        if _SHA256 in self.algorithms and not self._unwraps(_SHA256):
            self.algorithms -= {_SHA256}

    def decrypt(self, wrapped: bytes, algorithm: str) -> bytes | None:
        """Return what is in *wrapped*, or None if it is refused.

        Raises:
            sa_keyvault.InstallationKeyError: The token is out of reach.
        """
        mechanism, parameters = _DECRYPTION[algorithm]

        def work(session: Session) -> bytes:
            return bytes(
                self._private_key_on(session).decrypt(wrapped, mechanism=mechanism, mechanism_param=parameters)
            )

        try:
            return self._session.run(self._pin, work)
        except TokenRefusalError:
            return None

    def sign(self, message: bytes, algorithm: str) -> bytes | None:
        """Return a signature of *message*, or None if it is refused.

        Raises:
            sa_keyvault.InstallationKeyError: The token is out of reach.
        """
        mechanism, parameters = _SIGNING[algorithm]

        def work(session: Session) -> bytes:
            return bytes(self._private_key_on(session).sign(message, mechanism=mechanism, mechanism_param=parameters))

        try:
            return self._session.run(self._pin, work)
        except TokenRefusalError:
            return None

    def _use(self, work: Callable[[Session], _T]) -> _T:
        try:
            return self._session.run(self._pin, work)
        except TokenRefusalError as refusal:
            name = str(refusal)
        msg = f"{self} cannot be examined ({name}); make one with {_MAKER}"
        raise InstallationKeyError(msg)

    def _unwraps(self, algorithm: str) -> bool:
        probe = secrets.token_bytes(32)
        return self.decrypt(self.public_key.encrypt(probe, wrapping_scheme(algorithm)), algorithm) == probe

    def _private_key_on(self, session: Session) -> Any:
        """Return the key's handle, which is good for one session only; a key in the token's place is refused."""
        if self._found is None or self._found[0] is not session:
            key = self._checked(session)
            if _public_half(key) != self.public_key:
                msg = f"{self} is another key now; restart the process if that is on purpose"
                raise InstallationKeyError(msg)
            self._found = session, key
        return self._found[1]

    def _public_key_on(self, session: Session) -> rsa.RSAPublicKey:
        key = self._checked(session)
        public = _public_half(key)
        if public is None:
            msg = f"{self} shows no RSA public half; make a key with {_MAKER}"
            raise InstallationKeyError(msg)
        refuse_weak_public(public, _MAKER)
        self._found = session, key
        return public

    def _checked(self, session: Session) -> Any:
        keys = _private_keys(session, self._label, self._id)
        problem = None
        if not keys:
            problem = f"is not there; correct label and id, or make it with {_MAKER}"
        elif len(keys) > 1:
            problem = f"is there {len(keys)} times; name it by label and id, which no two keys share"
        elif _attribute(keys[0], Attribute.ALWAYS_AUTHENTICATE):
            problem = f"asks for the PIN at each use, which no server can do; make one with {_MAKER}"
        else:
            wrong = [text for attribute, value, text in _REQUIRED if _attribute(keys[0], attribute) is not value]
            if wrong:
                problem = f"{' and '.join(wrong)}; make one with {_MAKER}"
        if problem:
            msg = f"{self} {problem}"
            raise InstallationKeyError(msg)
        return keys[0]

    def __str__(self) -> str:
        identity = "" if self._id is None else f" with id {self._id.hex()}"
        label = "an RSA key" if self._label is None else f"the RSA key {self._label!r}"
        return f"{label}{identity} in token {self._token!r}"


def make_key(module: Path, token: str, label: str, key_id: bytes, pin: Callable[[], Secret]) -> None:
    """Make an RSA-4096 pair that cannot leave the token.

    Raises:
        sa_keyvault.InstallationKeyError: There is a key of that label already, or the token does not make one.
    """

    def work(session: Session) -> str:
        if _private_keys(session, label, None):
            return "has a key of that label already; choose another label"
        # the shared session cannot write; its login is good for this one, too
        with session.token.open(rw=True) as writing:
            writing.generate_keypair(
                KeyType.RSA,
                KEY_SIZE,
                id=key_id,
                label=label,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT | MechanismFlag.SIGN | MechanismFlag.VERIFY,
                private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
            )
        return ""

    try:
        problem = token_session(module, token).run(pin, work)
    except TokenRefusalError as refusal:
        problem = f"makes no RSA-{KEY_SIZE} key ({refusal}); make it with the token's own tools"
    if problem:
        msg = f"the token {token!r} {problem}"
        raise InstallationKeyError(msg)


def _listed_algorithms(session: Session) -> frozenset[str]:
    mechanisms = session.token.slot.get_mechanisms()
    return frozenset(name for name, (mechanism, _) in {**_DECRYPTION, **_SIGNING}.items() if mechanism in mechanisms)


def _private_keys(session: Session, label: str | None, key_id: bytes | None) -> list[Any]:
    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.KEY_TYPE: KeyType.RSA}
    if label is not None:
        wanted[Attribute.LABEL] = label
    if key_id is not None:
        wanted[Attribute.ID] = key_id
    return list(session.get_objects(wanted))


def _attribute(key: Any, attribute: Attribute) -> Any:
    try:
        return key[attribute]
    except AttributeTypeInvalid:
        return None


def _public_half(key: Any) -> rsa.RSAPublicKey | None:
    modulus, exponent = (_attribute(key, one) for one in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
    try:
        numbers = rsa.RSAPublicNumbers(*(int.from_bytes(part or b"", "big") for part in (exponent, modulus)))
        return numbers.public_key()
    except ValueError:
        return None
