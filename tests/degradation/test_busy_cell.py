"""A burst meets bounds: 429 with Retry-After, and the polite get everything in; a flood of
telemetry meets a tiny stream, and nothing else notices.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dtest.caller.api_client import ApiClient
from dtest.errors import Overloaded
from dtest.events import subject
from dtest.events.fields import WorkerId
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.streams import telemetry_name
from tests.cli.command import Person
from tests.kit.nats import LIMITS, connected, eventually, joined, running
from tests.kit.stack import CELL, Api, Json, RunningStack, problem, simulated, stack_up

BACKLOG_MAX = 30
CLIENTS = 6
EACH = 15
SUBMIT = "/api/tasks/submit"
TELEMETRY_BYTES = 100_000
FLOOD = 20_000


def metric(api: Api, name: str, **labels: str) -> float:
    """One figure of the metrics."""
    text = api.http.get("/api/metrics").raise_for_status().text
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    (found,) = [s.value for s in samples if s.name == name and s.labels == labels]
    return float(found)


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
async def busy(environment: pytest.MonkeyPatch, anyio_backend: str) -> AsyncIterator[RunningStack]:
    """A cell that takes few tasks at once, and works them off at about 40 a second."""
    environment.setenv("DTEST_BACKLOG_TASKS_MAX", str(BACKLOG_MAX))
    async with stack_up(
        workers=0, simulate="cpu:1", simulate_slots=4, simulate_seconds=0.1
    ) as running_stack:
        yield running_stack


def one(**more: Any) -> Json:
    """A task that takes a tenth of a second."""
    return simulated(seconds=0.1, **more)


async def test_the_polite_get_everything_in(busy: RunningStack) -> None:
    def polite(number: int) -> list[str]:
        api = ApiClient(busy.url, busy.token, busy_wait_s=60.0)
        taken: list[str] = []
        for place in range(EACH):
            answer = api.post(SUBMIT, one(task_id=f"polite-{number}-{place}"))
            taken += [task["task_id"] for task in answer["tasks"]]
        return taken

    with busy.api() as api, httpx.Client(base_url=busy.url) as rude:
        rude.headers["Authorization"] = f"Bearer {busy.token}"
        await asyncio.to_thread(api.submit, *[one() for _ in range(BACKLOG_MAX)])
        body = {"tasks": [one()] * BACKLOG_MAX}
        answer = await asyncio.to_thread(rude.post, SUBMIT, json=body)
        error = problem(answer, 429)
        taken = await asyncio.gather(
            *(asyncio.to_thread(polite, number) for number in range(CLIENTS))
        )

        assert error["code"] == "overloaded"
        assert 1 <= int(answer.headers["Retry-After"]) <= 30
        assert str(BACKLOG_MAX) in error["message"]
        names = [name for each in taken for name in each]
        assert len(set(names)) == CLIENTS * EACH

        def all_passed() -> bool:
            return bool(api.get("/api/status")["tasks"] == {"passed": BACKLOG_MAX + CLIENTS * EACH})

        await eventually(all_passed, within_s=60.0, what="everything has passed, once")
        refused = metric(api, "dtest_submissions_refused_total", bound="backlog")
        assert refused >= BACKLOG_MAX
        assert metric(api, "dtest_backlog_tasks") == 0
        assert metric(api, "dtest_api_requests_in_flight", lane="submissions") == 0
        accepted = metric(api, "dtest_api_requests_total", lane="submissions", answer="accepted")
        assert accepted >= CLIENTS * EACH


async def test_more_than_the_cell_ever_takes_is_told_apart(busy: RunningStack) -> None:
    with busy.api() as api:
        tasks = {"tasks": [one()] * (BACKLOG_MAX + 1)}
        error = api.refused(422, "POST", SUBMIT, json=tasks)

    assert "in parts" in error["hint"]


async def test_who_waited_long_enough_is_told_and_ends_as_for_infrastructure(
    busy: RunningStack, tmp_path: Path
) -> None:
    with busy.api() as api:
        held = [simulated(seconds=60.0) for _ in range(BACKLOG_MAX)]
        run = (await asyncio.to_thread(api.submit, *held))["run_id"]
        stated = {
            "DTEST_API_URL": busy.url,
            "DTEST_TOKEN": busy.token,
            "DTEST_BUSY_WAIT_S": "2",
        }
        someone = Person(tmp_path / "home", tmp_path, stated)
        called = await asyncio.to_thread(
            someone.dtest, "submit", "-", "--json", stdin=json.dumps(one())
        )
        with pytest.raises(Overloaded):
            ApiClient(busy.url, busy.token, busy_wait_s=0.0).post(SUBMIT, one())
        api.post(f"/api/runs/{run}/cancel")

    assert called.code == 3
    assert called.error["code"] == "overloaded"
    assert "DTEST_BUSY_WAIT_S" in called.error["hint"]


# -- a flood of telemetry -------------------------------------------------------------------------


@asynccontextmanager
async def flooded(tmp_path: Path) -> AsyncIterator[tuple[RunningStack, JetStreamJournal]]:
    """A cell whose stream of telemetry is tiny, while somebody fills it again and again."""
    limits = replace(LIMITS, telemetry_bytes=TELEMETRY_BYTES)
    where = subject.telemetry(CELL, WorkerId("somebody"))
    sample = json.dumps({"cpu_ratio": 0.5, "filling": "x" * 200}).encode()
    async with (
        running(tmp_path / "nats") as server,
        joined(server.address, CELL, limits=limits) as cell,
        connected(server.address, name="flood") as connection,
        stack_up(workers=1, slots=2, nats=server.address) as stack,
    ):
        for _ in range(FLOOD):
            await connection.send(where, sample)
        await connection.client.flush()
        yield stack, JetStreamJournal(cell.connection, telemetry_name(CELL), new_id=cell.new_id)


async def test_a_flood_of_telemetry_disturbs_nothing(tmp_path: Path) -> None:
    async with flooded(tmp_path) as (stack, telemetry):
        with stack.api() as api:
            command = {"type": "command", "config": {"command": ["true"]}}
            await asyncio.to_thread(api.submit, *[command] * 5)
            await eventually(
                lambda: api.get("/api/status")["tasks"] == {"passed": 5},
                within_s=30.0,
                what="all work is done",
            )
            bounds = await telemetry.bounds()
            kept = api.post(
                "/api/query",
                {"sql": "SELECT count(*) FROM telemetry WHERE worker_id = 'somebody'"},
            )
            lost = api.post(
                "/api/query",
                {"sql": "SELECT count(*) FROM events WHERE type LIKE 'worker.%lost%'"},
            )

            def shown() -> bool:
                load = api.get("/api/workers/local-1")["load"]
                return load is not None and load["telemetry_shed"] is not None

            await eventually(shown, within_s=20.0, what="the worker's own figures are shown")
            load = api.get("/api/workers/local-1")["load"]

    assert bounds.first > FLOOD // 20, "the stream lost its oldest"
    assert bounds.used_bytes <= TELEMETRY_BYTES
    assert kept["rows"][0][0] <= 60, "one sample for each second"
    assert lost["rows"] == [[0]]
    assert (load["facts_waiting"], load["output_dropped_bytes"]) == (0, 0)
