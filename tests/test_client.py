"""What a client says: task documents read strictly, submissions placed and repeatable."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest import client
from dtest.client import Client, Placed, event_ids, parse_tasks
from dtest.errors import InvalidDocument, JournalFull
from dtest.events import codec
from dtest.events.config import config_fault
from dtest.events.fields import RunId, TaskId
from dtest.events.run import RunOpened
from dtest.events.task import TaskQueued
from dtest.journal.memory import MemoryJournal
from dtest.state.cell import Cell
from dtest.state.fold import apply
from tests.kit import facts
from tests.kit.payloads import of
from tests.kit.stage import Stage
from tests.kit.world import World

COMMAND: dict[str, Any] = {"type": "command", "config": {"command": ["true"]}}
ODD: dict[Any, Any] = {5: "x", None: 1}


def parsed(*documents: object, **more: Any) -> list[TaskQueued]:
    return parse_tasks(documents, new_id=lambda: "made-up", **more)


def test_a_document_becomes_a_task() -> None:
    document = {
        **COMMAND,
        "task_id": "t",
        "priority": 1,
        "requirements": {"hardware": ["cuda", "rocm"], "min_memory_gb": 8},
        "resources": {"slots": 2},
        "retry_policy": {"max_retries": 3, "retry_delay_seconds": 60},
        "dependencies": ["a"],
        "timeout_seconds": 1800,
        "deadline": "2026-11-23T06:00:00Z",
    }

    (task,) = parsed(document)

    assert (task.task_id, task.priority, task.timeout_seconds) == ("t", 1, 1800.0)
    assert task.requirements.hardware == ("cuda", "rocm")
    assert task.dependencies == ("a",)
    assert task.deadline is not None


@given(of(TaskQueued))
def test_every_task_is_read_back_from_its_own_document(task: TaskQueued) -> None:
    if task.type in {"command", "test"}:
        return
    if config_fault(task.type, task.config, task.fallback_config) is not None:
        task = dataclasses.replace(task, fallback_config={"a smaller": "variant"})
    event = json.loads(codec.encode([World().event(task)]))

    assert parse_tasks([event["data"]], new_id=str) == [task]


def test_a_task_without_id_gets_one() -> None:
    assert [task.task_id for task in parsed(COMMAND)] == ["made-up"]


def test_a_key_gives_the_same_ids_again_and_another_key_others() -> None:
    first = [task.task_id for task in parsed(COMMAND, COMMAND, idempotency_key="k")]
    again = [task.task_id for task in parsed(COMMAND, COMMAND, idempotency_key="k")]
    other = [task.task_id for task in parsed(COMMAND, COMMAND, idempotency_key="l")]

    assert first == again
    assert len({*first, *other}) == 4


def test_the_run_of_the_submission_is_that_of_tasks_that_name_none() -> None:
    tasks = parsed(COMMAND, {**COMMAND, "run_id": "own"}, run_id=RunId("r"))

    assert [task.run_id for task in tasks] == ["r", "own"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({**COMMAND, "task_id": "t", "prioritty": 1}, ["task t", "unknown field 'prioritty'"]),
        (
            {**COMMAND, "task_id": "t", "requirements": {"hardwear": []}},
            ["task t: requirements", "unknown field 'hardwear'"],
        ),
        (
            {**COMMAND, "task_id": "t", "resources": {"gpus": 1}},
            ["task t: resources", "unknown field 'gpus'"],
        ),
        (
            {**COMMAND, "task_id": "t", "retry_policy": {"retries": 1}},
            ["task t: retry_policy", "unknown field 'retries'"],
        ),
        (
            {**COMMAND, "task_id": "t", "config": {"command": ["x"], "timeout": 5}},
            ["task t: config", "unknown field 'timeout'"],
        ),
        (
            {**COMMAND, "config": {"command": ["x"], "simulate": {"second": 5}}, "task_id": "t"},
            ["task t: config.simulate", "unknown field 'second'"],
        ),
        ({**COMMAND, "task_id": "t", "priority": "high"}, ["task t", "priority", "integer"]),
        ({**COMMAND, "task_id": "t", "timeout_seconds": "60"}, ["task t", "timeout_seconds"]),
        ({**COMMAND, "task_id": "t", "timeout_seconds": -1}, ["task t", "timeout_seconds"]),
        ({**COMMAND, "task_id": "two words"}, ["task two words", "task_id"]),
        ({**COMMAND, "task_id": "t", "dependencies": "a"}, ["task t", "dependencies"]),
        ({**COMMAND, "task_id": "t", "deadline": "soon"}, ["task t", "deadline"]),
        ({"task_id": "t", "config": {}}, ["task t", "type"]),
        ({"task_id": "t", "type": "command"}, ["task t", "config.command"]),
        ({"task_id": "t", "type": "test", "config": {"paths": ["x"]}}, ["task t", "config.cwd"]),
        (COMMAND | ODD, ["unknown field '5'"]),
        ({**COMMAND, "task_id": "t", "config": {"command": ["x"], "big": 2**70}}, ["config"]),
        ("a task", ["task 0", "expected an object, got str"]),
        (None, ["task 0", "expected an object, got NoneType"]),
    ],
)
def test_what_is_wrong_is_named_with_its_task(document: object, words: list[str]) -> None:
    with pytest.raises(InvalidDocument) as caught:
        parsed(document)

    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_document_that_cannot_be_written_is_refused_and_not_looked_at_closer() -> None:
    deep: dict[str, object] = {}
    for _ in range(300):
        deep = {"a": deep}
    with pytest.raises(InvalidDocument, match="fallback_config"):
        parsed({**COMMAND, "task_id": "t", "fallback_config": deep})


def test_of_many_problems_the_first_are_told() -> None:
    config = {"cwd": "/x", "paths": [1] * 50_000}
    with pytest.raises(InvalidDocument, match=r"and \d+ more$") as caught:
        parsed({"type": "test", "task_id": "t", "config": config})

    assert len(caught.value.message) < 5_000


def test_other_names_hold_in_the_smaller_variant_too() -> None:
    config = {"cwd": "/x", "test_file": "a", "test_args": ["-x"]}
    (task,) = parsed({"type": "test", "config": config, "fallback_config": {"test_file": "b"}})

    assert task.config == {"cwd": "/x", "paths": ["a"], "args": ["-x"]}
    assert task.fallback_config == {"paths": ["b"]}


def test_the_place_names_a_task_that_has_no_id_yet() -> None:
    with pytest.raises(InvalidDocument, match="task 1: expected an object"):
        parsed(COMMAND, 5)


def test_an_unknown_field_comes_with_those_that_are_known() -> None:
    with pytest.raises(InvalidDocument) as caught:
        parsed({**COMMAND, "x": 1})

    assert "priority" in caught.value.hint


def test_a_submission_holds_at_least_one_task() -> None:
    with pytest.raises(InvalidDocument, match="no task"):
        parsed()


def test_a_submission_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TASKS_MAX", 2)

    assert len(parsed(COMMAND, COMMAND)) == 2
    with pytest.raises(InvalidDocument, match="at most 2"):
        parsed(COMMAND, COMMAND, COMMAND)


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_no_document_is_an_error_of_another_kind(document: object) -> None:
    with pytest.raises(InvalidDocument):
        parsed(document)


# -- saying ---------------------------------------------------------------------------------


def talking() -> tuple[Stage, Client]:
    stage = Stage()
    return stage, Client(
        stage.journal,
        cell=facts.CELL,
        client_id=facts.CLIENT,
        now=stage.clock.now,
        new_id=stage.new_id,
    )


async def test_a_client_says_one_thing() -> None:
    stage, someone = talking()

    assert await someone.say([RunOpened(RunId("r"))]) == [Placed(1, 0)]
    assert await stage.written(RunOpened) == [RunOpened(RunId("r"))]


@pytest.mark.parametrize("count", [1, 2, 999, 1_000, 1_001, 2_500])
async def test_each_task_of_a_submission_knows_its_place(count: int) -> None:
    stage, someone = talking()
    tasks = [facts.task(f"t{n}") for n in range(count)]

    placed = await someone.say(tasks)

    records = {record.seq: record for record in await stage.records()}
    assert [records[place.seq].events[place.index].data for place in placed] == tasks  # type: ignore[union-attr]


async def test_the_same_ids_again_store_nothing_again() -> None:
    stage, someone = talking()
    tasks = [facts.task(f"t{n}") for n in range(1_500)]
    ids = event_ids("key", len(tasks))

    first = await someone.say(tasks, ids=ids)
    again = await someone.say(tasks, ids=ids)

    assert first == again
    assert (await stage.journal.bounds()).last == 2
    assert event_ids(None, 3) is None


async def test_large_tasks_are_split_by_size() -> None:
    stage, someone = talking()
    config = {"command": ["x" * 120_000] * 4}
    tasks = [facts.task(f"t{n}", config=config) for n in range(7)]

    placed = await someone.say(tasks)

    assert [place.index for place in placed] == [0, 1, 0, 1, 0, 1, 0]
    cell = Cell(facts.CELL)
    for record in await stage.records():
        apply(cell, record)
    assert list(cell.tasks) == [f"t{n}" for n in range(7)]


async def test_a_task_that_fits_in_no_message_is_refused_before_anything_is_stored() -> None:
    stage, someone = talking()
    names = tuple(TaskId(f"{n:0100}") for n in range(10_000))
    huge = TaskQueued(TaskId("huge"), "x", {"x": "y" * 100_000}, dependencies=names)

    with pytest.raises(InvalidDocument, match="huge"):
        await someone.say([facts.task("t"), huge])

    assert (await stage.journal.bounds()).last == 0


async def test_a_full_journal_is_no_silent_loss() -> None:
    someone = Client(
        MemoryJournal(clock=lambda: 0.0, messages_max=1),
        cell=facts.CELL,
        client_id=facts.CLIENT,
        now=lambda: 0.0,
        new_id=iter("abc").__next__,
    )
    await someone.say([facts.task("a")])

    with pytest.raises(JournalFull):
        await someone.say([facts.task("b")])
