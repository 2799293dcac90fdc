"""One decision: the fold ignores none of it, the same gives the same, one attempt at a time."""

from collections.abc import Sequence

from dtest.events.codec import fingerprint
from dtest.leadership.decision import decide
from dtest.state.task import LIVE
from tests.kit.histories import Move, anything_decided, ordinary, play
from tests.kit.search import explore
from tests.kit.world import World, assignments


def test_a_decision_holds_nothing_that_the_fold_ignores_or_refuses() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World().led()
        for move in history:
            before = (dict(world.cell.ignored), len(world.cell.refusals))
            play(world, [move])
            if move == "decide":
                assert dict(world.cell.ignored) == before[0]
                assert len(world.cell.refusals) <= before[1]

    explore(anything_decided, check)


def test_deciding_comes_to_an_end() -> None:
    def check(history: Sequence[Move]) -> None:
        world = play(World().led(), history)
        world.settle()

    explore(anything_decided, check)


def test_equal_histories_and_instants_give_equal_decisions() -> None:
    def check(history: Sequence[Move]) -> None:
        world = play(World().led(), history)
        again = world.replayed()
        again.wake(world.now)
        one, other = world.plan(), decide(again, world.now, world.policy)

        assert list(one) == list(other)
        for place in one:
            assert sorted(map(fingerprint, one[place])) == sorted(map(fingerprint, other[place]))

    explore(anything_decided, check)


def test_no_decision_assigns_a_task_twice_or_one_that_is_live() -> None:
    def check(history: Sequence[Move]) -> None:
        world = World().led()
        for move in history:
            live = {name for name, task in world.cell.tasks.items() if task.status in LIVE}
            attempts = {name: task.attempt for name, task in world.cell.tasks.items()}
            if move != "decide":
                play(world, [move])
                continue
            assigned = assignments(world.step())
            names = [data.task_id for data in assigned]
            assert len(names) == len(set(names))
            assert not live & set(names)
            assert all(data.attempt == attempts[data.task_id] + 1 for data in assigned)

    explore(ordinary, check)
