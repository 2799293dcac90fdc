"""Random histories: valid events about few tasks and workers, in any order.

Nobody says that they make sense together: agents report what was never assigned, schedulers
assign what is running, clients cancel what ended.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Literal, get_args

from dtest.events.attempt import (
    AttemptAssigned,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
    AttemptStarted,
    AttemptStopRequested,
    TestcaseFinished,
)
from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.catalogue import Payload, Role
from dtest.events.conductor import ConductorElected
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.parameters import Numbers, Strategy
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.run import RunCancelRequested, RunOpened
from dtest.events.suite import PlannedTest, SuitePlanned, SuiteSubmitted
from dtest.events.suite_decision import (
    Lane,
    SuiteBegun,
    SuiteCollected,
    SuiteCut,
    SuiteDivided,
    SuiteEnded,
    SuitePooled,
    SuiteRerunOrdered,
)
from dtest.events.suite_list import ListPart, SuiteListed
from dtest.events.task import (
    Remedy,
    Requirements,
    Resources,
    RetryPolicy,
    TaskCancelRequested,
    TaskEnded,
    TaskQueued,
    TaskRetryRequested,
    TaskRetryScheduled,
)
from dtest.events.worker import (
    Browser,
    HeldAttempt,
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLeft,
    WorkerLost,
    WorkerQuarantined,
    WorkerQuarantineRequested,
    WorkerRegistered,
    WorkerReinstated,
    WorkerReinstateRequested,
    WorkerSuspected,
)
from dtest.leadership.rules import elected
from dtest.scheduling.ranking import RANKINGS
from dtest.state.health import DEVICE_FAULTS
from tests.kit import facts
from tests.kit.parameters import some
from tests.kit.world import World

MOVES_MAX = 60
TASKS = [TaskId(name) for name in "abcde"]
WORKERS = [WorkerId(name) for name in "vwx"]
RUNS = [RunId(name) for name in "rs"]
KINDS = ["cpu", "cuda", "rocm"]
REASONS = list(Reason)
SIZES = [Reason.OOM_DEVICE, Reason.OOM_TASK, Reason.RUN_TIMEOUT]

Move = float | tuple[Payload, ...] | Literal["decide"]
"""Seconds that pass, one message of one or several events, or a decision."""
Make = Callable[[Random], Payload]


def _task(rng: Random) -> TaskId:
    return rng.choice(TASKS)


def _worker(rng: Random) -> WorkerId:
    return rng.choice(WORKERS)


def _incarnation(rng: Random) -> str:
    return rng.choice(["i1", "i1", "i2"])


def _attempt(rng: Random) -> int:
    return rng.choice([1, 1, 2, 3])


def _report(rng: Random) -> tuple[TaskId, int, WorkerId]:
    return _task(rng), _attempt(rng), _worker(rng)


def _soon(rng: Random) -> Any:
    return facts.instant(facts.START + rng.randint(-10, 60))


def requirements(rng: Random) -> Requirements:
    """What three machines can meet between them, mostly."""
    return Requirements(
        hardware=tuple(rng.sample(KINDS, rng.randint(0, 2))),
        min_memory_gb=rng.choice([0.0, 8.0, 100.0]),
        min_device_memory_gb=rng.choice([0.0, 0.0, 16.0]),
        min_cuda_compute=rng.choice([0.0, 8.0]),
        browser=rng.choice([None, None, None, "firefox"]),
        labels=rng.choice([{}, {}, {"room": "1"}]),
    )


def resources(rng: Random) -> Resources:
    """Amounts that do not add up to round numbers."""
    return Resources(
        slots=rng.choice([1, 1, 2]),
        cpus=rng.choice([0.0, 0.1, 1 / 3, 2.0]),
        memory_gb=rng.choice([0.0, 0.7, 4.0]),
        devices=rng.choice([None, None, 0, 1, 2]),
    )


def queued(rng: Random) -> TaskQueued:
    """A task of any kind."""
    plain = rng.random() < 0.5
    return TaskQueued(
        _task(rng),
        "command",
        {"command": ["true"]},
        rng.choice([None, *RUNS]),
        priority=rng.choice([0, 5, 9]),
        requirements=Requirements() if plain else requirements(rng),
        resources=Resources() if plain else resources(rng),
        retry_policy=RetryPolicy(rng.randint(0, 2), rng.choice([0.0, 5.0])),
        name=rng.choice(["", "unit"]),
        labels=rng.choice([{}, {}, {"revision": "r1"}]),
        dependencies=tuple(rng.sample(TASKS, rng.choice([0, 0, 1, 2]))),
        dependency_rule=rng.choice(["all_passed", "all_passed", "all_finished"]),
        deadline=rng.choice([None, None, _soon(rng)]),
        wait_limit_seconds=rng.choice([None, None, 1.0, 20.0]),
        memory_limit_gb=rng.choice([None, None, 3.0]),
        fallback_config=rng.choice([None, None, {"env": {"SIZE": "small"}}]),
        avoid_workers=rng.choice([(), (), tuple(WORKERS[:1])]),
    )


def registered(rng: Random) -> WorkerRegistered:
    """A machine of any kind joins, with whatever in its hands."""
    devices = (facts.cuda(n, memory_gb=12.0 * (n + 1)) for n in range(rng.randint(0, 3)))
    capability = facts.machine(
        rng.randint(1, 3),
        *devices,
        cpus=rng.choice([1.0, 2.0, 4.0]),
        memory_gb=rng.choice([4.0, 16.0]),
        browsers=rng.choice([(), (Browser("firefox"),)]),
        labels=rng.choice([{}, {"room": "1"}]),
    )
    held = tuple(HeldAttempt(_task(rng), _attempt(rng)) for _ in range(rng.choice([0, 0, 1, 2])))
    return WorkerRegistered(
        _worker(rng), _incarnation(rng), "host", capability, pid=rng.choice([None, 1, 2]), held=held
    )


def _finished(rng: Random) -> AttemptFinished:
    outcomes: list[facts.Outcome] = ["passed", "failed", "faulted", "cancelled"]
    reason = rng.choice([None, *REASONS, *SIZES, *DEVICE_FAULTS])
    peak = rng.choice([None, 4_000_000_000])
    task_id, attempt, worker_id = _report(rng)
    return AttemptFinished(
        task_id,
        attempt,
        worker_id,
        rng.choice(outcomes),
        _soon(rng),
        _soon(rng),
        reason,
        memory_bytes_peak=peak,
    )


def _checkpointed(rng: Random) -> AttemptCheckpointed:
    return AttemptCheckpointed(*_report(rng), rng.randint(1, 4), "name", 10_240, "00", _soon(rng))


def _assigned(rng: Random) -> AttemptAssigned:
    devices = rng.choice([(), ("cuda:0",)])
    return AttemptAssigned(
        *_report(rng), _incarnation(rng), rng.choice(KINDS), "command", devices=devices
    )


def _remedy(rng: Random) -> Remedy:
    return Remedy(
        rng.choice([0.0, 0.0, 8.0]),
        rng.choice([0.0, 24.0, 36.0]),
        rng.choice([1.0, 1.5]),
        rng.choice([False, True]),
        rng.choice([None, _soon(rng)]),
    )


def _retry_scheduled(rng: Random) -> TaskRetryScheduled:
    return TaskRetryScheduled(
        _task(rng),
        _attempt(rng),
        _soon(rng),
        rng.choice(REASONS),
        rng.choice(["user", "infrastructure", "refusal", "preemption", "none"]),
        rng.choice([None, None, 1.5]),
        rng.choice([None, _remedy(rng)]),
    )


def _ended(rng: Random) -> TaskEnded:
    return TaskEnded(
        _task(rng),
        rng.choice(["failed", "errored", "cancelled", "skipped", "expired"]),
        rng.choice(REASONS),
    )


BREAKERS = [
    *(f"worker:{name}" for name in WORKERS),
    *(f"device:{name}/cuda:0" for name in WORKERS),
    "signature:command/unit",
    "revision:r1",
]


def _opened(rng: Random) -> BreakerOpened:
    return BreakerOpened(rng.choice(BREAKERS), _soon(rng), "fleet_guard", rng.choice([1, 3]))


def _half_opened(rng: Random) -> BreakerHalfOpened:
    return BreakerHalfOpened(rng.choice(BREAKERS), rng.choice([None, *TASKS]), _soon(rng))


def _closed(rng: Random) -> BreakerClosed:
    return BreakerClosed(rng.choice(BREAKERS), rng.choice(["probe_passed", "fleet_guard"]))


def _set(rng: Random) -> tuple[Numbers, tuple[str, ...]]:
    """Parameters that are set, and some that are reset; any value that is permitted is likely."""
    drawn = some(rng, rng.choice([0, 0, 0, 1, 3]))
    return drawn, tuple(sorted(some(rng, rng.choice([0, 0, 1, 20])).keys() - drawn.keys()))


def _elected(rng: Random) -> LeaderElected:
    return rng.choice([elected("other"), LeaderElected("older")])


LISTS = ("aa" * 32, "bb" * 32)


def _listed(rng: Random) -> SuiteListed:
    part = rng.randrange(2)
    tests = tuple((f"t{2 * part + n}", "") for n in range(2))
    return SuiteListed(rng.choice(LISTS), part, ListPart(2, tests))


MAKERS: dict[type[Payload], tuple[Role, Make]] = {
    TaskQueued: ("client", queued),
    RunOpened: ("client", lambda rng: RunOpened(rng.choice(RUNS))),
    SuitePlanned: (
        "client",
        lambda rng: SuitePlanned(rng.choice(RUNS), 1, tests=(PlannedTest(0, "t"),)),
    ),
    SuiteSubmitted: (
        "client",
        lambda rng: SuiteSubmitted(rng.choice(RUNS), reruns=rng.choice([0, 1])),
    ),
    ConductorElected: ("conductor", lambda rng: ConductorElected(rng.choice(["c1", "c2"]))),
    SuiteBegun: (
        "conductor",
        lambda rng: SuiteBegun(rng.choice(RUNS), (Lane("q1"), Lane("q2", "cuda", sessions=0))),
    ),
    SuiteListed: ("conductor", _listed),
    SuiteCollected: (
        "conductor",
        lambda rng: SuiteCollected(
            rng.choice(RUNS), rng.choice(LISTS), rng.choice(["", "cuda"]), 4
        ),
    ),
    SuiteDivided: (
        "conductor",
        lambda rng: SuiteDivided(rng.choice(RUNS), rng.randrange(3), 4),
    ),
    SuitePooled: (
        "conductor",
        lambda rng: SuitePooled(
            rng.choice(RUNS), rng.randrange(3), rng.choice(["", "cuda"]), ((0, 1), (3, 3)), "q1"
        ),
    ),
    SuiteRerunOrdered: (
        "conductor",
        lambda rng: SuiteRerunOrdered(
            rng.choice(RUNS), rng.choice([1, 2]), rng.randrange(2), 2, "q1r1", tests=((0, 0),)
        ),
    ),
    SuiteCut: ("conductor", lambda rng: SuiteCut(rng.choice(RUNS), "failures", "enough")),
    SuiteEnded: ("conductor", lambda rng: SuiteEnded(rng.choice(RUNS), 1, {"failed": 1})),
    RunCancelRequested: ("client", lambda rng: RunCancelRequested(rng.choice(RUNS))),
    TaskCancelRequested: ("client", lambda rng: TaskCancelRequested(_task(rng))),
    TaskRetryRequested: ("client", lambda rng: TaskRetryRequested(_task(rng))),
    PolicyChanged: (
        "client",
        lambda rng: PolicyChanged(
            rng.choice([None, *RANKINGS]),
            rng.choice([None, *get_args(Strategy)]),
            rng.choice([None, "observed", "observed", "declared"]),
            *_set(rng),
        ),
    ),
    WorkerDrainRequested: ("client", lambda rng: WorkerDrainRequested(_worker(rng))),
    WorkerRegistered: ("agent", registered),
    WorkerDraining: ("agent", lambda rng: WorkerDraining(_worker(rng), _incarnation(rng))),
    WorkerLeft: ("agent", lambda rng: WorkerLeft(_worker(rng), _incarnation(rng))),
    AttemptStarted: ("agent", lambda rng: AttemptStarted(*_report(rng), _soon(rng))),
    AttemptCheckpointed: ("agent", _checkpointed),
    AttemptCheckpointFailed: (
        "agent",
        lambda rng: AttemptCheckpointFailed(*_report(rng), "no room"),
    ),
    AttemptRefused: ("agent", lambda rng: AttemptRefused(*_report(rng), "full")),
    AttemptReleased: ("agent", lambda rng: AttemptReleased(*_report(rng), rng.choice(REASONS))),
    AttemptFinished: ("agent", _finished),
    TestcaseFinished: ("agent", lambda rng: TestcaseFinished(*_report(rng), 1, "t", "passed")),
    LeaderElected: ("scheduler", _elected),
    WorkerSuspected: (
        "scheduler",
        lambda rng: WorkerSuspected(
            _worker(rng), _incarnation(rng), rng.choice(["silence", "no_responders"]), 6.0
        ),
    ),
    WorkerQuarantineRequested: (
        "client",
        lambda rng: WorkerQuarantineRequested(_worker(rng), rng.choice(["", "hot"])),
    ),
    WorkerReinstateRequested: ("client", lambda rng: WorkerReinstateRequested(_worker(rng))),
    WorkerQuarantined: (
        "scheduler",
        lambda rng: WorkerQuarantined(_worker(rng), _soon(rng), 60.0, rng.choice([1, 2])),
    ),
    WorkerReinstated: (
        "scheduler",
        lambda rng: WorkerReinstated(_worker(rng), rng.choice(["probe_passed", "fleet_guard"])),
    ),
    BreakerOpened: ("scheduler", _opened),
    BreakerHalfOpened: ("scheduler", _half_opened),
    BreakerClosed: ("scheduler", _closed),
    WorkerLost: ("scheduler", lambda rng: WorkerLost(_worker(rng), _incarnation(rng))),
    AttemptAssigned: ("scheduler", _assigned),
    AttemptStopRequested: (
        "scheduler",
        lambda rng: AttemptStopRequested(*_report(rng), rng.choice(REASONS)),
    ),
    AttemptReturned: ("scheduler", lambda rng: AttemptReturned(*_report(rng))),
    TaskRetryScheduled: ("scheduler", _retry_scheduled),
    TaskEnded: ("scheduler", _ended),
    EventRefused: (
        "scheduler",
        lambda rng: EventRefused(_attempt(rng), 0, rng.choice(list(RefusalCode)), "", "x"),
    ),
}


def history(rng: Random, *, roles: frozenset[Role], decided: bool) -> list[Move]:
    """What these roles say in any order, with passing time, and with decisions or without."""
    makers = [make for role, make in MAKERS.values() if role in roles]
    moves: list[Move] = [(registered(rng),) for _ in range(rng.randint(0, 3))]
    for _ in range(rng.randint(0, MOVES_MAX)):
        match rng.randint(0, 11):
            case 0 | 1:
                moves.append(tuple(queued(rng) for _ in range(rng.choice([1, 1, 3, 5]))))
            case 2:
                moves.append(rng.choice([0.5, 3.0, 11.0]))
            case 3 | 4 | 5 if decided:
                moves.append("decide")
            case _:
                moves.append((rng.choice(makers)(rng),))
    return moves


EVERYONE: frozenset[Role] = frozenset({"client", "agent", "scheduler"})
OUTSIDERS: frozenset[Role] = frozenset({"client", "agent"})


def anything(rng: Random) -> list[Move]:
    """Everyone says anything."""
    return history(rng, roles=EVERYONE, decided=False)


def anything_decided(rng: Random) -> list[Move]:
    """Everyone says anything while a leader decides."""
    return history(rng, roles=EVERYONE, decided=True)


def ordinary(rng: Random) -> list[Move]:
    """Clients and agents say anything while a leader decides, and nobody else schedules."""
    return history(rng, roles=OUTSIDERS, decided=True)


def play(world: World, moves: Iterable[Move]) -> World:
    """Let it all happen."""
    for move in moves:
        match move:
            case float():
                world.tick(move)
            case "decide":
                world.step()
            case _:
                world.record(*move)
    return world
