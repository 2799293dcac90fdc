"""``dtest report``: the report of any run that the cell remembers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from dtest.caller.gathering import gather
from dtest.errors import NotFound
from tests.cli.cell import CellUser, command
from tests.cli.conftest import Suite

SUITE = """
import os
from pathlib import Path

def test_good():
    pass

def test_second_time():
    mark = Path(__file__).with_name("seen")
    known = mark.exists()
    mark.touch()
    Path(os.environ["DTEST_ARTIFACT_DIR"], "note.txt").write_text("kept")
    assert known, "not yet"

def test_bad():
    raise ValueError("always")
"""


def suite_task(home: Path, *paths: str, **more: Any) -> dict[str, Any]:
    """A task that runs tests."""
    return {"type": "test", "config": {"paths": list(paths), "cwd": str(home)}, **more}


@pytest.fixture
def run(cell: CellUser, suite: Suite) -> str:
    """A run with a flaky test, a failing one, and one that never ran; ended."""
    home = suite(test_a=SUITE)
    first = suite_task(home, "test_a.py", name="first", task_id=f"{home.parent.name}-first")
    again = suite_task(
        home,
        "test_a.py::test_second_time",
        name="again",
        labels={"rerun": "1"},
        dependencies=[first["task_id"]],
        dependency_rule="all_finished",
    )
    skipped = suite_task(
        home, "test_a.py::test_never", name="never", dependencies=[first["task_id"]]
    )
    ended = cell.submit(first, again, skipped, options=("--wait", "--json"))
    return str(ended.lines[0]["run_id"])


def test_a_past_run_is_written_in_every_format(cell: CellUser, run: str) -> None:
    written = {
        form: cell.here("report", "build", run[:-2], "--format", form).good().out
        for form in ("junit", "ctrf", "md", "html")
    }
    ended = cell.here("report", "build", run, "--format", "json").good()

    verdicts = {item["nodeid"]: item["verdict"] for item in ended.json["results"]}
    assert verdicts == {
        "test_a.py::test_good": "passed",
        "test_a.py::test_second_time": "flaky",
        "test_a.py::test_bad": "failed",
        "test_a.py::test_never": "not_proven",
    }
    assert ended.json["exit_code"] == 1
    assert ended.json["hardware"] == ["cpu"]
    assert {part["name"]: part["rerun"] for part in ended.json["parts"]} == {
        "first": 0,
        "again": 1,
        "never": 0,
    }
    (never,) = [item for item in ended.json["results"] if item["verdict"] == "not_proven"]
    assert never["cause"].startswith("never: skipped")
    left = [name for item in ended.json["attempts"] for name in item["artifacts"]]
    assert [item["name"] for item in left] == ["note.txt", "note.txt"]
    junit = JUnitXml.fromstring(written["junit"].encode())
    assert (junit.tests, junit.failures, junit.errors) == (4, 1, 1)
    assert '"flaky":true' in written["ctrf"]
    assert written["md"].startswith("## Failed: ")
    assert written["html"].startswith("<!doctype html>")


def test_a_report_goes_to_a_file_and_says_so(cell: CellUser, run: str) -> None:
    ended = cell.here("report", "build", run, "--format", "html", "--output", "r.html").good()
    assert ended.out == ""
    assert "4 tests in r.html" in ended.err
    assert "note.txt" in (cell.cwd / "r.html").read_text()

    told = cell.here("report", "build", run, "--format", "md", "--output", "r.md", "--json").good()
    assert (told.json["file"], told.json["exit_code"]) == ("r.md", 1)
    assert told.json["counts"] == {"failed": 1, "not_proven": 1, "flaky": 1, "passed": 1}


def test_known_flaky_tests_do_not_gate_until_their_entry_expires(cell: CellUser, run: str) -> None:
    soon = datetime.now(UTC).date() + timedelta(days=1)
    entry = '[[flaky]]\ntest = "test_a.py"\nreason = "known"\nexpires = {}\n'
    listed = cell.cwd / "dtest-known-flaky.toml"
    inner = cell.cwd / "inner"
    inner.mkdir()

    listed.write_text(entry.format(soon))
    found = cell.at(inner).here("report", "build", run, "--format", "json").good()
    assert found.json["exit_code"] == 0
    assert all(item["muted"]["reason"] == "known" for item in found.json["results"])

    listed.write_text(entry.format("2026-01-01"))
    found = cell.at(inner).here("report", "build", run, "--format", "json").good()
    assert found.json["exit_code"] == 1
    assert "test_a.py is muted no more: its entry expired on 2026-01-01" in found.err


def test_what_is_wrong_is_said_before_anything_is_asked(cell: CellUser) -> None:
    (cell.cwd / "bad.toml").write_text("[[flaky]]\ntest = 'a.py'\nreason = 'x'\n")
    build = ("report", "build", "@last", "--format", "md")

    assert cell.here("report", "build", "no-such-run", "--format", "md").code == 2
    assert cell.here("report", "build", "--format", "pdf").code == 2
    assert cell.here("report", "build").code == 2
    nowhere = cell.here(*build, "--output", "no/such/r.md")
    assert (nowhere.code, "cannot be written" in nowhere.err) == (2, True)
    malformed = cell.here(*build, "--known-flaky", "bad.toml")
    assert (malformed.code, "entry 1: expires is missing" in malformed.err) == (2, True)
    missing = cell.here(*build, "--known-flaky", "none.toml")
    assert (missing.code, "cannot be read" in missing.err) == (2, True)


def test_a_command_is_a_case_of_its_own_in_the_report(cell: CellUser) -> None:
    ended = cell.submit(command("true"), options=("--wait", "--json"))

    found = cell.here("report", "build", ended.lines[0]["run_id"], "--format", "json").good()

    (result,) = found.json["results"]
    assert (result["verdict"], result["is_task"], found.json["exit_code"]) == ("passed", True, 0)


class Told:
    """An API that knows one run."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows
        self.asked: list[str] = []

    def get(self, path: str, **query: object) -> dict[str, Any]:
        self.asked.append(path)
        if path == "/api/runs/r":
            about: dict[str, Any] = {"run_id": "r", "name": "r", "labels": {}, "opened_at": None}
            return {**about, "finished": True, "suite": None}
        if query.get("run_id") == "r":
            return {"items": [], "next": None}
        message = "no run is called so"
        raise NotFound(message)

    def lines(self, path: str, make: Callable[[dict[str, Any]], Any], **_: object) -> list[Any]:
        held = {"/api/runs/r/testcases.jsonl": self.rows, "/api/runs/r/plan.jsonl": PLAN}
        return [make(each) for each in held[path]]


def row(n: int) -> dict[str, Any]:
    where = {"task_id": "t", "attempt": 1, "ordinal": n, "seq": n, "worker_id": "w"}
    said = {"outcome": "passed", "phase": "call", "duration_s": 0.1, "message": "", "output": ""}
    more = {"number": None, "properties": None, "suite_properties": None}
    return {**where, **said, **more, "nodeid": f"a.py::t{n}", "file": "a.py", "line": None}


PLAN = [
    {"nodeid": f"a.py::t{n}", "hardware": "", "cause": "", "applies": True, "number": None}
    for n in (5, 6)
]


def test_the_plan_is_held_against_the_rows() -> None:
    api = Told([row(n) for n in range(5, 0, -1)])

    report = gather(api, "r")

    assert report.counts == {"not_proven": 1, "passed": 5}
    assert report.exit_code == 3


def test_a_run_that_nobody_knows_is_not_found() -> None:
    with pytest.raises(NotFound):
        gather(Told([]), "other")
