"""The executor of real processes: by the keeper, with everything on disk that must outlive it.

An attempt's directory is its spool: ``assignment.json`` when it was accepted, ``pid.json`` when it
runs, ``exit.json`` when it ended; it is removed once the journal has the result.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog
from pydantic import TypeAdapter

from dtest.agents.attempt import AttemptContext, RunningAttempt, Stores
from dtest.agents.keeper.client import KeeperClient, Message, end_tree
from dtest.agents.reporter import Reporter
from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.worker import HeldAttempt

log = structlog.get_logger()

_ASSIGNMENT: TypeAdapter[AttemptAssigned] = TypeAdapter(AttemptAssigned)
_Key = tuple[TaskId, int]


@dataclass(frozen=True, slots=True)
class Spool:
    """The agent's directory on disk."""

    root: Path

    @property
    def attempts(self) -> Path:
        """Where attempts have their directories."""
        return self.root / "attempts"

    def directory(self, assigned: AttemptAssigned) -> Path:
        """Return the directory of an attempt."""
        return self.attempts / f"{assigned.task_id}.{assigned.attempt}"

    def load(self) -> int | None:
        """See ``Position.load``."""
        try:
            return int((self.root / "position").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def save(self, seq: int) -> None:
        """See ``Position.save``."""
        unfinished = self.root / "position.new"
        unfinished.write_text(str(seq))
        unfinished.replace(self.root / "position")


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
        self._reporter = reporter
        self._env = env
        self._context = AttemptContext(worker_id, reporter, stores, now, self._order)
        self._running: dict[_Key, RunningAttempt] = {}
        self._keeper = KeeperClient(spool.root, told=self._told)
        self._accepted: asyncio.Queue[RunningAttempt] = asyncio.Queue()
        self._empty = asyncio.Event()
        self._empty.set()
        spool.attempts.mkdir(parents=True, exist_ok=True)
        self._found = self._find()

    def _find(self) -> list[AttemptAssigned]:
        """Read the attempts that an earlier start of this agent left."""
        found: list[AttemptAssigned] = []
        for directory in sorted(self._spool.attempts.iterdir()):
            try:
                content = orjson.loads((directory / "assignment.json").read_bytes())
                found.append(_ASSIGNMENT.validate_python(content))
            except (OSError, ValueError):  # killed before it was accepted: it is assigned anew
                shutil.rmtree(directory, ignore_errors=True)
        return found

    def held(self) -> tuple[HeldAttempt, ...]:
        """See ``Executor.held``."""
        keys = {(item.task_id, item.attempt) for item in self._found} | set(self._running)
        return tuple(HeldAttempt(*key) for key in sorted(keys))

    def start(self, assigned: AttemptAssigned) -> None:
        """See ``Executor.start``: accepted is what stands on disk."""
        key = (assigned.task_id, assigned.attempt)
        if key in self._running:
            return
        directory = self._spool.directory(assigned)
        directory.mkdir(exist_ok=True)
        unfinished = directory / "assignment.json.new"
        unfinished.write_bytes(orjson.dumps(assigned))
        unfinished.replace(directory / "assignment.json")
        self._take(assigned)

    def _take(self, assigned: AttemptAssigned) -> None:
        attempt = RunningAttempt(self._context, assigned, self._spool.directory(assigned))
        self._running[assigned.task_id, assigned.attempt] = attempt
        self._empty.clear()
        self._accepted.put_nowait(attempt)

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
        for assigned in found:
            directory = self._spool.directory(assigned)
            self._take(assigned)
            attempt = self._running[assigned.task_id, assigned.attempt]
            if attempt.ended_on_disk():
                continue
            if attempt.name in running:
                attempt.adopt()
            elif (directory / "pid.json").exists():
                started = orjson.loads((directory / "pid.json").read_bytes())
                end_tree(int(started["pid"]), started.get("start_ticks"))
                attempt.lose_keeper()

    async def _watch_keeper(self) -> None:
        while True:
            await self._keeper.listen()
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
        self._keeper.order({"op": "quit"})
        await self._keeper.close()


def inherited_environment(own: dict[str, str]) -> dict[str, str]:
    """Return what attempts inherit: the agent's environment without dtest's own settings."""
    kept = {name: value for name, value in own.items() if not name.startswith("DTEST_")}
    kept.setdefault("PATH", os.defpath)
    return kept


