"""The exit code of a call says what it came to, and standard error what is wrong and what to do."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.cell import CellUser, command, impossible, simulated
from tests.cli.command import Person, eventually

NOBODY = "http://127.0.0.1:1"


@dataclass(frozen=True)
class Call:
    """A call with what it comes to."""

    words: str
    code: int
    says: str = ""
    stdin: Any = None
    env: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.code} {self.words}"


def submitted(document: Any, code: int, says: str = "", options: str = "--wait") -> Call:
    return Call(f"submit - {options}", code, says, document)


CALLS = [
    # 0: success
    submitted(command("exit 0"), 0, "1 passed"),
    submitted({"tasks": [command("true"), command("true")]}, 0, "2 passed"),
    # 1: work ran and failed
    submitted(command("exit 3"), 1, "1 failed"),
    submitted(command("kill -9 $$"), 1, "1 errored"),
    submitted([command("true"), command("false")], 1, "1 passed, 1 failed"),
    # 2: usage or configuration
    Call("nonsense", 2, "Unknown command"),
    Call("task ls --nonsense", 2, "`dtest task ls --help`"),
    Call("submit --nonsense", 2, "Unknown option: --nonsense"),
    Call("event publish task.queued --nonsense", 2, "Unknown option: --nonsense"),
    Call("task show", 2, "requires an argument"),
    Call("event show first", 2, "unable to convert"),
    Call("submit no-such-file.json", 2, "no-such-file.json cannot be read"),
    submitted("{", 2, "is not JSON"),
    submitted([], 2, "holds no task"),
    submitted(command("true", nonsense=1), 2, "unknown field 'nonsense'"),
    submitted({"type": "command", "config": {}}, 2, "docs/tasks.md"),
    submitted(command("true", priority="urgent"), 2, "priority"),
    submitted(command("true", dependencies=["no-such-task"]), 2, "unknown task no-such-task"),
    Call("task show no-such-task", 2, "no task is called 'no-such-task'"),
    Call("task logs no-such-task", 2, "`dtest task ls`"),
    Call("why no-such-task", 2, "no task is called"),
    Call("run show no-such-run", 2, "`dtest run ls`"),
    Call("worker drain no-such-worker", 2, "`dtest worker ls`"),
    Call("worker quarantine no-such-worker", 2, "`dtest worker ls`"),
    Call("worker reinstate no-such-worker", 2, "`dtest worker ls`"),
    Call("policy set", 2, "none of --ranking, --strategy and --timeouts"),
    Call("policy set --strategy reckless", 2, "reckless"),
    Call("event show 99999999", 2, "no message 99999999"),
    Call("event schema no.such", 2, "`dtest event schema` lists them"),
    Call("event publish task.ended", 2, "clients do not write", {}),
    Call("event publish task.cancel_requested", 2, "Field required", {}),
    Call("event publish task.cancel_requested", 2, "holds no event", []),
    Call("event replay --to yesterday", 2, "neither a sequence number nor"),
    Call("event replay --to 2026-01-01", 2, "lacks its zone"),
    Call("db query SELEC", 2, "syntax error"),
    Call("up", 2, "is up already"),
    Call("up --cell other --simulate abacus", 2, "known: cpu, cuda"),
    Call("up --cell other --simulate cuda:many", 2, "number of workers"),
    Call("up --cell other --workers -1", 2, "--workers is -1"),
    Call("up --cell other --slots 0", 2, "--slots is 0"),
    Call("server rebuild", 2, "owns the read model"),
    Call("test --python no-such-python", 2, "not an interpreter"),
    Call("test --workers 0", 2, "--workers is 0"),
    Call("test --junit no-such-directory/x.xml", 2, "cannot be written"),
    Call("test no_such_file.py", 2, "file or directory not found: no_such_file.py"),
    Call("stress --tasks 0", 2, "tasks must be"),
    Call("status", 2, "cannot be read", env=(("DTEST_TOKEN_FILE", "no-such-file"),)),
    # 3: infrastructure
    Call(f"status --api {NOBODY} --token x", 3, f"no API answers at {NOBODY}"),
    Call("event verify --nats nats://127.0.0.1:1", 3, "no NATS server answers"),
    Call("status --cell empty", 3, "`dtest up`"),
    Call("event verify --cell empty", 3, "DTEST_NATS_URL or --nats"),
    # 4: authentication or permission
    Call("task ls --token wrong", 4, "a valid token is required"),
    Call("event verify", 4, "", env=(("DTEST_NATS_PASSWORD", "wrong"),)),
    # 5: nothing selected
    Call("test .", 5, "no tests ran"),
    # 6: timed out waiting
    submitted(simulated(60), 6, "did not end in 0.2 s", "--wait --timeout 0.2"),
    Call("run watch --timeout 0.2", 6, "`dtest why TASK`"),
    Call("run cancel @last", 0, "recorded at"),
    # 8: no worker can ever match
    submitted(impossible(), 8, "local-1 has no rocm", "--wait --timeout 0.2"),
    Call("run watch --timeout 0.2", 8, "no worker can ever run"),
    Call("run watch --fail-unmatched", 8, "start a worker that has it"),
    Call("run cancel @last", 0, "recorded at"),
    Call("run watch @last", 130, "1 cancelled"),
]


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_call_ends_with_its_code_and_its_words(cell: CellUser, call: Call) -> None:
    stdin = call.stdin if isinstance(call.stdin, str) else json.dumps(call.stdin)

    ended = cell.at(cell.cwd, **dict(call.env)).here(*call.words.split(), stdin=stdin)

    assert ended.code == call.code, ended.err
    assert call.says in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("words", ["nonsense --json", "task show no-such-task --json"])
def test_an_error_is_json_where_json_was_asked_for(cell: CellUser, words: str) -> None:
    ended = cell.here(*words.split())

    assert set(ended.error) == {"code", "message", "hint"}
    assert not ended.out


def test_nothing_runs_yet_is_infrastructure(person: Person) -> None:
    ended = person.here("status", "--json")

    assert ended.code == 3
    assert ended.error["code"] == "unavailable"
    assert "dtest up" in ended.error["hint"]


def test_a_task_that_waits_for_nobody_is_told_of_at_once(cell: CellUser) -> None:
    ended = cell.submit(impossible(), options=("--wait", "--timeout", "0.2", "--json"))

    assert ended.code == 8
    told, *_ = [line for line in ended.err.splitlines() if "no worker can ever run" in line]
    assert told.endswith("(waiting for one that can)")
    assert ended.error["code"] == "no_match"
    cell.here("run", "cancel", "@last").good()


def test_what_can_run_does_so_before_the_wait_for_the_rest_is_given_up(cell: CellUser) -> None:
    ended = cell.submit(command("true"), impossible(), options=("--wait", "--timeout", "2"))

    assert ended.code == 8
    assert cell.here("run", "show", "@last", "--json").json["passed"] == 1
    cell.here("run", "cancel", "@last").good()


def test_a_run_with_a_refused_task_is_waited_for_and_is_no_success(cell: CellUser) -> None:
    ended = cell.submit(command("true"), command("true", dependencies=["no-such-task"]))

    assert ended.code == 2
    assert "unknown_dependency" in ended.err
    assert "1 passed" in ended.err


def test_a_run_without_tasks_selects_nothing(cell: CellUser, tmp_path: Path) -> None:
    opened = json.dumps({"run_id": tmp_path.parent.name, "name": "empty"})
    cell.here("event", "publish", "run.opened", stdin=opened).good()

    eventually(lambda: tmp_path.parent.name in cell.here("run", "ls").out, what="it is listed")
    ended = cell.here("run", "watch", tmp_path.parent.name)

    assert ended.code == 5
    assert "holds no task" in ended.err
