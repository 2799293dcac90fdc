"""A conductor dies before or after each thing that it does; the next one comes to the same end."""

import asyncio

import pytest

from dtest.events.suite import SuiteSubmitted
from dtest.events.suite_decision import SuiteCut
from dtest.leadership.audit import verify
from dtest.projections.past import known_from
from dtest.reports.muting import NONE_MUTED
from dtest.reports.observation import Outcome
from dtest.reports.report import compose
from dtest.suites.suite import Suite
from tests.conductor.theatre import RUN, Door, Theatre
from tests.kit import facts

SUITE = Suite(tuple((f"test_{file}.py::test_{n}", "") for file in "ab" for n in range(6)))
ALWAYS: dict[int, tuple[Outcome, ...]] = {2: ("failed",), 9: ("error",), 10: ("skipped",)}
"""Tests that come to the same however often they run."""
COUNTS = {"error": 1, "failed": 1, "passed": 9, "skipped": 1}


def spec(**asked: object) -> SuiteSubmitted:
    return SuiteSubmitted(RUN, cwd="/srv", reruns=1, **asked)  # type: ignore[arg-type]


def undisturbed() -> int:
    """How many effects a conductor has that is left alone."""
    theatre, door = Theatre(SUITE, ALWAYS), Door(None, after=False)
    end = asyncio.run(theatre.play(spec(), [door]))
    assert (end.exit_code, end.counts, end.planned) == (1, COUNTS, 12)
    assert sorted(theatre.ran) == sorted([*range(12), 2, 9])
    return door.effects


EFFECTS = undisturbed()


def test_there_is_something_to_be_cut_off_from() -> None:
    assert EFFECTS > 15


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, EFFECTS + 1))
def test_whoever_goes_on_comes_to_the_same_end(at: int, *, after: bool) -> None:
    async def played() -> tuple[Theatre, object, list[str]]:
        theatre = Theatre(SUITE, ALWAYS)
        end = await theatre.play(spec(), [Door(at, after=after), Door(None, after=False)])
        report = await verify(theatre.stage.journal, facts.CELL)
        return theatre, (end.exit_code, end.counts, end.planned), report.objections

    theatre, end, objections = asyncio.run(played())

    assert end == (1, COUNTS, 12)
    assert objections == []
    assert set(theatre.ran) == set(range(12))
    assert min(theatre.ran.count(number) for number in (2, 9)) > 1


@pytest.mark.parametrize("at", [None, 6, 9, EFFECTS - 3])
def test_the_sums_are_those_that_the_journal_tells(at: int | None) -> None:
    """The conductor judges by what it holds, everybody else by the read model: they agree."""

    async def played() -> tuple[object, object]:
        theatre = Theatre(SUITE, ALWAYS)
        end = await theatre.play(spec(), [Door(at, after=True), Door(None, after=False)])
        known, muted = await known_from(theatre.stage.journal, facts.CELL, RUN)
        report = compose(known, flaky=muted or NONE_MUTED)
        told = report.exit_code, dict(report.counts), report.planned
        return (end.exit_code, dict(end.counts), end.planned), told

    end, told = asyncio.run(played())

    assert told == end


@pytest.mark.parametrize("every", [1, 2, 3])
def test_one_after_the_other_may_die(every: int) -> None:
    doors = [*(Door(every, after=True) for _ in range(3 * EFFECTS)), Door(None, after=False)]

    end = asyncio.run(Theatre(SUITE, ALWAYS).play(spec(), doors))

    assert (end.exit_code, end.counts) == (1, COUNTS)


def test_what_passes_the_second_time_is_flaky() -> None:
    end = asyncio.run(
        Theatre(SUITE, {3: ("failed", "passed")}).play(spec(), [Door(None, after=False)])
    )

    assert (end.exit_code, end.counts) == (0, {"flaky": 1, "passed": 11})


@pytest.mark.parametrize("at", [None, *range(1, EFFECTS)])
def test_a_run_with_enough_failures_is_cut_whoever_conducts(at: int | None) -> None:
    doors = [Door(at, after=True), Door(None, after=False)]

    end = asyncio.run(Theatre(SUITE, ALWAYS).play(spec(failures_max=1), doors))

    assert end.exit_code == 1
    assert sum(end.counts.values()) == 12


def test_a_suite_without_tests_is_no_success() -> None:
    end = asyncio.run(Theatre(Suite()).play(spec(), [Door(None, after=False)]))

    assert (end.exit_code, end.counts) == (5, {})


def test_a_document_that_makes_sessions_too_large_ends_its_run_and_says_so() -> None:
    async def played() -> tuple[int, str]:
        theatre = Theatre(SUITE)
        large = spec(env={"LARGE": "x" * 800_000})
        end = await theatre.play(large, [Door(None, after=False)])
        (cut,) = await theatre.stage.written(SuiteCut)
        assert isinstance(cut, SuiteCut)
        return end.exit_code, cut.detail

    code, detail = asyncio.run(played())

    assert code == 2
    assert "too large" in detail
