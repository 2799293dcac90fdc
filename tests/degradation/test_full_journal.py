"""A journal that runs full under load refuses, loses nothing, and goes on when it has room."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from dtest.client import Client, parse_tasks
from dtest.errors import JournalFull
from dtest.events.attempt import AttemptFinished
from dtest.events.fields import ClientId, RunId
from dtest.events.run import RunOpened
from dtest.journal.stores import CHUNK_BYTES
from dtest.leadership.audit import verify
from dtest.runtime.clock import SystemClock
from dtest.state.task import TERMINAL
from tests.cli.command import Person
from tests.kit.nats import LIMITS, NatsCell, Server, eventually, joined, running
from tests.kit.stack import CELL, Json, RunningStack, command, problem, simulated, stack_up

JOURNAL_BYTES = 1_500_000
RAISED_BYTES = 20_000_000
SUBMIT = "/api/tasks/submit"
ALL_S_MAX = 60.0
BATCH = 50


class Ground:
    """A cell with a small journal, and who uses it."""

    def __init__(
        self, server: Server, cell: NatsCell, stack: RunningStack, http: httpx.AsyncClient
    ) -> None:
        self.server = server
        self.cell = cell
        self.stack = stack
        self.http = http
        self.acknowledged: list[str] = []

    async def submit(self, *tasks: Json) -> httpx.Response:
        """Submit, and note what was acknowledged."""
        answer = await self.http.post(SUBMIT, json={"tasks": list(tasks)})
        if answer.is_success:
            told = answer.json()["tasks"]
            assert {task["status"] for task in told} == {"accepted"}
            self.acknowledged += [task["task_id"] for task in told]
        return answer

    async def status(self) -> Json:
        """The cell in one view."""
        answer = await self.http.get("/api/status")
        assert answer.is_success, answer.text
        return dict(answer.json())

    async def all_passed(self) -> bool:
        """Whether everything acknowledged has passed, and nothing else is there."""
        tasks = (await self.status())["tasks"]
        assert not set(tasks) & (TERMINAL - {"passed"}), tasks
        return bool(tasks.get("passed", 0) == len(self.acknowledged))

    async def submit_until_refused(self) -> Json:
        """Submit until nothing is taken any more though all that was taken has ended."""
        while True:
            while (answer := await self.submit(*[simulated()] * BATCH)).is_success:
                pass
            problem(answer, 507)
            await eventually(self.all_passed, within_s=ALL_S_MAX, what="what was taken has ended")
            if not (answer := await self.submit(*[simulated()] * BATCH)).is_success:
                return problem(answer, 507)

    async def fill(self) -> None:
        """Write as a client that knows no reserve, until not even the least fits."""
        client = Client(
            self.cell.journal,
            cell=CELL,
            client_id=ClientId("rude"),
            now=SystemClock().now,
            new_id=self.cell.new_id,
        )
        for size in (CHUNK_BYTES, 2_000, 0):
            with pytest.raises(JournalFull):
                await self._say_for_ever(client, "x" * size)

    async def _say_for_ever(self, client: Client, filling: str) -> None:
        while True:
            await client.say([RunOpened(RunId(self.cell.new_id()), "r", {"f": filling})])

    async def ends(self) -> list[str]:
        """The tasks whose ends the journal has."""
        found: list[str] = []
        bounds = await self.cell.journal.bounds()
        for seq in range(1, bounds.last + 1):
            stored = await self.cell.journal.get(seq)
            assert stored is not None
            if stored.subject.endswith("attempt.finished"):
                events = [event.data for event in stored.record().events]  # type: ignore[union-attr]
                found += [data.task_id for data in events if isinstance(data, AttemptFinished)]
        return found

    def person(self, tmp_path: Path) -> Person:
        """Somebody at a prompt."""
        address = self.server.address
        assert address.user
        assert address.password
        stated = {
            "DTEST_API_URL": self.stack.url,
            "DTEST_TOKEN": self.stack.token,
            "DTEST_NATS_URL": ",".join(address.servers),
            "DTEST_NATS_USER": address.user,
            "DTEST_NATS_PASSWORD": address.password,
        }
        return Person(tmp_path / "home", tmp_path, stated)


@asynccontextmanager
async def ground(tmp_path: Path) -> AsyncIterator[Ground]:
    limits = replace(LIMITS, journal_bytes=JOURNAL_BYTES)
    async with (
        running(tmp_path / "nats") as server,
        joined(server.address, CELL, limits=limits) as cell,
        stack_up(
            workers=1,
            slots=2,
            simulate="cpu:1",
            simulate_slots=8,
            simulate_seconds=0.0,
            nats=server.address,
        ) as stack,
        asyncio.TaskGroup() as group,
    ):
        supervising = group.create_task(stack.stack.supervise())
        headers = {"Authorization": f"Bearer {stack.token}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30.0) as http:
            yield Ground(server, cell, stack, http)
        supervising.cancel()


async def test_submissions_are_refused_while_results_still_have_room_and_all_goes_on(
    tmp_path: Path,
) -> None:
    async with ground(tmp_path) as on:
        scheduler = on.stack.stack.children["scheduler"].process

        # Clients that submit by the API are refused while others still have room.
        refused = await on.submit_until_refused()
        assert refused["code"] == "journal_full"
        assert "dtest server migrate" in refused["hint"]

        # A client that knows no reserve fills the rest, while two attempts run.
        client = Client(
            on.cell.journal,
            cell=CELL,
            client_id=ClientId("raw"),
            now=SystemClock().now,
            new_id=on.cell.new_id,
        )
        flag = tmp_path / "may-end"
        late = parse_tasks(
            [
                simulated(seconds=2.0, task_id="late-simulated"),
                command(
                    "sh", "-c", f"until [ -e {flag} ]; do sleep 0.1; done", task_id="late-real"
                ),
            ],
            new_id=on.cell.new_id,
        )
        await client.say(late)
        on.acknowledged += ["late-simulated", "late-real"]

        async def both_run() -> bool:
            return bool((await on.status())["tasks"].get("running", 0) == 2)

        await eventually(both_run, what="both late tasks run")
        await on.fill()

        # Full: everybody lives and says so; the agent's death loses nothing either.

        async def is_full() -> bool:
            return bool((await on.status())["journal"]["state"] == "full")

        await eventually(is_full, what="the cell's status says that the journal is full")
        agent = on.stack.stack.children["agent local-1"].process
        os.kill(agent.pid, signal.SIGKILL)
        await agent.wait()
        called = await asyncio.to_thread(
            on.person(tmp_path).dtest, "submit", "-", stdin=json.dumps(command("true"))
        )
        assert called.code == 3
        assert "journal" in called.err
        assert "dtest server migrate" in called.err

        def restarted() -> bool:
            child = on.stack.stack.children["agent local-1"].process
            return child.pid != agent.pid and child.returncode is None

        await eventually(restarted, within_s=20.0, what="the agent is started again")
        flag.touch()
        spool = on.stack.directory / "agents" / "local-1" / "slots"
        await eventually(
            lambda: any(path.stat().st_size for path in spool.glob("*/exit.json")),
            what="the real attempt has ended, on disk",
        )
        assert "late-real" not in await on.ends()
        assert scheduler.returncode is None

        # Room again.
        raised = await asyncio.to_thread(
            on.person(tmp_path).dtest, "server", "migrate", "--journal-bytes", str(RAISED_BYTES)
        )
        assert raised.code == 0, raised.err
        await eventually(on.all_passed, within_s=ALL_S_MAX, what="everything has passed")
        assert (await on.submit(simulated())).is_success
        await eventually(on.all_passed, what="and what came later, too")

        # Its agent was away for seconds: whether that or the result is told first, is a race.
        ends = [task_id for task_id in await on.ends() if task_id != "late-real"]
        assert sorted([*ends, "late-real"]) == sorted(on.acknowledged), "each ended once"
        assert scheduler.returncode is None, "the leader lived through it"
        report = await verify(on.cell.journal, CELL)
        assert report.violations == []
