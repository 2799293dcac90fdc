"""The fold takes every history: it never raises and its indexes stay true."""

from hypothesis import given, settings

from dtest.events.catalogue import PAYLOADS
from dtest.state.fold import apply
from tests.kit import histories, invariants
from tests.kit.histories import ANYTHING, ORDINARY, Move, moves, play
from tests.kit.world import World

MANY = settings().max_examples * 3


@settings(max_examples=MANY)
@given(moves(ANYTHING, decided=False))
def test_no_history_makes_the_fold_raise_or_its_indexes_lie(history: list[Move]) -> None:
    world = World()
    for move in history:
        play(world, [move])
        invariants.check(world.cell, devices=False)


@settings(max_examples=MANY)
@given(moves(ANYTHING, decided=True))
def test_the_passing_of_time_keeps_the_indexes_true(history: list[Move]) -> None:
    world = World().led()
    for move in history:
        play(world, [move])
        invariants.check(world.cell, devices=False)


@settings(max_examples=MANY)
@given(moves(ORDINARY, decided=True))
def test_what_is_decided_keeps_devices_apart(history: list[Move]) -> None:
    world = World().led()
    for move in history:
        play(world, [move])
        invariants.check(world.cell)


@given(moves(ANYTHING, decided=True))
def test_a_message_that_was_folded_before_changes_nothing(history: list[Move]) -> None:
    world = play(World().led(), history)
    before = (dict(world.cell.ignored), dict(world.cell.ended), len(world.cell.refusals))

    for record in world.history:
        apply(world.cell, record)

    assert (dict(world.cell.ignored), dict(world.cell.ended), len(world.cell.refusals)) == before


def test_these_histories_hold_every_event() -> None:
    strategies = (*histories.CLIENT, *histories.AGENT, *histories.SCHEDULER)

    assert len({repr(strategy) for strategy in strategies}) == len(PAYLOADS)
