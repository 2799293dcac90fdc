"""What was too small, what broke, and what it ran at most: as the API shows it, in a whole cell."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.kit.stack import Api, Json, RunningStack, stack_up

CUDA_GB, ROCM_GB = 24.0, 64.0


@pytest.fixture(scope="module")
async def hardware(anyio_backend: str) -> AsyncIterator[RunningStack]:
    """A cell with a small and a large simulated device."""
    async with stack_up(workers=0, simulate="cuda:1,rocm:1", simulate_seconds=0.0) as running:
        yield running


@pytest.fixture(scope="module")
def api(hardware: RunningStack) -> Iterator[Api]:
    with hardware.api() as client:
        yield client


def task(*kinds: str, **more: Any) -> Json:
    plan = {key: more.pop(key) for key in ("device_memory_gb", "outcome", "fault") if key in more}
    config: Json = {"command": ["true"], "simulate": {"seconds": 0, **plan}}
    return {"type": "command", "config": config, "requirements": {"hardware": kinds}, **more}


def ended(api: Api, *tasks: Json) -> Json:
    """Submit a task and wait until it is over."""
    (one,) = api.submit(*tasks)["tasks"]
    with api.stack.events(0, "attempt.finished", "task.ended") as stream:
        while True:
            message = stream.message()
            if all(event["subject"] != one["task_id"] for event in message["events"]):
                continue
            shown = api.get(f"/api/tasks/{one['task_id']}", after=int(message["seq"]))
            if shown["status"] in {"passed", "errored", "failed"}:
                return shown


def test_a_task_that_is_too_large_for_one_device_passes_on_the_larger(api: Api) -> None:
    shown = ended(api, task("cuda", "rocm", device_memory_gb=(CUDA_GB + ROCM_GB) / 2))

    assert shown["status"] == "passed"
    first, second = shown["attempts"]
    assert (first["hardware"], first["reason"]) == ("cuda", "oom_device")
    assert (second["hardware"], second["status"], second["fallback"]) == ("rocm", "passed", False)
    assert second["config"] == shown["document"]["config"]


def test_a_task_that_is_too_large_for_all_devices_runs_its_smaller_variant(api: Api) -> None:
    smaller = {"simulate": {"device_memory_gb": 1.0}}
    shown = ended(api, task("rocm", device_memory_gb=2 * ROCM_GB, fallback_config=smaller))

    assert shown["status"] == "passed"
    first, second = shown["attempts"]
    assert (first["reason"], first["fallback"]) == ("oom_device", False)
    assert (second["fallback"], second["config"]["simulate"]["device_memory_gb"]) == (True, 1.0)
    (retried,) = api.items("/api/events", entity=shown["task_id"], type="task.retry_scheduled")
    assert retried["data"]["remedy"]["fallback"] is True


@pytest.mark.parametrize(
    ("fallback", "named"),
    [
        ({}, "changes nothing"),
        ({"command": ["true"]}, "changes nothing"),
        ({"command": None}, "fallback_config.command"),
        ({"simulate": None}, "simulate"),
        ({"batch": 4}, "unknown field 'batch'"),
        ("small", "fallback_config"),
    ],
)
def test_a_smaller_variant_that_makes_no_sense_is_refused(
    api: Api, fallback: Any, named: str
) -> None:
    body = task("cuda", fallback_config=fallback)

    assert named in api.refused(422, "POST", "/api/tasks/submit", json=body)["message"]


def test_a_device_that_hangs_is_shown_until_it_is_reinstated(api: Api) -> None:
    shown = ended(api, task("cuda", outcome="faulted", fault="crash_signal"))
    worker = shown["attempts"][0]["worker_id"]
    (one,) = api.submit(task("cuda", outcome="faulted", fault="gpu_hang"))["tasks"]
    with api.stack.events(0, "breaker.opened") as stream:
        name = f"device:{worker}/cuda:0"
        seq = stream.until("dev.dtest.breaker.opened.v1", name)

    (device,) = api.get(f"/api/workers/{worker}", after=seq)["suspect_devices"]
    assert (device["device"], device["reason"], device["guard"]) == ("cuda:0", "gpu_hang", "open")
    listed = {item["worker_id"]: item["suspect_devices"] for item in api.items("/api/workers")}
    assert listed[worker] == [device]
    assert [others for others in listed.values() if others] == [[device]]
    (breaker,) = [item for item in api.items("/api/breakers") if item["breaker_id"] == name]
    assert (breaker["guard"], breaker["cause"], breaker["workers"]) == ("open", "gpu_hang", worker)
    why = api.get(f"/api/tasks/{one['task_id']}/why", after=seq)
    assert "device_suspect" in {reason["code"] for reason in why["reasons"]}
    api.post(f"/api/tasks/{one['task_id']}/cancel")

    api.post(f"/api/workers/{worker}/reinstate")
    with api.stack.events(seq, "breaker.closed") as stream:
        seq = stream.until("dev.dtest.breaker.closed.v1", name)
    assert api.get(f"/api/workers/{worker}", after=seq)["suspect_devices"] == []
    (breaker,) = [item for item in api.items("/api/breakers") if item["breaker_id"] == name]
    assert (breaker["guard"], breaker["cause"]) == ("closed", "operator")


def test_an_observed_time_out_is_shown_with_its_attempt(api: Api) -> None:
    asked = api.post("/api/policy", {"timeouts": "observed"})
    assert api.get("/api/policy", after=asked["seq"])["timeouts"] == "observed"
    like = [task("rocm", name="like") for _ in range(20)]
    open_ids = {one["task_id"] for one in api.submit(*like)["tasks"]}
    with api.stack.events(asked["seq"], "attempt.finished") as stream:
        while open_ids:
            open_ids -= {event["subject"] for event in stream.message()["events"]}
    (attempt,) = ended(api, task("rocm", name="like"))["attempts"]

    assert (attempt["timeout_s"], attempt["timeout_observed"]) == (60.0, True)
    assert api.get("/api/policy")["signatures_observed"] == 1
    stated = ended(api, task("rocm", name="like", timeout_seconds=5.0))["attempts"]
    assert (stated[0]["timeout_s"], stated[0]["timeout_observed"]) == (5.0, False)
    asked = api.post("/api/policy", {"timeouts": "declared"})
    assert api.get("/api/policy", after=asked["seq"])["signatures_observed"] == 0
