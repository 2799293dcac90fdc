"""What of a suite runs where: one share for each class of hardware, one lot for each requirement.

Plans only: which sessions and queues there are to be, and which tests cannot run at all.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from dtest.cli.cell_memory import Past
from dtest.cli.suite import units_of
from dtest.cli.suite_options import Selection
from dtest.errors import NoWorkerMatches
from dtest.events.task import Requirements
from dtest.reports.observation import Planned
from dtest.state.matching import Refusal
from dtest.state.worker import Worker
from dtest.suites.pools import Division, Pool, capacity, divide
from dtest.suites.requirement import HardwareClass, both, in_words, key_of
from dtest.suites.rules import Rule, general, needs_of
from dtest.suites.suite import Suite
from dtest.suites.unit import Unit

SESSIONS_MAX = 64
USUAL_PRIORITY, EARLY_PRIORITY = 5, 4
"""Of sessions: those that can run in few places come before those that can run in more."""


@dataclass(frozen=True, slots=True)
class Lane:
    """One class of hardware, which collects the suite by itself."""

    name: str
    """What its results are kept under; empty where the kind that was chosen says it."""
    requirements: Requirements
    queue: str
    sessions: int
    why_not: str = ""
    """Why no worker can run it; then there are no sessions."""
    is_crowded: bool = False
    """Whether workers of it are of other classes, too: then a session that collects must not hold
    the room that the others collect in."""

    @property
    def first_sessions(self) -> int:
        """How many there are before anything is collected."""
        return min(1, self.sessions) if self.is_crowded else self.sessions

    @property
    def hardware(self) -> str | None:
        """The class that its tests are planned for; none for any."""
        return self.name or None


@dataclass(frozen=True, slots=True)
class Lot:
    """Tests that are pulled from one queue."""

    lane: Lane
    queue: str
    requirements: Requirements
    sessions: int
    units: Sequence[Unit]
    nodeids: tuple[str, ...]

    @property
    def is_early(self) -> bool:
        """Say whether it asks for more than its class of hardware."""
        return key_of(self.requirements) != key_of(self.lane.requirements)

    @property
    def title(self) -> str:
        """What the names of its sessions end with, to tell them from others."""
        said = in_words(self.requirements) if self.is_early else self.lane.name
        return f" ({said})" if said else ""


@dataclass(frozen=True, slots=True)
class Share:
    """What one class of hardware has of the suite."""

    lane: Lane
    suite: Suite
    lots: tuple[Lot, ...] = ()
    unrun: tuple[Planned, ...] = ()
    """Tests that have no lot, each with the cause."""

    @property
    def planned(self) -> list[Planned]:
        """The tests of all lots."""
        return [Planned(nodeid, self.lane.hardware) for lot in self.lots for nodeid in lot.nodeids]

    @property
    def begins_anew(self) -> bool:
        """Say whether the sessions that warmed up are not those that run the tests."""
        return any(lot.queue != self.lane.queue for lot in self.lots)


def lanes_of(
    classes: Sequence[HardwareClass],
    rules: Sequence[Rule],
    fleet: Sequence[Worker],
    *,
    queue: str,
    sessions: int | None,
) -> tuple[Lane, ...]:
    """Return a lane for each class of hardware, or a single one where none are named.

    ``sessions`` is what was asked for; by default as many as its workers have room for.
    Raises NoWorkerMatches where classes are named and no worker is of any.
    """
    whole = general(rules)
    if not classes:
        room = capacity(whole, fleet).sessions
        return (Lane("", whole, queue, sessions or max(1, min(SESSIONS_MAX, room))),)
    asked = [both(each.requirements, whole) for each in classes]
    wanted = [
        one.requirements if isinstance(all_of_it, Refusal) else all_of_it
        for one, all_of_it in zip(classes, asked, strict=True)
    ]
    found = [capacity(each, fleet) for each in wanted]
    places = Counter(worker for each in found for worker in each.workers)
    lanes = [
        Lane(
            each.name,
            wanted[number],
            f"{queue}c{number}",
            min(sessions or SESSIONS_MAX, SESSIONS_MAX, found[number].sessions),
            "" if found[number].sessions else found[number].why_not,
            any(places[worker] > 1 for worker in found[number].workers),
        )
        for number, each in enumerate(classes)
    ]
    if not any(lane.sessions for lane in lanes):
        message = "; ".join(f"{lane.name}: {lane.why_not}" for lane in lanes)
        raise NoWorkerMatches(message, hint="`dtest worker ls` shows what the workers have")
    return tuple(lanes)


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


@dataclass(frozen=True, slots=True)
class Planner:
    """All that shares follow from, besides what was collected."""

    rules: Sequence[Rule]
    selection: Selection
    history: Past
    fleet: Sequence[Worker]
    sessions: int | None

    def shares(self, lanes: Sequence[Lane], found: Sequence[Suite | None]) -> list[Share]:
        """Return the share of each lane; what nobody could collect holds what the others hold.

        Raises UsageError for marks that make no sense.
        """
        union = reduce(Suite.with_tests_of, (suite for suite in found if suite is not None))
        known = [
            suite if suite is not None else replace(union, broken=(), skipped=()) for suite in found
        ]
        needs = [needs_of(suite, self.rules) for suite in known]
        failed = [self._failed(*each) for each in zip(lanes, known, needs, strict=True)]
        if not any(failed):
            failed = [None] * len(lanes)
        return [self._share(*each) for each in zip(lanes, known, needs, failed, strict=True)]

    def _failed(
        self, lane: Lane, suite: Suite, needs: Sequence[Requirements]
    ) -> Collection[str] | None:
        """Return the tests that failed on such hardware when they last ran, if only these run."""
        if not self.selection.last_failed:
            return None
        asked = () if lane.name else needs
        failed = self.history.load(*kept_under(lane, lane.requirements, *asked)).failed
        return {nodeid for nodeid, _ in suite.only(failed).tests}

    def _share(
        self,
        lane: Lane,
        suite: Suite,
        needs: Sequence[Requirements],
        only: Collection[str] | None,
    ) -> Share:
        division = divide(suite, needs, lane.requirements, only=only)
        whole = suite.whole if only is None else ()
        unrun = [
            Planned(nodeid, lane.hardware, why, applies=False)
            for nodeid, why in division.not_for_it
        ]
        lots, impossible = self._lots(lane, division, whole)
        chosen = suite if only is None else suite.only(only)
        return Share(lane, chosen, tuple(lots), (*unrun, *impossible))

    def _lots(
        self, lane: Lane, division: Division, whole: Sequence[str]
    ) -> tuple[list[Lot], list[Planned]]:
        base = key_of(lane.requirements)
        lots: list[Lot] = []
        impossible: list[Planned] = []
        pools = division.pools
        if whole and not any(key_of(pool.requirements) == base for pool in pools):
            pools = (Pool(lane.requirements, ()), *pools)
        for number, pool in enumerate(pools):
            is_base = key_of(pool.requirements) == base
            room = capacity(pool.requirements, self.fleet)
            why_not = lane.why_not if is_base else room.why_not if not room.sessions else ""
            if why_not:
                named = [*(test.nodeid for test in pool.tests), *(whole if is_base else ())]
                impossible += (Planned(nodeid, lane.hardware, why_not) for nodeid in named)
                continue
            most = lane.sessions if is_base else min(self.sessions or SESSIONS_MAX, room.sessions)
            count = min(most, SESSIONS_MAX)
            queue = f"{lane.queue}p{number}"
            lots.append(self._lot(lane, pool, queue, count, whole if is_base else ()))
        if len(lots) == 1 and not lots[0].is_early and not lane.is_crowded:
            return [replace(lots[0], queue=lane.queue)], impossible
        return [
            replace(lot, sessions=max(1, min(lot.sessions, len(lot.units)))) for lot in lots
        ], impossible

    def _lot(self, lane: Lane, pool: Pool, queue: str, sessions: int, whole: Sequence[str]) -> Lot:
        past = self.history.load(*kept_under(lane, pool.requirements))
        units = units_of(pool, self.selection, past, sessions=sessions, whole=whole)
        nodeids = tuple(test.nodeid for test in pool.tests)
        return Lot(lane, queue, pool.requirements, sessions, units, nodeids)


def kept_under(lane: Lane, *asked: Requirements) -> list[str]:
    """Return the classes of hardware under which earlier runs may know something."""
    kinds = dict.fromkeys(kind for each in asked for kind in each.hardware or ("cpu",))
    return [lane.name, *kinds] if lane.name else list(kinds)
