"""The fold takes every history: it never raises and its indexes stay true."""

from collections.abc import Sequence

from dtest.events.catalogue import PAYLOADS
from dtest.state.fold import apply
from tests.kit import invariants
from tests.kit.histories import MAKERS, Move, anything, anything_decided, ordinary, play
from tests.kit.search import explore
from tests.kit.world import World


def test_no_history_makes_the_fold_raise_or_its_indexes_lie() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World()
        for move in history:
            play(world, [move])
            invariants.check(world.cell, devices=False)

    explore(anything, check)


def test_the_passing_of_time_keeps_the_indexes_true() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World().led()
        for move in history:
            play(world, [move])
            invariants.check(world.cell, devices=False)

    explore(anything_decided, check)


def test_what_is_decided_keeps_devices_apart() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World().led()
        for move in history:
            play(world, [move])
            invariants.check(world.cell)

    explore(ordinary, check)


def test_a_message_that_was_folded_before_changes_nothing() -> None:
    def check(history: Sequence[Move]) -> None:
        world = play(World().led(), history)
        cell = world.cell
        before = (dict(cell.ignored), dict(cell.ended), list(cell.refusals), cell.seq)
        for record in world.history:
            apply(cell, record)

        assert (dict(cell.ignored), dict(cell.ended), list(cell.refusals), cell.seq) == before

    explore(anything_decided, check, cases=100)


def test_these_histories_hold_every_event() -> None:
    assert {payload.TYPE for payload in MAKERS} == set(PAYLOADS)
