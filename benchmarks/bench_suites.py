"""Every suite that a key can be provisioned with, and the start of a ring in every provisioning."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.bench_keys import starting
from benchmarks.databases import opened
from benchmarks.figures import Figure, Scale, figures_of
from benchmarks.measure import Peer, calls, race
from benchmarks.tables import secret_text
from sa_keyvault import InstallationKey, KeyRing, LegacyAlgorithmWarning, Provisioning
from sa_keyvault.envelope import Layouts, opener, reader, sealer
from sa_keyvault.suites import AES_256_GCM, TRIPLE_DES_SHA1, TRIPLE_DES_SHA256, Suite, random_secret

__all__ = ["bench_suites"]

LIMIT = "AESGCM alone"
DEFAULT = "master aes, working aes, sha256"

_CIPHERS: tuple[Literal["aes", "3des"], ...] = ("aes", "3des")
_HASHES: tuple[Literal["sha256", "sha1"], ...] = ("sha256", "sha1")
_COUNT = 2_000
_SIZES = {"26 B": 26, "1 KiB": 1024}
_SYMBOLS = [b":%d" % number for number in range(_COUNT)]


def bench_suites(folder: Path, scale: Scale) -> Iterator[Figure]:
    """Compare an envelope of each suite with the bare cipher, and the start of a ring in each provisioning."""
    suites = (AES_256_GCM, TRIPLE_DES_SHA256, TRIPLE_DES_SHA1)
    for name, size in _SIZES.items():
        plaintexts = _plaintexts(size)
        opening = {LIMIT: _bare_decrypt(plaintexts), **{suite.name: _open(suite, plaintexts) for suite in suites}}
        sealing = {LIMIT: _bare_encrypt(plaintexts), **{suite.name: _seal(suite, plaintexts) for suite in suites}}
        for work, peers in ((f"open {name}", opening), (f"seal {name}", sealing)):
            found = race(peers, items=_COUNT, rounds=scale.rounds)
            yield from figures_of(found, "suites", work, "", LIMIT)
    yield from _starts(folder, scale)


def _plaintexts(size: int) -> list[bytes]:
    """Return addresses, each of which is repeated up to that many bytes."""
    addresses = [secret_text(number).encode() for number in range(_COUNT)]
    return [(address * (size // len(address) + 1))[:size] for address in addresses]


def _bare_encrypt(plaintexts: Sequence[bytes]) -> Peer:
    encrypt, urandom = AESGCM(os.urandom(32)).encrypt, os.urandom

    def work() -> None:
        for plaintext in plaintexts:
            encrypt(urandom(12), plaintext, None)

    return calls(work)


def _bare_decrypt(plaintexts: Sequence[bytes]) -> Peer:
    cipher = AESGCM(os.urandom(32))
    nonces = [os.urandom(12) for _ in plaintexts]
    sealed = [(nonce, cipher.encrypt(nonce, text, None)) for nonce, text in zip(nonces, plaintexts, strict=True)]
    decrypt = cipher.decrypt

    def work() -> None:
        for nonce, body in sealed:
            decrypt(nonce, body, None)

    return calls(work)


def _seal(suite: Suite, plaintexts: Sequence[bytes]) -> Peer:
    seal = sealer(1, suite, suite.cipher(random_secret(suite.key_size)))
    return calls(lambda: seal(plaintexts, _SYMBOLS))


def _open(suite: Suite, plaintexts: Sequence[bytes]) -> Peer:
    cipher = suite.cipher(random_secret(suite.key_size))
    seal, found = sealer(1, suite, cipher), (opener(suite, cipher), True)
    stored = [envelope + row for envelope, row in zip(seal(plaintexts, _SYMBOLS), _SYMBOLS, strict=True)]
    read = reader(Layouts(lambda _: found), bytes.decode, lambda error, _: error)

    def work() -> None:
        for one in stored:
            read(one)

    return calls(work)


def _starts(folder: Path, scale: Scale) -> Iterator[Figure]:
    key = InstallationKey.generate()
    peers: dict[str, Peer] = {}
    with ExitStack() as stores, warnings.catch_warnings():
        warnings.simplefilter("ignore", LegacyAlgorithmWarning)
        for master, working, hash_ in product(_CIPHERS, _CIPHERS, _HASHES):
            provisioning = Provisioning(master=master, working=working, hash=hash_)
            make_ring = partial(KeyRing, key, provisioning, actor="benchmarks")
            database = stores.enter_context(opened("sqlite", folder, make_ring))
            database.ring.initialize(database.ringed)
            peers[f"master {master}, working {working}, {hash_}"] = starting(database, make_ring)
        found = race(peers, items=1, rounds=scale.rounds)
    yield from figures_of(found, "provisionings", "start of a ring", "sqlite", DEFAULT)
