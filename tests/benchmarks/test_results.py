"""The results of several runs, put together in one file."""

from benchmarks.figures import Figure
from benchmarks.results import Run, merged


def run_of(scale: str, *sections: str) -> Run:
    """Return a run that has measured one thing of each section."""
    figures = [Figure(section, scale, "sqlite", "x", "y") for section in sections]
    return Run(scale, {"sqlalchemy": "2.1.9"}, {}, {}, figures, [])


def test_first_run_stands_alone() -> None:
    """Where nothing was measured before, a run is what it is."""
    assert merged(None, run_of("full", "rows")) == run_of("full", "rows")


def test_part_of_another_scale() -> None:
    """What was measured again takes the place of what was there, and the scale says once that two are mixed."""
    run = run_of("quick", "rows", "values", "keys")
    for section in ("rows", "values"):
        run = merged(run, run_of("full", section))
    found = {figure.section: figure.work for figure in run.figures}
    assert (run.scale, found) == ("quick, in parts full", {"rows": "full", "values": "full", "keys": "quick"})
