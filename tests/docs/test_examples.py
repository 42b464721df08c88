"""Every Python block of the documentation is compiled, and run on SQLite unless its page says otherwise."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Engine

ROOT = Path(__file__).parents[2]
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
ONLY_COMPILED = "<!-- only compiled -->"

_FENCE = re.compile(r"(?m)^(?P<mark><!-- only compiled -->\n)?```python\n(?P<source>.*?)^```$", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A Python block of a page.

    Attributes:
        path: The page.
        line: Line of the page on which its source begins.
        source: Its source.
        is_run: Whether it is run, and not only compiled.
    """

    path: Path
    line: int
    source: str
    is_run: bool

    def compiled(self) -> ast.Module:
        """Parse the source; its lines are numbered as in the page."""
        tree = ast.parse(self.source, str(self.path))
        return ast.increment_lineno(tree, self.line - 1)


def blocks_of(path: Path) -> list[Block]:
    """Return the Python blocks of a page, in order."""
    text = path.read_text(encoding="utf-8")
    return [
        Block(path, text.count("\n", 0, found.start("source")) + 1, found["source"], found["mark"] is None)
        for found in _FENCE.finditer(text)
    ]


ALL = [path for path in (ROOT / "README.md", *PAGES) if blocks_of(path)]


@pytest.fixture
def namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """The globals of one page: of a module that can be imported, in an empty working directory."""
    module = ModuleType("docs_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    yield module.__dict__
    for value in list(module.__dict__.values()):
        if isinstance(value, Engine):
            value.dispose()


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_blocks_of_a_page_run(path: Path, namespace: dict[str, object]) -> None:
    """The Python blocks of a page run one after the other, and do not contradict their own assertions."""
    for block in blocks_of(path):
        code = compile(block.compiled(), str(path), "exec")
        if block.is_run:
            exec(code, namespace)  # noqa: S102 - the project's own pages


def test_tests_of_a_page_pass(tmp_path: Path) -> None:
    """The tests that the page about testing shows pass under pytest."""
    source = "\n".join(block.source for block in blocks_of(ROOT / "docs" / "how-to" / "test-your-application.md"))
    page = tmp_path / "test_page.py"
    page.write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(page)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our page
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_blocks_are_found() -> None:
    """The canary: the pages that must have examples have them, so the search did not go blind."""
    pages = {str(path.relative_to(ROOT)) for path in ALL}
    expected = {"README.md", "docs/index.md", "docs/tutorial/first-encrypted-column.md"}
    assert expected == expected & pages
    assert len([block for path in ALL for block in blocks_of(path) if block.is_run]) > 20


def test_every_fence_is_found() -> None:
    """Every fence that begins a Python block is one that the search finds, wherever it is indented."""
    for path in (ROOT / "README.md", *PAGES):
        text = path.read_text(encoding="utf-8")
        assert text.count("```python") == len(blocks_of(path)), path


def test_a_wrong_block_fails(tmp_path: Path, namespace: dict[str, object]) -> None:
    """A block that is wrong is noticed, at its line of the page."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n```python\nvalue = 1\nassert value == 2\n```\n", encoding="utf-8")
    with pytest.raises(AssertionError) as caught:
        test_blocks_of_a_page_run(page, namespace)
    assert caught.traceback[-1].lineno + 1 == 5


def test_mark_is_on_the_line_before(tmp_path: Path) -> None:
    """The mark keeps the very next block from being run, and no other."""
    page = tmp_path / "page.md"
    page.write_text(f"{ONLY_COMPILED}\n```python\na\n```\n\n```python\nb\n```\n", encoding="utf-8")
    assert [block.is_run for block in blocks_of(page)] == [False, True]


def test_readme_and_index_show_the_same_example() -> None:
    """The first example of the README is that of the documentation's first page."""
    first, index = (blocks_of(path)[0].source for path in (ROOT / "README.md", ROOT / "docs" / "index.md"))
    assert first == index
