"""The load of a drill and what its clients see: submissions, answers, errors, and the journal.

One client submits simulated and real tasks through the journal at a steady pace, another asks and
submits through the HTTP API; a reader notes when each message is seen.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx

from dtest.drills.checks import Ledger, events_of
from dtest.drills.ground import Ground
from dtest.errors import DtestError, TimedOut
from dtest.events.fields import RunId, TaskId
from dtest.events.parameters import Strategy
from dtest.events.policy import PolicyChanged
from dtest.events.task import Requirements, TaskQueued
from dtest.journal.port import Stored

TICK_S = 0.05
ASK_S_MAX = 15.0
"""Of one HTTP request: what takes longer is an error."""
ASK_EVERY_S = 0.1
REPEAT_S_MAX = 60.0
"""So long a request is repeated that was told to come again later; then it is an error."""
RUN = RunId("drill")
SIMULATED = {"command": ["/bin/true"], "simulate": {"seconds": 0.0}}
ON_SIMULATED = Requirements(labels={"simulated": "true"})
Condition = Callable[[str, dict[str, object], Stored], bool]


@dataclass(slots=True)
class Seen:
    """What the clients saw."""

    acknowledged: list[str] = field(default_factory=list)
    """Tasks that the cell said it has stored."""
    requests: int = 0
    errors: list[str] = field(default_factory=list)
    repeated: int = 0
    """Requests that were told to come again later, and did."""
    ends: list[float] = field(default_factory=list)
    """When the end of each attempt was seen, seconds since the load began."""


class Watcher:
    """Reads the journal as it grows: keeps it, does its books, and waits for events."""

    def __init__(self, ground: Ground) -> None:
        self.messages: list[Stored] = []
        self.ledger = Ledger()
        self.seen = Seen()
        self._ground = ground
        self._loop = asyncio.get_running_loop()
        self.begun = self._loop.time()
        self._waiting: list[tuple[Condition, asyncio.Future[float]]] = []
        self._grown = asyncio.Event()

    def since(self) -> float:
        """Seconds since the beginning."""
        return self._loop.time() - self.begun

    async def run(self) -> None:
        """Read until cancelled."""
        async with self._ground.opened.journal.follow(0) as feed:
            async for batch in feed:
                now = self.since()
                for stored in batch:
                    self.messages.append(stored)
                    self.ledger.take(stored)
                    for kind, data in events_of(stored):
                        if kind == "attempt.finished":
                            self.seen.ends.append(now)
                        self._tell(kind, data, stored, now)
                self._grown.set()

    def _tell(self, kind: str, data: dict[str, object], stored: Stored, now: float) -> None:
        for condition, future in list(self._waiting):
            if not future.done() and condition(kind, data, stored):
                future.set_result(now)

    @asynccontextmanager
    async def expecting(self, condition: Condition) -> AsyncIterator["asyncio.Future[float]"]:
        """Have a future become the instant at which an event is seen, from here on."""
        future: asyncio.Future[float] = self._loop.create_future()
        entry = (condition, future)
        self._waiting.append(entry)
        try:
            yield future
        finally:
            self._waiting.remove(entry)

    def events(self) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield type and data of all that was read."""
        for stored in self.messages:
            yield from events_of(stored)

    def story(self, task_id: str) -> str:
        """Tell what happened to a task, with the instants at which it was stored."""
        first = self.messages[0].stored_at
        return ", ".join(
            f"{kind} at {stored.stored_at - first:.2f} s"
            for stored in self.messages
            for kind, data in events_of(stored)
            if data.get("task_id") == task_id
        )

    def open_tasks(self) -> list[str]:
        """The tasks that have not ended."""
        return [name for name, life in self.ledger.findings.tasks.items() if not life.is_over]

    async def all_ended(self, within_s: float) -> list[str]:
        """Wait until every acknowledged task is over; return those that are not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.ledger.findings.lost(self.seen.acknowledged) or self.open_tasks():
                    self._grown.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1.0):
                            await self._grown.wait()
        return self.ledger.findings.lost(self.seen.acknowledged)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is asked of the cell."""

    simulated_per_s: float = 200.0
    real_per_s: float = 4.0
    real_command: str = "sleep 0.2"


class Load:
    """Submits until it is told to stop."""

    def __init__(self, ground: Ground, watcher: Watcher, pace: Pace) -> None:
        self._ground = ground
        self._watcher = watcher
        self._pace = pace
        self._stop = asyncio.Event()
        self._count = 0
        self._client = ground.client("drill")

    def stop(self) -> None:
        """Submit no more."""
        self._stop.set()

    async def choose(self, strategy: Strategy) -> None:
        """Choose how recovery goes about faults. Raises as ``Client.say``."""
        await self._client.say([PolicyChanged(strategy=strategy)])

    async def run(self) -> None:
        """Submit and ask until stopped, then wait for what is on its way."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._submit(group))
            group.create_task(self._ask())

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stop.wait()

    async def _submit(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        due = {True: 0.0, False: 0.0}
        at = loop.time()
        while not self._stop.is_set():
            for simulated, per_s in (
                (True, self._pace.simulated_per_s),
                (False, self._pace.real_per_s),
            ):
                due[simulated] += per_s * TICK_S
                count, due[simulated] = int(due[simulated]), due[simulated] % 1.0
                if count:
                    group.create_task(self._say([self._task(simulated) for _ in range(count)]))
            at += TICK_S
            await self._pause(at - loop.time())

    def _task(self, simulated: bool) -> TaskQueued:  # noqa: FBT001 - one of two kinds
        self._count += 1
        if simulated:
            return TaskQueued(
                TaskId(f"s{self._count}"), "command", SIMULATED, RUN, requirements=ON_SIMULATED
            )
        config = {"command": self._pace.real_command}
        return TaskQueued(TaskId(f"r{self._count}"), "command", config, RUN)

    async def _say(self, tasks: list[TaskQueued]) -> None:
        seen = self._watcher.seen
        seen.requests += 1
        try:
            await self._client.say(tasks)
        except DtestError as error:
            seen.errors.append(f"submission at {self._watcher.since():.1f} s: {error}")
        else:
            seen.acknowledged += [task.task_id for task in tasks]

    async def _ask(self) -> None:
        """Ask and submit by HTTP, one request after the other; go to another API if one is away."""
        seen = self._watcher.seen
        headers = {"Authorization": f"Bearer {self._ground.settings.require('token')}"}
        urls = list(self._ground.api_urls.values())
        count = 0
        async with httpx.AsyncClient(headers=headers, timeout=ASK_S_MAX, trust_env=False) as api:
            while not self._stop.is_set():
                count += 1
                seen.requests += 1
                problem: httpx.TransportError | None = None
                for url in list(urls):
                    try:
                        await self._request(api, url, count)
                        break
                    except httpx.TransportError as error:
                        urls.append(urls.pop(0))
                        problem = error
                    except httpx.HTTPError as error:
                        seen.errors.append(f"HTTP at {self._watcher.since():.1f} s: {error!r}")
                        break
                else:
                    seen.errors.append(f"HTTP at {self._watcher.since():.1f} s: {problem!r}")
                await self._pause(ASK_EVERY_S)

    async def _request(self, api: httpx.AsyncClient, url: str, count: int) -> None:
        """Ask or submit; come again later where the answer says so. Raises httpx.HTTPError."""
        until = self._watcher.since() + REPEAT_S_MAX
        while True:
            try:
                await self._requested(api, url, count)
            except httpx.HTTPStatusError as error:
                told_s = error.response.headers.get("Retry-After", "")
                if not told_s.isdigit() or self._watcher.since() + int(told_s) > until:
                    raise
                self._watcher.seen.repeated += 1
                await asyncio.sleep(int(told_s))
            else:
                return

    async def _requested(self, api: httpx.AsyncClient, url: str, count: int) -> None:
        if count % 2:
            (await api.get(f"{url}/api/status")).raise_for_status()
            return
        name = f"h{count}"  # the same task again, where an answer was lost, changes nothing
        document = {"task_id": name, "type": "command", "config": SIMULATED}
        needs = {"labels": {"simulated": "true"}}
        answer = await api.post(f"{url}/api/tasks/submit", json={**document, "requirements": needs})
        answer.raise_for_status()
        self._watcher.seen.acknowledged.append(name)


def of_worker(kind: str, worker: str) -> Condition:
    """An event of a kind about one worker."""

    def condition(type_: str, data: dict[str, object], _: Stored) -> bool:
        return type_ == kind and data["worker_id"] == worker

    return condition


async def seen_within(future: "asyncio.Future[float]", within_s: float, what: str) -> float:
    """Wait for an instant. Raises TimedOut that names what did not happen."""
    try:
        async with asyncio.timeout(within_s):
            return await future
    except TimeoutError:
        message = f"{what} was not seen within {within_s:g} s"
        raise TimedOut(message) from None
