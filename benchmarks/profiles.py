"""Takes two hot paths apart, where a goal is close or missed: `python -m benchmarks.profiles`.

Not part of the run: it shows where time goes, not how two things compare. Every step is the least CPU time of many
rounds, because a step of 50 ns drowns in the noise of wall-clock time.
"""

import gc
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Column, Engine, Integer, MetaData, String, Table, create_engine, event, update

from benchmarks.databases import Database, opened
from benchmarks.tables import secret_text
from sa_keyvault.codec import TEXT
from sa_keyvault.envelope import HEADER_SIZE, Layouts, opener, reader, sealer
from sa_keyvault.suites import AES_256_GCM, random_secret

_ROUNDS = 25
_VALUES = 10_000
_STATEMENTS = 1_000
_PER_STATEMENT = ("before_execute", "before_cursor_execute", "after_execute")


def main() -> None:
    _print("One value opened, ns", _least(_steps_of_a_value(), _VALUES), 1e9)
    with tempfile.TemporaryDirectory() as folder, opened("sqlite", Path(folder)) as database:
        _print("UPDATE of a table without encrypted columns, µs", _least(_engines(database), _STATEMENTS), 1e6)


def _steps_of_a_value() -> dict[str, Callable[[], object]]:
    cipher = AES_256_GCM.cipher(random_secret(AES_256_GCM.key_size))
    seal, found = sealer(1, AES_256_GCM, cipher), (opener(AES_256_GCM, cipher), True)
    symbols = [b":%d" % number for number in range(_VALUES)]
    texts = [secret_text(number).encode() for number in range(_VALUES)]
    stored = [envelope + row for envelope, row in zip(seal(texts, symbols), symbols, strict=True)]
    layouts = Layouts(lambda _: found)
    read = reader(layouts, TEXT.decode, lambda error, _: error)
    header = slice(HEADER_SIZE)
    decrypt, nonce, body, tail = layouts[stored[0][header]]
    parts = [(one[nonce], one[body], one[tail]) for one in stored]
    bare = AESGCM(os.urandom(32))
    unbound = [(one[nonce], bare.encrypt(one[nonce], text, None)) for one, text in zip(stored, texts, strict=True)]
    decode, unbound_decrypt = TEXT.decode, bare.decrypt
    return {
        "AESGCM.decrypt, no associated data": lambda: [unbound_decrypt(one, text, None) for one, text in unbound],
        "AESGCM.decrypt, the key as associated data": lambda: [decrypt(one, text, row) for one, text, row in parts],
        "header to layout": lambda: [layouts[one[header]] for one in stored],
        "nonce, ciphertext, symbols": lambda: [(one[nonce], one[body], one[tail]) for one in stored],
        "UTF-8 to text": lambda: [decode(one) for one in texts],
        "all of it: the result processor": lambda: [read(one) for one in stored],
    }


def _engines(database: Database) -> dict[str, Callable[[], object]]:
    table = Table("profiled", MetaData(), Column("id", Integer, primary_key=True), Column("city", String(40)))
    table.metadata.create_all(database.bare)
    database.ring.initialize(database.ringed)
    statement = update(table).where(table.c.id == 1).values(city="Ulm")

    def run(engine: Engine) -> None:
        with engine.connect() as connection:
            for _ in range(_STATEMENTS):
                connection.execute(statement)

    def without(*names: str) -> Engine:
        with _unheard(names):
            return create_engine(database.url, plugins=["keyvault"], keyring=database.ring)

    engines = {
        "no key ring": database.bare,
        "key ring that hears of transactions only": without(*_PER_STATEMENT),
        **{f"key ring without {name}": without(name) for name in _PER_STATEMENT},
        "key ring": database.ringed,
    }
    return {name: partial(run, engine) for name, engine in engines.items()}


@contextmanager
def _unheard(names: Iterable[str]) -> Iterator[None]:
    """Let no listener be added to these events."""
    listen = event.listen

    def listen_to_others(target: Any, name: str, *given: Any, **options: Any) -> None:
        if name not in names:
            listen(target, name, *given, **options)

    with patch.object(event, "listen", listen_to_others):
        yield


def _least(steps: Mapping[str, Callable[[], object]], count: int) -> dict[str, float]:
    """Return the least CPU time of each step, in seconds of one of *count*; the steps take turns."""
    least = dict.fromkeys(steps, float("inf"))
    gc.collect()
    gc.disable()
    for _ in range(_ROUNDS):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            least[name] = min(least[name], (time.process_time() - begin) / count)
    gc.enable()
    return least


def _print(title: str, found: Mapping[str, float], factor: float) -> None:
    print(title)
    for name, seconds in found.items():
        print(f"{seconds * factor:8.1f}  {name}")


if __name__ == "__main__":
    main()
