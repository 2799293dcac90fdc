"""What of a suite runs where: a share for each class of hardware, a lot for each requirement."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple, Protocol

from dtest.conducting.lanes import refuse_unmatched
from dtest.conducting.orders import Order
from dtest.conducting.spans import Spans, chunks, count_in, spans_of
from dtest.conducting.units import units_of
from dtest.events.suite import SESSIONS_MAX
from dtest.events.suite_decision import (
    SPANS_MAX,
    WHOLE_FIRST,
    Lane,
    SuiteCollected,
    SuiteDivided,
    SuitePooled,
)
from dtest.events.task import Requirements
from dtest.state.worker import Worker
from dtest.suites.history import History
from dtest.suites.plan import makespan_s
from dtest.suites.pools import Division, Pool, PoolTest, capacity, divide
from dtest.suites.requirement import key_of
from dtest.suites.rules import needs_of
from dtest.suites.suite import Suite
from dtest.suites.unit import Unit


class Past(Protocol):
    """What is known of earlier runs."""

    def load(self, *hardware: str) -> History:
        """Return what is known of classes of hardware, of the first one that knows a test."""
        ...


@dataclass(frozen=True, slots=True)
class Lot:
    """Tests that are pulled from one queue."""

    lane: Lane
    queue: str
    requirements: Requirements
    sessions: int
    units: Sequence[Unit]
    tests: tuple[PoolTest, ...]
    whole: tuple[str, ...] = ()
    """Files whose tests are not known before they run."""

    @property
    def spans(self) -> Spans:
        """The numbers of all that it holds."""
        return spans_of(
            [
                *(each.test.number or 0 for each in self.tests),
                *(WHOLE_FIRST + place for place in range(len(self.whole))),
            ]
        )


class Unrun(NamedTuple):
    """A test, or a file that would run as a whole, that no session can run."""

    number: int
    nodeid: str
    cause: str
    applies: bool = True
    """False for a test that is not made for this class of hardware: it is skipped."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one class of hardware has of the suite."""

    lane: Lane
    suite: Suite
    lots: tuple[Lot, ...] = ()
    unrun: tuple[Unrun, ...] = ()

    @property
    def begins_anew(self) -> bool:
        """Say whether the sessions that warmed up are not those that run the tests."""
        return any(lot.queue != self.lane.queue for lot in self.lots)


class Shares(NamedTuple):
    """The shares of all lanes, and what is to be said of them."""

    shares: list[Share]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    shares: tuple[Share, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Say whether there is nothing to run and nothing to report."""
        return all(share.suite.is_empty for share in self.shares)

    def facts(self, order: Order) -> tuple[SuiteDivided, list[SuitePooled]]:
        """Return what is to be recorded."""
        run_id = order.spec.run_id
        parts = [
            SuitePooled(run_id, part, **told)  # type: ignore[arg-type] # by name, as made below
            for part, told in enumerate(each for share in self.shares for each in _pools(share))
        ]
        planned = sum(map(_planned_in, parts))
        told = SuiteDivided(run_id, len(parts), planned, round(self.predicted_s, 6), self.notes)
        return told, parts

    @property
    def lots(self) -> list[Lot]:
        """The lots of all shares."""
        return [lot for share in self.shares for lot in share.lots]

    @property
    def predicted_s(self) -> float:
        """How long the run will probably take: its longest lot, or all that share slots."""
        lots = self.lots
        longest_s = max((makespan_s(lot.units, sessions=lot.sessions) for lot in lots), default=0.0)
        if not any(share.begins_anew for share in self.shares):
            return longest_s
        work_s = sum(unit.seconds for lot in lots for unit in lot.units)
        room = sum(share.lane.sessions for share in self.shares)
        return max(longest_s, work_s / max(1, room))


def _planned_in(part: SuitePooled) -> int:
    """Count what is to have a result: of files that run as a whole nobody knows how many."""
    return count_in(
        tuple(span for span in part.tests if part.queue is None or span[0] < WHOLE_FIRST)
    )


def _pools(share: Share) -> Iterator[dict[str, object]]:
    """Yield the fields of each part that tells of a share."""
    hardware = share.lane.name
    for lot in share.lots:
        for tests in chunks(lot.spans, SPANS_MAX):
            yield {
                "hardware": hardware,
                "tests": tests,
                "queue": lot.queue,
                "requirements": lot.requirements,
                "sessions": lot.sessions,
            }
    causes: dict[tuple[str, bool], list[int]] = {}
    for each in share.unrun:
        causes.setdefault((each.cause, each.applies), []).append(each.number)
    for (cause, applies), numbers in causes.items():
        for tests in chunks(spans_of(numbers), SPANS_MAX):
            yield {"hardware": hardware, "tests": tests, "cause": cause, "applies": applies}


def collected_as(lane: Lane, order: Order, suite: Suite, digest: str) -> SuiteCollected:
    """Return the fact that a lane has a list."""
    return SuiteCollected(
        order.spec.run_id,
        digest,
        lane.name,
        len(suite.tests),
        len(suite.files),
        len(suite.broken),
        len(suite.whole),
    )


def completed(found: Sequence[Suite | None]) -> list[Suite]:
    """Return the list of each lane: what nobody could collect holds what the others hold."""
    union = reduce(Suite.with_tests_of, (suite for suite in found if suite is not None))
    bare = replace(union, broken=(), skipped=(), numbers=())
    return [suite if suite is not None else bare for suite in found]


@dataclass(frozen=True, slots=True)
class Planner:
    """All that a plan follows from, besides what was collected."""

    order: Order
    history: Past
    fleet: Sequence[Worker]

    def plan(self, lanes: Sequence[Lane], lists: Sequence[Suite]) -> Plan:
        """Return what of each lane's list runs where.

        Raises UsageError for marks that make no sense, NoWorkerMatches for what may not be missing.
        """
        known = [self.order.selected(suite) for suite in lists]
        notes = [note for suite in lists for note in suite.notes]
        if self.order.spec.selection.last_failed:
            failed = [self._failed(*each) for each in zip(lanes, known, strict=True)]
            if any(suite.tests or suite.broken for suite in failed):
                known = failed
            else:
                notes.append("--last-failed: nothing failed when it last ran here; all tests run")
        needs = [needs_of(suite, self.order.rules) for suite in known]
        shares = [self._share(*each) for each in zip(lanes, known, needs, strict=True)]
        if self.order.spec.fail_unmatched:
            refuse_unmatched(
                (each.nodeid, each.cause)
                for share in shares
                for each in share.unrun
                if each.applies
            )
        return Plan(tuple(shares), tuple(dict.fromkeys(notes)))

    def _failed(self, lane: Lane, suite: Suite) -> Suite:
        """Return the tests that failed on such hardware when they last ran."""
        asked = () if lane.name else needs_of(suite, self.order.rules)
        history = self.history.load(*kept_under(lane, lane.requirements, *asked))
        keys = list(suite.keys())
        failed = suite.only(lambda place: history.has_failed(keys[place], suite.file_at(place)))
        return replace(failed, whole=())

    def _share(self, lane: Lane, suite: Suite, needs: Sequence[Requirements]) -> Share:
        division = divide(suite, needs, lane.requirements)
        unrun = [
            Unrun(each.number, each.nodeid, each.why, applies=False) for each in division.not_for_it
        ]
        lots, impossible = self._lots(lane, division, suite)
        return Share(lane, suite, tuple(lots), (*unrun, *impossible))

    def _lots(self, lane: Lane, division: Division, suite: Suite) -> tuple[list[Lot], list[Unrun]]:
        base, whole = key_of(lane.requirements), suite.whole
        lots: list[Lot] = []
        impossible: list[Unrun] = []
        pools = division.pools
        if whole and not any(key_of(pool.requirements) == base for pool in pools):
            pools = (Pool(lane.requirements, ()), *pools)
        asked = self.order.spec.sessions
        for number, pool in enumerate(pools):
            is_base = key_of(pool.requirements) == base
            room = capacity(pool.requirements, self.fleet)
            why_not = lane.why_not if is_base else room.why_not if not room.sessions else ""
            if why_not:
                impossible += (
                    Unrun(each.test.number or 0, each.nodeid, why_not) for each in pool.tests
                )
                impossible += (
                    Unrun(WHOLE_FIRST + place, file, why_not)
                    for place, file in enumerate(whole if is_base else ())
                )
                continue
            most = lane.sessions if is_base else min(asked or SESSIONS_MAX, room.sessions)
            queue = f"{lane.queue}p{number}"
            lots.append(
                self._lot(lane, pool, queue, min(most, SESSIONS_MAX), whole if is_base else ())
            )
        if len(lots) == 1 and asks_no_more(lane, lots[0].requirements) and not lane.is_crowded:
            return [replace(lots[0], queue=lane.queue)], impossible
        return [
            replace(lot, sessions=max(1, min(lot.sessions, len(lot.units)))) for lot in lots
        ], impossible

    def _lot(
        self, lane: Lane, pool: Pool, queue: str, sessions: int, whole: tuple[str, ...]
    ) -> Lot:
        past = self.history.load(*kept_under(lane, pool.requirements))
        selection = self.order.spec.selection
        units = units_of(pool, selection, past, sessions=sessions, whole=whole)
        return Lot(lane, queue, pool.requirements, sessions, units, pool.tests, whole)


def asks_no_more(lane: Lane, requirements: Requirements) -> bool:
    """Say whether these ask for no more than the lane's class of hardware."""
    return key_of(requirements) == key_of(lane.requirements)


def kept_under(lane: Lane, *asked: Requirements) -> list[str]:
    """Return the classes of hardware under which earlier runs may know something."""
    kinds = dict.fromkeys(kind for each in asked for kind in each.hardware or ("cpu",))
    return [lane.name, *kinds] if lane.name else list(kinds)
