"""People at prompts, the one cell that most of these tests share, and small suites to run."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.cli.cell import CellUser
from tests.cli.command import Person

Suite = Callable[..., Path]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody who never used dtest before."""
    someone = Person(tmp_path / "home", tmp_path)
    try:
        yield someone
    finally:
        someone.end_all()


@pytest.fixture(scope="session")
def session_cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CellUser]:
    root = tmp_path_factory.mktemp("cell")
    user = CellUser(root / "home", root)
    try:
        user.dtest("up", "--workers", "1", "--slots", "3", "--simulate", "cuda:1").good()
        yield user
        user.dtest("down", "--purge").good()
        user.nothing_is_left()
        assert not user.state.exists()
    finally:
        user.end_all()


@pytest.fixture
def cell(session_cell: CellUser, tmp_path: Path) -> CellUser:
    """The user of the shared cell, in a directory of the test's own."""
    return CellUser(session_cell.home, tmp_path, session_cell.more, session_cell.mark)


@pytest.fixture
def new_id() -> Callable[[str], str]:
    """Names that no other test takes."""
    return lambda word: f"{word}-{uuid4().hex[:12]}"


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    """Writes a directory of tests: names of files with their text."""

    def write(directory: str = "suite", /, ini: str = "", **files: str) -> Path:
        home = tmp_path / directory
        home.mkdir(parents=True)
        (home / "pytest.ini").write_text(f"[pytest]\n{ini}", encoding="utf-8")
        for name, text in files.items():
            (home / f"{name}.py").write_text(text, encoding="utf-8")
        return home

    return write
