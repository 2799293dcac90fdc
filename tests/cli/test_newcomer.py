"""What stops somebody who is new here: words nearly right, and answers that say too little."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cell import CellUser, command, simulated
from tests.cli.command import DTEST, Ended, Person, eventually
from tests.cli.conftest import Suite

NewId = Callable[[str], str]
NAMED = "def test_one(): pass\ndef test_two(): assert False\n"
ASKED = (
    "import pytest\n\ndef test_asks(request): assert request.config.getoption('colour') == 'red'\n"
)
UNITS = "import unittest\nclass T(unittest.TestCase):\n    def test_a(self): pass\n"
COLOUR = "def pytest_addoption(parser): parser.addoption('--colour')\n"


# -- what stands behind -- ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        (("--", "-k", "one"), 1),
        (("--", "-k", "not two", "-p", "no:cacheprovider"), 1),
        (("--runner-argument=-k", "--runner-argument=one"), 1),
        (("--runner", "pytest -k one"), 1),
        (("-k", "one or two", "--", "--deselect", "test_named.py::test_two"), 1),
        (("test_named.py", "--", "-k", "one"), 1),
    ],
)
def test_what_stands_behind_two_dashes_is_pytests(
    cell: CellUser, suite: Suite, words: tuple[str, ...], passed: int
) -> None:
    home = suite(test_named=NAMED)

    ended = cell.at(home).dtest("test", *words).good()

    assert ended.out == f"{passed} passed\n"


def test_options_of_the_suites_own_plugins_are_handed_on(cell: CellUser, suite: Suite) -> None:
    home = suite(test_asks=ASKED, conftest=COLOUR)

    assert cell.at(home).dtest("test", "--", "--colour", "red").good().out == "1 passed\n"
    assert cell.at(home).dtest("test", "--", "--colour=red").good().out == "1 passed\n"
    assert cell.at(home).dtest("test", "--", "--color-of-it", "red").code != 0


def test_paths_behind_two_dashes_choose_as_they_do_before_them(
    cell: CellUser, suite: Suite
) -> None:
    home = suite(test_named=NAMED, test_other="def test_other(): pass\n")

    assert cell.at(home).dtest("test", "--", "test_other.py").good().out == "1 passed\n"
    one = cell.at(home).dtest("test", "--", "test_named.py::test_one", "-q").good()
    assert one.out == "1 passed\n"


@pytest.mark.parametrize(
    "word", ["--setup-only", "--setup-plan", "--collect-only", "--co", "-n", "--dist=load", "--pdb"]
)
def test_what_would_run_no_test_or_elsewhere_is_refused(
    cell: CellUser, suite: Suite, word: str
) -> None:
    ended = cell.at(suite(test_named=NAMED)).here("test", f"--runner-argument={word}")

    assert ended.code == 2
    assert f"{word.partition('=')[0]} does not go with dtest" in ended.err


@pytest.mark.parametrize("word", ["--setup-only", "--setup-plan"])
def test_a_test_that_was_never_called_has_not_passed(
    cell: CellUser, suite: Suite, word: str
) -> None:
    home = suite(ini=f"addopts = {word}\n", test_named=NAMED)

    ended = cell.at(home).dtest("test")

    assert ended.code == 1
    assert "2 error" in ended.out
    assert "it was set up and never called" in ended.err


def test_another_runner_gets_them_too(cell: CellUser, suite: Suite) -> None:
    home = suite(test_units=UNITS)

    ended = cell.at(home).dtest("test", "--runner", "unittest", "--", "-p", "test_*.py").good()

    assert ended.out == "1 passed\n"


# -- types of task --------------------------------------------------------------------------------


def test_a_type_that_no_worker_runs_is_told_everywhere(cell: CellUser, new_id: NewId) -> None:
    task = new_id("odd")
    document = {"task_id": task, "type": "commandd", "config": {}}

    ended = cell.submit(document, options=())
    assert ended.code == 0
    assert "1 task: no worker runs tasks of type 'commandd' (did you mean 'command'?)" in ended.err
    assert "there are: command, test" in ended.err
    assert (
        "no worker runs the 1 task of type 'commandd'; there are: command, test"
        in cell.here("status").good().out
    )
    found = {line["name"]: line for line in cell.here("doctor", "--json").good().lines}
    assert found["task types"]["state"] == "warning"
    assert "1 task of type 'commandd'" in found["task types"]["text"]
    late = cell.here(
        "submit",
        "-",
        "--wait",
        "--timeout",
        "0.5",
        stdin=json.dumps([{**document, "task_id": new_id("odd")}]),
    )
    assert late.code == 8
    assert "does not run tasks of type commandd" in late.err
    for name in ("@last", task):
        cell.here("task", "cancel", name).good()


def test_real_workers_come_first_among_those_that_do_not_match(
    cell: CellUser, new_id: NewId
) -> None:
    task = new_id("rocm")
    cell.submit(command("true", task_id=task, requirements={"hardware": ["rocm"]}), options=())

    reasons = cell.here("why", task).good().out.splitlines()
    assert reasons[1:] == [
        "  local-1 has no rocm (no_match)",
        "  1 simulated worker: for simulated tasks only (no_match)",
    ]
    cell.here("task", "cancel", task).good()


# -- documents ------------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_once(cell: CellUser) -> None:
    ended = cell.submit(
        {
            "type": "command",
            "configx": {},
            "config": {"command": 5, "cwdd": "x"},
            "priority": "high",
            "requirements": {"hardwear": ["cuda"]},
        }
    )

    assert ended.code == 2
    for words in (
        "unknown field 'configx' (did you mean 'config'?)",
        "requirements: unknown field 'hardwear' (did you mean 'hardware'?)",
        "config: unknown field 'cwdd' (did you mean 'cwd'?)",
        "priority: Input should be a valid integer",
        "'high'",
        "config.command",
        "not 5",
    ):
        assert words in ended.err, (words, ended.err)


@pytest.mark.parametrize("files", ["test_named.py", ["test_named.py"]])
def test_a_test_has_other_names_for_its_fields(
    cell: CellUser, suite: Suite, files: str | list[str]
) -> None:
    home = suite(test_named=NAMED)
    config = {"cwd": str(home), "test_file": files, "test_args": ["-k", "one"]}

    ended = cell.submit({"type": "test", "config": config}).good()

    shown = cell.here("task", "show", "@last", "--json").json
    assert [case["nodeid"] for case in shown["testcases"]] == ["test_named.py::test_one"]
    assert shown["document"]["config"]["paths"] == ["test_named.py"]
    both = cell.submit({"type": "test", "config": {**config, "paths": ["x"]}})
    assert both.code == 2
    assert "test_file is another name of paths, and both are there" in both.err
    assert ended.code == 0


# -- a task, as it is shown -----------------------------------------------------------------------


def test_a_task_is_shown_upright_with_what_it_exceeded(cell: CellUser, new_id: NewId) -> None:
    task = new_id("late")
    cell.submit(command("sleep 60", task_id=task, timeout_seconds=0.5, grace_seconds=0.1))

    lines = dict(
        line.strip().split("\t") for line in cell.here("task", "show", task).good().out.splitlines()
    )
    assert lines["task"] == task
    assert lines["status"].endswith("(run_timeout)")
    assert "exceeded its limit of 0.5 s" in lines["took"]
    assert "started_at" in lines


def test_artefacts_are_listed_and_brought_here(cell: CellUser, new_id: NewId) -> None:
    task = new_id("leaves")
    line = 'mkdir -p "$DTEST_ARTIFACT_DIR/deep"; echo hello > "$DTEST_ARTIFACT_DIR/deep/a.txt"'
    cell.submit(command(line, task_id=task)).good()

    shown = cell.here("task", "show", task).good().out
    assert "deep/a.txt (6 bytes)" in shown
    assert "deep/a.txt\t6" in cell.here("task", "artifacts", task).good().out
    told = cell.here("task", "artifacts", task, "--to", "got", "--json").good().json
    assert [each["name"] for each in told["artifacts"]] == ["deep/a.txt"]
    assert (cell.cwd / "got" / "attempt-1" / "deep" / "a.txt").read_text() == "hello\n"
    assert "no artefacts" in cell.here("task", "artifacts", task, "--attempt", "2").good().err


# -- workers --------------------------------------------------------------------------------------


def test_a_drain_is_undone_and_a_reinstatement_says_what_it_did(
    cell: CellUser, new_id: NewId
) -> None:
    name = "local-1"
    assert "nothing kept work away" in cell.here("worker", "reinstate", name).good().err
    cell.here("worker", "drain", name).good()
    eventually(lambda: state_of(cell, name) == "draining", what="it drains")
    assert "it drains already" in cell.here("worker", "drain", name).good().err

    assert "its drain ends" in cell.here("worker", "reinstate", name).good().err
    eventually(lambda: state_of(cell, name) == "active", what="it takes work")
    cell.submit(command("true")).good()
    cell.here("worker", "quarantine", name).good()
    eventually(lambda: guard_of(cell, name) == "quarantined", what="it is quarantined")
    assert "its breaker, quarantined, closes" in cell.here("worker", "reinstate", name).good().err
    eventually(lambda: guard_of(cell, name) == "closed", what="it is let in")


def state_of(cell: CellUser, worker: str) -> str:
    return str(cell.here("worker", "show", worker, "--json").good().json["status"])


def guard_of(cell: CellUser, worker: str) -> str:
    return str(cell.here("worker", "show", worker, "--json").good().json["guard"])


# -- figures, status, replay ----------------------------------------------------------------------


def test_numbers_agree_with_their_nouns(cell: CellUser) -> None:
    ended = cell.submit(simulated(), options=())

    assert ": 1 task, at " in ended.err


def test_the_status_is_data_and_whole(cell: CellUser) -> None:
    ended = cell.here("status").good()

    assert ended.err == ""
    assert ended.out.startswith("cell main, leader ")
    assert "no scheduler stands by" in ended.out


def test_a_replay_shows_json_and_no_python(cell: CellUser) -> None:
    shown = dict(
        line.split(": ", 1) for line in cell.here("event", "replay").good().out.splitlines()
    )

    for name in ("tasks", "workers", "ignored", "parameters_set"):
        assert isinstance(json.loads(shown[name]), dict), shown[name]
    assert shown["at"].endswith("Z")


# -- a server's address ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://127.0.0.1:8443", "speaks HTTP without TLS"),
        ("http://127.0.0.1", "not of the form http://HOST:PORT"),
        ("http://127.0.0.1:99999", "cannot listen"),
        ("127.0.0.1:80", "not of the form"),
        ("http://127.0.0.1:80/path", "not of the form"),
    ],
)
def test_an_api_that_cannot_listen_says_so_in_one_line(
    cell: CellUser, url: str, words: str
) -> None:
    ended = cell.dtest(
        "server", "api", "--api", url, "--token", "t", "--nats", "nats://127.0.0.1:1"
    )

    assert ended.code in {2, 3}
    assert words in ended.err
    assert "Traceback" not in ended.err + ended.out


# -- two machines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (".".join("0000"), "names no single IPv4 address"),
        ("192.0.2.1", "this machine has no such address"),
        ("nowhere", "names no single IPv4 address"),
        ("::1", "names no single IPv4 address"),
    ],
)
def test_an_address_at_which_nobody_can_listen_is_refused(
    person: Person, address: str, words: str
) -> None:
    ended = person.dtest("up", "--listen", address)

    assert ended.code == 2
    assert words in ended.err


def test_another_machine_joins_by_the_line_that_is_printed(person: Person) -> None:
    up: Ended = person.dtest("up", "--workers", "0", "--listen", "127.0.0.2").good()
    assert "let only machines that you trust reach this address" in up.err
    line = up.out.strip()
    assert "nats://127.0.0.2:" in line

    joined = joining(person, line)
    try:
        eventually(
            lambda: "guest" in person.dtest("worker", "ls").out, what="the other machine is there"
        )
        ended = person.dtest("submit", "--wait", "--", "echo", "from", "afar").good()
        assert ended.out == "from afar\n"
    finally:
        joined.terminate()
        joined.wait(30)
    person.dtest("down", "--purge").good()
    person.nothing_is_left()


def joining(person: Person, line: str) -> "subprocess.Popen[Any]":
    """Type the line at another machine's prompt."""
    home = person.home / "elsewhere"
    home.mkdir(parents=True)
    path = str(Path(DTEST).parent)
    env = {**person.env, "HOME": str(home), "PATH": f"{path}:{person.env['PATH']}"}
    return subprocess.Popen(
        ["/bin/sh", "-c", f"exec env {line} --name guest"],
        env=env,
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
