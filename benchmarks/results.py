"""The results as JSON: one file for each line of SQLAlchemy, with versions and machine."""

import json
import os
import platform
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from cryptography.hazmat.backends.openssl import backend

from benchmarks.figures import Figure, Goal, Scale
from benchmarks.measure import Spread

__all__ = ["FOLDER", "Run", "describe", "last", "merged", "read_all", "write"]

FOLDER = Path(__file__).parents[1] / "docs" / "_static" / "benchmarks"

_PACKAGES = (
    "sqlalchemy",
    "sa_keyvault",
    "cryptography",
    "sqlalchemy-utils",
    "advanced-alchemy",
    "sqlalchemy-encrypted-field",
    "tink",
    "psycopg",
    "pymysql",
    "aiosqlite",
    "asyncmy",
)


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks.

    Attributes:
        scale: How much was measured: `quick` or `full`.
        versions: Of Python, packages and databases.
        machine: Processor, cores and memory.
        missing: Why a database was not measured on, by name.
        figures: What was found.
        goals: What is aimed at.
    """

    scale: str
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    missing: Mapping[str, str]
    figures: Sequence[Figure]
    goals: Sequence[Goal]

    @property
    def line(self) -> str:
        """The line of SQLAlchemy, `2.1`."""
        return ".".join(self.versions["sqlalchemy"].split(".")[:2])


def write(folder: Path, run: Run) -> None:
    """Write a run into the file of its line of SQLAlchemy."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"sqlalchemy-{run.line}.json"
    path.write_text(json.dumps(_rounded(asdict(run)), indent=1) + "\n", encoding="utf-8")


def merged(before: Run | None, run: Run) -> Run:
    """Return *before*, a run on the same line of SQLAlchemy, with what *run* has measured in place of its own."""
    if before is None:
        return run
    places = {(one.section, one.database) for one in run.figures}
    sections = {one.section for one in run.goals}
    return replace(
        run,
        scale=before.scale
        if run.scale in before.scale.split(", in parts ")
        else f"{before.scale}, in parts {run.scale}",
        versions={**before.versions, **run.versions},
        figures=[*(one for one in before.figures if (one.section, one.database) not in places), *run.figures],
        goals=[*(one for one in before.goals if one.section not in sections), *run.goals],
    )


def last(folder: Path, line: str) -> Run | None:
    """Return the last run of a line of SQLAlchemy."""
    return next((run for run in read_all(folder) if run.line == line), None)


def read_all(folder: Path) -> list[Run]:
    """Return the last run of each line of SQLAlchemy, the newest line first."""
    runs = [_read(path) for path in folder.glob("sqlalchemy-*.json")]
    return sorted(runs, key=lambda run: run.line, reverse=True)


def describe(
    scale: Scale, measured: Sequence[Figure | Goal], missing: Mapping[str, str], servers: Mapping[str, str]
) -> Run:
    """Return the run that found all this, on this machine."""
    memory = psutil.virtual_memory().total / 2**30
    return Run(
        scale=scale.name,
        versions={
            "python": platform.python_version(),
            **{package: _version(package) for package in _PACKAGES},
            "openssl": backend.openssl_version_text(),
            "sqlite": sqlite3.sqlite_version,
            **servers,
        },
        machine={
            "system": platform.system(),
            "processor": _processor(),
            "cores": str(os.cpu_count()),
            "memory": f"{memory:.0f} GiB",
        },
        missing=missing,
        figures=[one for one in measured if isinstance(one, Figure)],
        goals=[one for one in measured if isinstance(one, Goal)],
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _rounded(value: Any) -> Any:
    """Round to what a measurement is good for, so that the files stay readable."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(one) for one in value]
    return value


def _read(path: Path) -> Run:
    data = json.loads(path.read_text(encoding="utf-8"))
    figures = [
        Figure(**{**one, "amount": _spread(one["amount"]), "ratio": _spread(one["ratio"])}) for one in data["figures"]
    ]
    goals = [Goal(**{**one, "measured": Spread(**one["measured"])}) for one in data["goals"]]
    return Run(**{**data, "figures": figures, "goals": goals})


def _spread(data: dict[str, float] | None) -> Spread | None:
    return None if data is None else Spread(**data)
