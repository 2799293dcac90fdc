"""Rules and parameters are facts: a term records them, the fold takes them from the journal."""

import ast
import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dtest.events import codec
from dtest.events.catalogue import Payload
from dtest.events.envelope import Malformed
from dtest.events.leader import LeaderElected
from dtest.events.parameters import NAMES, UNRECORDED
from dtest.events.policy import PolicyChanged
from dtest.events.reasons import Reason
from dtest.leadership.audit import verify
from dtest.leadership.follower import Follower
from dtest.leadership.rules import CURRENT, KEPT, RULES, elected
from dtest.state.cell import Cell
from dtest.state.snapshot import dump, load
from dtest.state.term import UNRECORDED_RULES
from tests.kit import facts, invariants
from tests.kit.facts import finished, machine, registered, task
from tests.kit.faulting import all_live, end, fleet, run
from tests.kit.histories import Move, anything_decided, play
from tests.kit.parameters import limits_of, some, value_of
from tests.kit.recording import Recording
from tests.kit.search import CASES, explore
from tests.kit.stage import Stage
from tests.kit.world import World, rules

FAULTS = (Reason.ENV_SETUP_FAILED, Reason.DEVICE_LOST, Reason.OOM_TASK, Reason.WORKER_LOST)
SOURCE = Path(__file__).parents[2] / "src" / "dtest"
PURE = ("state", "scheduling", "recovery")


def chosen(**numbers: float) -> PolicyChanged:
    return PolicyChanged(parameters=dict(numbers))


# -- versions of the rules --------------------------------------------------------------------


def test_the_last_versions_of_the_rules_are_kept_without_a_gap() -> None:
    assert sorted(RULES) == list(range(max(RULES) - len(RULES) + 1, max(RULES) + 1))
    assert len(RULES) <= KEPT
    assert max(RULES) == CURRENT.version
    assert all(rules.version == version for version, rules in RULES.items())


async def test_a_leader_records_its_rules_and_all_parameters() -> None:
    stage = Stage()
    async with stage.led() as leader:
        assert leader.cell.term.rules == CURRENT.version
        assert leader.cell.parameters == CURRENT.parameters

    (written,) = await stage.written(LeaderElected)
    assert written == elected(facts.LEADER, 0, "here", "0")
    assert isinstance(written, LeaderElected)
    assert written.parameters == asdict(CURRENT.parameters)
    assert written.strategies == CURRENT.strategies


async def test_a_leader_decides_by_what_it_recorded() -> None:
    stage = Stage()
    async with stage.led(rules=rules(assignments_max=1)):
        await stage.say(registered("w", machine(4)))
        await stage.say(task("a"), task("b"))
        await stage.quiet()
    report = await verify(stage.journal, facts.CELL)

    assert (report.violations, report.doubts) == ([], [])
    assert report.decisions_again == report.decisions >= 2


def test_a_term_that_recorded_nothing_has_what_was_in_force_before_anything_was() -> None:
    world = World(rules(faults_max=9)).led().given(LeaderElected("older"))

    assert world.cell.term.rules == UNRECORDED_RULES
    assert world.cell.parameters == UNRECORDED


def test_what_a_newer_term_records_is_read_as_far_as_it_is_known() -> None:
    known = asdict(UNRECORDED) | {"faults_max": 7}
    newer = replace(
        elected("newer"), rules=99, parameters={**known, "of_the_future": 1.5}, strategies={}
    )
    world = World().given(newer)

    assert world.cell.term.rules == 99
    assert world.cell.parameters == replace(UNRECORDED, faults_max=7)


# -- parameters -------------------------------------------------------------------------------


def test_what_is_chosen_holds_through_strategies_and_terms_until_it_is_reset() -> None:
    world = World().led()
    steps: list[tuple[Payload, tuple[int, float]]] = [
        (chosen(faults_max=5), (5, 0.2)),
        (PolicyChanged(strategy="minimal"), (5, 0.2)),
        (elected("next", rules=rules(jitter=0.5)), (5, 0.5)),
        (PolicyChanged(reset=("faults_max",)), (1, 0.5)),
        (PolicyChanged(strategy="progressive"), (3, 0.5)),
    ]
    for fact, expected in steps:
        world.given(fact)
        in_force = world.cell.parameters
        assert (in_force.faults_max, in_force.jitter) == expected, fact


def test_a_leader_that_records_nothing_knows_no_chosen_parameters() -> None:
    world = World().led().given(chosen(faults_max=5), LeaderElected("older"))
    assert world.cell.parameters == UNRECORDED

    world.given(elected("newer"))
    assert world.cell.parameters.faults_max == 5


def test_a_parameter_that_is_set_and_reset_at_once_has_the_new_value() -> None:
    world = World().led().given(chosen(faults_max=5))
    world.given(PolicyChanged(parameters={"faults_max": 6}, reset=("faults_max",)))

    assert world.cell.parameters.faults_max == 6


def test_what_was_worked_out_before_a_change_stays_and_what_comes_later_is_by_the_new_value() -> (
    None
):
    world = World().led().given(task("before", priority=1))
    world.given(chosen(ageing_s_per_level=10.0), task("after", priority=1))

    assert world.task("before").order - world.task("before").queued_at == 60.0
    assert world.task("after").order - world.task("after").queued_at == 10.0


def test_an_assignment_is_returned_by_the_limit_that_is_in_force_when_it_is_due() -> None:
    world = World().led().given(registered("w"), task("t"))
    world.settle()
    world.given(chosen(accept_s_max=30.0, accept_again_s=0.0))

    world.tick(10.1).given(registered("v"))
    assert world.settle() == []
    world.tick(20.0).given(registered("v"))
    assert [fact.TYPE for fact in world.settle()][:1] == ["attempt.returned"]


def test_a_leader_refuses_a_choice_that_names_a_parameter_it_did_not_record() -> None:
    fewer = {name: value for name, value in asdict(UNRECORDED).items() if name != "jitter"}
    world = World().given(replace(elected("older"), parameters=fewer))
    for choice in (
        PolicyChanged("pack", parameters={"jitter": 0.5}),
        PolicyChanged("pack", reset=("jitter",)),
    ):
        world.given(choice)
    assert (world.to_refuse(), world.cell.ranking) == (["invalid_data"] * 2, "spread")

    world.given(elected("newer"), chosen(jitter=0.5))
    assert world.cell.parameters.jitter == 0.5
    world.given(replace(elected("older"), parameters=fewer))
    assert world.cell.parameters.jitter == UNRECORDED.jitter


def test_a_smaller_bound_on_kinds_holds_from_the_next_one_on() -> None:
    calm = rules(breaker_threshold=1_000, health_threshold=0.0, fleet_workers_min=1_000)
    world = fleet("v", "w", world=World(calm).led())
    for number in range(20):
        world.given(task(f"t{number}", name=f"n{number}"))
        run(world, f"t{number}")
        world.settle()
    assert len(world.cell.kinds) > 10

    world.given(chosen(kinds_max=5), task("last", name="last"))
    run(world, "last")
    assert len(world.cell.kinds) <= 5


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_parameter_is_used_by_the_fold_or_a_decider(name: str) -> None:
    assert name in set(attributes())


def attributes() -> Iterator[str]:
    """Every attribute that the pure floors read."""
    for floor in PURE:
        for module in (SOURCE / floor).glob("*.py"):
            for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    yield node.attr


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_value_outside_of_its_limits_is_refused_with_the_name(name: str) -> None:
    least, most = limits_of(name)
    for value in (least - 1, most * 2 + 1):
        choice = PolicyChanged(parameters={name: type(getattr(UNRECORDED, name))(value)})
        (event,) = World().record(choice).events
        assert isinstance(event, Malformed)
        assert name in event.detail


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"parameters": {"breaker_treshold": 3}}, "did you mean 'breaker_threshold'?"),
        ({"reset": ["nothing_like_it"]}, "no parameter is called 'nothing_like_it'"),
        ({"parameters": {"faults_max": 2.5}}, "faults_max"),
        ({"parameters": {"faults_max": True}}, "parameters"),
        ({"parameters": {"jitter": "much"}}, "parameters"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_and_changes_nothing(
    data: dict[str, Any], said: str
) -> None:
    world = World().led()
    document = codec.document(world.event(PolicyChanged())) | {"data": data}
    (refused,) = world.write(facts.where(PolicyChanged()), json.dumps(document).encode()).events

    assert isinstance(refused, Malformed)
    assert said in refused.detail
    assert world.cell.parameters == CURRENT.parameters


def test_whole_numbers_and_fractions_come_back_as_the_parameter_holds_them() -> None:
    world = World().led().given(chosen(rejoin_s_max=3, faults_max=4))

    assert repr(world.cell.parameters.rejoin_s_max) == "3.0"
    assert repr(world.cell.parameters.faults_max) == "4"


# -- whatever is chosen -----------------------------------------------------------------------


async def test_whatever_is_permitted_leads_to_an_end_of_decisions_that_the_audit_makes_again() -> (
    None
):
    for seed in range(CASES // 4):
        rng = Random(seed)
        world = World(rules(**{name: value_of(name, rng) for name in sorted(NAMES)})).led()
        world.given(registered("w", machine(2, facts.cuda())), registered("v"))
        world.given(PolicyChanged(timeouts="observed"))
        for number in range(25):
            labels = {"signature": rng.choice("xy"), "revision": "r"}
            world.given(task(f"t{number}", priority=rng.choice([0, 5, 1000]), labels=labels))
            if rng.random() < 0.3:
                world.given(PolicyChanged(parameters=some(rng, 4)))
            world.settle()
            for one in all_live(world):
                outcome: facts.Outcome = rng.choice(["passed", "failed", "faulted", "faulted"])
                end(world, one, outcome, rng.choice(FAULTS))
            world.settle()
            world.tick(rng.choice([0.0, 1e-6, 1.0, 1e4])).settle()
        invariants.check(world.cell)
        assert dump(load(dump(world.cell))) == dump(world.cell)
        report = await verify(Recording(world.journal), facts.CELL)
        assert (report.violations, report.doubts) == ([], []), seed


def test_a_snapshot_goes_on_with_the_parameters_that_were_in_force() -> None:
    def check(history: Sequence[Move]) -> None:
        cell = play(World().led(), history).cell
        again = load(dump(cell))

        assert (again.term, again.chosen) == (cell.term, cell.chosen)
        assert again.parameters == cell.parameters

    explore(anything_decided, check, cases=CASES // 5)


async def test_a_standby_has_the_state_of_the_leader_after_changes_under_load() -> None:
    stage = Stage()
    rng = Random(1)
    standby = Follower(stage.journal, Cell(facts.CELL))
    async with stage.led() as leader:
        await stage.say(registered("w", machine(3)), registered("v", machine(2)))
        for number in range(60):
            await stage.say(task(f"t{number}", priority=number % 7))
            if number % 20 == 10:
                await stage.say(PolicyChanged(parameters=some(rng, 10)))
            await stage.quiet()
            for one in (await stage.assigned())[-2:]:
                await stage.say(finished(one))
        await stage.quiet()
        await follow(standby, leader.cell.seq)

        assert standby.cell.parameters == leader.cell.parameters != CURRENT.parameters
        ours, theirs = load(dump(leader.cell)), load(dump(standby.cell))
        for cell in (ours, theirs):
            cell.wake(stage.clock.now() + 1e6)
        assert dump(ours) == dump(theirs)
    report = await verify(stage.journal, facts.CELL)
    assert (report.violations, report.doubts, len(report.policy_changes)) == ([], [], 3)


async def follow(follower: Follower, seq: int) -> None:
    """Fold up to a message."""
    async with asyncio.TaskGroup() as group:
        following = group.create_task(follower.run())
        await follower.reached(seq)
        following.cancel()
