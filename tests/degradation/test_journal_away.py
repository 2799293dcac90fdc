"""A journal that answers nothing: requests are told so soon, and nothing is lost or doubled."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pytest

from dtest.caller.api_client import KEY, ApiClient
from dtest.errors import Unavailable
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Outgoing
from tests.kit.nats import eventually, joined, running, stopped
from tests.kit.stack import CELL, Api, RunningStack, problem, simulated, stack_up

SUBMIT = "/api/tasks/submit"
SOON_S = 0.5
HANGS_S = 20.0
"""Far more than any bound on the way, far less than nobody would wait."""


@pytest.fixture(scope="module")
async def stack(anyio_backend: str) -> AsyncIterator[RunningStack]:
    async with stack_up(workers=0, simulate="cpu:1", simulate_seconds=0.0) as running:
        yield running


@pytest.fixture
def api(stack: RunningStack) -> Iterator[Api]:
    with stack.api() as client:
        client.http.timeout = httpx.Timeout(HANGS_S)
        yield client


def journal_away(stack: RunningStack) -> AbstractAsyncContextManager[None]:
    """Stop the broker: connections stay, answers do not come."""
    return stopped(stack.stack.children["nats"].process.pid)


def queued(api: Api, task_id: str) -> list[list[object]]:
    """How often the read model has the submission of a task, and the task."""
    of_events = "SELECT count(*) FROM events WHERE type = 'task.queued' AND entity = "
    of_tasks = "SELECT count(*) FROM tasks WHERE task_id = "
    return [
        api.post("/api/query", {"sql": f"{sql}'{task_id}'"})["rows"][0]
        for sql in (of_events, of_tasks)
    ]


async def test_who_needs_the_journal_is_told_to_come_again(stack: RunningStack, api: Api) -> None:
    body = simulated(task_id="told")
    headers = {"Authorization": f"Bearer {stack.token}"}
    async with (
        httpx.AsyncClient(
            base_url=stack.url, headers=headers, timeout=HANGS_S, trust_env=False
        ) as http,
        journal_away(stack),
    ):
        answers = await asyncio.gather(
            http.post(SUBMIT, json=body, headers={KEY: "told"}),
            http.get("/api/status"),
            http.get("/api/health/db"),
            http.post("/api/policy", json={"strategy": "minimal"}),
        )
    for answer in answers:
        assert problem(answer, 503)["code"] == "unavailable"
        assert answer.headers["Retry-After"] == "1"

    stored = await asyncio.to_thread(api.post, SUBMIT, body, **{KEY: "told"})
    assert [task["status"] for task in stored["tasks"]] == ["accepted"]
    await asyncio.to_thread(api.get, "/api/status", after=stored["seq"])
    assert queued(api, "told") == [[1], [1]]


async def test_the_command_line_comes_again_and_submits_once(stack: RunningStack, api: Api) -> None:
    said: list[str] = []
    client = ApiClient(stack.url, stack.token, busy_wait_s=60.0, tell=said.append)

    def was_told() -> bool:
        return "the journal is away; asking again" in "".join(said)

    async with journal_away(stack):
        submitting = asyncio.ensure_future(
            asyncio.to_thread(client.submit, simulated(task_id="again"))
        )
        asking = asyncio.ensure_future(asyncio.to_thread(client.get, "/api/status"))
        await eventually(was_told)

    answer = await submitting
    assert (await asking)["cell"] == "main"
    await asyncio.to_thread(api.get, "/api/status", after=answer["seq"])
    assert queued(api, "again") == [[1], [1]]


async def test_what_might_be_done_twice_is_not_repeated(
    stack: RunningStack, api: Api, capfd: pytest.CaptureFixture[str]
) -> None:
    task = await asyncio.to_thread(api.post, SUBMIT, simulated(task_id="asked-for"))
    await asyncio.to_thread(api.get, "/api/status", after=task["seq"])
    client = ApiClient(stack.url, stack.token, busy_wait_s=60.0)
    async with journal_away(stack):
        with pytest.raises(Unavailable):
            await asyncio.to_thread(client.post, "/api/tasks/asked-for/retry")

    assert capfd.readouterr().err == ""


async def test_who_waited_long_enough_is_told_so(stack: RunningStack) -> None:
    client = ApiClient(stack.url, stack.token, busy_wait_s=2.0)
    async with journal_away(stack):
        with pytest.raises(Unavailable, match=r"\(waited 1 s\)"):
            await asyncio.to_thread(client.get, "/api/status")


async def test_a_journal_gives_up_when_it_was_told_to(tmp_path: Path) -> None:
    async with running(tmp_path) as server, joined(server.address, CELL) as cell:
        journal = JetStreamJournal(
            cell.connection,
            cell.stream,
            new_id=cell.new_id,
            retry_s_max=SOON_S,
            ask_s_max=SOON_S,
        )
        message = Outgoing(f"dtest.{CELL}.client.c.task.queued", b"[]", "an id")
        async with server.frozen(), asyncio.timeout(HANGS_S):
            asked = (journal.append(message), journal.bounds(), journal.get(1), journal.last("a"))
            found = await asyncio.gather(*asked, return_exceptions=True)

    assert [type(one) for one in found] == [Unavailable] * 4
