"""Hypothesis strategies for histories: valid events about few tasks and workers, in any order.

Nobody says that they make sense together: agents report what was never assigned, schedulers
assign what is running, clients cancel what ended.
"""

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from dtest.events.attempt import (
    AttemptAssigned,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
    AttemptStarted,
    AttemptStopRequested,
    TestcaseFinished,
)
from dtest.events.catalogue import Payload
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.reasons import Reason, RefusalCode
from dtest.events.run import RunCancelRequested, RunOpened
from dtest.events.task import (
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
    Capability,
    HeldAttempt,
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLeft,
    WorkerLost,
    WorkerRegistered,
    WorkerSuspected,
)
from tests.kit import facts
from tests.kit.world import World

TASKS = st.sampled_from(["a", "b", "c", "d", "e"])
WORKERS = st.sampled_from(["v", "w", "x"])
RUNS = st.sampled_from(["r", "s"])
INCARNATIONS = st.sampled_from(["i1", "i2"])
ATTEMPTS = st.integers(1, 3)
REASONS = st.sampled_from(Reason)
INSTANTS = st.integers(-30, 30).map(lambda s: facts.instant(facts.START + s))
FEW = st.integers(0, 2)
MOVES_MAX = 50
KINDS = st.sampled_from(["cpu", "cuda", "rocm"])

REQUIREMENTS = st.builds(
    Requirements,
    hardware=st.lists(KINDS, max_size=2, unique=True).map(tuple),
    min_memory_gb=st.sampled_from([0.0, 8.0, 100.0]),
    min_device_memory_gb=st.sampled_from([0.0, 16.0]),
    min_cuda_compute=st.sampled_from([0.0, 8.0]),
    browser=st.sampled_from([None, None, "firefox"]),
    labels=st.sampled_from([{}, {}, {"room": "1"}]),
)
RESOURCES = st.builds(
    Resources,
    slots=st.integers(1, 2),
    cpus=st.sampled_from([0.0, 0.1, 1 / 3, 2.0]),
    memory_gb=st.sampled_from([0.0, 0.7, 8.0]),
    devices=st.sampled_from([None, None, 0, 1, 2]),
)


def _capability(slots: int, cuda: int, **more: Any) -> Capability:
    devices = (facts.cuda(n, memory_gb=8.0 * (n + 1)) for n in range(cuda))
    return facts.machine(slots, *devices, **more)


CAPABILITIES = st.builds(
    _capability,
    st.integers(1, 3),
    st.integers(0, 3),
    cpus=st.sampled_from([1.0, 2.0, 4.0]),
    memory_gb=st.sampled_from([4.0, 16.0]),
    browsers=st.sampled_from([(), (Browser("firefox"),)]),
    labels=st.sampled_from([{}, {"room": "1"}]),
)

QUEUED = st.builds(
    TaskQueued,
    task_id=TASKS,
    type=st.just("command"),
    config=st.just({"command": ["true"]}),
    run_id=st.none() | RUNS,
    priority=st.sampled_from([0, 5, 9]),
    requirements=st.just(Requirements()) | REQUIREMENTS,
    resources=st.just(Resources()) | RESOURCES,
    retry_policy=st.builds(RetryPolicy, FEW, st.sampled_from([0.0, 5.0])),
    dependencies=st.just(()) | st.lists(TASKS, max_size=2).map(tuple),
    dependency_rule=st.sampled_from(["all_passed", "all_finished"]),
    deadline=st.none() | INSTANTS,
    wait_limit_seconds=st.none() | st.sampled_from([1.0, 20.0]),
)
CLIENT: list[st.SearchStrategy[Any]] = [
    QUEUED,
    QUEUED,
    st.builds(RunOpened, RUNS),
    st.builds(RunCancelRequested, RUNS),
    st.builds(TaskCancelRequested, TASKS),
    st.builds(TaskRetryRequested, TASKS),
    st.builds(WorkerDrainRequested, WORKERS),
]
AGENT: list[st.SearchStrategy[Any]] = [
    st.builds(
        WorkerRegistered,
        WORKERS,
        INCARNATIONS,
        st.just("host"),
        CAPABILITIES,
        pid=st.none() | FEW,
        held=st.lists(st.builds(HeldAttempt, TASKS, ATTEMPTS), max_size=2).map(tuple),
    ),
    st.builds(WorkerDraining, WORKERS, INCARNATIONS),
    st.builds(WorkerLeft, WORKERS, INCARNATIONS),
    st.builds(AttemptStarted, TASKS, ATTEMPTS, WORKERS, INSTANTS),
    st.builds(AttemptRefused, TASKS, ATTEMPTS, WORKERS, st.just("")),
    st.builds(AttemptReleased, TASKS, ATTEMPTS, WORKERS, REASONS),
    st.builds(
        AttemptFinished,
        TASKS,
        ATTEMPTS,
        WORKERS,
        st.sampled_from(["passed", "failed", "faulted", "cancelled"]),
        INSTANTS,
        INSTANTS,
        st.none() | REASONS,
    ),
    st.builds(
        TestcaseFinished, TASKS, ATTEMPTS, WORKERS, ATTEMPTS, st.just("t"), st.just("passed")
    ),
]
SCHEDULER: list[st.SearchStrategy[Any]] = [
    st.builds(LeaderElected, st.just("other")),
    st.builds(WorkerSuspected, WORKERS, INCARNATIONS, st.just("silence"), st.just(6.0)),
    st.builds(WorkerLost, WORKERS, INCARNATIONS),
    st.builds(
        AttemptAssigned,
        TASKS,
        ATTEMPTS,
        WORKERS,
        INCARNATIONS,
        KINDS,
        st.just("command"),
        devices=st.sampled_from([(), ("cuda:0",)]),
    ),
    st.builds(AttemptStopRequested, TASKS, ATTEMPTS, WORKERS, REASONS),
    st.builds(AttemptReturned, TASKS, ATTEMPTS, WORKERS),
    st.builds(
        TaskRetryScheduled,
        TASKS,
        ATTEMPTS,
        INSTANTS,
        REASONS,
        st.sampled_from(["user", "infrastructure", "none"]),
    ),
    st.builds(
        TaskEnded,
        TASKS,
        st.sampled_from(["failed", "errored", "cancelled", "skipped", "expired"]),
        REASONS,
    ),
    st.builds(
        EventRefused, ATTEMPTS, FEW, st.sampled_from(RefusalCode), st.just(""), st.just("x")
    ),
]

Move = float | tuple[Payload, ...] | None
"""Seconds that pass, one message of one or several events, or (none) a decision."""

ORDINARY: st.SearchStrategy[Any] = st.one_of([*CLIENT, *AGENT])
ANYTHING: st.SearchStrategy[Any] = st.one_of([*CLIENT, *AGENT, *SCHEDULER])
BATCHES = st.lists(QUEUED, min_size=2, max_size=5).map(tuple)
SECONDS = st.sampled_from([0.5, 3.0, 11.0])


def moves(single: st.SearchStrategy[Any], *, decided: bool) -> st.SearchStrategy[list[Move]]:
    """Histories of single events, batches and passing time; with decisions among them or not."""
    kinds: list[st.SearchStrategy[Any]] = [
        single.map(lambda fact: (fact,)),
        single.map(lambda fact: (fact,)),
        BATCHES,
        SECONDS,
    ]
    if decided:
        kinds += [st.none(), st.none()]
    each = st.one_of(kinds)
    length = st.integers(0, MOVES_MAX)  # plain lists are five long on average
    return length.flatmap(lambda count: st.lists(each, min_size=count, max_size=count))


def play(world: World, history: Iterable[Move]) -> World:
    """Let it all happen."""
    for move in history:
        match move:
            case float():
                world.tick(move)
            case None:
                world.step()
            case _:
                world.record(*move)
    return world

