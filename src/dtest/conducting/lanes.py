"""On which classes of hardware a suite is collected, and by how many sessions."""

import uuid
from collections import Counter
from collections.abc import Iterable, Sequence

from dtest.conducting.orders import Order
from dtest.errors import NoWorkerMatches
from dtest.events.fields import RunId
from dtest.events.suite import SESSIONS_MAX
from dtest.events.suite_decision import Lane
from dtest.state.matching import Refusal
from dtest.state.worker import Worker
from dtest.suites.pools import capacity
from dtest.suites.requirement import both
from dtest.suites.rules import general
from dtest.suites.session import speaks

NAMESPACE = uuid.UUID("5f0b8a53-3f0e-5c51-8d4a-9d8f3f1c6c0e")
"""Of all ids that follow from a run."""


def derived(*words: object) -> str:
    """Return the id that follows from these words: whoever conducts a run comes to the same."""
    return str(uuid.uuid5(NAMESPACE, "/".join(map(str, words))))


def queue_of(run_id: RunId) -> str:
    """Return how the names of all queues of a run begin."""
    return f"q{uuid.uuid5(NAMESPACE, run_id).hex}"


def for_suites(fleet: Iterable[Worker]) -> list[Worker]:
    """Return the workers that take work, or may again soon, and can run sessions of suites."""
    return [
        worker
        for worker in fleet
        if worker.status in ("active", "suspected")
        and (worker.simulated or speaks(worker.capability.labels))
    ]


def lanes_of(order: Order, fleet: Sequence[Worker], run_id: RunId) -> tuple[Lane, ...]:
    """Return a lane for each class of hardware, or a single one where none are named.

    Raises UsageError for a document that makes no sense, and NoWorkerMatches where classes are
    named and no worker is of any, or of one of them if none may be missing.
    """
    order.check()
    queue, asked = queue_of(run_id), order.spec.sessions
    whole = general(order.rules)
    if not order.classes:
        room = capacity(whole, fleet).sessions
        return (Lane(queue, "", whole, asked or max(1, min(SESSIONS_MAX, room))),)
    together = [both(each.requirements, whole) for each in order.classes]
    wanted = [
        one.requirements if isinstance(all_of_it, Refusal) else all_of_it
        for one, all_of_it in zip(order.classes, together, strict=True)
    ]
    found = [capacity(each, fleet) for each in wanted]
    places = Counter(worker for each in found for worker in each.workers)
    lanes = tuple(
        Lane(
            f"{queue}c{number}",
            each.name,
            wanted[number],
            min(asked or SESSIONS_MAX, SESSIONS_MAX, found[number].sessions),
            "" if found[number].sessions else found[number].why_not,
            any(places[worker] > 1 for worker in found[number].workers),
        )
        for number, each in enumerate(order.classes)
    )
    if order.spec.fail_unmatched:
        refuse_unmatched((lane.name, lane.why_not) for lane in lanes)
    if not any(lane.sessions for lane in lanes):
        message = "; ".join(f"{lane.name}: {lane.why_not}" for lane in lanes)
        raise NoWorkerMatches(message, hint="`dtest worker ls` shows what the workers have")
    return lanes


def kinds_of(lanes: Iterable[Lane]) -> list[str]:
    """Return the kinds of hardware that the lanes may run on."""
    kinds = (kind for lane in lanes for kind in lane.requirements.hardware or ("cpu",))
    return list(dict.fromkeys(kinds))


def refuse_unmatched(causes: Iterable[tuple[str, str]]) -> None:
    """Raise NoWorkerMatches for the first of these, given by name, that has a cause."""
    for name, cause in causes:
        if cause:
            message = f"{name}: {cause}"
            raise NoWorkerMatches(message, hint="start a worker that has it")
