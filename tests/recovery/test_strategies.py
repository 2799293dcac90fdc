"""Strategies: chosen by an event, and each really acts."""

from typing import get_args

import pytest

from dtest.events.breaker import BreakerOpened
from dtest.events.envelope import Event
from dtest.events.parameters import Strategy
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.events.task import RetryPolicy
from dtest.leadership.audit import verify
from dtest.leadership.rules import CURRENT
from dtest.state.health import Guard
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import task
from tests.kit.faulting import end, faults_on, fleet, health, live, run
from tests.kit.recording import Recording
from tests.kit.world import World

ALL: tuple[Strategy, ...] = get_args(Strategy)
SPEND: tuple[Strategy, ...] = ("minimal", "progressive", "aggressive")
"""From the least to the most that is spent."""


def under(strategy: Strategy, *names: str) -> World:
    return fleet(*names, world=World().led().given(PolicyChanged(None, strategy)))


def test_every_strategy_has_its_differences_and_the_default_has_none() -> None:
    assert set(CURRENT.strategies) == set(ALL)
    world = World().led()
    assert (world.cell.strategy, world.cell.parameters) == ("progressive", CURRENT.parameters)


@pytest.mark.parametrize("strategy", ["aggressive", "minimal"])
def test_a_strategy_names_no_parameter_that_it_leaves_as_it_is(strategy: Strategy) -> None:
    for name, value in CURRENT.strategies[strategy].items():
        assert getattr(CURRENT.parameters, name) != value, name
        assert not name.startswith("strike_"), "scores are to be comparable"


def test_a_choice_holds_for_what_it_names_and_leaves_the_rest() -> None:
    world = World().led().given(PolicyChanged("pack"), PolicyChanged(None, "minimal"))
    assert (world.cell.ranking, world.cell.strategy) == ("pack", "minimal")

    world.given(PolicyChanged("spread"), PolicyChanged())
    assert (world.cell.ranking, world.cell.strategy) == ("spread", "minimal")


def attempts_under(strategy: Strategy) -> int:
    world = under(strategy, "w").given(task("t"))
    for _ in range(20):
        run(world, "t")
        world.settle()
        if world.status("t") is Status.ERRORED:
            break
        world.tick(100)
    return world.task("t").attempt


def test_they_differ_in_what_they_spend_on_a_task() -> None:
    assert [attempts_under(strategy) for strategy in SPEND] == [2, 4, 7]


def delay_under(strategy: Strategy) -> float:
    world = under(strategy, "w").given(task("t"))
    run(world, "t")
    world.settle()
    return world.task("t").not_before - world.now


def test_they_differ_in_how_soon_they_try_again() -> None:
    least, normal, most = (delay_under(strategy) for strategy in SPEND)

    assert least > 2 * normal > 3 * most


def strikes_until_barred(strategy: Strategy) -> tuple[int, float]:
    world = under(strategy, "w")
    for count in range(1, 10):
        faults_on(world, "w", 1, prefix=f"n{count}")
        world.settle()
        if health(world, "w").guard is not Guard.CLOSED:
            return count, (health(world, "w").until or 0.0) - world.now
    raise AssertionError(strategy)


def test_they_differ_in_when_a_worker_is_barred_and_for_how_long() -> None:
    assert {strategy: strikes_until_barred(strategy) for strategy in ALL} == {
        "progressive": (3, 300.0),
        "aggressive": (5, 60.0),
        "minimal": (2, 600.0),
    }


@pytest.mark.parametrize(
    ("strategy", "seconds"), [("progressive", 150.0), ("aggressive", 200.0), ("minimal", 100.0)]
)
def test_they_differ_in_the_time_of_a_retry_after_a_time_out(
    strategy: Strategy, seconds: float
) -> None:
    world = under(strategy, "w")
    world.given(task("t", timeout_seconds=100.0, retry_policy=RetryPolicy(1)))
    run(world, "t", "faulted", Reason.RUN_TIMEOUT)
    world.settle()

    assert world.task("t").timeout_factor * 100.0 == seconds


async def test_the_audit_decides_under_the_strategy_that_was_in_force() -> None:
    world = fleet(*ALL, "healthy")
    for strategy in ALL:
        world.given(PolicyChanged(None, strategy))
        faults_on(world, strategy, 2)
        world.given(task(f"t-{strategy}"))
        world.settle()
        end(world, live(world, f"t-{strategy}"), "passed")
    world.settle()

    report = await verify(Recording(world.journal), facts.CELL)

    assert report.violations == []
    opened = [
        event.data.breaker_id
        for record in world.history
        for event in record.events
        if isinstance(event, Event) and isinstance(event.data, BreakerOpened)
    ]
    assert "worker:minimal" in opened
