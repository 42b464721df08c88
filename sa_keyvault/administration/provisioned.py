"""The provisioning that a key store has now: by the keys in it that verify, and by nothing else."""

from sqlalchemy import Connection

from sa_keyvault import store
from sa_keyvault.errors import ConfigurationError
from sa_keyvault.installation import SIGNATURES, InstallationKey
from sa_keyvault.keyring import Identity, KeySet, Policy, load_keys, require_store
from sa_keyvault.records import unwraps
from sa_keyvault.states import KeyState
from sa_keyvault.suites import LEGACY_SUITES, HashName, Provisioning

__all__ = ["claimed_hash", "provisioning_of", "provisioning_of_invitation", "sealing_provisioning_of"]

_BUILT_IN = Provisioning.default()


def provisioning_of(connection: Connection, key: InstallationKey) -> Provisioning:
    """Return the provisioning that a key store has now, by its newest active keys that verify.

    Whoever can write to the database can therefore not choose it. A cipher suite of one's own, which only the
    application knows, counts as AES.

    Args:
        connection: Where the key store is.
        key: Installation key that opens it.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library, or put back.
    """
    keys, hash_name = _verified(connection, key)
    return Provisioning(_choice(_master_suite(keys)), _choice(_working_suite(keys)), hash_name)


def sealing_provisioning_of(connection: Connection, key: InstallationKey) -> Provisioning:
    """Return the same for a ring that makes working keys, which must know the suites of those that there are.

    Raises:
        sa_keyvault.ConfigurationError: The newest active key is of a suite of the application's own.
        sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
        sa_keyvault.KeyRecordError: A key's record was changed outside the library, or put back.
    """
    keys, hash_name = _verified(connection, key)
    master, working = _master_suite(keys), _working_suite(keys)
    for kind, suite in (("master", master), ("working", working)):
        if not _is_built_in(suite):
            msg = (
                f"the newest active {kind} key is of the cipher suite {suite!r}, which is the application's own and "
                "not known here; seal with the application's key ring, in Python or as the ring of the engine in env.py"
            )
            raise ConfigurationError(msg)
    return Provisioning(_choice(master), _choice(working), hash_name)


def provisioning_of_invitation(connection: Connection, key: InstallationKey, inviter: str) -> Provisioning:
    """Return what an installation key that is invited signs with; that the inviter has signed so is verified later.

    Args:
        connection: Where the key store is.
        key: Installation key that is invited.
        inviter: Fingerprint of the one that invited it.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store.
    """
    return Provisioning(hash=_signing_hash(connection, inviter, key.fingerprint))


def claimed_hash(connection: Connection, fingerprint: str) -> HashName:
    """Return the hash that the store's record says to be signed with; whether it is, is seen when it is read.

    Raises:
        sa_keyvault.KeyStoreError: There is no key store.
    """
    require_store(connection)
    own = store.installations(connection).get(fingerprint)
    return "sha1" if own is not None and own.algorithm == SIGNATURES["sha1"] else "sha256"


def _verified(connection: Connection, key: InstallationKey) -> tuple[KeySet, HashName]:
    hash_name = _signing_hash(connection, key.fingerprint, key.fingerprint)
    return load_keys(connection, Identity(key, (), Policy(Provisioning(hash=hash_name), "off"), "")), hash_name


def _signing_hash(connection: Connection, signer: str, recipient: str) -> HashName:
    """Return the hash of new signatures: never SHA-1 where it has been left for an active master key.

    Else the store's record from before, whose signature verifies, would bring it back.
    """
    if claimed_hash(connection, signer) == "sha256":
        return "sha256"
    active = {record.id for record in store.masters(connection) if record.state is KeyState.ACTIVE}
    own = [wrap for wrap in store.wraps(connection) if wrap.fingerprint == recipient and wrap.master_id in active]
    is_left = any(wrap.algorithm.endswith(f"+{SIGNATURES['sha256']}") for wrap in own)
    return "sha256" if is_left else "sha1"


def _master_suite(keys: KeySet) -> str:
    # one of an own suite verifies, and has no secret here
    active = [master for master in keys.masters() if master.record.state is KeyState.ACTIVE]
    usable = [one.record for one in active if one.secret is not None or not _is_built_in(one.record.suite)]
    newest = max(usable, key=lambda record: (record.created, record.id), default=None)
    return _BUILT_IN.master_suite.name if newest is None else newest.suite


def _working_suite(keys: KeySet) -> str:
    """Return the suite of the newest active working key under an active master key, which seals its record."""
    secrets = {
        master.record.id: master.secret
        for master in keys.masters()
        if master.record.state is KeyState.ACTIVE and master.secret is not None
    }
    active = [one for one in keys.working() if one.state is KeyState.ACTIVE and one.master_id in secrets]
    for record in sorted(active, key=lambda one: one.created, reverse=True):
        if record.store_id == keys.store_id and unwraps(record, secrets[record.master_id]):
            return record.suite
    return _BUILT_IN.working_suite.name


def _is_built_in(suite: str) -> bool:
    try:
        _BUILT_IN.suite_named(suite)
    except ConfigurationError:
        return False
    return True


def _choice(suite: str) -> str:
    return "3des" if suite in LEGACY_SUITES else "aes"
