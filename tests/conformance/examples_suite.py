"""SQLAlchemy's examples, each as a test: it is run from its beginning to its end, and must raise nothing."""

import multiprocessing
import os
import runpy
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio

if TYPE_CHECKING:
    from collections.abc import Callable

_SOURCE = Path(os.environ["SA_KEYVAULT_CONFORMANCE_SOURCE"])
_FOLDERS = (
    "association",
    "asyncio",
    "dogpile_caching",
    "inheritance",
    "sharding",
    "versioned_history",
    "versioned_rows",
    "vertical",
)
_NO_PROGRAMS = ("__init__", "test_versioning", "caching_query", "environment", "fixture_data", "model", "history_meta")
_MODULES = [
    f"examples.{folder}.{path.stem}"
    for folder in _FOLDERS
    for path in sorted((_SOURCE / "examples" / folder).glob("*.py"))
    if path.stem not in _NO_PROGRAMS
]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, with SQLite in memory in place of the servers that the asyncio examples name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dogpile_data").mkdir()
    original: Callable[..., Any] = sqlalchemy_asyncio.create_async_engine

    def create_async_engine(url: Any, **options: Any) -> Any:
        is_server = make_url(url).get_backend_name() != "sqlite"
        return original("sqlite+aiosqlite://" if is_server else url, **options)

    monkeypatch.setattr(sqlalchemy_asyncio, "create_async_engine", create_async_engine)
    monkeypatch.syspath_prepend(str(_SOURCE))


@pytest.mark.parametrize("module", _MODULES)
@pytest.mark.filterwarnings("ignore")
def test_example(module: str) -> None:
    """The example runs; in a process of its own, because mappers of one would be configured with those of the next."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        pool.submit(_run, module).result()


def _run(module: str) -> None:
    # quietly: SQLAlchemy's loggers would print what they echo
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
        runpy.run_module(module, run_name="__main__", alter_sys=True)
