"""What an environment is built of, and what names it."""

from dataclasses import replace
from typing import Any

import pytest

from dtest.agents.recipe import Interpreter, files_read, name_of, project_lines, steps
from dtest.errors import InvalidDocument
from dtest.events.environment import Environment, accepts, clauses, inside

PYTHON = Interpreter("/usr/bin/python3", (3, 12, 4), "CPython", "linux-x86_64")
PROJECT = b"""
[project]
name = "My_Shop"
dependencies = ["httpx>=0.28"]
[project.optional-dependencies]
fast = ["orjson"]
All = ["my-shop[fast]", "rich"]
[dependency-groups]
test = ["pytest", {include-group = "cov"}]
cov = ["coverage"]
loop = [{include-group = "loop"}]
odd = [5]
"""


@pytest.mark.parametrize(
    ("constraint", "version", "expected"),
    [
        ("", (3, 11, 7), True),
        (">=3.11", (3, 11, 0), True),
        (">=3.11, <3.14", (3, 14, 0), False),
        ("==3.12", (3, 12, 9), True),
        ("==3.12.1", (3, 12, 9), False),
        ("!=3.12", (3, 12, 9), False),
        (">3.11", (3, 11, 7), False),
        (">3.11.6", (3, 11, 7), True),
        ("<=3.11", (3, 11, 7), True),
        (">=3", (3, 8, 0), True),
    ],
)
def test_a_version_holds_to_a_constraint(
    constraint: str, version: tuple[int, ...], expected: bool
) -> None:
    assert accepts(constraint, version) is expected


@pytest.mark.parametrize("constraint", ["3.11", "~=3.11", ">=3.x", ">=", "new", ">=3.11.1.1"])
def test_other_constraints_are_refused_in_words(constraint: str) -> None:
    with pytest.raises(ValueError, match="give it as"):
        clauses(constraint)


@pytest.mark.parametrize(
    ("path", "expected"), [(".", "."), ("a", "a"), ("./a//b/", "a/b"), ("a/./b", "a/b")]
)
def test_a_path_inside_has_one_form(path: str, expected: str) -> None:
    assert inside(path) == expected


@pytest.mark.parametrize("path", ["/a", "..", "a/../b", "a\0"])
def test_a_path_that_may_lead_out_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not inside of the workspace"):
        inside(path)


CHANGES: list[dict[str, Any]] = [
    {"environment": Environment(requirements=("pytest<9",))},
    {"environment": Environment(requirements=("pytest",), python=">=3.11")},
    {"contents": {"r.txt": ("b" * 64,)}},
    {"interpreter": replace(PYTHON, version=(3, 12, 5))},
    {"interpreter": replace(PYTHON, platform="linux-aarch64")},
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_it_depends_on_changes_its_name(change: dict[str, Any]) -> None:
    known: dict[str, Any] = {
        "environment": Environment(requirements=("pytest",)),
        "contents": {"r.txt": ("a" * 64,)},
        "interpreter": PYTHON,
        "workspace": "1" * 64,
    }

    assert name_of(**known) == name_of(**known)
    assert name_of(**known | change) != name_of(**known)


@pytest.mark.parametrize(
    ("environment", "differs"),
    [
        (Environment(requirements=("pytest",)), False),
        (Environment(files=("r.txt",)), False),
        (Environment(project="."), False),
        (Environment(project=".", install=True), True),
        (Environment(command=("make",)), True),
    ],
)
def test_the_whole_tree_counts_only_where_any_file_may_play_a_part(
    environment: Environment, differs: bool
) -> None:
    one, other = (name_of(environment, {}, PYTHON, workspace=digit * 64) for digit in ("1", "2"))

    assert (one != other) is differs


def test_the_files_that_are_read_are_known_by_name() -> None:
    environment = Environment(files=("./r.txt", "more/s.txt"), project="pkg")

    assert files_read(environment) == ("r.txt", "more/s.txt", "pkg/pyproject.toml")
    assert files_read(Environment(project=".")) == ("pyproject.toml",)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("httpx>=0.28",)),
        ({"extras": ("FAST",)}, ("httpx>=0.28", "orjson")),
        ({"extras": ("all",)}, ("httpx>=0.28", "orjson", "rich")),
        ({"groups": ("test",)}, ("httpx>=0.28", "pytest", "coverage")),
        ({"install": True, "extras": ("all",), "groups": ("cov",)}, ("coverage",)),
    ],
)
def test_a_project_names_its_requirements(more: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert project_lines(Environment(project=".", **more), PROJECT) == expected


@pytest.mark.parametrize(
    ("more", "text", "said"),
    [
        ({"extras": ("slow",)}, PROJECT, "no extra slow"),
        ({"groups": ("docs",)}, PROJECT, "no dependency group docs"),
        ({"groups": ("loop",)}, PROJECT, "dependency group loop"),
        ({"groups": ("odd",)}, PROJECT, "no requirement"),
        ({}, b"[project", "cannot be read"),
        ({}, b"\xff", "cannot be read"),
        ({}, b'[project]\nname="x"\ndynamic=["dependencies"]', "made when it is built"),
    ],
)
def test_what_a_project_does_not_have_is_told(more: dict[str, Any], text: bytes, said: str) -> None:
    with pytest.raises(InvalidDocument, match=said):
        project_lines(Environment(project=".", **more), text)


def argv(environment: Environment, *, pip: str | None, lists: tuple[str, ...] = ()) -> list[Any]:
    made = steps(
        environment,
        interpreter=PYTHON,
        directory="/env",
        lists=lists,
        tree="/tree",
        pip=pip,
        env=lambda _: {},
    )
    return [step["argv"] for step in made]


def test_the_agents_own_pip_saves_installing_one() -> None:
    venv, pip = argv(Environment(requirements=("x",)), pip="/agent/python", lists=("/r.txt",))

    assert venv == ["/usr/bin/python3", "-I", "-m", "venv", "--without-pip", "/env"]
    assert pip[:6] == ["/agent/python", "-I", "-m", "pip", "--python", "/env/bin/python"]
    assert pip[-2:] == ["-r", "/r.txt"]


def test_a_command_finds_a_pip_and_comes_last() -> None:
    environment = Environment(project=".", install=True, extras=("a", "b"), command=("make", "dev"))
    venv, pip, command = argv(environment, pip="/agent/python")

    assert "--without-pip" not in venv
    assert pip[0] == "/env/bin/python"
    assert pip[-1] == "/tree/.[a,b]"
    assert command == ["make", "dev"]


def test_an_environment_of_nothing_is_a_bare_interpreter() -> None:
    assert len(argv(Environment(), pip=None)) == 1
