"""The executor of real processes: by the keeper, with everything on disk that must outlive it.

An attempt's slot in the spool says what is true of it: accepted, running, ended. The slot is
freed once the journal has the result.
"""

import asyncio
import os
from collections.abc import Callable

import structlog

from dtest.agents.attempt import AttemptContext, RunningAttempt, Stores
from dtest.agents.keeper.client import KeeperClient, Message, end_tree
from dtest.agents.reporter import Reporter
from dtest.agents.spool import Slot, Spool
from dtest.events.attempt import AttemptAssigned, AttemptRefused
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt

log = structlog.get_logger()

_Key = tuple[TaskId, int]


class ProcessExecutor:
    """Runs attempts as processes."""

    def __init__(
        self,
        spool: Spool,
        reporter: Reporter,
        stores: Stores,
        *,
        worker_id: WorkerId,
        now: Callable[[], float],
        env: dict[str, str],
    ) -> None:
        self._spool = spool
        self._worker_id = worker_id
        self._reporter = reporter
        self._env = env
        self._context = AttemptContext(worker_id, reporter, stores, now, self._order)
        self._running: dict[_Key, RunningAttempt] = {}
        self._keeper = KeeperClient(spool.root, told=self._told)
        self._accepted: asyncio.Queue[RunningAttempt] = asyncio.Queue()
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._found = spool.recover()

    def held(self) -> tuple[HeldAttempt, ...]:
        """See ``Executor.held``."""
        found = {(assigned.task_id, assigned.attempt) for _, assigned in self._found}
        return tuple(HeldAttempt(*key) for key in sorted(found | set(self._running)))

    def start(self, assigned: AttemptAssigned) -> None:
        """See ``Executor.start``: accepted is what stands on disk."""
        if (assigned.task_id, assigned.attempt) in self._running:
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

    def _take(self, slot: Slot, assigned: AttemptAssigned) -> RunningAttempt:
        attempt = RunningAttempt(
            self._context, assigned, slot, forget=lambda: self._spool.give_back(slot)
        )
        self._running[assigned.task_id, assigned.attempt] = attempt
        self._empty.clear()
        self._accepted.put_nowait(attempt)
        return attempt

    def stop(self, task_id: TaskId, attempt: int, reason: Reason) -> None:
        """See ``Executor.stop``."""
        found = self._running.get((task_id, attempt))
        if found is not None:
            found.stop(reason)

    async def run(self) -> None:
        """See ``Executor.run``."""
        await self._connect()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_keeper())
            while True:
                attempt = await self._accepted.get()
                group.create_task(self._carry(attempt))

    async def _carry(self, attempt: RunningAttempt) -> None:
        try:
            await attempt.run()
        finally:
            key = (attempt.assigned.task_id, attempt.assigned.attempt)
            self._running.pop(key, None)
            if not self._running:
                self._empty.set()

    async def _connect(self) -> None:
        running = {message["key"] for message in await self._keeper.connect(self._env)}
        found, self._found = self._found, []
        for slot, assigned in found:
            attempt = self._take(slot, assigned)
            started = slot.note("pid.json", attempt.name)
            if attempt.ended_on_disk() or started is None:
                continue
            if attempt.name in running:
                attempt.adopt(started)
            else:
                end_tree(int(started["pid"]), started.get("start_ticks"))
                attempt.lose_keeper()

    async def _watch_keeper(self) -> None:
        while True:
            await self._keeper.listen()
            if self._draining:
                return
            log.error("keeper_ended", pid=self._keeper.pid)
            for attempt in list(self._running.values()):
                attempt.lose_keeper()
            await self._keeper.connect(self._env)

    def _order(self, message: Message) -> None:
        self._keeper.order(message)

    def _told(self, message: Message) -> None:
        name = message.get("key", "")
        task_id, _, number = name.rpartition(".")
        attempt = self._running.get((TaskId(task_id), int(number))) if number.isdigit() else None
        if attempt is not None:
            attempt.told(message)

    async def drain(self, grace_s: float) -> None:
        """See ``Executor.drain``."""
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            for attempt in list(self._running.values()):
                attempt.stop(Reason.WORKER_SHUTDOWN)
            await self._empty.wait()
        self._draining = True
        self._keeper.order({"op": "quit"})
        await self._keeper.close()


def inherited_environment(own: dict[str, str]) -> dict[str, str]:
    """Return what attempts inherit: the agent's environment without dtest's own settings."""
    kept = {name: value for name, value in own.items() if not name.startswith("DTEST_")}
    kept.setdefault("PATH", os.defpath)
    return kept
