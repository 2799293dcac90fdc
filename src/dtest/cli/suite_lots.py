"""What of a suite runs where: one share for each class of hardware, one lot for each requirement.

Plans only: which sessions and queues there are to be, and which tests cannot run at all.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import NamedTuple

from dtest.cli.cell_memory import Past
from dtest.cli.suite import units_of
from dtest.cli.suite_options import Selection
from dtest.errors import NoWorkerMatches
from dtest.events.suite import PlannedTest
from dtest.events.task import Requirements
from dtest.state.matching import Refusal
from dtest.state.worker import Worker
from dtest.suites.pools import Division, Pool, PoolTest, capacity, divide
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
    tests: tuple[PoolTest, ...]

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
    unrun: tuple[PlannedTest, ...] = ()
    """Tests that have no lot, each with the cause."""

    @property
    def tests(self) -> list[PlannedTest]:
        """All tests of the plan, those that no session can run among them."""
        chosen = (each for lot in self.lots for each in lot.tests)
        return [*(PlannedTest(each.test.number or 0, each.nodeid) for each in chosen), *self.unrun]

    @property
    def plan(self) -> dict[str, object]:
        """The document that tells what is to have a result."""
        files = [*self.suite.broken, *self.suite.skipped]
        return {"hardware": self.lane.name, "tests": list(map(asdict, self.tests)), "files": files}

    @property
    def plan_rows(self) -> Iterator[dict[str, object]]:
        """What the read model will hold of that plan."""
        for test in self.tests:
            yield {"hardware": self.lane.name, **asdict(test)}
        for file in (*self.suite.broken, *self.suite.skipped):
            base = {"hardware": self.lane.name, "cause": "", "applies": True}
            yield {**base, "number": None, "nodeid": file}

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

    def shares(self, lanes: Sequence[Lane], found: Sequence[Suite | None]) -> "Shares":
        """Return the share of each lane; what nobody could collect holds what the others hold.

        Raises UsageError for marks that make no sense.
        """
        union = reduce(Suite.with_tests_of, (suite for suite in found if suite is not None))
        known = [
            suite if suite is not None else replace(union, broken=(), skipped=()) for suite in found
        ]
        notes = [note for suite in found if suite is not None for note in suite.notes]
        if self.selection.last_failed:
            failed = [self._failed(*each) for each in zip(lanes, known, strict=True)]
            if any(suite.tests or suite.broken for suite in failed):
                known = failed
            else:
                notes.append("--last-failed: nothing failed when it last ran here; all tests run")
        needs = [needs_of(suite, self.rules) for suite in known]
        shares = [self._share(*each) for each in zip(lanes, known, needs, strict=True)]
        return Shares(shares, list(dict.fromkeys(notes)))

    def _failed(self, lane: Lane, suite: Suite) -> Suite:
        """Return the tests that failed on such hardware when they last ran."""
        asked = () if lane.name else needs_of(suite, self.rules)
        history = self.history.load(*kept_under(lane, lane.requirements, *asked))
        keys = list(suite.keys())
        failed = suite.only(lambda place: history.has_failed(keys[place], suite.file_at(place)))
        return replace(failed, whole=())

    def _share(self, lane: Lane, suite: Suite, needs: Sequence[Requirements]) -> Share:
        division = divide(suite, needs, lane.requirements)
        unrun = [
            PlannedTest(each.number, each.nodeid, each.why, applies=False)
            for each in division.not_for_it
        ]
        lots, impossible = self._lots(lane, division, suite)
        return Share(lane, suite, tuple(lots), (*unrun, *impossible))

    def _lots(
        self, lane: Lane, division: Division, suite: Suite
    ) -> tuple[list[Lot], list[PlannedTest]]:
        base, whole = key_of(lane.requirements), suite.whole
        lots: list[Lot] = []
        impossible: list[PlannedTest] = []
        pools = division.pools
        if whole and not any(key_of(pool.requirements) == base for pool in pools):
            pools = (Pool(lane.requirements, ()), *pools)
        for number, pool in enumerate(pools):
            is_base = key_of(pool.requirements) == base
            room = capacity(pool.requirements, self.fleet)
            why_not = lane.why_not if is_base else room.why_not if not room.sessions else ""
            if why_not:
                impossible += (
                    PlannedTest(each.test.number or 0, each.nodeid, why_not) for each in pool.tests
                )
                first = 1 + max(suite.numbers or (len(suite.tests),))
                impossible += (
                    PlannedTest(first + place, file, why_not)
                    for place, file in enumerate(whole if is_base else ())
                )
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
        return Lot(lane, queue, pool.requirements, sessions, units, pool.tests)


class Shares(NamedTuple):
    """The shares of all lanes, and what is to be said of them."""

    shares: list[Share]
    notes: list[str]


def kept_under(lane: Lane, *asked: Requirements) -> list[str]:
    """Return the classes of hardware under which earlier runs may know something."""
    kinds = dict.fromkeys(kind for each in asked for kind in each.hardware or ("cpu",))
    return [lane.name, *kinds] if lane.name else list(kinds)
