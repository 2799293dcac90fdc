"""Makes workers and kinds of task fault, one attempt at a time, for tests of breakers.

Knows the world it plays in; checks nothing.
"""

from collections.abc import Iterable
from typing import Any

from dtest.events.attempt import AttemptAssigned
from dtest.events.fields import TaskId
from dtest.events.reasons import Reason
from dtest.events.task import Requirements, TaskCancelRequested, TaskQueued
from dtest.state.health import Guard, Health
from tests.kit import facts
from tests.kit.facts import finished, machine, registered, task
from tests.kit.world import World

FAULT = Reason.ENV_SETUP_FAILED


def fleet(*names: str, slots: int = 1, world: World | None = None) -> World:
    """A cell with these workers; a task can ask for one of them by its label."""
    world = world or World().led()
    has = {name: machine(slots, labels={"host": name}) for name in names}
    return world.given(*(registered(name, what) for name, what in has.items()))


def run(
    world: World, name: str, outcome: facts.Outcome = "faulted", reason: Reason | None = FAULT
) -> AttemptAssigned:
    """Let a waiting task have its next attempt, and end it."""
    world.settle()
    one = live(world, name)
    return end(world, one, outcome, reason)


def end(
    world: World,
    one: AttemptAssigned,
    outcome: facts.Outcome = "faulted",
    reason: Reason | None = FAULT,
) -> AttemptAssigned:
    """End an attempt."""
    world.given(finished(one, outcome, reason if outcome == "faulted" else None, world.now))
    return one


def live(world: World, name: str) -> AttemptAssigned:
    """The live attempt of a task."""
    item = world.task(name)
    assert item.worker_id is not None
    assert world.worker(item.worker_id).running.get(item.id) == item.attempt, item.status
    worker = world.worker(item.worker_id)
    return AttemptAssigned(
        item.id, item.attempt, worker.id, worker.incarnation, item.hardware, "command"
    )


def all_live(world: World) -> list[AttemptAssigned]:
    """Every live attempt."""
    return [live(world, name) for worker in world.cell.workers.values() for name in worker.running]


def faults_on(world: World, worker: str, count: int, *, prefix: str = "f") -> World:
    """Have so many different tasks fault on one worker, one after the other."""
    for number in range(count):
        name = f"{prefix}-{worker}-{number}"
        world.given(only_on(worker, name))
        run(world, name)
        world.given(TaskCancelRequested(TaskId(name)))  # or it comes back
    return world


def only_on(worker: str, name: str, **more: Any) -> TaskQueued:
    """A task that no other worker can run."""
    return task(name, name=name, requirements=Requirements(labels={"host": worker}), **more)


def health(world: World, worker: str) -> Health:
    """What speaks against a worker."""
    return world.worker(worker).health or Health()


def barred(world: World) -> set[str]:
    """The workers that get no work, or a single attempt."""
    return {
        worker.id
        for worker in world.cell.workers.values()
        if worker.health is not None and worker.health.guard is not Guard.CLOSED
    }


def types(decided: Iterable[Any]) -> list[str]:
    """What kinds of events were decided."""
    return [data.TYPE for data in decided]
