"""One value in each suite, against the bare AES-256-GCM of the same size."""

import os
from collections.abc import Iterator
from contextlib import nullcontext

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.measure import Comparison, Peer, compare
from sa_keyvault.envelope import Layouts, opener, reader, sealer
from sa_keyvault.suites import AES_256_GCM, TRIPLE_DES_SHA1, TRIPLE_DES_SHA256, Suite, random_secret

__all__ = ["compare_suites"]

_COUNT = 2_000
_NUMBER = 1
_PLAINTEXTS = [f"person{number:08}@example.org".encode() for number in range(_COUNT)]
_SYMBOLS = [b":%d" % number for number in range(_COUNT)]


def compare_suites(rounds: int) -> Iterator[Comparison]:
    """Compare an envelope of each suite, sealed and opened, with the bare cipher."""
    for suite in (AES_256_GCM, TRIPLE_DES_SHA256, TRIPLE_DES_SHA1):
        yield compare(f"seal in {suite.name}", _bare_encrypt(), _seal(suite), items=_COUNT, rounds=rounds, goal=None)
        yield compare(f"open in {suite.name}", _bare_decrypt(), _open(suite), items=_COUNT, rounds=rounds, goal=None)


def _bare_encrypt() -> Peer:
    encrypt, urandom = AESGCM(os.urandom(32)).encrypt, os.urandom

    def work() -> None:
        for plaintext in _PLAINTEXTS:
            encrypt(urandom(12), plaintext, None)

    return lambda: nullcontext(work)


def _bare_decrypt() -> Peer:
    cipher = AESGCM(os.urandom(32))
    nonces = [os.urandom(12) for _ in _PLAINTEXTS]
    sealed = [(nonce, cipher.encrypt(nonce, text, None)) for nonce, text in zip(nonces, _PLAINTEXTS, strict=True)]
    decrypt = cipher.decrypt

    def work() -> None:
        for nonce, body in sealed:
            decrypt(nonce, body, None)

    return lambda: nullcontext(work)


def _seal(suite: Suite) -> Peer:
    seal = sealer(_NUMBER, suite, suite.cipher(random_secret(suite.key_size)))
    pairs = list(zip(_PLAINTEXTS, _SYMBOLS, strict=True))

    def work() -> None:
        for plaintext, symbols in pairs:
            seal(plaintext, symbols)

    return lambda: nullcontext(work)


def _open(suite: Suite) -> Peer:
    cipher = suite.cipher(random_secret(suite.key_size))
    seal, found = sealer(_NUMBER, suite, cipher), (opener(suite, cipher), True)
    stored = [seal(text, symbols) + symbols for text, symbols in zip(_PLAINTEXTS, _SYMBOLS, strict=True)]
    read = reader(Layouts(lambda _: found), bytes.decode, lambda error, _: error)

    def work() -> None:
        for one in stored:
            read(one)

    return lambda: nullcontext(work)
