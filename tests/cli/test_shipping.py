"""``dtest ship`` and ``dtest submit --ship``: a project runs where nothing of it was."""

import json
from pathlib import Path

import pytest

from tests.agents.test_environments import WHEEL, wheel
from tests.cli.cell import CellUser
from tests.workspaces.projects import repository, write

SUITE = """
from pathlib import Path

import tiny

def test_of_the_tree():
    assert tiny.VALUE == 42
    assert Path("data.txt").read_text() == "data"
    Path("data.txt").write_text("spoilt")

def test_that_fails():
    assert Path("data.txt").read_text() == "data"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = repository(tmp_path / "project")
    write(root, _dot_gitignore="*.log\n", data_dot_txt="data", tests__test_it_dot_py=SUITE)
    write(root, noise_dot_log="x" * 1_000)
    wheel(root)
    (root / "requirements.txt").write_text(f"./{WHEEL}\npytest\n")
    return root


@pytest.fixture
def user(cell: CellUser, project: Path) -> CellUser:
    return CellUser(cell.home, project, cell.more, cell.mark)


def test_a_first_call_ships_a_second_one_does_not(user: CellUser, project: Path) -> None:
    first = user.here("ship", "--json").good().json
    again = user.here("ship").good()
    (project / "data.txt").write_text("other")
    changed = user.here("ship", "--json").good().json

    assert first["files"] == first["files_sent"] == 5
    assert again.out.strip() == first["workspace"]
    assert "0 of 5 files sent (0 of" in again.err
    assert (changed["files_sent"], changed["bytes_sent"]) == (1, 5)
    assert changed["workspace"] != first["workspace"]


def test_a_command_runs_in_the_tree_of_this_directory(user: CellUser) -> None:
    words = ("--ship", "--wait", "--json", "--", "sh", "-c", "test $(cat data.txt) = data; ls -a")
    ended = user.here("submit", *words).good()
    (task,) = ended.lines[0]["tasks"]
    said = user.here("task", "logs", task["task_id"]).good().out.split()

    assert {".gitignore", "data.txt", "tests"} <= set(said)
    assert "noise.log" not in said


def test_another_directory_is_shipped_where_that_is_said(user: CellUser, project: Path) -> None:
    words = ("--ship", "-C", str(project / "tests"), "--wait", "--", "test", "-f", "test_it.py")

    user.here("submit", *words).good()


@pytest.mark.acceptance
def test_a_suite_runs_in_an_environment_that_is_built_for_it(user: CellUser) -> None:
    document = {"type": "test", "config": {"cwd": ".", "paths": ["tests"]}}
    recipe = json.dumps({"files": ["requirements.txt"]})
    words = ("submit", "-", "--ship", "--environment", recipe, "--wait", "--json")
    ended = user.here(*words, stdin=json.dumps(document))
    (task,) = ended.lines[0]["tasks"]
    shown = user.here("task", "show", task["task_id"], "--json").good().json
    outcomes = {case["nodeid"]: case["outcome"] for case in shown["testcases"]}

    assert ended.code == 1
    assert outcomes == {
        "tests/test_it.py::test_of_the_tree": "passed",
        "tests/test_it.py::test_that_fails": "failed",
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "one file is needed"),
        (("a.json", "--", "true"), "one file is needed"),
        (("a.json", "b.json"), "one file is needed"),
        (("--shp", "--", "true"), "Unknown option: --shp"),
        (("--root", ".", "--", "true"), "--root says what to ship"),
        (("--environment", "[", "--", "true"), "--environment is not JSON"),
        (("--environment", "[]", "--", "true"), "is no JSON object"),
        (("--ship", "-C", "nowhere", "--", "true"), "is no directory"),
        (("--ship", "--environment", '{"files": ["/x"]}', "--", "true"), "not inside of"),
    ],
)
def test_a_call_that_makes_no_sense_is_refused(
    user: CellUser, words: tuple[str, ...], said: str
) -> None:
    ended = user.here("submit", *words)

    assert ended.code == 2
    assert said in ended.err
