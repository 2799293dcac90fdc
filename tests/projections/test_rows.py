"""The rows of each table, for histories written down by hand."""

import json
from typing import Any

import pytest

from dtest.events.attempt import (
    Artifact,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
    AttemptStarted,
    AttemptStopRequested,
    Checkpoint,
)
from dtest.events.breaker import BreakerHalfOpened, BreakerOpened
from dtest.events.fields import TaskId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.run import RunOpened
from dtest.events.task import (
    TaskCancelRequested,
    TaskEnded,
    TaskRetryRequested,
    TaskRetryScheduled,
)
from dtest.events.worker import (
    Capability,
    Device,
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLeft,
    WorkerQuarantined,
    WorkerRegistered,
    WorkerSuspected,
)
from dtest.leadership.rules import CURRENT, elected
from dtest.projections.store import Store
from dtest.state.term import UNRECORDED_RULES
from tests.kit.world import rules
from tests.projections.history import (
    EPOCH,
    STREAM,
    Delivery,
    History,
    as_json,
    in_batches,
    project,
    records,
    task,
)

ATTEMPTS = "SELECT * FROM attempts ORDER BY task_id, attempt"


@pytest.fixture(params=[1, 1000], ids=["one-by-one", "all-at-once"])
def batch(request: pytest.FixtureRequest) -> int:
    """How many messages one transaction takes: no row may depend on it."""
    return int(request.param)


async def told(store: Store, history: History, batch: int) -> Store:
    """The store after the history."""
    await project(store, Delivery(in_batches(history.stored, batch)))
    return store


async def one(store: Store, sql: str, *parameters: object) -> dict[str, Any]:
    """The only row of a query."""
    (found,) = records(store, sql, *parameters)
    return found


# -- events ---------------------------------------------------------------------------------------


async def test_an_event_has_one_row_with_its_envelope(
    store: Store, history: History, batch: int
) -> None:
    seq = history.queue("t1", "t2")

    await told(store, history, batch)

    first, second = records(store, "SELECT * FROM events WHERE seq = ? ORDER BY idx", seq)
    assert (first["idx"], second["idx"]) == (0, 1)
    assert first["id"] == f"e-{seq}-0"
    assert first["type"] == "task.queued"
    assert first["source"] == "/dtest/main/client/tests"
    assert first["subject"] == "dtest.main.client.tests.task.queued"
    assert (first["entity"], second["entity"]) == ("t1", "t2")
    assert first["stored_at"] == history.at(seq)
    assert first["time"] < first["stored_at"]
    assert first["refusal"] is None
    assert as_json(first["data"]) == {
        "task_id": "t1",
        "type": "command",
        "config": {"command": ["true"]},
        "run_id": "run-1",
    }


async def test_the_position_is_that_of_the_last_message(
    store: Store, history: History, batch: int
) -> None:
    await told(store, history, batch)

    progress = store.progress(STREAM)
    assert progress is not None
    assert progress.seq == history.last


async def test_a_refused_event_keeps_its_row_with_the_reason(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    conflict = history.queue("t1", "t2", priority=1)
    unknown = history.say(TaskCancelRequested(TaskId("nobody")))

    await told(store, history, batch)

    refused = records(store, "SELECT seq, idx, refusal FROM events WHERE refusal IS NOT NULL")
    assert {(row["seq"], row["idx"]) for row in refused} == {(conflict, 0), (unknown, 0)}
    assert {row["refusal"].partition(":")[0] for row in refused} == {
        "task_conflict",
        "unknown_task",
    }


# -- runs -----------------------------------------------------------------------------------------


async def test_a_run_keeps_what_it_was_opened_with(
    store: Store, history: History, batch: int
) -> None:
    opened = history.open("run-1", "nightly", branch="main")
    history.queue("t1")
    history.queue("t2")

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM runs")
    assert row == {
        "run_id": "run-1",
        "name": "nightly",
        "labels": '{"branch":"main"}',
        "opened_at": history.at(opened),
        "opened_by": "/dtest/main/client/tests",
        "seq": opened,
    }


async def test_a_run_that_tasks_merely_name_is_opened_by_the_first_of_them(
    store: Store, history: History, batch: int
) -> None:
    first = history.queue("t1", run_id="run-2")
    history.queue("t2", run_id="run-2")

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM runs")
    assert (row["run_id"], row["name"], row["labels"], row["seq"]) == (
        "run-2",
        "run-2",
        "{}",
        first,
    )


async def test_a_run_may_be_named_after_its_first_task(
    store: Store, history: History, batch: int
) -> None:
    first = history.queue("t1")
    history.open("run-1", "nightly", branch="main")

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM runs")
    assert (row["name"], row["labels"], row["seq"]) == ("nightly", '{"branch":"main"}', first)


async def test_a_run_is_named_once(store: Store, history: History, batch: int) -> None:
    history.open("run-1", "nightly", branch="main")
    history.open("run-1", "other", branch="fork")

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM runs")
    assert (row["name"], row["labels"]) == ("nightly", '{"branch":"main"}')


async def test_the_summary_of_a_run_counts_each_task_once(
    store: Store, history: History, batch: int
) -> None:
    history.open("run-1")
    history.queue("t1", "t2", "t3", "t4")
    for name in ("t1", "t2", "t3"):
        history.assign(name, 1, "w1")
    history.finish("t1", 1, "w1", "passed")
    history.finish("t2", 1, "w1", "failed", reason=Reason.EXIT_NONZERO, exit_code=1)
    history.say(RunOpened(history.fold().tasks[TaskId("t1")].run_id))

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM run_summary")
    counted = {name: row[name] for name in ("tasks", "passed", "failed", "running", "waiting")}
    assert counted == {"tasks": 4, "passed": 1, "failed": 1, "running": 1, "waiting": 1}


async def test_a_run_without_tasks_has_a_summary_of_zeros(
    store: Store, history: History, batch: int
) -> None:
    history.open("run-1")

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM run_summary")
    assert (row["tasks"], row["waiting"], row["changed_at"]) == (0, 0, None)


# -- tasks ----------------------------------------------------------------------------------------


async def test_a_queued_task_has_a_row_with_its_document(
    store: Store, history: History, batch: int
) -> None:
    seq = history.say(task("t1", name="first", priority=2, labels={"team": "core"}))

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM tasks")
    document = as_json(row.pop("document"))
    assert row == {
        "task_id": "t1",
        "run_id": "run-1",
        "name": "first",
        "type": "command",
        "status": "queued",
        "reason": None,
        "priority": 2,
        "attempt": 0,
        "worker_id": None,
        "hardware": None,
        "queued_at": history.at(seq),
        "since": history.at(seq),
        "flaky": False,
        "upstream": None,
        "submitted_by": "/dtest/main/client/tests",
        "seq": seq,
    }
    assert document["labels"] == {"team": "core"}


async def test_a_task_without_name_or_run_still_has_both(
    store: Store, history: History, batch: int
) -> None:
    history.say(task("t1", run_id=None))

    await told(store, history, batch)

    row = await one(store, "SELECT name, run_id FROM tasks")
    assert row == {"name": "t1", "run_id": "adhoc"}


async def test_a_task_that_is_submitted_again_keeps_its_first_row(
    store: Store, history: History, batch: int
) -> None:
    first = history.queue("t1")
    history.queue("t1")
    history.say(task("t1", priority=1))
    both = history.say(task("t2"), task("t2", priority=1))

    await told(store, history, batch)

    rows = records(store, "SELECT task_id, seq, priority FROM tasks ORDER BY seq")
    assert rows == [
        {"task_id": "t1", "seq": first, "priority": 5},
        {"task_id": "t2", "seq": both, "priority": 5},
    ]


async def test_a_task_passes_through_its_states(store: Store, history: History) -> None:
    history.queue("t1")
    steps = [
        (history.assign("t1", 1, "w1"), "assigned"),
        (history.start("t1", 1, "w1"), "running"),
        (history.finish("t1", 1, "w1"), "passed"),
    ]

    for seq, status in steps:
        await project(store, Delivery([history.stored[:seq]]))

        row = await one(store, "SELECT status, since, worker_id, hardware, attempt FROM tasks")
        assert row == {
            "status": status,
            "since": history.at(seq),
            "worker_id": "w1",
            "hardware": "cpu",
            "attempt": 1,
        }


async def test_a_task_that_passes_after_a_failure_is_flaky(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1", retries=1)
    fail_and_retry(history, "t1", 1, "w1")
    history.assign("t1", 2, "w2")
    history.finish("t1", 2, "w2")

    await told(store, history, batch)

    row = await one(store, "SELECT status, flaky, attempt, reason FROM tasks")
    assert row == {"status": "passed", "flaky": True, "attempt": 2, "reason": None}


async def test_a_task_behind_a_failed_one_names_it(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.queue("t2", dependencies=(TaskId("t1"),))
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "failed", reason=Reason.EXIT_NONZERO)
    history.say(TaskEnded(TaskId("t2"), "skipped", Reason.DEPENDENCY_NEVER, TaskId("t1")))

    await told(store, history, batch)

    row = await one(store, "SELECT status, reason, upstream FROM tasks WHERE task_id = 't2'")
    assert row == {"status": "skipped", "reason": "dependency_never", "upstream": "t1"}


# -- attempts -------------------------------------------------------------------------------------


def fail_and_retry(history: History, task_id: str, attempt: int, worker_id: str) -> None:
    """An attempt fails and the task goes back to the queue by its own policy."""
    history.assign(task_id, attempt, worker_id)
    history.start(task_id, attempt, worker_id)
    history.finish(task_id, attempt, worker_id, "failed", reason=Reason.EXIT_NONZERO, exit_code=1)
    history.say(TaskRetryScheduled(TaskId(task_id), attempt, EPOCH, Reason.EXIT_NONZERO, "user"))


async def test_an_attempt_that_passed_has_everything_it_reported(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    assigned = history.assign("t1", 1, "w1")
    history.start("t1", 1, "w1")
    history.finish(
        "t1",
        1,
        "w1",
        exit_code=0,
        cpu_s=0.25,
        memory_bytes_peak=1 << 30,
        output_bytes=12,
        output_bytes_dropped=0,
        artifacts=(Artifact("a.txt", 3, "00", "t1/1/a.txt"),),
    )

    await told(store, history, batch)

    row = await one(store, ATTEMPTS)
    artifacts = as_json(row.pop("artifacts"))
    assert row.pop("started_at") < row.pop("finished_at")
    assert row == {
        "task_id": "t1",
        "attempt": 1,
        "worker_id": "w1",
        "hardware": "cpu",
        "devices": "",
        "status": "passed",
        "reason": None,
        "detail": None,
        "assigned_at": history.at(assigned),
        "exit_code": 0,
        "signal": None,
        "cpu_s": 0.25,
        "memory_bytes_peak": 1 << 30,
        "output_bytes": 12,
        "output_bytes_dropped": 0,
        "resumed_from": None,
        "checkpoint": None,
        "checkpoint_bytes": None,
        "checkpoint_at": None,
        "checkpoint_problem": None,
        "timeout_s": None,
        "timeout_observed": False,
        "memory_limit_gb": None,
        "fallback_config": None,
    }
    assert artifacts[0]["object_name"] == "t1/1/a.txt"


def checkpointed(attempt: int, number: int, worker_id: str = "w1") -> AttemptCheckpointed:
    name = f"t1/{attempt}/{number}"
    size_bytes = 1_000 * number
    return AttemptCheckpointed(
        TaskId("t1"), attempt, WorkerId(worker_id), number, name, size_bytes, "00", EPOCH
    )


def not_checkpointed(attempt: int, worker_id: str = "w1") -> AttemptCheckpointFailed:
    return AttemptCheckpointFailed(TaskId("t1"), attempt, WorkerId(worker_id), "there is no room")


CHECKPOINTS = "SELECT attempt, resumed_from, checkpoint, checkpoint_bytes, checkpoint_problem"


async def test_an_attempt_shows_its_latest_checkpoint_and_what_it_went_on_from(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    for number in (1, 3, 2):
        history.say(checkpointed(1, number))
    history.say(AttemptReleased(TaskId("t1"), 1, WorkerId("w1")))
    history.say(checkpointed(1, 4))
    history.say(TaskRetryScheduled(TaskId("t1"), 1, EPOCH, Reason.WORKER_SHUTDOWN, "none"))
    history.assign("t1", 2, "w2", checkpoint=Checkpoint(1, 3, "t1/1/3", 3_000, "00", EPOCH))
    history.say(checkpointed(1, 5))

    await told(store, history, batch)

    assert [list(row.values()) for row in records(store, f"{CHECKPOINTS} FROM attempts")] == [
        [1, None, 3, 3_000, None],
        [2, "1/3", None, None, None],
    ]


async def test_a_checkpoint_that_could_not_be_stored_is_shown_until_one_is(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    problems = []
    for fact in (not_checkpointed(1), checkpointed(1, 2), not_checkpointed(1)):
        history.say(fact)
        await told(store, history, batch)
        row = await one(store, f"{CHECKPOINTS} FROM attempts")
        problems.append((row["checkpoint"], row["checkpoint_problem"]))

    assert problems == [(None, "there is no room"), (2, None), (2, "there is no room")]


async def test_a_failure_stays_a_failure_when_the_task_is_retried(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1", retries=1)
    fail_and_retry(history, "t1", 1, "w1")
    history.assign("t1", 2, "w2")

    await told(store, history, batch)

    first, second = records(store, ATTEMPTS)
    assert (first["status"], first["reason"], first["exit_code"]) == ("failed", "exit_nonzero", 1)
    assert first["started_at"] is not None
    assert (second["status"], second["worker_id"]) == ("assigned", "w2")


async def test_a_failure_stays_a_failure_when_an_operator_retries(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "failed", reason=Reason.ASSERTION_FAILED)
    history.say(TaskRetryRequested(TaskId("t1")))

    await told(store, history, batch)

    row = await one(store, ATTEMPTS)
    assert (row["status"], row["reason"]) == ("failed", "assertion_failed")


async def test_a_verdict_stays_when_the_task_is_given_up(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1", retries=1)
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "failed", reason=Reason.EXIT_NONZERO)
    history.say(TaskCancelRequested(TaskId("t1")))
    history.say(TaskEnded(TaskId("t1"), "cancelled", Reason.CANCELLED_USER))

    await told(store, history, batch)

    assert (await one(store, ATTEMPTS))["status"] == "failed"
    assert (await one(store, "SELECT status FROM tasks"))["status"] == "cancelled"


async def test_the_attempts_of_a_lost_worker_are_faulted(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1", "t2")
    history.assign("t1", 1, "w1")
    history.start("t1", 1, "w1")
    history.assign("t2", 1, "w1")
    history.lose("w1")
    for name in ("t1", "t2"):
        history.say(
            TaskRetryScheduled(TaskId(name), 1, EPOCH, Reason.WORKER_LOST, "infrastructure")
        )
        history.assign(name, 2, "w2")

    await told(store, history, batch)

    rows = records(store, f"{ATTEMPTS}")
    first = [row for row in rows if row["attempt"] == 1]
    assert [(row["status"], row["reason"]) for row in first] == [("faulted", "worker_lost")] * 2
    assert [row["started_at"] is not None for row in first] == [True, False]
    assert [row["status"] for row in rows if row["attempt"] == 2] == ["assigned"] * 2


async def test_a_late_result_of_a_lost_worker_changes_nothing(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.lose("w1")
    history.say(TaskRetryScheduled(TaskId("t1"), 1, EPOCH, Reason.WORKER_LOST, "infrastructure"))
    late = history.finish("t1", 1, "w1", "passed", exit_code=0)
    history.assign("t1", 2, "w2")
    later = history.finish("t1", 1, "w1", "failed", exit_code=1)

    await told(store, history, batch)

    first, second = records(store, ATTEMPTS)
    assert (first["status"], first["reason"]) == ("faulted", "worker_lost")
    assert (first["exit_code"], first["finished_at"]) == (None, None)
    assert second["status"] == "assigned"
    kept = records(store, "SELECT seq FROM events WHERE type = 'attempt.finished' ORDER BY seq")
    assert [row["seq"] for row in kept] == [late, later], "the log keeps what was said"


async def test_a_result_that_is_sent_twice_counts_once(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "failed", exit_code=3, reason=Reason.EXIT_NONZERO)
    history.finish("t1", 1, "w1", "passed", exit_code=0)

    await told(store, history, batch)

    row = await one(store, ATTEMPTS)
    assert (row["status"], row["exit_code"]) == ("failed", 3)


async def test_a_result_of_somebody_else_changes_nothing(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w2", "passed", exit_code=0)

    await told(store, history, batch)

    assert (await one(store, ATTEMPTS))["status"] == "assigned"


@pytest.mark.parametrize(
    ("fact", "status", "reason"),
    [
        (AttemptReleased(TaskId("t1"), 1, WorkerId("w1")), "released", "worker_shutdown"),
        (AttemptRefused(TaskId("t1"), 1, WorkerId("w1"), "no room"), "returned", "not_accepted"),
        (AttemptReturned(TaskId("t1"), 1, WorkerId("w1")), "returned", "not_accepted"),
        (WorkerLeft(WorkerId("w1"), "i1"), "released", "worker_shutdown"),
    ],
    ids=["released", "refused", "returned", "left"],
)
async def test_an_attempt_that_goes_back_says_so(
    store: Store, history: History, batch: int, fact: Any, status: str, reason: str
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.say(fact)
    history.say(TaskRetryScheduled(TaskId("t1"), 1, EPOCH, Reason(reason), "none"))
    history.assign("t1", 2, "w2")

    await told(store, history, batch)

    first, second = records(store, ATTEMPTS)
    assert (first["status"], first["reason"]) == (status, reason)
    assert second["status"] == "assigned"


async def test_the_attempts_of_a_restarted_agent_are_faulted(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.join("w1", incarnation="i2")

    await told(store, history, batch)

    row = await one(store, ATTEMPTS)
    assert (row["status"], row["reason"]) == ("faulted", "agent_crash")


async def test_a_stopping_attempt_keeps_when_it_started(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.say(TaskCancelRequested(TaskId("t1")))
    history.say(AttemptStopRequested(TaskId("t1"), 1, WorkerId("w1"), Reason.CANCELLED_USER))
    history.say(AttemptStarted(TaskId("t1"), 1, WorkerId("w1"), EPOCH))
    stopping = history.last
    history.finish("t1", 1, "w1", "cancelled", reason=Reason.CANCELLED_USER)

    await project(store, Delivery(in_batches(history.stored[:stopping], batch)))
    before = await one(store, ATTEMPTS)
    await project(store, Delivery(in_batches(history.stored, batch)))
    after = await one(store, ATTEMPTS)

    assert (before["status"], before["started_at"]) == ("stopping", "2026-11-01T00:00:00.000000Z")
    assert (after["status"], after["reason"]) == ("cancelled", "cancelled_user")


# -- test cases -----------------------------------------------------------------------------------


async def test_a_test_case_has_one_row_for_each_attempt(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1", retries=1)
    history.assign("t1", 1, "w1")
    seq = history.say(
        history.case("t1", 1, "w1", 1),
        history.case("t1", 1, "w1", 2, outcome="failed", message="1 != 2", file="a.py", line=7),
    )
    history.say(history.case("t1", 1, "w1", 1, outcome="failed"))

    await told(store, history, batch)

    first, second = records(store, "SELECT * FROM testcases ORDER BY ordinal")
    assert first["outcome"] == "passed", "what was said first stands"
    assert second == {
        "task_id": "t1",
        "attempt": 1,
        "ordinal": 2,
        "run_id": "run-1",
        "worker_id": "w1",
        "nodeid": "test_it.py::test_2",
        "outcome": "failed",
        "phase": "call",
        "duration_s": 0.5,
        "message": "1 != 2",
        "output": "",
        "file": "a.py",
        "line": 7,
        "number": None,
        "properties": None,
        "suite_properties": None,
        "seq": seq,
    }


async def test_the_verdict_of_a_test_case_is_that_of_its_last_attempt(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1", retries=1)
    history.assign("t1", 1, "w1")
    history.say(history.case("t1", 1, "w1", 1, outcome="failed"))
    history.finish("t1", 1, "w1", "failed", reason=Reason.ASSERTION_FAILED)
    history.say(TaskRetryScheduled(TaskId("t1"), 1, EPOCH, Reason.ASSERTION_FAILED, "user"))
    history.assign("t1", 2, "w2")
    history.say(history.case("t1", 2, "w2", 1, outcome="passed"))

    await told(store, history, batch)

    row = await one(store, "SELECT outcome, attempt FROM testcase_verdicts")
    assert row == {"outcome": "passed", "attempt": 2}


async def test_a_test_case_that_was_refused_has_no_row(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.say(history.case("t1", 1, "w2", 1), history.case("t1", 1, "w2", 2))
    history.say(history.case("t1", 2, "w1", 1))
    history.say(history.case("nobody", 1, "w1", 1))

    await told(store, history, batch)

    assert records(store, "SELECT * FROM testcases") == []
    refused = await one(store, "SELECT count(*) AS n FROM events WHERE refusal IS NOT NULL")
    assert refused["n"] == 4


# -- workers and leaders --------------------------------------------------------------------------


async def test_a_worker_has_what_it_registered_with(
    store: Store, history: History, batch: int
) -> None:
    capability = Capability(
        slots=2,
        cpus=16.0,
        memory_gb=64.0,
        devices=(Device("cuda", 0, memory_gb=24.0), Device("cuda", 1, memory_gb=24.0)),
        device_type="desktop",
        labels={"rack": "3"},
    )
    seq = history.say(WorkerRegistered(WorkerId("gpu"), "i7", "box", capability, simulated=True))

    await told(store, history, batch)

    row = await one(store, "SELECT * FROM workers WHERE worker_id = 'gpu'")
    has = as_json(row.pop("capability"))
    assert row == {
        "worker_id": "gpu",
        "incarnation": "i7",
        "host": "box",
        "status": "active",
        "evidence": "",
        "simulated": True,
        "slots": 2,
        "cpus": 16.0,
        "memory_gb": 64.0,
        "hardware": "cpu,cuda",
        "device_type": "desktop",
        "registered_at": history.at(seq),
        "running": 0,
        "health": 100.0,
        "strikes": 0,
        "guard": "closed",
        "guard_cause": "",
        "guard_until": None,
        "quarantines": 0,
    }
    assert has["labels"] == {"rack": "3"}


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ((WorkerDrainRequested(WorkerId("w1")),), "draining"),
        ((WorkerDraining(WorkerId("w1"), "i1"),), "draining"),
        ((WorkerSuspected(WorkerId("w1"), "i1", "silence", 5.0),), "suspected"),
        ((WorkerLeft(WorkerId("w1"), "i1"),), "left"),
        ((WorkerLeft(WorkerId("w1"), "stale"),), "active"),
    ],
    ids=["asked-to-drain", "draining", "suspected", "left", "another-incarnation"],
)
async def test_a_worker_passes_through_its_states(
    store: Store, history: History, batch: int, facts: tuple[Any, ...], status: str
) -> None:
    for fact in facts:
        history.say(fact)

    await told(store, history, batch)

    row = await one(store, "SELECT status, evidence FROM workers WHERE worker_id = 'w1'")
    assert row["status"] == status
    assert bool(row["evidence"]) == (status == "suspected")


async def test_a_worker_counts_what_runs_on_it(store: Store, history: History, batch: int) -> None:
    history.queue("t1", "t2", "t3")
    for name in ("t1", "t2", "t3"):
        history.assign(name, 1, "w1")
    history.finish("t1", 1, "w1")
    history.say(AttemptReleased(TaskId("t2"), 1, WorkerId("w1")))
    history.say(TaskRetryScheduled(TaskId("t2"), 1, EPOCH, Reason.WORKER_SHUTDOWN, "none"))
    history.assign("t2", 2, "w2")

    await told(store, history, batch)

    rows = records(store, "SELECT worker_id, running FROM workers ORDER BY 1")
    assert [row["running"] for row in rows] == [1, 1]


async def test_a_worker_is_free_of_an_attempt_that_went_elsewhere_within_one_batch(
    store: Store, history: History
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    before = history.last
    history.say(AttemptReleased(TaskId("t1"), 1, WorkerId("w1")))
    history.say(TaskRetryScheduled(TaskId("t1"), 1, EPOCH, Reason.WORKER_SHUTDOWN, "none"))
    history.assign("t1", 2, "w2")

    await project(store, Delivery(in_batches(history.stored, before, 1000)))

    rows = records(store, "SELECT worker_id, running FROM workers ORDER BY 1")
    assert [row["running"] for row in rows] == [0, 1]


async def test_a_workers_score_follows_the_parameters_whenever_they_change(
    store: Store, history: History, batch: int
) -> None:
    history.say(elected("lead-1"))
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "faulted", reason=Reason.DISK_FULL)
    history.say(PolicyChanged(parameters={"strike_points": 20.0}))
    await told(store, history, batch)
    assert await one(store, "SELECT health FROM workers WHERE strikes > 0") == {"health": 80.0}

    history.say(elected("lead-1", rules=rules(strike_points=30.0)))
    history.say(PolicyChanged(reset=("strike_points",)))
    await told(store, history, batch)
    assert await one(store, "SELECT health FROM workers WHERE strikes > 0") == {"health": 70.0}


async def test_a_leader_has_the_rules_and_the_parameters_that_its_term_recorded(
    store: Store, history: History, batch: int
) -> None:
    history.say(LeaderElected("older"))
    history.say(elected("lead-1", rules=rules(strike_points=30.0)))
    await told(store, history, batch)
    rows = records(store, "SELECT rules, parameters FROM leaders ORDER BY epoch")[-2:]

    assert [row["rules"] for row in rows] == [UNRECORDED_RULES, CURRENT.version]
    assert rows[0]["parameters"] is None
    assert json.loads(rows[1]["parameters"])["strike_points"] == 30.0


async def test_a_strike_and_a_guard_show_on_the_worker_and_as_a_breaker(
    store: Store, history: History, batch: int
) -> None:
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "faulted", reason=Reason.DISK_FULL)
    await told(store, history, batch)
    row = await one(store, "SELECT health, strikes, guard FROM workers WHERE worker_id = 'w1'")
    assert row == {"health": 90.0, "strikes": 1, "guard": "closed"}
    assert records(store, "SELECT * FROM breakers") == []

    quarantined = history.say(WorkerQuarantined(WorkerId("w1"), EPOCH, 60.0, 2))
    await told(store, history, batch)

    row = await one(store, "SELECT guard, guard_cause, quarantines FROM workers WHERE strikes > 0")
    assert row == {"guard": "quarantined", "guard_cause": "health", "quarantines": 2}
    assert await one(store, "SELECT * FROM breakers") == {
        "breaker_id": "worker:w1",
        "guard": "quarantined",
        "cause": "health",
        "count": 2,
        "workers": "w1",
        "probe": None,
        "since": history.at(quarantined),
        "until": f"{EPOCH:%Y-%m-%dT%H:%M:%S}.000000Z",
    }


async def test_the_breaker_of_a_revision_takes_strikes_back_and_tells_whom_it_tries(
    store: Store, history: History, batch: int
) -> None:
    history.say(task("t1", labels={"revision": "r"}), task("t2", labels={"revision": "r"}))
    history.assign("t1", 1, "w1")
    history.finish("t1", 1, "w1", "faulted", reason=Reason.DISK_FULL)
    history.say(BreakerOpened("revision:r", EPOCH, "fleet_guard", 1, (WorkerId("w1"),)))
    history.say(BreakerHalfOpened("revision:r", TaskId("t2")))

    await told(store, history, batch)

    row = await one(store, "SELECT health, strikes FROM workers WHERE worker_id = 'w1'")
    assert row == {"health": 100.0, "strikes": 0}
    row = await one(store, "SELECT guard, count, workers, probe FROM breakers")
    assert row == {"guard": "half_open", "count": 1, "workers": "w1", "probe": "t2"}


async def test_each_election_has_a_row(store: Store, history: History, batch: int) -> None:
    second = history.elect("lead-2")

    await told(store, history, batch)

    rows = records(store, "SELECT epoch, leader_id, elected_at FROM leaders ORDER BY 1")
    assert [(row["epoch"], row["leader_id"]) for row in rows] == [(1, "lead-1"), (second, "lead-2")]
    assert rows[1]["elected_at"] == history.at(second)
