"""``dtest report coverage``: what many workers measured, as one, wherever they had the tree."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from coverage import CoverageData

from dtest.cli.coverage_script import other_places
from tests.cli.cell import CellUser, command

PRODUCT = """
def which(number):
    if number == 1:
        return "one"
    if number == 2:
        return "two"
    return "many"
"""
RUN = f"{sys.executable} -m coverage run --source=. main.py"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project whose data goes to the artefacts."""
    home = tmp_path / "tree"
    (home / "product").mkdir(parents=True)
    (home / "product" / "__init__.py").touch()
    (home / "product" / "numbers.py").write_text(PRODUCT)
    (home / "main.py").write_text(
        "import sys\nfrom product.numbers import which\nwhich(int(sys.argv[1]))\n"
    )
    (home / ".coveragerc").write_text(
        "[run]\nparallel = true\ndata_file = ${DTEST_ARTIFACT_DIR-.}/.coverage\n"
    )
    return home


def measured(cell: CellUser, tree: Path, *numbers: int, more: str = "") -> str:
    """A run whose tasks each had the tree in a place of their own; all are gone by now."""
    places = [tree.with_name(f"worker-{number}") for number in numbers]
    for place in places:
        shutil.copytree(tree, place)
    tasks: list[dict[str, Any]] = [
        command(f"cd {place} && {RUN} {number} {more}")
        for number, place in zip(numbers, places, strict=True)
    ]
    ended = cell.submit(*tasks, options=("--wait", "--json")).good()
    for place in places:
        shutil.rmtree(place)
    return str(ended.lines[0]["run_id"])


def test_what_workers_measured_in_places_of_their_own_is_one(cell: CellUser, tree: Path) -> None:
    run = measured(cell, tree, 1, 2)
    out = cell.cwd / "out" / "coverage"

    told = cell.at(tree).here("report", "coverage", run, "--output", str(out), "--json").good()

    assert told.json["data_files"] == 2
    assert (told.json["files"], told.json["unknown"]) == (3, [])
    data = CoverageData(str(out / ".coverage"))
    data.read()
    numbers = str(tree / "product" / "numbers.py")
    assert data.measured_files() == {
        numbers,
        str(tree / "product" / "__init__.py"),
        str(tree / "main.py"),
    }
    assert set(data.lines(numbers) or ()) == {2, 3, 4, 5, 6}, "of both workers together"
    assert 80 < told.json["percent"] < 100
    assert 'filename="product/numbers.py"' in (out / "coverage.xml").read_text()
    assert (out / "html" / "index.html").is_file()
    assert not list(tree.glob(".coverage.*")), "the tree is left as it was"

    words = ("report", "coverage", run, "--output", str(out), "--source", str(tree))
    assert "% of 3 files, by 2 data files\n" in cell.here(*words).good().out


def test_files_that_the_tree_does_not_have_are_named(cell: CellUser, tree: Path) -> None:
    run = measured(cell, tree, 1)
    (tree / "product" / "numbers.py").unlink()

    ended = cell.at(tree).here("report", "coverage", run, "--output", "out").good()

    assert "1 measured files are not in" in ended.err
    assert "product/numbers.py" in ended.err


def test_a_run_without_data_says_how_to_leave_some(cell: CellUser, tree: Path) -> None:
    run = cell.run_of(command("true"))
    cell.here("run", "watch", run).good()

    ended = cell.at(tree).here("report", "coverage", run, "--output", "out")

    assert ended.code == 2
    assert "left no coverage data" in ended.err
    assert "DTEST_ARTIFACT_DIR-." in ended.err
    assert not (tree / "out").exists()


def test_what_cannot_be_combined_is_said_in_the_words_of_coverage(
    cell: CellUser, tree: Path
) -> None:
    odd = f"&& echo no data > $DTEST_ARTIFACT_DIR/{'.coverage.odd'}"
    run = measured(cell, tree, 1, more=odd)

    ended = cell.at(tree).here("report", "coverage", run, "--output", "out")

    assert ended.code == 2
    assert "coverage.py cannot combine the data: " in ended.err


def test_an_interpreter_without_coverage_is_named(cell: CellUser, tree: Path) -> None:
    run = measured(cell, tree, 1)
    bare = tree.with_name("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    words = ("report", "coverage", run, "--output", "out")

    ended = cell.at(tree).here(*words, "--python", str(bare / "bin" / "python"))
    assert (ended.code, "has no coverage.py" in ended.err) == (2, True)
    assert "-m pip install coverage" in ended.err
    ended = cell.at(tree).here(*words, "--python", "no-such-python")
    assert (ended.code, "is not an interpreter" in ended.err) == (2, True)
    ended = cell.here(*words, "--source", "nowhere")
    assert (ended.code, "is no directory" in ended.err) == (2, True)


def test_other_places_of_a_tree_are_told_from_the_ends_of_paths(tree: Path) -> None:
    found = other_places(
        [
            "/w1/x/product/numbers.py",
            "/w1/x/main.py",
            "/w2/main.py",
            "/usr/lib/python3/json/decoder.py",
            str(tree / "main.py"),
            "product/numbers.py",
        ],
        str(tree),
    )

    assert found == ["/w1/x", "/w2"]
