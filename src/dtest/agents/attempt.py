"""One attempt from its start to its report: process, limits, output, cases, artefacts.

The keeper owns the process; this owns what is known of it. A restarted agent carries on from the
attempt's directory.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from dtest.agents.cases import CaseReport
from dtest.agents.launch import launch, write_inputs
from dtest.agents.outcome import Exit, Meaning, meaning
from dtest.agents.output import OutputPump
from dtest.agents.reporter import Reporter
from dtest.agents.spool import Slot
from dtest.agents.usage import TreeUsage
from dtest.errors import DtestError
from dtest.events.attempt import (
    Artifact,
    AttemptAssigned,
    AttemptFinished,
    AttemptReleased,
    AttemptStarted,
)
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.runtime.clock import instant

log = structlog.get_logger()

LOOK_EVERY_S = 0.25
ARTIFACTS_MAX = 1_000
ARTIFACT_BYTES_MAX = 1 << 30
_BAD_LAUNCH = frozenset({"ENOENT", "EACCES", "ENOTDIR", "ENOEXEC", "ValueError"})


class Stores(Protocol):
    """Where output and artefacts go."""

    async def put_output(self, task_id: TaskId, attempt: int, offset: int, chunk: bytes) -> None:
        """Store a chunk of output; returns when it is acknowledged, however long that takes."""
        ...

    async def put_artifact(self, name: str, path: Path) -> None:
        """Store a file under a name; raises DtestError."""
        ...


@dataclass(frozen=True, slots=True)
class AttemptContext:
    """What all attempts of one agent share."""

    worker_id: WorkerId
    reporter: Reporter
    stores: Stores
    now: Callable[[], float]
    order: Callable[[dict[str, Any]], None]


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
        self._context = context
        self._slot = slot
        self._directory = directory = slot.path
        self._forget = forget
        self._stop_reason: Reason | None = None
        self._handed_back = False
        self._abandoned = False
        self._adopted = False
        self._end: dict[str, Any] | None = None
        self._started_at = 0.0
        self._pid: int | None = None
        self._event = asyncio.Event()
        self._peak_bytes = 0
        who = (assigned.task_id, assigned.attempt, context.worker_id)
        self._report = CaseReport(
            directory / "cases.jsonl", attempt=who, tell=context.reporter.tell
        )
        self._output = OutputPump(directory / "output.log", self._store_output)

    # -- what others say ----------------------------------------------------------------------

    def ended_on_disk(self) -> bool:
        """Say whether the keeper wrote down the end; take it over if so."""
        self._end = self._slot.note("exit.json", self.name)
        if self._end is None:
            return False
        self._event.set()
        return True

    def adopt(self, started: dict[str, Any]) -> None:
        """The process runs already, started by an earlier start of this agent."""
        self._adopted = True
        self._pid, self._started_at = int(started["pid"]), float(started["started_at"])

    def lose_keeper(self) -> None:
        """The keeper ended: nobody will tell how the process ends."""
        if not self.ended_on_disk():
            self._end = {"exit_code": None, "signal": None, "lost": True}
            self._event.set()

    def told(self, message: dict[str, Any]) -> None:
        """Take what the keeper says about this attempt."""
        match message["op"]:
            case "spawned":
                self._pid, self._started_at = int(message["pid"]), float(message["started_at"])
                self._tell_started()
            case "exited" | "failed":
                self._end = message
                self._event.set()

    def stop(self, reason: Reason) -> None:
        """End the process: TERM, grace, KILL, for the whole tree."""
        if self._stop_reason is None:
            self._stop_reason = reason
            self._handed_back = reason is Reason.WORKER_SHUTDOWN
            self._abandoned = reason is Reason.WORKER_LOST
        grace_s = self.assigned.grace_seconds
        self._context.order({"op": "kill", "key": self.name, "grace_s": grace_s})

    # -- the way of an attempt ----------------------------------------------------------------

    async def run(self) -> None:
        """Carry the attempt to its end and tell it."""
        if self._end is None and not self._adopted:
            if self._stop_reason is None:
                self._launch()
            else:
                self._end = {"exit_code": None, "signal": None}
                self._event.set()
        elif self._adopted:
            self._tell_started()
        await self._watch()
        await self._close()

    def _launch(self) -> None:
        self._started_at = self._context.now()
        try:
            planned = launch(self.assigned, self._directory)
            write_inputs(planned, self._directory)
        except (ValueError, OSError) as error:
            self._end = {"op": "failed", "errno": type(error).__name__, "detail": str(error)}
            self._event.set()
            return
        self._context.order(
            {
                "op": "spawn",
                "key": self.name,
                "argv": planned.argv,
                "cwd": planned.cwd,
                "env": planned.env,
                "dir": str(self._directory),
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
        """Stream and look for limits until the process ended."""
        usage: TreeUsage | None = None
        seen, grown_at = 0, self._started_at
        while not self._event.is_set():
            try:
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._event.wait()
            except TimeoutError:
                pass
            if self._event.is_set():
                return
            self._report.read()
            size = await self._output.pump()
            now = self._context.now()
            if size != seen:
                seen, grown_at = size, now
            if self._pid is not None:
                usage = usage or TreeUsage(self._pid)
                self._peak_bytes = max(self._peak_bytes, usage.memory_bytes())
            self._enforce(now, max(grown_at, self._started_at))

    def _enforce(self, now: float, grown_at: float) -> None:
        limits = self.assigned
        if self._stop_reason is not None or not self._started_at:
            return
        memory_gb = self._peak_bytes / 1e9
        if limits.timeout_seconds is not None and now - self._started_at > limits.timeout_seconds:
            self.stop(Reason.RUN_TIMEOUT)
        elif (
            limits.idle_timeout_seconds is not None and now - grown_at > limits.idle_timeout_seconds
        ):
            self.stop(Reason.IDLE_OUTPUT_TIMEOUT)
        elif limits.memory_limit_gb is not None and memory_gb > limits.memory_limit_gb:
            self._context.order({"op": "kill", "key": self.name, "grace_s": 0.0})
            self._stop_reason = Reason.OOM_TASK

    async def _close(self) -> None:
        end = self._end or {}
        self._report.read()
        if self._abandoned:  # the cell gave the attempt to somebody else
            self._forget()
            return
        if self._handed_back:
            self._context.reporter.tell(
                AttemptReleased(
                    self.assigned.task_id, self.assigned.attempt, self._context.worker_id
                ),
                stored=self._forget,
            )
            return
        await self._output.finish()
        artifacts, problem = await self._store_artifacts()
        self._context.reporter.tell(self._finished(end, artifacts, problem), stored=self._forget)

    def _finished(
        self, end: dict[str, Any], artifacts: tuple[Artifact, ...], problem: str
    ) -> AttemptFinished:
        outcome, reason, detail = self._meaning(end)
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
        if end.get("op") == "failed":
            reason = Reason.LAUNCH_FAILED if end.get("errno") in _BAD_LAUNCH else Reason.AGENT_CRASH
            return "faulted", reason, str(end.get("detail", ""))
        if end.get("lost"):
            return "faulted", Reason.AGENT_CRASH, "the agent's keeper of processes ended"
        return meaning(
            self.assigned.type,
            Exit(end.get("exit_code"), end.get("signal")),
            self._stop_reason,
            self._report.cases,
        )

    async def _store_output(self, offset: int, chunk: bytes) -> None:
        await self._context.stores.put_output(
            self.assigned.task_id, self.assigned.attempt, offset, chunk
        )

    async def _store_artifacts(self) -> tuple[tuple[Artifact, ...], str]:
        root = self._directory / "artifacts"
        files = (
            [path for path in sorted(root.rglob("*")) if path.is_file()] if root.is_dir() else []
        )
        stored: list[Artifact] = []
        for path in files[:ARTIFACTS_MAX]:
            size = path.stat().st_size
            name = path.relative_to(root).as_posix()
            if size > ARTIFACT_BYTES_MAX:
                return tuple(stored), f"artefact {name} is larger than {ARTIFACT_BYTES_MAX} bytes"
            object_name = f"{self.assigned.task_id}/{self.assigned.attempt}/{name}"
            try:
                await self._context.stores.put_artifact(object_name, path)
            except DtestError as error:
                return tuple(stored), f"artefact {name}: {error}"
            digest = await asyncio.to_thread(_sha256, path)
            stored.append(Artifact(name, size, digest, object_name))
        if len(files) > ARTIFACTS_MAX:
            return tuple(stored), f"{len(files)} artefacts; at most {ARTIFACTS_MAX} are kept"
        return tuple(stored), ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
