"""The executor of real processes: by the keeper, with everything on disk that must outlive it.

An attempt's slot in the spool says what is true of it: accepted, running, ended. The slot is
freed once the journal has the result.
"""

import asyncio
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from dtest.agents.attempt import RunningAttempt
from dtest.agents.attempt_context import AttemptContext, Stores
from dtest.agents.checkpoints import (
    DEFAULT_CHECKPOINTS,
    CheckpointContext,
    CheckpointPolicy,
)
from dtest.agents.environments import EnvironmentCache, EnvironmentPolicy
from dtest.agents.keeper.client import KeeperClient, Message
from dtest.agents.keeper.descendants import kill_marked, mark_of
from dtest.agents.preparation import Workshop
from dtest.agents.reporter import Reporter
from dtest.agents.spool import Slot, Spool
from dtest.agents.usage import ProcessTable
from dtest.agents.workspaces import WorkspaceCache, WorkspacePolicy
from dtest.events.attempt import AttemptAssigned, AttemptRefused
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt

log = structlog.get_logger()

HAND_BACK_S_MAX = 5.0
"""Beyond grace and last checkpoints, for the end of a drain; what takes longer waits on disk."""

_Key = tuple[TaskId, int]


@dataclass(frozen=True, slots=True)
class Clocks:
    """What tells the executor the time."""

    now: Callable[[], float]
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Caches:
    """What agents of one machine share on disk, and how much of it."""

    directory: Path
    workspaces: WorkspacePolicy = WorkspacePolicy()  # noqa: RUF009 - it is frozen
    environments: EnvironmentPolicy = EnvironmentPolicy()  # noqa: RUF009 - it is frozen


class ProcessExecutor:
    """Runs attempts as processes."""

    def __init__(
        self,
        spool: Spool,
        reporter: Reporter,
        stores: Stores,
        *,
        worker_id: WorkerId,
        clocks: Clocks,
        env: dict[str, str],
        caches: Caches,
        checkpoints: CheckpointPolicy = DEFAULT_CHECKPOINTS,
    ) -> None:
        self._spool = spool
        self._worker_id = worker_id
        self._reporter = reporter
        self._env = env
        self._keeper = KeeperClient(spool.root, told=self._told)
        self._reached = asyncio.Event()
        for name in ("workspaces", "environments"):  # what lies there is nobody else's
            (caches.directory / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        workspaces = WorkspaceCache(
            caches.directory / "workspaces",
            stores.workspaces,
            policy=caches.workspaces,
            now=clocks.now,
        )
        environments = EnvironmentCache(
            caches.directory / "environments",
            workspaces,
            policy=caches.environments,
            env=env,
            now=clocks.now,
        )
        self._context = AttemptContext(
            worker_id,
            reporter,
            stores,
            CheckpointContext(worker_id, reporter, stores.checkpoints, clocks.now, checkpoints),
            clocks.now,
            self._keeper.order,
            self._reached,
            ProcessTable(monotonic=clocks.monotonic),
            Workshop(workspaces, environments, env["PATH"]),
        )
        self._held: set[_Key] = set()
        """Attempts whose result the journal does not have."""
        self._running: dict[_Key, RunningAttempt] = {}
        self._accepted: asyncio.Queue[RunningAttempt] = asyncio.Queue()
        self._littered: asyncio.Queue[Slot] = asyncio.Queue()
        self._output_bytes_dropped = 0
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        for slot, assigned in spool.recover():
            self._take(slot, assigned)

    def held(self) -> tuple[HeldAttempt, ...]:
        """See ``Executor.held``."""
        return tuple(HeldAttempt(*key) for key in sorted(self._held))

    def output_bytes_dropped(self) -> int:
        """See ``Executor.output_bytes_dropped``."""
        return self._output_bytes_dropped

    def start(self, assigned: AttemptAssigned) -> None:
        """See ``Executor.start``: accepted is what stands on disk."""
        if (assigned.task_id, assigned.attempt) in self._held:
            return
        try:
            slot = self._spool.take(assigned)
        except OSError as error:  # the disk is full: somebody else can run it
            refused = AttemptRefused(
                assigned.task_id, assigned.attempt, self._worker_id, f"cannot accept: {error}"
            )
            self._reporter.tell(refused)
            return
        self._take(slot, assigned)

    def _take(self, slot: Slot, assigned: AttemptAssigned) -> None:
        key = (assigned.task_id, assigned.attempt)

        def forget() -> None:
            self._held.discard(key)
            if not self._spool.give_back(slot):
                self._littered.put_nowait(slot)

        attempt = RunningAttempt(self._context, assigned, slot, forget=forget)
        self._held.add(key)
        self._running[key] = attempt
        self._empty.clear()
        self._accepted.put_nowait(attempt)

    def stop(self, task_id: TaskId, attempt: int, reason: Reason) -> None:
        """See ``Executor.stop``."""
        found = self._running.get((task_id, attempt))
        if found is not None:
            found.stop(reason)

    async def run(self) -> None:
        """See ``Executor.run``."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_in_touch())
            group.create_task(self._tidy())
            while True:
                attempt = await self._accepted.get()
                group.create_task(self._carry(attempt))

    async def _carry(self, attempt: RunningAttempt) -> None:
        try:
            await attempt.run()
        finally:
            self._output_bytes_dropped += attempt.output_bytes_dropped
            self._running.pop((attempt.assigned.task_id, attempt.assigned.attempt), None)
            if not self._running:
                self._empty.set()

    async def _keep_in_touch(self) -> None:
        try:
            while not self._draining:
                self._reconcile(await self._keeper.connect(self._env))
                self._reached.set()
                await self._keeper.listen()
                self._reached.clear()
                if not self._draining:
                    log.error("keeper_lost", pid=self._keeper.pid)
        finally:
            self._keeper.close()

    def _reconcile(self, listed: Iterable[Message]) -> None:
        """Compare what the keeper runs with what is in hand."""
        by_name = {str(message["key"]): message for message in listed}
        orphaned = [
            mark_of(attempt.name, attempt.slot.path)
            for attempt in self._running.values()
            if attempt.reconcile(by_name.pop(attempt.name, None))
        ]
        kill_marked(orphaned)
        for name in by_name:  # nobody waits for it
            reason = Reason.WORKER_LOST.value
            self._keeper.order({"op": "kill", "key": name, "grace_s": 0.0, "reason": reason})

    def _told(self, message: Message) -> None:
        name = message.get("key", "")
        task_id, _, number = name.rpartition(".")
        attempt = self._running.get((TaskId(task_id), int(number))) if number.isdigit() else None
        if attempt is not None:
            attempt.told(message)
        elif message["op"] == "error":
            log.error("keeper_did_not_understand", detail=message.get("detail"))

    async def _tidy(self) -> None:
        """Remove what attempts left; a large tree takes its time."""
        while True:
            slot = await self._littered.get()
            await asyncio.to_thread(slot.remove)
            self._spool.reuse(slot)

    async def drain(self, grace_s: float) -> None:
        """See ``Executor.drain``."""
        if not await self._emptied(grace_s):
            running = list(self._running.values())
            for attempt in running:
                attempt.stop(Reason.WORKER_SHUTDOWN)
            grace_s_max = max((attempt.assigned.grace_seconds for attempt in running), default=0.0)
            in_time = await self._emptied(grace_s_max + HAND_BACK_S_MAX)
            if not in_time and any(attempt.is_saving for attempt in running):
                in_time = await self._emptied(self._context.checkpoints.policy.last_s_max)
            if not in_time:
                log.warning("left_with_attempts", names=[each.name for each in running])
        self._draining = True
        self._keeper.order({"op": "quit"})
        self._keeper.close()

    async def _emptied(self, within_s: float) -> bool:
        try:
            async with asyncio.timeout(within_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


def inherited_environment(own: dict[str, str]) -> dict[str, str]:
    """Return what attempts inherit: the agent's environment without dtest's own settings."""
    kept = {name: value for name, value in own.items() if not name.startswith("DTEST_")}
    kept.setdefault("PATH", os.defpath)
    return kept
