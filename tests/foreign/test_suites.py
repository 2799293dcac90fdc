"""Real suites that nobody here wrote: the same tests, outcomes and messages as plain pytest."""

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.cli.command import Person
from tests.cli.later import OPTIONS, is_the_same_later
from tests.foreign.conftest import Environment
from tests.foreign.test_versions import plain

SUITES = {
    "pluggy": ("1.6.0", ("pluggy==1.6.0",), "testing"),
    "h11": ("0.16.0", ("h11==0.16.0",), "h11/tests"),
    "boltons": ("25.0.0", ("boltons==25.0.0", "pytest==8.4.*"), "tests"),
    "idna": ("3.10", ("idna==3.10",), "tests"),
    "wcwidth": ("0.2.13", ("wcwidth==0.2.13", "pytest-cov==7.*"), "tests"),
}
"""Version, what its environment holds, and where its tests lie."""
PLANTED = """
import pytest as _pytest

@_pytest.mark.parametrize("pair", [
    (1, 2), ("one", "two"), ([1, 2], [1, 3]), ({"a": 1}, {"a": 2}), ({1}, {2}), ((1,), (1, 2)),
    ("long " * 40, "longer " * 40), (None, 0), (1.5, 1.25), ("a\\nb", "a\\nc"),
], ids=str)
def test_planted_comparison(pair):
    left, right = pair
    assert left == right
"""


def fetched(name: str, version: str, into: Path) -> Path:
    """Fetch a source distribution and unpack it; a failure is a failure, never a skip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name]
    done = subprocess.run(
        [*command, "--dest", str(into), f"{name}=={version}"],
        capture_output=True,
        text=True,
        check=False,
    )
    archives = list(into.glob(f"{name}-{version}.tar.gz"))
    assert archives, f"pip could not fetch {name} {version}:\n{done.stdout}{done.stderr}"
    with tarfile.open(archives[0]) as archive:
        archive.extractall(into, filter="data")
    return into / f"{name}-{version}"


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_comes_to_the_same_with_the_same_messages(
    person: Person, made: Environment, tmp_path: Path, name: str
) -> None:
    version, requirements, tests = SUITES[name]
    root = fetched(name, version, tmp_path) / tests
    python = made(f"of-{name}", "pytest<9.1", *requirements)
    first = min(root.glob("test_*.py"))
    with first.open("a", encoding="utf-8") as file:
        file.write(PLANTED)
    expected = plain(python, root, tmp_path / "seen.json")

    ended = person.at(root).dtest("test", "--workers", "2", "--python", python, "--json")

    found = sorted(
        [case["nodeid"], case["outcome"], case["message"] if case["outcome"] == "failed" else ""]
        for case in ended.json["testcases"]
    )
    assert [[name, outcome] for name, outcome, _ in found] == [
        [name, outcome] for name, outcome, _ in expected
    ]
    failed = [each for each in expected if each[1] == "failed"]
    assert len(failed) >= 10
    assert [each for each in found if each[1] == "failed"] == [
        [name, outcome, message[:497] + "..." if len(message) > 500 else message]
        for name, outcome, message in failed
    ]


def test_the_report_later_is_that_at_the_end(
    person: Person, made: Environment, tmp_path: Path
) -> None:
    """Three real suites in one cell, with failures in each, from its journal and its archive."""
    person.dtest("up", "--workers", "2").good()
    try:
        runs: dict[Path, str] = {}
        for name in ("h11", "boltons", "idna"):
            version, requirements, tests = SUITES[name]
            root = fetched(name, version, tmp_path) / tests
            with min(root.glob("test_*.py")).open("a", encoding="utf-8") as file:
                file.write(PLANTED)
            python = made(f"of-{name}", "pytest<9.1", *requirements)
            ended = person.at(root).here("test", "--python", python, "--reruns", "1", *OPTIONS)
            assert ended.code == 1, ended.err
            runs[root] = person.here("run", "ls", "--limit", "1", "--json").lines[0]["run_id"]
        for root, run in runs.items():
            is_the_same_later(person, root, run, tmp_path / "archive")
        assert person.here("event", "verify", "--json").good().json["violations"] == []
    finally:
        person.dtest("down", "--purge").good()
