"""Output as it comes: by long polling, each byte once, until the attempt has ended."""

import base64
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.kit.stack import Api, Json, RunningStack, command, never

SUBMIT = "/api/tasks/submit"
WAIT_S = 20


def data(piece: Json) -> bytes:
    return base64.b64decode(piece["data"])


def read(api: Api, task: str, **query: Any) -> bytes:
    """All of one attempt, to its end."""
    found, after = b"", "0:0"
    while True:
        piece = api.get(f"/api/tasks/{task}/output", after=after, wait_s=WAIT_S, **query)
        found, after = found + data(piece), piece["next"]
        if piece["complete"]:
            return found


def test_output_comes_before_its_attempt_has_ended(api: Api, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    line = f"printf one; until test -e {gate}; do sleep 0.05; done; printf two"
    api.post(SUBMIT, command("sh", "-c", line, task_id="follows"))

    first = api.get("/api/tasks/follows/output", wait_s=WAIT_S)
    while not first["data"]:  # a loaded machine
        first = api.get("/api/tasks/follows/output", wait_s=WAIT_S, after=first["next"])
    gate.touch()
    then = read(api, "follows")
    last = api.get("/api/tasks/follows/output", after=first["next"])

    assert (data(first), first["complete"], first["attempt"]) == (b"one", False, 1)
    assert then == b"onetwo"
    assert (data(last), last["complete"]) == (b"two", True)


def test_a_wait_ends_with_the_attempt_though_it_says_nothing(api: Api) -> None:
    answer = api.post(SUBMIT, command("true", task_id="silent"))

    assert read(api, "silent") == b""
    shown = api.get("/api/tasks/silent", after=answer["seq"])
    assert shown["status"] == "passed"


def test_each_attempt_has_its_own(api: Api) -> None:
    line = 'printf "try $DTEST_ATTEMPT"; [ $DTEST_ATTEMPT = 2 ]'
    task = {**command("sh", "-c", line, task_id="tries"), "retry_policy": {"max_retries": 1}}
    api.post(SUBMIT, task)

    assert read(api, "tries", attempt=1) == b"try 1"
    assert read(api, "tries", attempt=2) == b"try 2"
    end = api.get("/api/tasks/tries/output", attempt=3, wait_s=WAIT_S)
    assert (end["complete"], end["final"], end["latest_attempt"]) == (True, True, 2)


def test_a_task_that_never_runs_is_complete_once_it_is_cancelled(
    stack: RunningStack, api: Api
) -> None:
    api.post(SUBMIT, never(task_id="never-says"))
    waiting = api.get("/api/tasks/never-says/output")
    found: list[Json] = []

    def wait() -> None:
        with stack.api() as mine:
            found.append(mine.get("/api/tasks/never-says/output", wait_s=WAIT_S))

    thread = threading.Thread(target=wait)
    thread.start()
    api.post("/api/tasks/never-says/cancel")
    thread.join()

    assert (waiting["complete"], waiting["final"]) == (False, False)
    assert (found[0]["complete"], found[0]["final"], found[0]["latest_attempt"]) == (True, True, 0)


@pytest.mark.parametrize(
    "query",
    [
        *({"after": "1"}, {"after": "-1:0"}, {"after": "x:y"}),
        *({"wait_s": "nan"}, {"wait_s": 999}, {"attempt": 0}),
    ],
)
def test_a_place_that_is_none_is_refused(api: Api, query: Json) -> None:
    api.refused(422, "GET", "/api/tasks/any/output", params=query)


def test_a_place_beyond_the_end_holds_nothing(api: Api) -> None:
    api.post(SUBMIT, never(task_id="beyond"))

    piece = api.get("/api/tasks/beyond/output", after="999999999:0", wait_s=0.1)

    assert (data(piece), piece["next"]) == (b"", "999999999:0")
    api.refused(404, "GET", "/api/tasks/nobody-at-all/output")
