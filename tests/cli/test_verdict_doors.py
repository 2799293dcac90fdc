"""Whoever asks what a run came to gets the same answer: a table of contents, doors and codes."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.cli.cell import CellUser, command
from tests.cli.command import eventually
from tests.cli.conftest import Suite
from tests.cli.test_pytest_plugin import FLAKY, called

GOOD = "def test_a(): pass\n"
BAD = "def test_a(): assert False\n"
UNFIT = "import pytest\n@pytest.mark.dtest(hardware='rocm')\ndef test_a(): pass\n"
EXITS = "import pytest\ndef test_a(): pytest.exit('the rig is gone', returncode=0)\n"
RED_AT_THE_END = "def pytest_sessionfinish(session): session.exitstatus = 3\n"
SKIPS = "import pytest\npytest.skip('not here', allow_module_level=True)\n"


@dataclass(frozen=True)
class Contents:
    """What a suite holds, and what it comes to."""

    files: dict[str, str]
    code: int
    plugin: int
    """What ``pytest --dtest`` ends with, whose codes are pytest's own."""
    options: tuple[str, ...] = ()


SUITES = {
    "passed": Contents({"test_a": GOOD}, 0, 0),
    "failed": Contents({"test_a": BAD}, 1, 1),
    "flaky": Contents({"test_a": FLAKY}, 0, 0, ("--reruns", "1")),
    "not proven": Contents({"test_a": UNFIT}, 3, 7),
    "stopped by itself": Contents({"test_a": EXITS}, 1, 2),
    "red at its end": Contents({"test_a": GOOD, "conftest": RED_AT_THE_END}, 1, 3),
    "skipped as a whole": Contents({"test_a": SKIPS}, 5, 5),
}


def doors(cell: CellUser, run: str) -> dict[str, int]:
    """Every answer to what a run came to, by who gives it."""
    report = cell.here("report", "build", run, "--format", "json").good().json
    ctrf = cell.here("report", "build", run, "--format", "ctrf").good().json
    return {
        "run show": cell.here("run", "show", run).code,
        "run watch": cell.here("run", "watch", run).code,
        "run watch --json": cell.here("run", "watch", run, "--json").code,
        "report": report["exit_code"],
        "ctrf": ctrf["results"]["summary"]["extra"]["exit_code"],
    }


def is_red(cell: CellUser, run: str) -> bool:
    """Say whether somebody who reads the JUnit report alone sees red."""
    text = cell.here("report", "build", run, "--format", "junit").good().out
    root = ET.fromstring(text.encode())  # noqa: S314 - our own
    bad = [case for case in root.iter("testcase") if case.find("failure") is not None]
    errors = [case for case in root.iter("testcase") if case.find("error") is not None]
    assert (len(bad), len(errors)) == (int(root.get("failures", 0)), int(root.get("errors", 0)))
    return bool(bad or errors)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_one_verdict_at_every_door(cell: CellUser, suite: Suite, name: str) -> None:
    contents = SUITES[name]
    here = cell.at(suite(**contents.files))
    cell = CellUser(here.home, here.cwd, here.more, here.mark)

    ended = cell.here("test", "--json", *contents.options)

    assert ended.code == ended.json["exit_code"] == contents.code, ended.err
    run = ended.json["run_id"]
    assert set(doors(cell, run).values()) == {contents.code}
    assert is_red(cell, run) == (contents.code in {1, 3})


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_its_verdict_by_pytest_itself(cell: CellUser, suite: Suite, name: str) -> None:
    contents = SUITES[name]
    home = suite(**contents.files)
    options = [word.replace("--reruns", "--dtest-reruns") for word in contents.options]

    ended = called(cell.at(home), "--dtest", "-p", "no:cacheprovider", *options)

    assert ended.code == contents.plugin, ended.out + ended.err


COMMANDS: dict[str, tuple[list[dict[str, Any]], int]] = {
    "passed": ([command("true")], 0),
    "failed": ([command("exit 3")], 1),
    "errored": ([{"type": "command", "config": {"command": ["no-such-program"]}}], 1),
    "over its limit": ([command("sleep 600", timeout_seconds=0.2)], 1),
    "flaky": (
        [command("test -e again || { touch again; exit 1; }", retry_policy={"max_retries": 2})],
        0,
    ),
    "failed, and another skipped": (
        [
            command("exit 3", task_id="FAILS", name="builds"),
            command("true", dependencies=["FAILS"], name="deploys"),
        ],
        1,
    ),
    "passed and failed": ([command("true"), command("exit 3")], 1),
    "failed and of one name": ([command("exit 3", name="x"), command("true", name="x")], 1),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_have_one_verdict_at_every_door(
    cell: CellUser, new_id: Callable[[str], str], name: str
) -> None:
    tasks, code = COMMANDS[name]
    tasks = json.loads(json.dumps(tasks).replace("FAILS", new_id("fails")))
    if name == "flaky":
        place = str(cell.cwd)
        tasks = [{**each, "config": {**each["config"], "cwd": place}} for each in tasks]

    ended = cell.submit(*tasks)

    assert ended.code == code, ended.err
    assert set(doors(cell, "@last").values()) == {code}
    assert is_red(cell, "@last") == bool(code)
    report = cell.here("report", "build", "@last", "--format", "json").json
    assert len(report["results"]) == len(tasks), "each is a case of its own"
    assert all(result["is_task"] for result in report["results"])
    if name == "failed, and another skipped":
        causes = [result["cause"] for result in report["results"] if result["cause"]]
        assert causes == ["skipped, dependency_never: its dependency builds did not pass"]
        assert "its dependency builds did not pass" in ended.err


def test_a_cancelled_command_is_told_as_that_and_beside_a_failure_the_failure_counts(
    cell: CellUser,
) -> None:
    run = cell.run_of(command("sleep 600"), command("true"))
    eventually(lambda: cell.here("run", "show", run, "--json").json["passed"] == 1, what="one ends")
    cell.here("run", "cancel", run).good()
    assert cell.here("run", "watch", run).code == 130
    assert set(doors(cell, run).values()) == {130}

    run = cell.run_of(command("sleep 600"), command("exit 3"))
    eventually(lambda: cell.here("run", "show", run, "--json").json["failed"] == 1, what="one ends")
    cell.here("run", "cancel", run).good()
    assert cell.here("run", "watch", run).code == 1
    assert set(doors(cell, run).values()) == {1}


def test_a_suite_and_a_command_in_one_run_are_judged_together(cell: CellUser, suite: Suite) -> None:
    home = suite(test_a=GOOD)
    tests = {"type": "test", "config": {"cwd": str(home), "paths": ["test_a.py"]}}

    good, bad = cell.submit(tests, command("true")), cell.submit(tests, command("exit 3"))

    assert (good.code, bad.code) == (0, 1)
    assert set(doors(cell, "@last").values()) == {1}
    written = cell.here("report", "build", "@last", "--format", "md").out
    assert written.startswith("## Failed")
    page = cell.here("report", "build", "@last", "--format", "html").out
    assert "exit status 3" in page


def test_what_a_refused_document_leaves_is_not_the_last_run(cell: CellUser) -> None:
    before = cell.submit(command("true"), options=("--wait", "--json")).lines[0]["run_id"]

    refused = cell.submit(command("true", dependencies=["nobody"]))

    assert refused.code != 0
    assert "nobody" in refused.err
    assert cell.here("run", "show", "@last", "--json").json["run_id"] == before
