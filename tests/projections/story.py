"""Long histories at random: the real deciders lead a cell in which everything happens.

Agents answer, repeat themselves, come late and get lost; clients submit, cancel and retry; some
write nonsense. The same seed tells the same story.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.reasons import Reason
from dtest.events.run import RunCancelRequested, RunOpened
from dtest.events.task import RetryPolicy, TaskCancelRequested, TaskRetryRequested
from dtest.events.worker import WorkerDrainRequested
from tests.kit import facts
from tests.kit.world import World

NONSENSE = (b"", b"{", b"[]", b"[1, {}]", b'{"type": "x"}')


class Story:
    """One cell's story."""

    def __init__(self, seed: int) -> None:
        self.world = World().led()
        self._luck = random.Random(seed)
        self._assigned: list[AttemptAssigned] = []
        self._tasks: list[str] = []
        self._runs: list[str] = []
        self._incarnations: dict[str, int] = {}

    def tell(self, steps: int) -> World:
        """Let so many things happen."""
        deeds: list[tuple[int, Callable[[], None]]] = [
            (2, self._join),
            (1, self._lose),
            (1, self._leave),
            (1, self._drain),
            (1, self._open),
            (6, self._submit),
            (3, self._ask),
            (24, self._report),
            (1, self._nonsense),
        ]
        self._join()
        for _ in range(steps):
            (deed,) = self._luck.choices([d for _, d in deeds], [weight for weight, _ in deeds])
            deed()
            self.world.tick(self._luck.choice([0.0, 0.1, 1.0, 5.0]))
            if self._luck.random() < 0.7:
                self._decide()
        return self.world

    def _decide(self) -> None:
        decided = self.world.step()
        self._assigned += [data for data in decided if isinstance(data, AttemptAssigned)]

    # -- workers ------------------------------------------------------------------------------

    def _join(self) -> None:
        name = f"w{self._luck.randrange(4)}"
        number = self._incarnations.get(name, 0) + self._luck.choice([0, 1, 1])
        self._incarnations[name] = number
        held = tuple(
            (data.task_id, data.attempt)
            for data in self._assigned[-3:]
            if data.worker_id == name and self._luck.random() < 0.5
        )
        capability = facts.machine(self._luck.choice([1, 2, 4]))
        self.world.record(facts.registered(name, capability, incarnation=f"i{number}", held=held))

    def _somebody(self) -> tuple[str, str]:
        name = self._luck.choice(sorted(self._incarnations))
        return name, f"i{self._incarnations[name]}"

    def _lose(self) -> None:
        self.world.record(facts.suspected(*self._somebody()))

    def _leave(self) -> None:
        self.world.record(facts.left(*self._somebody()))

    def _drain(self) -> None:
        self.world.record(WorkerDrainRequested(WorkerId(self._somebody()[0])))

    # -- clients ------------------------------------------------------------------------------

    def _open(self) -> None:
        run_id = f"run-{self._luck.randrange(4)}"
        labels = {"n": str(self._luck.randrange(3))}
        self.world.record(RunOpened(RunId(run_id), f"name-{self._luck.randrange(3)}", labels))
        self._runs.append(run_id)

    def _submit(self) -> None:
        new = [self._task() for _ in range(self._luck.choice([1, 1, 2, 5]))]
        self.world.record(*new)
        if self._luck.random() < 0.1:
            self.world.record(*new)
        self._tasks += [task.task_id for task in new]

    def _task(self) -> Any:
        again = self._tasks and self._luck.random() < 0.1
        name = self._luck.choice(self._tasks) if again else f"t{len(self._tasks)}-{self._id()}"
        more: dict[str, Any] = {}
        if self._tasks and self._luck.random() < 0.3:
            more["after"] = tuple({self._luck.choice(self._tasks) for _ in range(2)})
        if self._luck.random() < 0.8:
            more["run_id"] = f"run-{self._luck.randrange(5)}"
        if self._luck.random() < 0.1:
            more["wait_limit_seconds"] = 3.0
        return facts.task(
            name,
            priority=self._luck.randrange(10),
            retry_policy=RetryPolicy(self._luck.choice([0, 0, 1, 3])),
            **more,
        )

    def _id(self) -> str:
        return f"{self._luck.randrange(1 << 30):x}"

    def _ask(self) -> None:
        name = TaskId(self._luck.choice([*self._tasks, "nobody"]))
        run = RunId(self._luck.choice([*self._runs, "no-run"]))
        wishes: list[Any] = [
            *[TaskCancelRequested(name)] * 3,
            *[TaskRetryRequested(name)] * 3,
            RunCancelRequested(run),
        ]
        self.world.record(self._luck.choice(wishes))

    # -- agents -------------------------------------------------------------------------------

    def _report(self) -> None:
        if not self._assigned:
            return
        recent = self._luck.random() < 0.8
        assigned = self._luck.choice(self._assigned[-4:] if recent else self._assigned)
        at = self.world.now
        outcomes: list[tuple[facts.Outcome, Reason | None]] = [
            ("passed", None),
            ("failed", Reason.EXIT_NONZERO),
            ("faulted", Reason.DISK_FULL),
            ("cancelled", Reason.CANCELLED_USER),
        ]
        outcome, reason = self._luck.choices(outcomes, [5, 3, 1, 1])[0]
        report: list[Any] = self._luck.choice(
            [
                [facts.started(assigned, at)],
                [facts.started(assigned, at)],
                [
                    replace(facts.testcase(assigned), ordinal=n)
                    for n in range(1, self._luck.randrange(2, 5))
                ],
                *[[facts.finished(assigned, outcome, reason, at)]] * 4,
                [facts.checkpointed(assigned, self._luck.randint(1, 3))],
                [facts.not_checkpointed(assigned)],
                [facts.released(assigned)],
                [facts.refused(assigned)],
            ]
        )
        self.world.record(*report)
        if self._luck.random() < 0.2:
            self.world.record(*report)

    def _nonsense(self) -> None:
        where = self._luck.choice(["client.x.task.queued", "agent.w0.attempt.finished", "work.a.b"])
        self.world.write(f"dtest.{facts.CELL}.{where}", self._luck.choice(NONSENSE))
