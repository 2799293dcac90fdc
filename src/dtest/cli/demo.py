"""``dtest demo``: a small cell in which things go wrong, and the proof that nothing was lost."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import orjson
from cyclopts import Parameter

from dtest.caller.api_client import ApiClient
from dtest.cli import output
from dtest.cli.demo_tasks import RUN_ID, Expected, documents, expectations, write_suites
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.runs import every_task
from dtest.errors import TimedOut
from dtest.settings import settings_of
from dtest.wording import counted

WAIT_S_MAX = 120.0
LOOK_EVERY_S = 0.1
SIMULATED = "cuda:1,rocm:1"
ALL_WELL = "all as it should be"
NOT_AS_EXPECTED = 3
SIGNALLED = 128


def demo(
    *,
    exit: Annotated[bool, Parameter(negative="")] = False,
    port: int = 0,
    call: CallOptions = DEFAULTS,
) -> int:
    """Start a small cell, run a graph of tasks that fail in every way, check the journal.

    Two real agents and labelled simulated CUDA and ROCm workers; a failing, a flaky, a crashing and
    a hanging test, a cancelled task, an agent that is killed in the middle.

    Example: `dtest demo --exit`

    Parameters
    ----------
    exit
        End after the summary, with exit code 0 if all went as it should; else stay until Ctrl-C.
    port
        Port of the HTTP API on loopback; by default a free one.
    """
    directory = Path(tempfile.mkdtemp(prefix="dtest-demo-"))
    try:
        return asyncio.run(_demo(directory, stay=not exit, port=port, as_json=call.json))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _demo(directory: Path, *, stay: bool, port: int, as_json: bool) -> int:
    from dtest.events.fields import CellId
    from dtest.roles.stack import Stack
    from dtest.roles.stack_options import StackOptions
    from dtest.runtime.lifecycle import stop_signal
    from dtest.runtime.logs import set_up_logs

    set_up_logs(role="demo", json_lines=False, level=50)
    stop = stop_signal()
    options = StackOptions(
        CellId("main"), directory, workers=2, slots=3, simulate=SIMULATED, api_port=port
    )
    stack = Stack(options)
    telling = asyncio.ensure_future(_tell(stack, directory, stay=stay, as_json=as_json))
    try:
        await asyncio.wait({telling, stop}, return_when=asyncio.FIRST_COMPLETED)
        if not telling.done():
            telling.cancel()
            await asyncio.wait({telling})
            return SIGNALLED + stop.result()
        code = telling.result()
        if stay:
            await stop
        return code
    finally:
        await stack.stop()


async def _tell(
    stack: Any,  # noqa: ANN401 - loaded lazily
    directory: Path,
    *,
    stay: bool,
    as_json: bool,
) -> int:
    begun = time.monotonic()
    output.say("starting broker, scheduler, API, two agents and two simulated workers")
    file = await stack.start()
    story = _Story(stack, open_api(settings_of(file, directory)), directory, as_json=as_json)
    story.supervising = asyncio.ensure_future(stack.supervise())
    code = await story.run(begun)
    if stay:
        output.say(f"the cell stays up until Ctrl-C: {file.api_url}/api/docs")
        output.say(f"  its token is in {directory}/main/stack.json;")
        output.say(f"  try: dtest status --state-dir {directory}")
    return code


@dataclass(slots=True)
class _Told:
    """What happened on the way."""

    killed: str = ""
    cancelled: bool = False
    first_s: float | None = None


class _Story:
    """Submits the run, does the harm, waits, sums up."""

    def __init__(self, stack: Any, api: ApiClient, directory: Path, *, as_json: bool) -> None:  # noqa: ANN401 - loaded lazily
        self.stack = stack
        self.api = api
        self.directory = directory
        self.as_json = as_json
        self.told = _Told()
        self.supervising: asyncio.Future[None] | None = None

    async def run(self, begun: float) -> int:
        """Tell it all; return the exit code."""
        suites = write_suites(self.directory / "suites")
        tasks = documents(suites)
        body = {"name": "demo", "run_id": RUN_ID, "tasks": tasks}
        answer = await asyncio.to_thread(self.api.submit, body)
        output.say(f"submitted {counted(len(tasks), 'task')} as run {answer['run_id']}")
        await self._until_ended(begun)
        report = await self._verify()
        return await asyncio.to_thread(self._sum_up, report)

    async def _until_ended(self, begun: float) -> None:
        deadline = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < deadline:
            tasks = await asyncio.to_thread(self._by_id)
            if self.told.first_s is None and any(t["status"] == "passed" for t in tasks.values()):
                self.told.first_s = time.monotonic() - begun
                output.say(f"first task finished {self.told.first_s:.1f} s after the start")
            await self._harm(tasks)
            run = await asyncio.to_thread(self.api.get, f"/api/runs/{RUN_ID}")
            if run["finished"]:
                return
            await asyncio.sleep(LOOK_EVERY_S)
        message = f"the demo's run did not end in {WAIT_S_MAX:g} s"
        raise TimedOut(message, hint="repeat it; if it stays so, report it with the logs")

    def _by_id(self) -> dict[str, dict[str, Any]]:
        return {task["task_id"]: task for task in every_task(self.api, RUN_ID)}

    async def _harm(self, tasks: Mapping[str, dict[str, Any]]) -> None:
        """Cancel one task and kill one agent as soon as they are at work."""
        victim = tasks["to-be-cancelled"]
        if not self.told.cancelled and victim["status"] == "running":
            self.told.cancelled = True
            path = "/api/tasks/to-be-cancelled/cancel"
            await asyncio.to_thread(self.api.post, path, {"reason": "the demo asked for it"})
            output.say(f"cancelled to-be-cancelled on {victim['worker_id']}")
        survivor = tasks["survives-its-worker"]
        if not self.told.killed and survivor["status"] == "running":
            self.told.killed = str(survivor["worker_id"])
            self._kill_machine(self.told.killed)
            output.say(f"killed {self.told.killed} (SIGKILL: agent, keeper and its processes)")

    def _kill_machine(self, worker_id: str) -> None:
        """Do what a power cut would do to one worker."""
        child = self.stack.children[f"agent {worker_id}"]
        child.restart = False
        home = self.directory / "main" / "agents" / worker_id
        pids = [child.process.pid, orjson.loads((home / "keeper.json").read_bytes())["pid"]]
        started = home.glob("slots/*/pid.json")
        pids += [orjson.loads(path.read_bytes())["pid"] for path in started]
        for pid in pids:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it ended by itself in the meantime

    async def _verify(self) -> Any:  # noqa: ANN401 - loaded lazily
        from dtest.leadership.audit import verify
        from dtest.roles.session import session

        settings = settings_of(self.stack.file, self.directory)
        async with session(settings, name="dtest demo") as opened:
            return await verify(opened.journal, opened.cell)

    def _sum_up(self, report: Any) -> int:  # noqa: ANN401 - loaded lazily
        tasks = self._by_id()
        rows = [self._row(name, expected, tasks) for name, expected in expectations().items()]
        wrong = [row for row in rows if not row["as_expected"]]
        run = self.api.get(f"/api/runs/{RUN_ID}")
        if self.as_json:
            summary = {"tasks": rows, "testcases": run["testcases"], "killed": self.told.killed}
            audit = {name: getattr(report, name) for name in report.__slots__}
            output.as_json({**summary, "verify": audit, "as_expected": not wrong})
        else:
            columns = ("task", "status", "reason", "attempts", "flaky", "worker", "simulated")
            output.table(rows, (*columns, "as_expected"))
            cases = ", ".join(f"{n} {name}" for name, n in sorted(run["testcases"].items()))
            print(f"test cases: {cases}")
            print(
                f"journal: {counted(report.events, 'event')}, "
                f"{counted(report.tasks_accepted, 'task')} accepted, "
                f"{report.tasks_terminal} ended, {counted(report.attempts, 'attempt')}, "
                f"{report.decisions_again} decisions checked, {len(report.objections)} violations"
            )
            for text in report.objections:
                print(f"VIOLATION {text}")
            print(
                "all as it should be"
                if not wrong
                else f"not as expected: {counted(len(wrong), 'task')}"
            )
        return NOT_AS_EXPECTED if wrong or report.objections or report.tasks_open else 0

    def _row(
        self, name: str, expected: Expected, tasks: Mapping[str, dict[str, Any]]
    ) -> dict[str, Any]:
        task = tasks[name]
        fits = (
            task["status"] == expected.status
            and task["reason"] == expected.reason
            and task["flaky"] == expected.flaky
            and task["attempt"] >= expected.attempts_min
            and (expected.hardware is None or task["hardware"] in expected.hardware)
        )
        worker = str(task["worker_id"] or "")
        return {
            "task": name,
            "status": task["status"],
            "reason": task["reason"],
            "attempts": task["attempt"],
            "flaky": task["flaky"],
            "worker": worker,
            "simulated": worker.startswith("sim-"),
            "as_expected": fits,
        }
