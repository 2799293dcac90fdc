"""A cell with a leader, clients and agents that misbehave, by seed; then everybody calms down.

The leader's decisions are the real ones, and are recorded late: other things happen in between.
Agents read what is assigned to them from the history, as real ones do.
"""

from dataclasses import dataclass, field, replace
from random import Random

from dtest.events.attempt import AttemptAssigned, AttemptStopRequested
from dtest.events.catalogue import Payload
from dtest.events.envelope import Event
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.run import RunCancelRequested
from dtest.events.task import (
    Requirements,
    Resources,
    RetryPolicy,
    TaskCancelRequested,
    TaskQueued,
    TaskRetryRequested,
)
from dtest.events.worker import (
    Capability,
    HeldAttempt,
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLeft,
    WorkerQuarantineRequested,
    WorkerRegistered,
    WorkerReinstateRequested,
    WorkerSuspected,
)
from dtest.journal.port import Outgoing
from dtest.leadership.rules import CURRENT, RULES
from dtest.state.health import Guard
from dtest.state.task import TERMINAL
from dtest.state.term import UNRECORDED_RULES
from dtest.state.worker import GONE
from tests.kit import facts
from tests.kit.parameters import SIZES, quick, some
from tests.kit.world import World

CALM_ROUNDS_MAX = 5_000
FAULTS = [
    Reason.WORKER_LOST,
    Reason.DISK_FULL,
    Reason.LAUNCH_FAILED,
    Reason.DEVICE_LOST,
    Reason.UPLOAD_FAILED,
    Reason.UNKNOWN,
]
HARDWARE_FAULTS = [
    Reason.OOM_DEVICE,
    Reason.OOM_DEVICE,
    Reason.OOM_TASK,
    Reason.RUN_TIMEOUT,
    Reason.DEVICE_LOST,
    Reason.GPU_HANG,
    Reason.DRIVER_RESET,
]
Key = tuple[TaskId, int]


@dataclass(slots=True)
class Agent:
    """What an agent process knows."""

    name: WorkerId
    capability: Capability
    starts: int = 0
    """Incarnations so far."""
    pid: int = 0
    read_to: int = 0
    """Messages of the history that it has read."""
    there: bool = False
    """Its process runs, and can be heard."""
    held: dict[Key, bool] = field(default_factory=dict)
    """What it has in its hands, and whether it told that it started."""
    stopping: set[Key] = field(default_factory=set)
    told: list[Payload] = field(default_factory=list)

    @property
    def incarnation(self) -> str:
        """The current one."""
        return f"i{self.starts}"


class Simulation:
    """One seed's course of events."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.more = Random(f"hardware {seed}")
        """A luck of its own: what it was asked for later leaves the course of older seeds alone."""
        self.chosen = Random(f"parameters {seed}")
        """The same, for parameters and leaders of older rules."""
        self.world = World().led()
        self.draft: list[Outgoing] = []
        self.tasks: list[TaskId] = []
        self.ended: dict[TaskId, str] = {}
        self.agents = [
            Agent(WorkerId(name), capability)
            for name, capability in {
                "big": facts.machine(3, facts.cuda(0), facts.cuda(1), memory_gb=16.0),
                "gpu": facts.machine(1, facts.cuda(0, 16.0), memory_gb=8.0),
                "cpu": facts.machine(2, memory_gb=8.0),
            }.items()
        ]
        for agent in self.agents:
            self._start(agent, new=True)

    # -- the troubled time --------------------------------------------------------------------

    def trouble(self, steps: int) -> None:
        """Let anything happen."""
        for _ in range(steps):
            agent = self.rng.choice(self.agents)
            match self.rng.randint(0, 19):
                case 0:
                    self._submit()
                case 1:
                    self._meddle()
                case 2 | 3:
                    self.world.tick(self.rng.choice([0.01, 0.3, 1.0, 1.0, 12.0]))
                case 4 | 5 | 6 | 7 | 8:
                    self._lead()
                case 9:
                    self._upset(agent)
                case _:
                    self._work(agent)
            self._note()

    def _submit(self) -> None:
        rng = self.rng
        message: list[TaskQueued] = []
        for _ in range(rng.choice([1, 2, 4])):
            name = TaskId(f"t{len(self.tasks)}")
            upstream = rng.sample(self.tasks, min(len(self.tasks), rng.choice([0, 0, 0, 1, 2])))
            message.append(
                TaskQueued(
                    name,
                    "command",
                    {"command": ["true"]},
                    rng.choice([None, RunId(f"r{rng.randint(0, 9)}")]),
                    priority=rng.choice([1, 5, 9]),
                    requirements=Requirements(rng.choice([(), (), ("cuda",), ("cuda", "cpu")])),
                    resources=rng.choice([Resources(), Resources(2, 0.7, 3.3), Resources(1, 0.1)]),
                    retry_policy=RetryPolicy(rng.choice([0, 0, 2]), rng.choice([0.0, 2.0])),
                    dependencies=tuple(upstream),
                    dependency_rule=rng.choice(["all_passed", "all_finished"]),
                    deadline=rng.choice([*[None] * 5, facts.instant(self.world.now + 40)]),
                    wait_limit_seconds=rng.choice([*[None] * 5, 30.0]),
                    memory_limit_gb=self.more.choice([None, 2.0]),
                    fallback_config=self.more.choice([None, {"env": {"SIZE": "small"}}]),
                    avoid_workers=self.more.choice([(), (), (self.agents[0].name,)]),
                )
            )
            self.tasks.append(name)
        self.world.record(*message)
        if rng.random() < 0.1:
            self.world.record(*message)

    def _meddle(self) -> None:
        task_id = self.rng.choice([*self.tasks, TaskId("nobody")])
        worker_id = self.rng.choice(self.agents).name
        wishes: list[Payload] = [
            TaskCancelRequested(task_id),
            TaskCancelRequested(task_id),
            TaskRetryRequested(task_id),
            TaskRetryRequested(task_id),
            RunCancelRequested(RunId(f"r{self.rng.randint(0, 9)}")),
            WorkerDrainRequested(worker_id),
            WorkerQuarantineRequested(worker_id),
            WorkerReinstateRequested(worker_id),
            WorkerReinstateRequested(worker_id),
            PolicyChanged(self.rng.choice(["spread", "pack"])),
            PolicyChanged(None, self.rng.choice(["progressive", "aggressive", "minimal"])),
        ]
        fact = self.rng.choice(wishes)
        if isinstance(fact, PolicyChanged) and fact.ranking is not None:
            fact = replace(fact, timeouts=self.more.choice(["observed", "observed", "declared"]))
        elif isinstance(fact, PolicyChanged):
            reset = tuple(some(self.chosen, self.chosen.choice([0, 5])))
            small = {name: self.chosen.choice([1, 2, 5, 2_000]) for name in sorted(SIZES)}
            fact = replace(fact, parameters=quick(self.chosen, 5) | small, reset=reset)
        if isinstance(fact, TaskRetryRequested):
            self.ended.pop(fact.task_id, None)
        self.world.given(fact)

    def _lead(self) -> None:
        """Decide, or record what was decided earlier."""
        if self.rng.random() < 0.03:
            self._fail_over()
        elif self.draft:
            draft, self.draft = self.draft, []
            self.world.enact(draft)
        else:
            self.draft = self.world.draft()

    def _fail_over(self) -> None:
        """The leader dies while it writes; the next one knows what the journal says."""
        self.world.enact(self.draft[: self.rng.randint(0, len(self.draft))])
        self.draft = []
        self.world.cell = self.world.replayed()
        older = self.chosen.random() < 0.1
        self.world.rules = RULES[UNRECORDED_RULES] if older else CURRENT
        self.world.given(LeaderElected("older")) if older else self.world.led()

    def _upset(self, agent: Agent) -> None:
        known = self.world.cell.workers[agent.name]
        if not agent.there:
            if known.status not in GONE and self.rng.random() < 0.5:
                fact = WorkerSuspected(
                    agent.name,
                    known.incarnation,
                    self.rng.choice(["silence", "no_responders"]),
                    6.0,
                )
                self.world.given(fact)
            else:
                self._start(agent, new=self.rng.random() < 0.5)
            return
        match self.rng.randint(0, 5):
            case 0 | 1:
                agent.there = False  # cut off, or dead: nobody can tell
            case 2:
                self._start(agent, new=False)  # reconnected
            case 3:
                self._start(agent, new=True)  # died with all that ran there
            case 4:
                self.world.given(WorkerDraining(agent.name, agent.incarnation))
            case _:
                self.world.given(WorkerLeft(agent.name, agent.incarnation))
                agent.there = False
                agent.held.clear()

    # -- agents -------------------------------------------------------------------------------

    def _start(self, agent: Agent, *, new: bool) -> None:
        if new or not agent.starts:
            agent.starts += 1
            agent.pid += 1
            agent.held.clear()
            agent.stopping.clear()
        agent.there = True
        held = tuple(HeldAttempt(*key) for key in agent.held)
        self.world.given(
            WorkerRegistered(
                agent.name,
                agent.incarnation,
                "host",
                agent.capability,
                pid=agent.pid,
                held=held,
            )
        )
        if new:
            agent.read_to = len(self.world.history)

    def _read(self, agent: Agent) -> None:
        for record in self.world.history[agent.read_to :]:
            for event in record.events:
                match event:
                    case Event(data=AttemptAssigned() as data) if (
                        data.worker_id == agent.name and data.incarnation == agent.incarnation
                    ):
                        agent.held[data.task_id, data.attempt] = False
                    case Event(data=AttemptStopRequested() as stop) if (
                        stop.worker_id == agent.name and (stop.task_id, stop.attempt) in agent.held
                    ):
                        agent.stopping.add((stop.task_id, stop.attempt))
                    case _:
                        pass
        agent.read_to = len(self.world.history)

    def _work(self, agent: Agent) -> None:
        if not agent.there:
            return
        self._read(agent)
        if agent.told and self.rng.random() < 0.1:
            self.world.given(self.rng.choice(agent.told))
        if not agent.held:
            return
        key = self.rng.choice(list(agent.held))
        roll = self.rng.random()
        if key in agent.stopping:
            self._end(agent, key, self.rng.choice(["cancelled", "passed", "failed"]))
        elif not agent.held[key]:
            if roll < 0.7:
                agent.held[key] = True
                self._tell(agent, facts.started(self._as_assigned(agent, key), self.world.now))
            elif roll < 0.8:
                del agent.held[key]
                self._tell(agent, facts.refused(self._as_assigned(agent, key)))
            # else it takes its time
        elif roll < 0.6:
            self._end(agent, key, self.rng.choice(["passed", "passed", "failed", "faulted"]))
        elif roll < 0.7:
            del agent.held[key]
            self._tell(agent, facts.released(self._as_assigned(agent, key)))

    def _as_assigned(self, agent: Agent, key: Key) -> AttemptAssigned:
        return AttemptAssigned(*key, agent.name, agent.incarnation, "cpu", "command")

    def _end(self, agent: Agent, key: Key, outcome: facts.Outcome) -> None:
        del agent.held[key]
        agent.stopping.discard(key)
        reason = self.rng.choice(FAULTS) if outcome == "faulted" else None
        if reason is not None and self.more.random() < 0.5:
            reason = self.more.choice(HARDWARE_FAULTS)
        ended = facts.finished(self._as_assigned(agent, key), outcome, reason, self.world.now)
        peak_gb = self.more.choice([0.5, 2.0, agent.capability.memory_gb])
        self._tell(agent, replace(ended, memory_bytes_peak=round(peak_gb * 1e9)))

    def _tell(self, agent: Agent, fact: Payload) -> None:
        agent.told.append(fact)
        self.world.given(fact)

    def _note(self) -> None:
        """A task that ended stays as it ended, unless somebody asks for it again."""
        for name, task in self.world.cell.tasks.items():
            if task.status in TERMINAL:
                assert self.ended.setdefault(name, task.status) == task.status
            else:
                assert name not in self.ended

    # -- the calm after it --------------------------------------------------------------------

    def calm(self) -> None:
        """No more faults: everybody is there and does what is asked, until all has ended."""
        for agent in self.agents:
            self._start(agent, new=True)
            health = self.world.cell.workers[agent.name].health
            if health is not None and health.guard is Guard.QUARANTINED and health.until is None:
                self.world.given(WorkerReinstateRequested(agent.name))
        for _ in range(CALM_ROUNDS_MAX):
            if not self.draft and not self.open_tasks():
                return
            self._lead()
            for agent in self.agents:
                self._read(agent)
                for key, begun in list(agent.held.items()):
                    if not begun:
                        agent.held[key] = True
                        self._tell(agent, facts.started(self._as_assigned(agent, key)))
                    elif key in agent.stopping:
                        self._end(agent, key, "cancelled")
                    elif self.rng.random() < 0.5:
                        self._end(agent, key, self.rng.choice(["passed", "failed"]))
            self._note()
            self.world.tick(1.0)
        message = f"still open: {self.open_tasks()}"
        raise AssertionError(message)

    def open_tasks(self) -> dict[str, str]:
        """The tasks that have not ended."""
        return {
            name: task.status
            for name, task in self.world.cell.tasks.items()
            if task.status not in TERMINAL
        }
