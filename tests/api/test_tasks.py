"""Tasks over HTTP: submitted, listed, shown, explained, cancelled, run again."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.kit.stack import Api, Json, RunningStack, command, never, simulated

SUBMIT = "/api/tasks/submit"


def ids(answer: Json) -> list[str]:
    return [task["task_id"] for task in answer["tasks"]]


# -- submission -----------------------------------------------------------------------------------


def test_one_task_is_accepted_and_runs(api: Api) -> None:
    answer = api.post(SUBMIT, simulated())

    (task,) = answer["tasks"]
    assert task["status"] == "accepted"
    assert task["code"] is None
    shown = api.finished(task["task_id"], after=answer["seq"] - 1)
    assert shown["status"] == "passed"
    assert shown["run_id"] == answer["run_id"]


def test_a_batch_is_one_run(api: Api) -> None:
    answer = api.submit(simulated(), simulated(), never(), name="nightly", labels={"branch": "x"})

    assert [task["status"] for task in answer["tasks"]] == ["accepted"] * 3
    assert len(set(ids(answer))) == 3
    run = api.get(f"/api/runs/{answer['run_id']}", after=answer["seq"])
    assert (run["name"], run["labels"], run["tasks"]) == ("nightly", {"branch": "x"}, 3)
    assert not run["finished"]


def test_a_task_keeps_the_id_and_run_that_it_names(api: Api) -> None:
    task = never(task_id="my-own-id", run_id="my-own-run")

    answer = api.post(SUBMIT, task)

    assert (answer["run_id"], ids(answer)) == ("my-own-run", ["my-own-id"])
    assert api.get("/api/tasks/my-own-id")["run_id"] == "my-own-run"


def test_a_task_with_an_id_of_its_own_may_be_submitted_again(api: Api) -> None:
    first = api.post(SUBMIT, never(task_id="twice"))
    again = api.post(SUBMIT, never(task_id="twice"))

    assert again["run_id"] == first["run_id"]
    assert [task["status"] for task in again["tasks"]] == ["accepted"]
    (listed,) = api.items("/api/tasks", run_id=first["run_id"], after=again["seq"])
    assert listed["seq"] == first["seq"]


def test_other_content_under_a_known_id_is_refused(api: Api) -> None:
    api.post(SUBMIT, never(task_id="taken"))

    error = api.refused(409, "POST", SUBMIT, json=never(task_id="taken", priority=1))

    assert "task_conflict" in error["message"]
    assert api.get("/api/tasks/taken")["priority"] == 5


def test_a_batch_says_of_each_task_what_became_of_it(api: Api) -> None:
    answer = api.submit(
        never(task_id="good-one"),
        never(task_id="lonely", dependencies=["nobody-knows-it"]),
        never(task_id="narcissus", dependencies=["narcissus"]),
    )

    told = {task["task_id"]: (task["status"], task["code"]) for task in answer["tasks"]}
    assert told == {
        "good-one": ("accepted", None),
        "lonely": ("refused", "unknown_dependency"),
        "narcissus": ("refused", "dependency_cycle"),
    }
    assert all(task["detail"] for task in answer["tasks"] if task["status"] == "refused")


def test_what_was_submitted_can_be_read_at_once(api: Api) -> None:
    for _ in range(10):
        answer = api.post(SUBMIT, never())

        found = api.get("/api/tasks", run_id=answer["run_id"], after=answer["seq"])

        assert [task["task_id"] for task in found["items"]] == ids(answer)
        assert found["seq"] >= answer["seq"]


@pytest.mark.parametrize("later", [1_000, 2**52])
def test_a_read_after_what_is_not_recorded_is_refused(api: Api, later: int) -> None:
    last = api.get("/api/health/db")["journal_seq"]

    for path in ("/api/tasks", "/api/status", "/api/runs/@last", "/api/workers/status"):
        error = api.refused(422, "GET", path, params={"after": last + later})

        assert "the journal ends at" in error["message"]


# -- idempotency ----------------------------------------------------------------------------------


def test_the_same_key_submits_once(api: Api) -> None:
    batch = {"name": "keyed", "tasks": [simulated(), simulated()]}

    first = api.post(SUBMIT, batch, **{"Idempotency-Key": "only-once"})
    second = api.post(SUBMIT, batch, **{"Idempotency-Key": "only-once"})

    assert second == first
    assert len(api.items("/api/tasks", run_id=first["run_id"], after=first["seq"])) == 2
    assert len([run for run in api.items("/api/runs") if run["name"] == "keyed"]) == 1
    single = api.post(SUBMIT, never(), **{"Idempotency-Key": "one-task"})
    assert api.post(SUBMIT, never(), **{"Idempotency-Key": "one-task"}) == single


def test_the_same_key_at_the_same_time_submits_once(stack: RunningStack, api: Api) -> None:
    together = threading.Barrier(8)
    batch = {"name": "raced", "tasks": [never() for _ in range(20)]}

    def send(_: int) -> Json:
        with stack.api() as mine:
            together.wait()
            return mine.post(SUBMIT, batch, **{"Idempotency-Key": "race"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))

    assert len({str(answer) for answer in answers}) == 1
    found = api.items("/api/tasks", run_id=answers[0]["run_id"], after=answers[0]["seq"])
    assert sorted(task["task_id"] for task in found) == sorted(ids(answers[0]))
    recorded = [
        event
        for event in api.items("/api/events", type="task.queued")
        if event["data"]["run_id"] == answers[0]["run_id"]
    ]
    assert len(recorded) == 20, "the journal holds each once"


def test_different_keys_submit_different_tasks(api: Api) -> None:
    keys = ["k", "k/tasks", "k/event/0", "k/0", "K"]

    answers = [api.post(SUBMIT, never(), **{"Idempotency-Key": key}) for key in keys]

    assert len({answer["run_id"] for answer in answers}) == len(keys)
    assert len({name for answer in answers for name in ids(answer)}) == len(keys)
    for answer in answers:
        assert len(api.items("/api/tasks", run_id=answer["run_id"], after=answer["seq"])) == 1


@pytest.mark.parametrize(
    "later",
    [
        {"tasks": [never(priority=1)], "name": "keyed"},
        {"tasks": [never(), never()], "name": "keyed"},
        never(),
    ],
    ids=["other-task", "one-more", "not-a-batch"],
)
def test_a_key_that_was_used_for_something_else_is_refused(api: Api, later: Json) -> None:
    key = {"Idempotency-Key": f"reused-{hashlib.sha256(str(later).encode()).hexdigest()}"}
    first = api.post(SUBMIT, {"tasks": [never()], "name": "keyed"}, **key)

    answer = api.http.post(SUBMIT, json=later, headers=key)

    if answer.status_code == 409:
        assert "dempotency" in str(answer.json())
    else:  # the part that is the same stands; what was never recorded is not called accepted
        told = answer.json()["tasks"]
        recorded = {task["task_id"] for task in api.items("/api/tasks", after=first["seq"])}
        assert {task["task_id"] for task in told if task["status"] == "accepted"} <= recorded
        assert [task["status"] for task in told][len(first["tasks"]) :] == ["refused"] * (
            len(told) - len(first["tasks"])
        )


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_a_key_that_cannot_be_one_is_refused(api: Api, key: str) -> None:
    api.refused(422, "POST", SUBMIT, json=never(), headers={"Idempotency-Key": key})


# -- what is not accepted -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "type"),
        ({"type": "command"}, "command"),
        ({"type": 7, "config": {}}, "type"),
        ({"tasks": []}, "tasks"),
        ({"tasks": 7}, "tasks"),
        ({"tasks": [7]}, "tasks"),
        ({"tasks": [never()], "labelz": "typo"}, "labelz"),
        ({"tasks": [never()], "labels": {"a": 1}}, "labels"),
        ({"tasks": [never()], "run_id": "no spaces"}, "run_id"),
        ({"tasks": [never(), {"type": "command"}]}, "command"),
        (never(task_id="a b"), "task_id"),
        (never(task_id="x" * 101), "task_id"),
        (never(task_id="a.b"), "task_id"),
        (never(run_id={"a": 1}), "run_id"),
        (never(run_id=7), "run_id"),
        (never(priority=-1), "priority"),
        (never(priority="high"), "priority"),
        (never(timeout_seconds=0), "timeout_seconds"),
        (never(pirority=1), "pirority"),
        (never(requirements={"hardwear": []}), "hardwear"),
        (never(dependencies="t1"), "dependencies"),
        (never(deadline="tomorrow"), "deadline"),
        (never(deadline="2026-11-01T00:00:00"), "deadline"),
        ([7], "body"),
        (7, "body"),
        (None, "body"),
        ("x", "body"),
    ],
)
def test_what_is_no_task_is_refused_with_the_field(api: Api, body: Any, named: str) -> None:
    error = api.refused(422, "POST", SUBMIT, json=body)

    assert named in error["message"]


@pytest.mark.parametrize(
    "content",
    [
        b'{"type": "plugin", "config": {"a": NaN}}',
        b'{"type": "plugin", "config": {"a": Infinity}}',
        b'{"type": "plugin", "config": {"a": 1e999}}',
        rb'{"type": "plugin", "config": {"a": "\ud800"}}',
        rb'{"type": "plugin", "config": {"\ud800": 1}}',
        rb'{"type": "plugin", "\ud800": 1}',
        rb'{"tasks": [{"type": "plugin"}], "\ud800": 1}',
        rb'{"tasks": [{"type": "plugin"}], "labels": {"a": "\ud800"}}',
        b'{"type": "plugin", "config": {"a": ' + b"9" * 40 + b"}}",
        b'{"type": "plugin", "config": {"a": ' + b"9" * 5000 + b"}}",
        b'{"type": "plugin", "config": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type": "plug',
        b"\xff\xfe",
        b"\x00",
        b"",
    ],
    ids=lambda content: content[:50].decode("latin-1"),
)
def test_what_cannot_be_recorded_is_refused_and_breaks_nothing(api: Api, content: bytes) -> None:
    headers = {"content-type": "application/json"}

    answer = api.http.post(SUBMIT, content=content, headers=headers)

    assert answer.status_code in {400, 422}, answer.text
    assert set(answer.json()) == {"error"}


def test_more_tasks_than_a_submission_may_hold_are_refused(api: Api) -> None:
    one = b'{"type":"x"}'
    body = b'{"tasks":[' + b",".join([one] * 100_001) + b"]}"
    before = api.get("/api/status")["runs"]

    error = api.refused(
        422, "POST", SUBMIT, content=body, headers={"content-type": "application/json"}
    )

    assert "100000" in error["message"]
    assert api.get("/api/status")["runs"] == before


def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    headers = {"content-type": "application/json"}
    megabyte = b" " * (1 << 20)

    declared = api.refused(413, "POST", SUBMIT, content=megabyte * 80, headers=headers)
    streamed = api.refused(413, "POST", SUBMIT, content=iter([megabyte] * 80), headers=headers)

    assert declared["code"] == streamed["code"] == "too_large"


def test_a_task_that_is_too_large_for_the_journal_is_refused(api: Api) -> None:
    for size in (900_000, 2_000_000, 10_000_000):
        task = {"type": "plugin", "config": {"data": "x" * size}}

        answer = api.http.post(SUBMIT, json=task)

        assert answer.status_code in {409, 422}, answer.text
        assert set(answer.json()) == {"error"}


# -- lists ----------------------------------------------------------------------------------------


def test_pages_show_each_task_once(api: Api) -> None:
    answer = api.submit(*[never() for _ in range(250)])

    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = api.get(
            "/api/tasks", run_id=answer["run_id"], limit=100, after=answer["seq"], **cursor
        )
        pages.append([task["task_id"] for task in page["items"]])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
        api.post(SUBMIT, never())  # what comes in meanwhile moves nothing

    assert [len(page) for page in pages] == [100, 100, 50]
    assert sorted(name for page in pages for name in page) == sorted(ids(answer))


def test_a_list_is_newest_first_and_its_items_are_plain(api: Api) -> None:
    old = api.post(SUBMIT, never(run_id="plain"))
    new = api.post(SUBMIT, never(run_id="plain"))

    items = api.items("/api/tasks", run_id="plain", after=new["seq"])

    assert [task["task_id"] for task in items] == ids(new) + ids(old)
    assert items[0]["document"]["requirements"]["hardware"] == ["qnn"]
    for path in ("/api/tasks", "/api/runs", "/api/events", "/api/testcases", "/api/attempts"):
        for item in api.get(path, limit=5)["items"]:
            assert "page_key" not in item, path


@pytest.mark.parametrize("limit", [1, 3])
@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/api/tasks", ("task_id",)),
        ("/api/runs", ("run_id",)),
        ("/api/events", ("seq", "idx")),
        ("/api/workers", ("worker_id",)),
    ],
)
def test_every_list_can_be_paged(api: Api, path: str, keys: tuple[str, ...], limit: int) -> None:
    for _ in range(2):
        api.submit(never(), never(), never(), never())

    pages: list[list[tuple[Any, ...]]] = []
    cursor: dict[str, str] = {}
    while len(pages) < 4:
        page = api.get(path, limit=limit, **cursor)
        pages.append([tuple(item[key] for key in keys) for item in page["items"]])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}

    paged = [item for page in pages for item in page]
    whole = [tuple(item[key] for key in keys) for item in api.get(path, limit=1000)["items"]]
    start = whole.index(paged[0])
    assert paged == whole[start : start + len(paged)]
    assert all(len(page) == limit for page in pages[:-1])


def test_filters_narrow_together(api: Api) -> None:
    answer = api.submit(simulated(task_id="filter-done"), never(task_id="filter-waits"))
    api.finished("filter-done", after=answer["seq"] - 1)
    run = {"run_id": answer["run_id"]}

    def found(**query: Any) -> set[str]:
        return {task["task_id"] for task in api.items("/api/tasks", **run, **query)}

    assert found() == {"filter-done", "filter-waits"}
    assert found(status="passed") == {"filter-done"}
    assert found(status=["passed", "queued"]) == {"filter-done", "filter-waits"}
    assert found(status="failed") == set()
    assert found(worker_id="sim-cpu-0") == {"filter-done"}
    assert found(worker_id="sim-cpu-0", status="queued") == set()
    assert found(worker_id="' OR 1=1 --") == set()


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": "many"},
        {"after": -1},
        {"after": "x"},
        {"after": 2**63},
        {"cursor": "x" * 1001},
        {"status": ["x"] * 21},
        {"run_id": "x" * 201},
    ],
    ids=str,
)
def test_a_query_that_makes_no_sense_is_refused(api: Api, query: Json) -> None:
    api.refused(422, "GET", "/api/tasks", params=query)


@pytest.mark.parametrize("cursor", ["x", "'", "\x00", "", "9" * 30, "ü"])
def test_a_made_up_cursor_breaks_nothing(api: Api, cursor: str) -> None:
    for path in ("/api/tasks", "/api/events", "/api/attempts", "/api/runs", "/api/testcases"):
        answer = api.http.get(path, params={"cursor": cursor})

        assert answer.status_code in {200, 422}


# -- one task -------------------------------------------------------------------------------------


def test_a_task_is_found_by_a_unique_beginning_of_its_id(api: Api) -> None:
    api.submit(never(task_id="prefix-aa"), never(task_id="prefix-ab"), never(task_id="prefix"))

    assert api.get("/api/tasks/prefix-aa")["task_id"] == "prefix-aa"
    assert api.get("/api/tasks/prefix")["task_id"] == "prefix", "the whole id before a beginning"
    assert api.get("/api/tasks/prefix-ab")["task_id"] == "prefix-ab"
    several = api.refused(404, "GET", "/api/tasks/prefix-")
    assert "more than one" in several["message"]
    nobody = api.refused(404, "GET", "/api/tasks/prefix-ac")
    assert "no task" in nobody["message"]
    assert nobody["hint"]


def test_a_task_shows_its_attempts(api: Api) -> None:
    task = simulated("failed", task_id="with-attempts", retry_policy={"max_retries": 1})
    answer = api.post(SUBMIT, task)
    with api.stack.events(answer["seq"] - 1, "attempt.finished") as stream:
        stream.until("dev.dtest.attempt.finished.v1", "with-attempts")
        seq = stream.until("dev.dtest.attempt.finished.v1", "with-attempts")

    shown = api.get("/api/tasks/with-attempts", after=seq)

    assert (shown["status"], shown["reason"]) == ("failed", "exit_nonzero")
    assert [(item["attempt"], item["status"]) for item in shown["attempts"]] == [
        (1, "failed"),
        (2, "failed"),
    ]
    assert shown["attempts"][0]["started_at"] <= shown["attempts"][0]["finished_at"]
    assert shown["as_of_seq"] >= seq


def test_why_names_every_reason(api: Api) -> None:
    answer = api.submit(
        never(task_id="why-not"), never(task_id="why-blocked", dependencies=["why-not"])
    )

    waits = api.get("/api/tasks/why-not/why", after=answer["seq"])
    blocked = api.get("/api/tasks/why-blocked/why")

    assert waits["status"] == "queued"
    assert {"local-1", "sim-cpu-0"} <= {reason["worker_id"] for reason in waits["reasons"]}
    assert any("qnn" in reason["text"] for reason in waits["reasons"])
    assert blocked["status"] == "blocked"
    assert "why-not" in [reason["task_id"] for reason in blocked["reasons"]]
    api.refused(404, "GET", "/api/tasks/nobody/why")


# -- cancel and retry -----------------------------------------------------------------------------


def cancelled(api: Api, task_id: str, after: int) -> Json:
    """The task, once it is cancelled."""
    with api.stack.events(after, "attempt.finished", "task.ended") as stream:
        while True:
            message = stream.message()
            if any(event["subject"] == task_id for event in message["events"]):
                return api.get(f"/api/tasks/{task_id}", after=message["seq"])


def test_a_waiting_task_is_cancelled(api: Api) -> None:
    api.post(SUBMIT, never(task_id="cancel-waiting"))

    asked = api.post("/api/tasks/cancel-waiting/cancel", {"reason": "superseded"})

    shown = cancelled(api, "cancel-waiting", asked["seq"])
    assert (shown["status"], shown["reason"]) == ("cancelled", "cancelled_user")
    (event,) = api.items("/api/events", entity="cancel-waiting", type="task.cancel_requested")
    assert event["data"]["reason"] == "superseded"


def test_a_running_task_is_cancelled(api: Api) -> None:
    answer = api.post(SUBMIT, command("sleep", "3600", task_id="cancel-running"))
    with api.stack.events(answer["seq"] - 1, "attempt.started") as stream:
        stream.until("dev.dtest.attempt.started.v1", "cancel-running")

    asked = api.post("/api/tasks/cancel-running/cancel")

    shown = cancelled(api, "cancel-running", asked["seq"])
    assert (shown["status"], shown["reason"]) == ("cancelled", "cancelled_user")
    assert shown["attempts"][0]["status"] == "cancelled"


def test_a_run_is_cancelled_with_all_its_tasks(api: Api) -> None:
    answer = api.submit(*[never() for _ in range(3)])
    run = f"/api/runs/{answer['run_id']}"

    asked = api.post(f"{run}/cancel")

    with api.stack.events(asked["seq"], "task.ended") as stream:
        ended: set[str] = set()
        while not set(ids(answer)) <= ended:
            message = stream.message()
            ended |= {event["subject"] for event in message["events"]}
    shown = api.get(run, after=message["seq"])
    assert (shown["cancelled"], shown["finished"]) == (3, True)
    api.refused(404, "POST", "/api/runs/nobody/cancel")


def test_a_task_that_did_not_pass_is_run_again(api: Api) -> None:
    first = api.post(SUBMIT, simulated("failed", task_id="again"))
    assert api.finished("again", after=first["seq"] - 1)["status"] == "failed"

    asked = api.post("/api/tasks/again/retry", {"reason": "the network was down"})

    shown = api.finished("again", after=asked["seq"])
    assert [item["attempt"] for item in shown["attempts"]] == [1, 2]


def test_a_task_that_passed_or_waits_is_not_run_again(api: Api) -> None:
    answer = api.submit(simulated(task_id="retry-passed"), never(task_id="retry-waits"))
    api.finished("retry-passed", after=answer["seq"] - 1)

    for name in ("retry-passed", "retry-waits"):
        error = api.refused(409, "POST", f"/api/tasks/{name}/retry")
        assert name in error["message"]
        assert error["code"] == "conflict"
    api.refused(404, "POST", "/api/tasks/nobody/retry")
    api.refused(422, "POST", "/api/tasks/retry-passed/retry", json={"raeson": "typo"})


# -- results --------------------------------------------------------------------------------------

NOISY = """
import os, pathlib, sys
sys.stdout.buffer.write(bytes(range(256)) * 300)
sys.stdout.flush()
places = [os.environ[name] for name in os.environ if "ARTIFACT" in name]
pathlib.Path(places[0], "deep").mkdir()
pathlib.Path(places[0], "deep", "data.bin").write_bytes(b"\\x00\\xff" * 1000)
"""


@pytest.fixture(scope="module")
def noisy(stack: RunningStack) -> Json:
    """A task that wrote output and left an artefact."""
    with stack.api() as api:
        answer = api.post(SUBMIT, command("python3", "-c", NOISY, task_id="noisy"))
        return api.finished("noisy", after=answer["seq"] - 1)


def test_logs_are_the_bytes_that_were_written(api: Api, noisy: Json) -> None:
    assert noisy["status"] == "passed", noisy

    answer = api.http.get("/api/tasks/noisy/logs")

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == bytes(range(256)) * 300
    assert api.http.get("/api/tasks/noisy/logs", params={"attempt": 1}).content == answer.content
    assert api.http.get("/api/tasks/noisy/logs", params={"attempt": 2}).content == b""
    api.refused(422, "GET", "/api/tasks/noisy/logs", params={"attempt": 0})
    api.refused(404, "GET", "/api/tasks/nobody/logs")


def test_a_result_holds_attempts_artefacts_and_test_cases(api: Api, noisy: Json) -> None:
    result = api.get("/api/results/noisy")

    (attempt,) = result["attempts"]
    assert (attempt["status"], attempt["exit_code"]) == ("passed", 0)
    (artifact,) = attempt["artifacts"]
    assert artifact["size_bytes"] == 2000
    assert result["testcases"] == []
    assert "page_key" not in result
    api.refused(404, "GET", "/api/results/nobody")


def test_an_artefact_is_returned_as_its_bytes(api: Api, noisy: Json) -> None:
    name = noisy["attempts"][0]["artifacts"][0]["name"]

    answer = api.http.get(f"/api/tasks/noisy/artifacts/1/{name}")

    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content == b"\x00\xff" * 1000
    api.refused(404, "GET", "/api/tasks/noisy/artifacts/1/nothing.txt")
    api.refused(404, "GET", f"/api/tasks/noisy/artifacts/2/{name}")
    api.refused(404, "GET", f"/api/tasks/nobody/artifacts/1/{name}")


def test_attempts_show_what_they_went_on_from_and_what_they_left(api: Api) -> None:
    keep = 'cd "$DTEST_CHECKPOINT_DIR"; echo $DTEST_ATTEMPT > x.tmp; mv x.tmp x'
    line = f"cat $DTEST_CHECKPOINT_DIR/x; {keep}; [ $DTEST_ATTEMPT = 3 ] || exit 5"
    retry = {"max_retries": 2}
    task = {**command("sh", "-c", line, task_id="goes-on"), "retry_policy": retry}
    answer = api.post(SUBMIT, task)
    with api.stack.events(answer["seq"] - 1, "attempt.finished") as stream:
        ends = [stream.until("dev.dtest.attempt.finished.v1", "goes-on") for _ in range(3)]
    shown = api.get("/api/tasks/goes-on", after=ends[-1])

    assert shown["status"] == "passed", shown
    attempts = shown["attempts"]
    assert [each["resumed_from"] for each in attempts] == [None, "1/1", "2/1"]
    assert [each["checkpoint"] for each in attempts[:2]] == [1, 1]
    assert all(each["checkpoint_bytes"] > 0 for each in attempts[:2])
    assert attempts[0]["checkpoint_at"].endswith("Z")
    assert [each["checkpoint_problem"] for each in attempts] == [None] * 3
    assert api.http.get("/api/tasks/goes-on/logs", params={"attempt": 3}).text == "2\n"


def test_test_cases_are_listed_with_their_verdicts(api: Api, tmp_path_factory: Any) -> None:
    suite = tmp_path_factory.mktemp("suite")
    suite.joinpath("test_two.py").write_text(
        "def test_good(): pass\ndef test_bad(): assert 1 == 2\n"
    )
    config = {"paths": ["test_two.py"], "cwd": str(suite)}
    answer = api.post(SUBMIT, {"type": "test", "config": config, "task_id": "two-cases"})
    shown = api.finished("two-cases", after=answer["seq"] - 1)
    assert shown["status"] == "failed", shown

    cases = {case["nodeid"]: case for case in api.items("/api/testcases", task_id="two-cases")}

    assert {name: case["outcome"] for name, case in cases.items()} == {
        "test_two.py::test_good": "passed",
        "test_two.py::test_bad": "failed",
    }
    assert "assert 1 == 2" in cases["test_two.py::test_bad"]["message"]
    assert all("page_key" not in case for case in cases.values())
    failed = api.items("/api/testcases", run_id=answer["run_id"], outcome="failed")
    assert [case["nodeid"] for case in failed] == ["test_two.py::test_bad"]
    assert len(api.get("/api/results/two-cases")["testcases"]) == 2
    assert api.get(f"/api/runs/{answer['run_id']}")["testcases"] == {"passed": 1, "failed": 1}


def test_a_list_of_documents_is_a_batch(api: Api) -> None:
    answer = api.post("/api/tasks/submit", [command("true"), command("true")])

    assert [task["status"] for task in answer["tasks"]] == ["accepted", "accepted"]
    (run,) = {
        api.get(f"/api/tasks/{task['task_id']}", after=answer["seq"])["run_id"]
        for task in answer["tasks"]
    }
    assert run == answer["run_id"]
    api.refused(422, "POST", "/api/tasks/submit", json=[])


def test_the_newest_task_has_a_name(api: Api) -> None:
    answer = api.submit(command("true"), command("true"))

    found = api.get("/api/tasks/@last", after=answer["seq"])

    assert found["task_id"] == answer["tasks"][-1]["task_id"]


def test_a_request_that_changes_nothing_says_so(api: Api) -> None:
    answer = api.submit(command("true"))
    task = answer["tasks"][0]["task_id"]
    api.finished(task, after=answer["seq"] - 1)
    ended = api.get(f"/api/tasks/{task}")
    assert ended["status"] == "passed"

    cancelled = api.post(f"/api/tasks/{task}/cancel")
    whole = api.post(f"/api/runs/{answer['run_id']}/cancel")

    assert "it has ended already, passed" in cancelled["note"]
    assert "it has ended already" in whole["note"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"status": "on-the-way"}, "'running'"),
        ({"state": "running"}, "unknown query parameter 'state'"),
        ({"run": "x"}, "run_id"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(api: Api, query: Json, said: str) -> None:
    error = api.refused(422, "GET", "/api/tasks", params=query)

    assert said in f"{error['message']} {error['hint']}"
