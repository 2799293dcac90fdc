"""Taking tasks in: idempotent for ever, conflicts and unsound dependencies refused."""

from itertools import permutations

import pytest

from dtest.events.fields import RunId
from dtest.events.reasons import RefusalCode
from dtest.events.run import RunCancelRequested, RunOpened
from dtest.events.task import TaskQueued, TaskRetryRequested
from dtest.state.fold_task import DEFAULT_RUN
from dtest.state.task import Status
from tests.kit import facts
from tests.kit.facts import task
from tests.kit.world import World, running


def refused_tasks(world: World, message: tuple[TaskQueued, ...]) -> dict[str, RefusalCode]:
    """Record a batch; which of its tasks are to be refused, and why."""
    record = world.record(*message)
    return {
        message[pending.index].task_id: pending.code
        for pending in world.cell.refusals.values()
        if pending.seq == record.seq
    }


def test_a_task_without_dependencies_is_queued_at_once() -> None:
    assert World().given(task("t")).status("t") is Status.QUEUED


def test_the_same_task_again_changes_nothing_and_is_counted() -> None:
    world = World().given(task("t"), task("t"), task("t"))

    assert len(world.cell.tasks) == 1
    assert world.ignored() == {"task_known": 2}
    assert not world.to_refuse()


def test_the_same_task_twice_in_one_message_is_one_task() -> None:
    world = World()
    world.record(task("t"), task("u"), task("t"))

    assert list(world.cell.tasks) == ["t", "u"]
    assert world.ignored() == {"task_known": 1}


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_task_is_known_for_ever_after_it_ended(outcome: facts.Outcome) -> None:
    world = World().led().given(facts.registered("w"))
    one = running(world)
    world.given(facts.finished(one, outcome)).given(task("t"))

    assert world.status("t") == outcome
    assert world.ignored() == {"task_known": 1}


@pytest.mark.parametrize("ended", [False, True])
def test_another_content_under_a_known_id_is_refused(*, ended: bool) -> None:
    world = World().led().given(facts.registered("w"))
    one = running(world)
    if ended:
        world.given(facts.finished(one))

    world.record(task("t", priority=1))

    assert world.to_refuse() == [RefusalCode.TASK_CONFLICT]
    assert world.task("t").order == facts.START + 5 * 60


def test_another_content_in_the_same_message_is_refused_and_the_first_kept() -> None:
    world = World()

    assert refused_tasks(world, (task("t"), task("t", priority=1))) == {
        "t": RefusalCode.TASK_CONFLICT
    }
    assert world.task("t").spec == task("t")


def test_equal_content_written_differently_is_the_same() -> None:
    world = World().given(task("t", labels={"a": "1", "b": "2"}))
    world.given(task("t", labels={"b": "2", "a": "1"}))

    assert world.ignored() == {"task_known": 1}


def test_a_config_that_its_type_does_not_allow_is_refused() -> None:
    world = World()
    world.record(task("t", config={"command": []}))

    assert world.to_refuse() == [RefusalCode.INVALID_DATA]
    assert not world.cell.tasks


def test_a_task_that_was_refused_may_be_sent_again_mended() -> None:
    world = World().led()
    world.record(task("t", config={}))
    world.settle()
    world.given(task("t"))

    assert world.status("t") is Status.QUEUED


def test_a_task_of_an_unknown_type_is_kept_for_a_worker_that_announces_it() -> None:
    world = World().led().given(facts.registered("w"), task("t", type="bake", config={"x": 1}))
    assert not world.assign()
    world.given(facts.registered("v", facts.machine(task_types=("bake",))))

    assert [data.worker_id for data in world.assign()] == ["v"]


# -- runs -----------------------------------------------------------------------------------


def test_a_task_that_names_no_run_belongs_to_the_default_run() -> None:
    world = World().given(task("t"))

    assert world.task("t").run_id == DEFAULT_RUN
    assert world.cell.runs[DEFAULT_RUN].task_ids == ["t"]


def test_a_run_that_tasks_merely_name_gets_its_name_later() -> None:
    world = World().given(task("t", run_id="r"), RunOpened(RunId("r"), "nightly"))
    assert world.cell.runs[RunId("r")].name == "nightly"

    world.given(RunOpened(RunId("r"), "other"))
    assert world.cell.runs[RunId("r")].name == "nightly"
    assert world.ignored() == {"run_known": 1}


def test_cancelling_an_unknown_run_is_refused() -> None:
    world = World()
    world.record(RunCancelRequested(RunId("r")))

    assert world.to_refuse() == [RefusalCode.UNKNOWN_TASK]


# -- dependencies ---------------------------------------------------------------------------


def test_a_task_waits_for_its_dependencies() -> None:
    world = World().given(task("a"), task("b"), task("c", after=("a", "b")))

    assert world.status("c") is Status.BLOCKED
    assert world.task("c").waiting_on == {"a", "b"}


def test_a_dependency_that_nobody_knows_is_refused() -> None:
    world = World()
    world.record(task("b", after=("a",)))

    assert world.to_refuse() == [RefusalCode.UNKNOWN_DEPENDENCY]
    assert not world.cell.tasks


@pytest.mark.parametrize("order", list(permutations("abcd")))
def test_tasks_of_one_message_may_depend_on_each_other_in_any_order(
    order: tuple[str, ...],
) -> None:
    diamond = {
        "a": task("a"),
        "b": task("b", after=("a",)),
        "c": task("c", after=("a",)),
        "d": task("d", after=("b", "c")),
    }
    world = World()

    assert refused_tasks(world, tuple(diamond[name] for name in order)) == {}
    assert {name: world.status(name) for name in "abcd"} == {
        "a": Status.QUEUED,
        "b": Status.BLOCKED,
        "c": Status.BLOCKED,
        "d": Status.BLOCKED,
    }


@pytest.mark.parametrize("order", list(permutations("abcx")))
def test_a_cycle_is_refused_with_what_rests_on_it_and_nothing_else(order: tuple[str, ...]) -> None:
    tasks = {
        "a": task("a", after=("b",)),
        "b": task("b", after=("a",)),
        "c": task("c", after=("b",)),
        "x": task("x"),
    }
    world = World()

    assert refused_tasks(world, tuple(tasks[name] for name in order)) == {
        "a": RefusalCode.DEPENDENCY_CYCLE,
        "b": RefusalCode.DEPENDENCY_CYCLE,
        "c": RefusalCode.UNKNOWN_DEPENDENCY,
    }
    assert list(world.cell.tasks) == ["x"]


def test_a_task_that_depends_on_itself_is_a_cycle() -> None:
    assert refused_tasks(World(), (task("a", after=("a",)),)) == {"a": RefusalCode.DEPENDENCY_CYCLE}


def test_what_depends_on_a_refused_task_is_refused() -> None:
    message = (
        task("a", config={"command": 5}),
        task("b", after=("a",)),
        task("c", after=("b",)),
        task("d"),
    )

    assert refused_tasks(World(), message) == {
        "a": RefusalCode.INVALID_DATA,
        "b": RefusalCode.UNKNOWN_DEPENDENCY,
        "c": RefusalCode.UNKNOWN_DEPENDENCY,
    }


def test_dependencies_do_not_reach_forward_into_later_messages() -> None:
    world = World()
    world.record(task("b", after=("a",)))
    world.given(task("a"))

    assert list(world.cell.tasks) == ["a"]


def test_a_long_chain_in_one_message_is_taken_in() -> None:
    chain = [task("t0"), *(task(f"t{n}", after=(f"t{n - 1}",)) for n in range(1, 500))]
    world = World()
    world.record(*reversed(chain))

    assert len(world.cell.tasks) == 500
    assert not world.to_refuse()


def test_a_dependency_named_twice_is_waited_for_once() -> None:
    world = World().led().given(facts.registered("w"), task("a"), task("b", after=("a", "a")))
    world.given(facts.finished(world.assign()[0]))

    assert world.status("b") is Status.QUEUED


@pytest.mark.parametrize(
    ("rule", "outcome", "expected"),
    [
        ("all_passed", "passed", Status.QUEUED),
        ("all_finished", "passed", Status.QUEUED),
        ("all_passed", "failed", Status.SKIPPED),
        ("all_finished", "failed", Status.QUEUED),
    ],
)
@pytest.mark.parametrize("submitted", ["before", "after"])
def test_the_end_of_a_dependency_releases_or_skips_by_the_rule(
    rule: str, outcome: facts.Outcome, expected: Status, submitted: str
) -> None:
    world = World().led().given(facts.registered("w", facts.machine()))
    one = running(world, "a")
    dependent = task("b", after=("a",), dependency_rule=rule)
    if submitted == "before":
        world.given(dependent, facts.finished(one, outcome))
    else:
        world.given(facts.finished(one, outcome), dependent)
    if expected is Status.SKIPPED:
        world.settle()

    assert world.status("b") is expected


def test_a_skip_names_the_dependency_and_goes_on_down_the_graph() -> None:
    world = World().led().given(facts.registered("w"))
    one = running(world, "a")
    world.record(task("b", after=("a",)), task("c", after=("b",)), task("d", after=("c",)))
    world.record(task("e", after=("d",), dependency_rule="all_finished"))

    world.given(facts.finished(one, "failed"))
    assert [data.task_id for data in world.assign()] == ["e"]

    assert {name: world.status(name) for name in "bcd"} == dict.fromkeys("bcd", Status.SKIPPED)
    assert [world.task(name).upstream for name in "bcd"] == ["a", "b", "c"]


def test_a_task_that_can_never_run_is_not_released_by_its_other_dependencies() -> None:
    world = World().led().given(facts.registered("w", facts.machine(2)))
    failing, passing = running(world, "a"), running(world, "b")
    world.given(facts.finished(failing, "failed"))
    world.given(task("c", after=("a", "b")), facts.finished(passing))

    assert world.status("c") is Status.BLOCKED
    assert not world.assign()
    assert world.status("c") is Status.SKIPPED


def test_a_retry_by_hand_of_a_dependency_does_not_revive_what_was_skipped() -> None:
    world = World().led().given(facts.registered("w"))
    one = running(world, "a")
    world.given(task("b", after=("a",)), facts.finished(one, "failed"))
    world.settle()
    world.given(TaskRetryRequested(facts.task("a").task_id))
    (again,) = world.assign()
    world.given(facts.finished(again))
    world.settle()

    assert world.status("a") is Status.PASSED
    assert world.status("b") is Status.SKIPPED
