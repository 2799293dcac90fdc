"""What people report from practice, each with the outcome that its README calls right."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.cli.command import Ended, Person
from tests.foreign.conftest import Environment

Case = Callable[[str], Person]


@dataclass(frozen=True)
class Right:
    """One call, and what is right of it."""

    counts: dict[str, int]
    code: int = 0
    arguments: tuple[str, ...] = ()
    said: tuple[str, ...] = ()


RIGHT = {
    "01": Right({"passed": 12}),
    "02": Right({"passed": 10}),
    "05": Right({"passed": 12}),
    "06": Right({"failed": 1, "passed": 7}, 1, said=("--junitxml is for a whole run",)),
    "07": Right({"passed": 4}, said=("threshold of 95 % was not judged",)),
    "08": Right({"failed": 1, "passed": 1}, 1),
    "11": Right({"error": 2, "passed": 3}, 1, said=("left behind: leak-1.tmp",)),
    "13": Right({"passed": 3}, said=("listener-7",)),
    "15": Right({"error": 1, "passed": 2}, 1, ("--test-timeout", "3"), said=("timed out",)),
    "16": Right({"failed": 5, "passed": 5, "skipped": 1}, 1),
    "18": Right({"failed": 1, "passed": 40}, 1),
    "19": Right({"flaky": 1, "passed": 4}, 0, ("--reruns", "1")),
    "21": Right({"passed": 3}),
    "22": Right({"passed": 8}, 0, ("--test-timeout", "30")),
    "26": Right({"failed": 1, "passed": 5}, 1),
    "27": Right({"error": 40, "passed": 1}, 1, ("--reruns", "1")),
    "29": Right({"flaky": 1, "passed": 1}, 0, ("--reruns", "1")),
    "31": Right({"failed": 1, "error": 2, "passed": 3, "skipped": 5}, 1, ("--runner", "unittest")),
}


def called(person: Person, python: str, *arguments: str) -> Ended:
    is_python = "--runner" not in arguments or "unittest" in arguments
    named = ("--python", python) if is_python else ()
    return person.dtest("test", "--workers", "2", *named, *arguments, "--json")


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_a_suite_from_practice_comes_to_what_is_right(case: Case, plugged: str, name: str) -> None:
    right = RIGHT[name]
    person = case(name)

    ended = called(person, plugged, *right.arguments)

    assert (ended.json["counts"], ended.code) == (right.counts, right.code), ended.err[-3000:]
    for words in right.said:
        assert words in ended.err + ended.out
    assert "no task reported it" not in ended.out
    if right.arguments[:1] == ("--test-timeout",) and name == "22":
        taken = [each["duration_s"] for each in ended.json["testcases"]]
        assert all(0.35 < seconds < 2 for seconds in taken)


def test_time_that_stands_still_below_python_changes_nothing(case: Case, plugged: str) -> None:
    person = case("22")
    (person.cwd / "variant_time_machine.py").replace(person.cwd / "conftest.py")

    ended = called(person, plugged, "--test-timeout", "30")

    assert ended.json["counts"] == {"passed": 8}
    assert all(0.35 < each["duration_s"] < 2 for each in ended.json["testcases"])


def test_a_suite_that_exits_stops_the_run_and_nothing_is_refilled(case: Case, plugged: str) -> None:
    place = case("09")
    for code in ("9", "0"):
        person = place.at(place.cwd, STOP_CODE=code)
        (person.cwd / "ran.txt").unlink(missing_ok=True)

        ended = called(person, plugged)

        assert ended.code == 1
        assert "the licence server is gone" in ended.err + ended.out
        assert "starting another one" not in ended.err
        ran = (person.cwd / "ran.txt").read_text().splitlines()
        assert len(ran) < 20
        counts = Counter(ended.json["counts"])
        assert counts["not_proven"] + counts["passed"] + counts["error"] == 24 + 1, "and its end"


def test_a_refusal_at_collection_is_a_usage_error_in_its_own_words(
    case: Case, plugged: str
) -> None:
    ended = called(case("10"), plugged)

    assert ended.code == 2
    assert "no owner: test_a.py::test_orphan" in ended.err


def test_properties_reach_every_report(case: Case, plugged: str) -> None:
    person = case("08")

    ended = called(person, plugged, "--junit", "r.xml", "--ctrf", "r.json")

    told = {each["nodeid"]: each for each in ended.json["testcases"]}
    assert set(told) == {"test_lamp.py::test_on", "test_lamp.py::test_off"}
    root = ET.parse(person.cwd / "r.xml").getroot()  # noqa: S314 - our own
    of_tests = {
        case.get("name"): [(each.get("name"), each.get("value")) for each in case.iter("property")]
        for case in root.iter("testcase")
    }
    assert ("requirement", "LAMP-17") in of_tests["test_on"]
    assert {("requirement", "LAMP-18"), ("measured_mA", "0.25")} <= set(of_tests["test_off"])
    suites = {
        (p.get("name"), p.get("value")) for p in root.findall("testsuite/properties/property")
    }
    assert ("firmware", "4.2-rc1") in suites
    ctrf = json.loads((person.cwd / "r.json").read_text())["results"]
    assert "LAMP-17" in json.dumps(ctrf["tests"])
    assert "4.2-rc1" in json.dumps(ctrf["summary"])


@pytest.mark.parametrize("index", ["0", "1"])
def test_a_choice_by_position_is_that_of_the_whole_suite(
    case: Case, plugged: str, index: str
) -> None:
    person = case("20")
    person = person.at(person.cwd, CI_NODE_TOTAL="2", CI_NODE_INDEX=index)

    ended = called(person, plugged)

    ids = [f"test_{file}.py::test_{file}[{n}]" for file in "abcd" for n in range(3)]
    assert sorted(each["nodeid"] for each in ended.json["testcases"]) == ids[int(index) :: 2]
    assert (ended.json["counts"], ended.code) == ({"passed": 6}, 0)


def test_ids_that_are_new_are_found_by_last_failed(case: Case, plugged: str) -> None:
    person = case("19")
    called(person, plugged)
    (person.cwd / "tries.txt").unlink()
    called(person, plugged)

    ended = called(person, plugged, "--lf")

    assert "not found" not in ended.out + ended.err
    assert ended.json["counts"] in ({"passed": 1}, {"passed": 5})
    if ended.json["counts"] == {"passed": 5}:
        assert "all tests run" in ended.err


@pytest.mark.parametrize("_try", range(2))
def test_which_file_clashes_does_not_depend_on_the_process(
    case: Case, plugged: str, _try: int
) -> None:
    person = case("26")
    person = person.at(person.cwd, PYTEST_ADDOPTS="--import-mode=prepend")

    ended = called(person, plugged)

    assert (ended.json["counts"], ended.code) == ({"error": 1, "passed": 3}, 1)
    (wrong,) = (each for each in ended.json["testcases"] if each["outcome"] == "error")
    assert wrong["nodeid"] == "tests/b/test_same.py"


def test_a_hash_in_a_name_is_no_directive(case: Case, plugged: str) -> None:
    ended = called(case("32"), plugged, "--runner", "cat results.tap")

    told = {each["nodeid"].partition("::")[2]: each["outcome"] for each in ended.json["testcases"]}
    assert told == {
        "plain": "passed",
        "Notes#todo returns the open ones": "failed",
        "Range#skip walks past the end": "passed",
        "renders # TODO as text": "failed",
        "anchor docs#top": "skipped",
        "later": "xfailed",
        "ends with a backslash \\": "skipped",
        "works on one system": "skipped",
        "needs a lamp": "skipped",
        "hello # description": "passed",
    }
    assert (ended.code, ended.json["planned"]) == (1, None)


def test_a_control_character_and_equal_names_hide_no_failure(case: Case, plugged: str) -> None:
    person = case("34")

    broken = called(person, plugged, "--runner", "cat results.xml")
    same = called(person, plugged, "--runner", "cat same_names.xml")

    assert broken.code == 1
    assert "line 5" in json.dumps(broken.json)
    assert (same.json["counts"], same.code) == ({"failed": 1, "passed": 2}, 1)


def test_submitted_lines_lists_and_missing_programs(case: Case) -> None:
    person = case("37")
    person.dtest("up", "--workers", "1", "--slots", "2").good()
    try:
        ended = person.dtest("submit", "tasks.json", "--wait")
        found: Any = person.dtest("run", "show", "--json").json
        again = person.dtest("submit", "--wait", "--", "sh", "-c", 'echo "a  b"; exit 4')
    finally:
        person.dtest("down")

    tasks = {each["name"]: each for each in found["task_list"]}
    assert (ended.code, again.code) == (1, 1)
    assert "echo test" in ended.err
    assert tasks["a line for the shell"]["status"] == "failed"
    assert tasks["a list is no line"]["status"] == "passed"
    missing = tasks["one word that is two"]
    assert (missing["status"], missing["reason"], missing["attempt"]) == (
        *("errored", "missing_input"),
        1,
    )


def test_a_program_below_a_shell_saves_its_work_when_it_is_stopped(case: Case) -> None:
    person = case("42")
    person.dtest("up", "--workers", "1", "--slots", "2").good()
    try:
        ended = person.dtest("submit", "task.json", "--wait")
        (task,) = person.dtest("run", "show", "--json").json["task_list"]
        logs = [
            person.dtest("task", "logs", task["task_id"], "--attempt", str(attempt)).out.split()
            for attempt in range(1, task["attempt"] + 1)
        ]
    finally:
        person.dtest("down")

    assert ended.code == 0
    assert len(logs) > 1
    saved = [words[words.index("saved") + 1] for words in logs[:-1]]
    begun = [words[words.index("from") + 1] for words in logs]
    assert begun == ["0", *saved]
    assert logs[-1][-2:] == ["done", "80"]


WHO = """
import pathlib

def pytest_configure(config):
    given = getattr(config, "workerinput", {})
    config.who = f"{given.get('workerid')} {given.get('testrunuid')}"

def pytest_runtest_setup(item):
    with (pathlib.Path(__file__).parent / "who.log").open("a") as file:
        file.write(f"{item.config.who}\\n")
"""
NUMBERS = """
import pytest, random, time

@pytest.mark.parametrize("n", random.sample(range(10**9), 6))
def test_n(n, worker_id, testrun_uid):
    time.sleep(0.1)
    assert worker_id.startswith("gw")
"""


def test_plugins_that_ask_a_main_process_of_xdist_find_one_seed_and_names_of_workers(
    person: Person, made: Environment
) -> None:
    python = made("asking", "pytest==8.4.*", "pytest-xdist==3.8.*", *ASKING)
    (person.cwd / "conftest.py").write_text(WHO)
    (person.cwd / "test_numbers.py").write_text(NUMBERS)

    ended = called(person, python)

    assert (ended.json["counts"], ended.code) == ({"passed": 6}, 0), ended.err
    who = set((person.cwd / "who.log").read_text().splitlines())
    assert {line.split()[0] for line in who} == {"gw0", "gw1"}
    assert len({line.split()[1] for line in who}) == 1


ASKING = ("pytest-rerunfailures==16.*", "pytest-randomly==4.*")


def test_a_log_file_of_the_settings_is_one_for_each_session(person: Person, plugged: str) -> None:
    (person.cwd / "pytest.ini").write_text("[pytest]\nlog_file = run.log\nlog_file_level = INFO\n")
    (person.cwd / "test_logs.py").write_text(
        "import logging, pytest, time\n"
        "@pytest.mark.parametrize('n', range(8))\n"
        "def test_n(n):\n"
        "    time.sleep(0.1); logging.getLogger().info('line of %s', n)\n"
    )

    ended = called(person, plugged)

    assert ended.json["counts"] == {"passed": 8}
    assert "--log-file: each session writes its own" in ended.err
    written = [path.read_text() for path in person.cwd.glob("run.log*")]
    assert sum(text.count("line of") for text in written) == 8


def test_what_is_too_large_is_refused_with_the_limit_and_disturbs_nobody(case: Case) -> None:
    person = case("40")
    person.dtest("up", "--workers", "1", "--slots", "2").good()
    try:
        ends = {
            size: person.dtest(
                "submit",
                "-",
                "--wait",
                stdin=subprocess.run(
                    [sys.executable, "make.py", str(size)],
                    cwd=person.cwd,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout,
            )
            for size in (783, 785, 5000)
        }
        after = person.dtest("submit", "--wait", "--", "true")
        verified = person.dtest("event", "verify")
    finally:
        person.dtest("down")

    assert [ends[size].code for size in (783, 785, 5000)] == [0, 2, 2]
    for size in (785, 5000):
        assert "--ship" in ends[size].err
    assert (after.code, verified.code) == (0, 0)
