"""pytest plugin for SQLAlchemy's tests: prepares them as the runner asks, and notes how each one ended."""

import gc
import json
import os
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conformance.columns import Utf8, share_contexts, swap_columns
from conformance.engines import attach_rings
from conformance.searching import Searchable, open_in_sql
from sa_keyvault import Encrypted

__all__ = ["Outcomes", "pytest_configure", "pytest_runtest_makereport"]

_COLUMNS = "SA_KEYVAULT_CONFORMANCE_COLUMNS"
_OUTCOMES = "SA_KEYVAULT_CONFORMANCE_OUTCOMES"
_PROPERTY = "conformance"
_FRAMES = 30
_ERRORS = 6


def _prepare() -> None:
    columns = os.environ[_COLUMNS]
    if columns == "plain":
        return
    if columns == "utf8":
        swap_columns(lambda declared: Utf8())
        return
    attach_rings()
    share_contexts()
    if columns == "searchable":
        open_in_sql()
        swap_columns(Searchable)
    else:
        swap_columns(Encrypted)


# SQLAlchemy's tests declare tables while they are imported
_prepare()


class Outcomes:
    """How the tests ended; written as JSON at the end of the run, by the process that has all reports."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Any] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, found in report.user_properties:
            known = self._outcomes.get(report.nodeid)
            if name == _PROPERTY and (known is None or known["outcome"] != "failed"):
                self._outcomes[report.nodeid] = found

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not hasattr(session.config, "workerinput"):
            Path(os.environ[_OUTCOMES]).write_text(json.dumps(self._outcomes), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Note the outcomes of this run."""
    config.pluginmanager.register(Outcomes())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put into each report what the runner will classify."""
    report = yield
    # what a test leaves behind is none of its outcome: an open cursor of one that failed locks the tables of the next
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        found: dict[str, Any] = {"outcome": report.outcome}
        if call.excinfo is not None and report.outcome == "failed":
            found["errors"] = _chain(call.excinfo.value)
            gc.collect(1)
        report.user_properties.append((_PROPERTY, found))
    return report


def _chain(error: BaseException | None) -> list[dict[str, Any]]:
    """Return class, text and frames of an error and of those that led to it; contexts may go in circles."""
    chain: list[dict[str, Any]] = []
    while error is not None and len(chain) < _ERRORS:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        traceback.clear_frames(error.__traceback__)
        names = [f"{Path(frame.filename).name}:{frame.name}" for frame in frames]
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        chain.append({"type": kind, "text": str(error)[:1000], "frames": names})
        error = error.__cause__ or error.__context__
    return chain
