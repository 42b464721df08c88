"""The key ring as an application has it: attached to an engine, initialized at start-up."""

import datetime
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, CreateEnginePlugin, Engine, MetaData
from sqlalchemy.util.concurrency import in_greenlet

from sa_keyvault import store
from sa_keyvault.columns import declarations_of, declared, warn_of_plaintext
from sa_keyvault.dialects import attach_ring, require_supported, ring_of
from sa_keyvault.door import Door
from sa_keyvault.errors import (
    CertificateExpiryWarning,
    ConfigurationError,
    KeyVaultError,
    LegacyAlgorithmWarning,
    PlaintextLogWarning,
)
from sa_keyvault.installation import EXPIRY_WARNING_DAYS, InstallationKey
from sa_keyvault.keyring import (
    Identity,
    Policy,
    Ring,
    Settings,
    certificate_days,
    default_actor,
    drop_state,
    initialize,
    load_keys,
    prepare,
    private_connection,
)
from sa_keyvault.statements import StatementHooks
from sa_keyvault.statements.mappers import listen_to_mappers
from sa_keyvault.statements.plans import listen_to_columns
from sa_keyvault.suites import Fips, Provisioning

if TYPE_CHECKING:
    from sqlalchemy import URL
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["KeyRing", "KeyVaultPlugin"]

_T = TypeVar("_T")

_NOT_INITIALIZED = "this key ring is not initialized; call ring.initialize(engine, metadata) at start-up"
_UPDATE_LIMIT = 10_000

# mappers are configured, and tables changed, whenever the application likes: the library listens from its import on
listen_to_mappers()
listen_to_columns()


class KeyRing(Ring):
    """The keys of one key store, for the engines of one database.

    Args:
        installation_key: The root of all keys.
        provisioning: Algorithms of new keys.
        refresh_seconds: After how long a change of key states made elsewhere is noticed at the latest.
        working_keys_per_area: How many active keys share the new values of an area.
        usage_limit: How much a working key seals at most before a new one follows it, in the unit of its suite
            (messages, or blocks of 8 bytes for 3DES); never more than half of what the suite allows.
        fips: `"require"` refuses to start unless OpenSSL runs a FIPS provider, and refuses what is not approved.
        update_limit: How many rows an UPDATE may match whose WHERE clause does not name them by key.
        working_key_days: How old a working key gets before a new one follows it.
        master_key_days: How old a master key gets before a new one follows it, at a start.
        removal_delay: How long a key has been retired before it can be removed.
        actor: Who the audit events name; by default the user and machine of the process.
        anchor: File outside the database that remembers the key store's last state, so that the restore of an older
            key store is noticed.
        also: Installation keys of other servers that open the same key store, to sign for them as well.
        require_certificate: PEM file with the CAs in one of which the chain of the installation key's certificate must
            end; without such a certificate the ring does not start.

    Raises:
        sa_keyvault.ConfigurationError: An argument is not usable.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what a user may choose; the first two are given by position
        self,
        installation_key: InstallationKey,
        provisioning: Provisioning | None = None,
        refresh_seconds: float = 30.0,
        working_keys_per_area: int = 1,
        usage_limit: int | None = None,
        fips: Fips = "off",
        update_limit: int = _UPDATE_LIMIT,
        working_key_days: int | None = None,
        master_key_days: int | None = None,
        removal_delay: datetime.timedelta = datetime.timedelta(hours=24),
        actor: str | None = None,
        anchor: str | os.PathLike[str] | None = None,
        also: Sequence[InstallationKey] = (),
        require_certificate: str | os.PathLike[str] | None = None,
    ) -> None:
        settings = Settings(
            refresh_seconds=refresh_seconds,
            working_keys_per_area=working_keys_per_area,
            usage_limit=usage_limit,
            working_key_days=working_key_days,
            master_key_days=master_key_days,
            removal_delay=removal_delay,
            actor=default_actor() if actor is None else actor,
            trusted=b"" if require_certificate is None else _read_bundle(Path(require_certificate)),
        )
        policy = Policy(provisioning or Provisioning.default(), fips)
        file = None if anchor is None else Path(anchor)
        super().__init__(Identity(installation_key, tuple(also), policy, settings.actor, file), settings)
        self.update_limit = update_limit
        self._engine: Engine | None = None
        self._door: Door | None = None
        self._has_warned = False
        self._warn_of_legacy(policy.provisioning.weaknesses())

    @property
    def installation_key(self) -> InstallationKey:
        """The root of all keys."""
        return self.identity.key

    def attach(self, engine: "Engine | AsyncEngine") -> None:
        """Use this ring for all statements of *engine*.

        Raises:
            sa_keyvault.ConfigurationError: The engine has a ring already, or its database is not supported.
        """
        sync_engine = engine if isinstance(engine, Engine) else engine.sync_engine
        if sync_engine.dialect.name not in ("mysql", "mariadb"):
            # MariaDB and MySQL can be told apart only once there is a connection
            require_supported(sync_engine.dialect)
        if _has_ring(sync_engine):
            msg = f"{sync_engine!r} has a key ring already; make one engine for each ring"
            raise ConfigurationError(msg)
        if logging.getLogger("sqlalchemy.engine").isEnabledFor(logging.DEBUG):
            msg = "the logger sqlalchemy.engine is at DEBUG, where it prints decrypted rows; use INFO"
            warnings.warn(msg, PlaintextLogWarning, stacklevel=2)
        attach_ring(sync_engine.dialect, self)
        StatementHooks(sync_engine, self, self.update_limit)

    def initialize(self, bind: "Engine | AsyncEngine | Connection", metadata: MetaData | None = None) -> None:
        """Open the key store at start-up; make what is missing of it.

        Idempotent, and safe from several processes at once. Runs in a transaction of its own: tables, the first
        master key, the first working keys of the areas in *metadata*, and what is remembered of its columns.

        Args:
            bind: The engine; or a connection that is in no transaction (`await connection.run_sync(ring.initialize,
                metadata)` under asyncio).
            metadata: Where the application's encrypted columns are.

        Raises:
            sa_keyvault.KeyStoreError: The store belongs to another installation, is lost or out of reach.
            sa_keyvault.KeyRecordError: A master key's record was changed outside the library.
            sa_keyvault.ConfigurationError: A column cannot be honoured, or was changed while it has values.
        """
        sync_bind = bind if isinstance(bind, (Engine, Connection)) else bind.sync_engine
        if isinstance(sync_bind, Connection) and sync_bind.in_transaction():
            msg = "ring.initialize() runs in a transaction of its own; call it before this connection begins one"
            raise ConfigurationError(msg)
        engine = sync_bind.engine
        if not _has_ring(engine):
            self.attach(engine)
        if ring_of(engine.dialect) is not self:
            msg = f"{engine!r} has another key ring; initialize that one"
            raise ConfigurationError(msg)
        declarations = list(declarations_of(metadata))
        columns = [declared(declaration) for declaration in declarations]
        lost = self._usage.lost()

        def work(connection: Connection) -> Any:
            require_supported(connection.dialect)
            keys = initialize(connection, self.identity, self.settings, columns, lost)
            trusted = self.settings.trusted
            return keys, certificate_days(connection, self.identity.key, trusted) if trusted else None

        private = private_connection(sync_bind)
        if private is None:
            with _connection(sync_bind) as connection:
                keys, days = work(connection)
        else:
            keys, days = private.run(work)
        if self._keys is not None and self._keys.store_id != keys.store_id:
            msg = f"this ring serves key store {self._keys.store_id}; make another ring for {keys.store_id}"
            raise ConfigurationError(msg)
        self._private, self._engine, self._door = private, engine, Door(self, engine.dialect)
        self._usage.wrote(lost)
        self._start(keys)
        self._warn_of_legacy(keys.weaknesses())
        warn_of_plaintext(declarations)
        if days is not None and days <= EXPIRY_WARNING_DAYS:
            msg = (
                f"the certificate of installation key {self.installation_key.fingerprint}, or one that it depends on, "
                f"expires in {days} days; then no server starts: have another one issued"
            )
            warnings.warn(msg, CertificateExpiryWarning, stacklevel=2)

    def join(self, connection: Connection) -> None:
        """Open the key store as part of a connection's transaction, or read it again: for migrations.

        What is missing of the key store is made, and nobody else sees it before the transaction is committed; so this
        is for a ring that serves no one else. A statement that needs a key is refused on an engine without a ring: the
        ring is for jobs and operations.

        Args:
            connection: In a transaction, or about to begin one; the caller commits.

        Raises:
            sa_keyvault.KeyStoreError: The store is another installation's.
            sa_keyvault.KeyRecordError: A key's record was changed outside the library.
        """
        require_supported(connection.dialect)
        with store.exclusive(connection):
            self._use(prepare(connection, self.identity, self.settings, (), {}, load_keys))
        self._engine = connection.engine

    def examine(self, engine: Engine) -> None:
        """Open the key store to read values on *engine*, and make nothing, which `initialize` would do.

        Args:
            engine: Without a key ring; this one is attached to it.

        Raises:
            sa_keyvault.KeyStoreError: There is no key store, or it is another installation's.
            sa_keyvault.KeyRecordError: A key's record was changed outside the library.
        """
        self.attach(engine)
        private = private_connection(engine)
        if private is None:
            with _connection(engine) as connection:
                keys = load_keys(connection, self.identity)
        else:
            keys = private.run(lambda connection: load_keys(connection, self.identity))
        self._private, self._engine, self._door = private, engine, Door(self, engine.dialect)
        self._use(keys)

    def seal(self, column: Any, key: Any, value: Any) -> bytes:
        """Return the envelope of *value*, to be stored in *column* in the row that *key* names.

        Args:
            column: A mapped attribute or a table's column.
            key: Value of the one symbol; a tuple of all in order; or a mapping by column key.
            value: What to encrypt; not None, which is stored as NULL.
        """

        def work(connection: Connection) -> bytes:
            envelope = self._require_door().seal(connection, column, key, value)
            if self._private is not None:
                # the private connection has no events of its own
                self.before_commit(connection)
                self.after_transaction(drop_state(connection.info))
            return envelope

        try:
            self.before_value()
            return self._run(work)
        except KeyVaultError as error:
            # the frames that it passed, and this one, would keep the plaintext in its traceback
            refusal = error.with_traceback(None)
            del value
        raise refusal

    def open(self, column: Any, key: Any, stored: bytes) -> Any:
        """Return the value in the envelope *stored*, read from *column* in the row that *key* names.

        Args:
            column: A mapped attribute or a table's column.
            key: Value of the one symbol; a tuple of all in order; or a mapping by column key.
            stored: The bytes as the database has them.

        Raises:
            sa_keyvault.DecryptionError: They do not open for this column and row.
            sa_keyvault.KeyStoreUnreachableError: What is known of the keys is older than `refresh_seconds`, and the
                database does not answer.
        """
        door = self._require_door()
        self.before_value()
        return door.open(column, key, stored)

    def _warn_of_legacy(self, weaknesses: Iterable[str]) -> None:
        """Warn of 3DES and SHA-1, once in the life of a ring."""
        found = "; ".join(weaknesses)
        if found and not self._has_warned:
            self._has_warned = True
            warnings.warn(found, LegacyAlgorithmWarning, stacklevel=3)

    def _run(self, work: Callable[[Connection], _T]) -> _T:
        if self._private is not None:
            return self._private.run(work)
        with self._require_engine().begin() as connection:
            return work(connection)

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise ConfigurationError(_NOT_INITIALIZED)
        return self._engine

    def _require_door(self) -> Door:
        if self._door is None:
            raise ConfigurationError(_NOT_INITIALIZED)
        return self._door


class KeyVaultPlugin(CreateEnginePlugin):
    """`create_engine(url, plugins=["keyvault"], keyring=ring)`."""

    def __init__(self, url: "URL", kwargs: dict[str, Any]) -> None:
        ring = kwargs.pop("keyring", None)
        if not isinstance(ring, KeyRing):
            msg = 'plugins=["keyvault"] needs keyring=ring, a KeyRing'
            raise ConfigurationError(msg)
        self._ring = ring

    def update_url(self, url: "URL") -> "URL":
        """Return *url* as it is: the ring comes as an argument, not in the URL."""
        return url

    def engine_created(self, engine: Engine) -> None:
        """Attach the ring to the new engine."""
        self._ring.attach(engine)


def _read_bundle(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    else:
        if data.strip():
            return data
        problem = "is empty"
    msg = f"the CA bundle {path} {problem}; name a PEM file with the CAs that are trusted"
    raise ConfigurationError(msg)


def _has_ring(engine: Engine) -> bool:
    try:
        ring_of(engine.dialect)
    except ConfigurationError:
        return False
    return True


@contextmanager
def _connection(bind: Engine | Connection) -> Iterator[Connection]:
    if isinstance(bind, Connection):
        yield bind
        return
    if bind.dialect.is_async and not in_greenlet():
        msg = "SQLite in memory has one connection only; use `await connection.run_sync(ring.initialize, metadata)`"
        raise ConfigurationError(msg)
    with bind.connect() as connection:
        yield connection
