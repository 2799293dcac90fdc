"""One decision: the fold ignores none of it, the same gives the same, one attempt at a time."""

from collections.abc import Sequence

from dtest.events.codec import fingerprint
from dtest.state.task import LIVE
from tests.kit.histories import Move, anything_decided, ordinary, play
from tests.kit.search import CASES, explore
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
        one, other = world.plan(), world.rules.decide(again, world.now)

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


def test_the_parts_of_a_decision_may_be_stored_in_any_order() -> None:
    def check(history: Sequence[Move]) -> None:
        forwards, backwards = (play(World().led(), history) for _ in range(2))
        ignored = dict(forwards.cell.ignored)
        draft = forwards.draft()
        forwards.enact(draft)
        backwards.cell.wake(backwards.now)
        backwards.enact(reversed(draft))

        assert dict(backwards.cell.ignored) == ignored
        assert standing(backwards) == standing(forwards)

    explore(anything_decided, check, cases=CASES // 2)


def standing(world: World) -> dict[str, tuple[object, ...]]:
    """Where every task is, and with whom."""
    return {
        name: (task.status, task.attempt, task.worker_id, task.devices, task.reason)
        for name, task in world.cell.tasks.items()
    }
