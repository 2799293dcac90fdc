"""One attempt from its start to its report: process, limits, output, cases, what it leaves.

The keeper owns the process; this owns what is known of it. A restarted agent carries on from the
attempt's slot.
"""

import asyncio
from collections.abc import Callable
from errno import errorcode
from typing import Any

from pydantic import ValidationError

from dtest.agents.artifacts import store_artifacts
from dtest.agents.attempt_context import AttemptContext
from dtest.agents.cases import CaseReport
from dtest.agents.checkpoints import AttemptCheckpoints
from dtest.agents.device_faults import reread
from dtest.agents.feeder import Feeder
from dtest.agents.launch import launch, write_inputs
from dtest.agents.outcome import Exit, Meaning, meaning
from dtest.agents.output import OutputPump
from dtest.agents.preparation import Preparation, Prepared, Unprepared
from dtest.agents.spool import Slot
from dtest.events.attempt import (
    Artifact,
    AttemptAssigned,
    AttemptFinished,
    AttemptReleased,
    AttemptStarted,
    TestcaseFinished,
)
from dtest.events.problem import explain
from dtest.events.reasons import Reason
from dtest.runtime.clock import instant

LOOK_EVERY_S = 0.25
PEAK_EVERY_S = 1.0
"""How old the figures may be where memory has no limit: the peak is only shown."""
ENDED_TEST_S = 2.0
"""After a test was ended for its memory, until a figure can no longer be that test's."""
_BAD_LAUNCH = {
    "ValidationError": Reason.MALFORMED_PAYLOAD,
    **dict.fromkeys(("ENOSPC", "EDQUOT"), Reason.DISK_FULL),
    **dict.fromkeys(
        ("ENOENT", "EACCES", "EPERM", "ENOTDIR", "ENOEXEC", "E2BIG", "ELOOP", "ValueError"),
        Reason.LAUNCH_FAILED,
    ),
}
_BAD_COMMAND = dict.fromkeys(("E2BIG", "ENAMETOOLONG", "ValueError"), Reason.MALFORMED_PAYLOAD)
"""Why no worker can start a program; any other reason is that there is none of the name."""


class RunningAttempt:
    """One attempt."""

    def __init__(
        self,
        context: AttemptContext,
        assigned: AttemptAssigned,
        slot: Slot,
        *,
        forget: Callable[[], None],
    ) -> None:
        self.assigned = assigned
        self.name = f"{assigned.task_id}.{assigned.attempt}"
        self.slot = slot
        self._context = context
        self._forget = forget
        self._ordered = False
        self._pid: int | None = None
        self._started_at = 0.0
        self._stop_reason: Reason | None = None
        self._abandoned = False
        self._end: dict[str, Any] | None = None
        self._ended = asyncio.Event()
        self._peak_bytes = 0
        self._used_bytes = 0
        self._test_ended_at = 0.0
        self._give_up_preparing: Callable[[], object] = _nothing
        self._checkpoints = AttemptCheckpoints(context.checkpoints, assigned, slot)
        self._feeder = self._fed()
        self._preparation = Preparation(context.workshop, assigned, slot, self._checkpoints)
        self._prepared = Prepared()
        self._report = CaseReport(
            slot.path / "cases.jsonl",
            attempt=(assigned.task_id, assigned.attempt, context.worker_id),
            tell=context.reporter.tell if self._feeder is None else self._tell_counted,
            heard=None if self._feeder is None else self._feeder.heard,
        )
        self._output = OutputPump(slot, self.name, self._store_output)

    def _fed(self) -> Feeder | None:
        queue = self.assigned.config.get("queue") if self.assigned.type == "test" else None
        if not isinstance(queue, str):
            return None
        taken = self._context.stores.queue(queue)
        return Feeder(taken, self.slot.path, name=self.name, read=self._read_cases)

    def _tell_counted(self, case: TestcaseFinished) -> None:
        if self._feeder is not None:
            self._feeder.told()
            self._context.reporter.tell(case, stored=self._feeder.stored)

    def _read_cases(self) -> None:
        if not self._context.reporter.is_full:
            self._report.read()

    @property
    def is_saving(self) -> bool:
        """Say whether all that is left to do is to store the last checkpoint."""
        return self._checkpoints.is_saving_last

    @property
    def output_bytes_dropped(self) -> int:
        """Return how much of its output was given up; 0 while it runs."""
        return self._output.dropped if self._output.is_finished else 0

    # -- what others say ----------------------------------------------------------------------

    def reconcile(self, running: dict[str, Any] | None) -> bool:
        """Take what a keeper that was just reached says, none if it does not run the attempt.

        Return whether the process was started and nobody knows how it ended.
        """
        if self._ended.is_set():
            return False
        if running is not None:
            self._spawned(running)
            if self._stop_reason is not None:
                self._order_kill(self._stop_reason)
            return False
        noted = self.slot.note("exit.json", self.name)
        started = self.slot.note("pid.json", self.name)
        if noted is None and started is None and not self._ordered:
            return False  # it was accepted and not started: ``run`` does
        if started is not None:
            self._pid, self._started_at = int(started["pid"]), float(started["started_at"])
        self._take_end(noted or {"lost": True})
        return noted is None

    def told(self, message: dict[str, Any]) -> None:
        """Take what the keeper says about this attempt."""
        match message["op"]:
            case "spawned":
                self._spawned(message)
            case "exited" | "failed":
                self._take_end(message)

    def _spawned(self, message: dict[str, Any]) -> None:
        if self._pid is None:
            self._pid, self._started_at = int(message["pid"]), float(message["started_at"])
            self._tell_started()

    def _take_end(self, end: dict[str, Any]) -> None:
        if self._end is None:
            self._end = end
            self._ended.set()

    def stop(self, reason: Reason) -> None:
        """End the process: TERM, grace, KILL, for the whole tree.

        Too late for one that ended: it is reported as it ended, unless nobody waits for that.
        """
        self._abandoned = self._abandoned or reason is Reason.WORKER_LOST
        if not self._ended.is_set() and self._stop_reason is None:
            self._stop_reason = reason
            self._give_up_preparing()
            self._order_kill(reason)

    def _order_kill(self, reason: Reason) -> None:
        grace_s = 0.0 if reason is Reason.OOM_TASK else self.assigned.grace_seconds
        self._context.order(
            {"op": "kill", "key": self.name, "grace_s": grace_s, "reason": reason.value}
        )

    # -- the way of an attempt ----------------------------------------------------------------

    async def run(self) -> None:
        """Carry the attempt to its end and tell it."""
        await self._context.reached.wait()
        if self._end is None and self._pid is None:
            await self._prepare()
            if self._stop_reason is None and self._end is None:
                self._launch()
            elif self._end is None:
                self._take_end({})
        if not self._ended.is_set():
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(self._output.follow())
                keeping = group.create_task(self._checkpoints.follow())
                feeding = None if self._feeder is None else group.create_task(self._feeder.follow())
                await self._watch()
                for task in filter(None, (sending, keeping, feeding)):
                    task.cancel()
        await self._close(self._end or {})

    async def _prepare(self) -> None:
        """Bring what the attempt needs; it is accepted, however long that takes."""
        if not self._preparation.takes_time or self._stop_reason is not None:
            return
        self._started_at = self._context.now()
        self._tell_started()
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._bring())
            self._give_up_preparing = preparing.cancel
        self._give_up_preparing = _nothing

    async def _bring(self) -> None:
        try:
            self._prepared = await self._preparation.run()
        except Unprepared as error:
            self._take_end({"op": "failed", "reason": error.reason, "detail": error.detail})
        except OSError as error:
            self._take_end({"op": "failed", **_described(error)})

    def _launch(self) -> None:
        self._started_at = self._context.now()
        try:
            planned = launch(self.assigned, self.slot.path, self._prepared)
            write_inputs(planned, self.slot.path)
        except (ValueError, OSError) as error:
            self._take_end({"op": "failed", **_described(error)})
            return
        self._ordered = True
        self._context.order(
            {
                "op": "spawn",
                "key": self.name,
                "argv": planned.argv,
                "cwd": planned.cwd,
                "env": planned.env,
                "dir": str(self.slot.path),
            }
        )

    def _tell_started(self) -> None:
        self._context.reporter.tell(
            AttemptStarted(
                self.assigned.task_id,
                self.assigned.attempt,
                self._context.worker_id,
                instant(self._started_at),
                self._pid,
            )
        )

    async def _watch(self) -> None:
        """Look for cases and limits until the process ended; no broker can hold this up."""
        seen, grown_at = 0, self._started_at
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._ended.wait()
                return
            except TimeoutError:
                pass
            self._read_cases()
            self._output.bound()
            produced, now = self._output.produced, self._context.now()
            if produced != seen:
                seen, grown_at = produced, now
            if self._pid is not None:
                self._look_at_memory(self._pid)
                self._enforce(now, max(grown_at, self._started_at))

    def _look_at_memory(self, pid: int) -> None:
        limited = self.assigned.memory_limit_gb is not None
        used_bytes = self._context.processes.memory_bytes(
            pid, age_s_max=LOOK_EVERY_S if limited else PEAK_EVERY_S
        )
        self._peak_bytes = max(self._peak_bytes, used_bytes)
        self._used_bytes = used_bytes

    def _enforce(self, now: float, grown_at: float) -> None:
        limits = self.assigned
        if limits.timeout_seconds is not None and now - self._started_at > limits.timeout_seconds:
            self.stop(Reason.RUN_TIMEOUT)
        elif (
            limits.idle_timeout_seconds is not None and now - grown_at > limits.idle_timeout_seconds
        ):
            self.stop(Reason.IDLE_OUTPUT_TIMEOUT)
        elif limits.memory_limit_gb is not None and self._used_bytes / 1e9 > limits.memory_limit_gb:
            self._stop_too_large(limits.memory_limit_gb)

    def _stop_too_large(self, limit_gb: float) -> None:
        """End what takes too much memory: of a lasting session the test, else the attempt."""
        if self._feeder is None:
            self.stop(Reason.OOM_TASK)
        elif self._context.now() - self._test_ended_at > ENDED_TEST_S:
            self._test_ended_at = self._context.now()
            used_gb = self._used_bytes / 1e9
            self._feeder.end_test(f"used {used_gb:.2f} GB of memory; the limit is {limit_gb:g} GB")

    async def _close(self, end: dict[str, Any]) -> None:
        self._report.read()
        if self._feeder is not None:
            await self._feeder.close(is_stopped=self._report.cases.ended == "stopped")
        if self._abandoned:  # the cell gave the attempt to somebody else
            self._forget()
            return
        if self._stopped_for(end) is Reason.WORKER_SHUTDOWN:
            await self._last_checkpoint(end)
            released = AttemptReleased(
                self.assigned.task_id, self.assigned.attempt, self._context.worker_id
            )
            self._context.reporter.tell(released, stored=self._forget)
            return
        await self._output.finish()
        prefix = f"{self.assigned.task_id}/{self.assigned.attempt}"
        artifacts, problem = await store_artifacts(
            self.slot.path / "artifacts", prefix, self._context.stores.put_artifact
        )
        ended_as = self._meaning(end)
        if ended_as[0] in {"failed", "faulted"}:
            await self._last_checkpoint(end)
        finished = self._finished(end, ended_as, artifacts, problem)
        self._context.reporter.tell(finished, stored=self._forget)

    async def _last_checkpoint(self, end: dict[str, Any]) -> None:
        if self._pid is not None:  # else nothing of its own ran
            ended_at = float(end.get("ended_at") or self._context.now())
            by_signal = end.get("exit_code") is None and not end.get("in_time")
            await self._checkpoints.last(by_signal=by_signal, ended_at=ended_at)

    def _stopped_for(self, end: dict[str, Any]) -> Reason | None:
        """Return why the process was stopped; the keeper knows it across restarts of the agent."""
        if self._stop_reason is not None:
            return self._stop_reason
        noted = end.get("stopped")
        return Reason(noted) if noted else None

    def _finished(
        self,
        end: dict[str, Any],
        ended_as: Meaning,
        artifacts: tuple[Artifact, ...],
        problem: str,
    ) -> AttemptFinished:
        outcome, reason, detail = ended_as
        if problem and outcome == "passed":
            outcome, reason, detail = "faulted", Reason.UPLOAD_FAILED, problem
        now = self._context.now()
        started_at = float(end.get("started_at") or self._started_at or now)
        peak = max(self._peak_bytes, int(end.get("memory_bytes_peak") or 0))
        return AttemptFinished(
            self.assigned.task_id,
            self.assigned.attempt,
            self._context.worker_id,
            outcome,
            instant(started_at),
            instant(max(started_at, float(end.get("ended_at") or now))),
            reason,
            detail,
            end.get("exit_code"),
            end.get("signal"),
            end.get("cpu_s"),
            peak or None,
            self._output.produced,
            self._output.dropped or None,
            artifacts,
        )

    def _meaning(self, end: dict[str, Any]) -> Meaning:
        if end.get("op") == "failed" and end.get("of_program") and self.assigned.type != "test":
            reason = _BAD_COMMAND.get(str(end.get("errno")), Reason.MISSING_INPUT)
            return "faulted", reason, str(end.get("detail", ""))
        if end.get("op") == "failed":
            reason = end.get("reason") or _BAD_LAUNCH.get(str(end.get("errno")), Reason.AGENT_CRASH)
            return "faulted", reason, str(end.get("detail", ""))
        if end.get("lost"):
            return "faulted", Reason.AGENT_CRASH, "the agent's keeper of processes ended"
        status = Exit(end.get("exit_code"), end.get("signal"))
        cases, stopped = self._report.cases, self._stopped_for(end)
        ended_as = meaning(self.assigned.type, status, stopped, cases)
        if stopped is not None or not self.assigned.devices:
            return ended_as
        return reread(ended_as, cases, self.slot.path / "output.log")

    async def _store_output(self, offset: int, chunk: bytes) -> None:
        await self._context.stores.put_output(
            self.assigned.task_id, self.assigned.attempt, offset, chunk
        )


def _nothing() -> None:
    return


def _described(error: ValueError | OSError) -> dict[str, str]:
    if isinstance(error, OSError):
        return {"errno": errorcode.get(error.errno or 0, "OSError"), "detail": str(error)}
    if isinstance(error, ValidationError):
        return {"errno": "ValidationError", "detail": explain(error)}
    return {"errno": "ValueError", "detail": str(error)}
