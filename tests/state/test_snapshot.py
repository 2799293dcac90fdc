"""A snapshot: the state as a document, from which the fold goes on as if it had never stopped."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import pytest

from dtest.errors import InvalidDocument
from dtest.leadership.decision import decide
from dtest.state import snapshot_form
from dtest.state.cell import Cell
from dtest.state.demand import Demand
from dtest.state.fold import apply_all
from dtest.state.snapshot import dump, load
from dtest.state.task import Run, Task
from dtest.state.worker import Worker
from tests.kit import facts, invariants
from tests.kit.histories import Move, anything, anything_decided, ordinary, play
from tests.kit.search import CASES, explore
from tests.kit.world import World, running


def through_json(cell: Cell) -> Cell:
    return load(dump(cell))


def changed(cell: Cell, change: dict[str, Any]) -> bytes:
    return json.dumps(json.loads(dump(cell)) | change).encode()


def test_a_fold_goes_on_from_a_snapshot_as_if_it_had_never_stopped() -> None:
    def check(history: Sequence[Move]) -> None:
        records = play(World().led(), history).history
        whole = dump(apply_all(Cell(facts.CELL), records))
        for cut in {0, len(records) // 3, len(records) // 2, len(records)}:
            first = apply_all(Cell(facts.CELL), records[:cut])
            assert dump(apply_all(through_json(first), records[cut:])) == whole

    explore(anything_decided, check, cases=CASES // 2)


def test_a_cell_that_time_woke_is_read_back_as_it_was_and_decides_the_same() -> None:
    def check(history: Sequence[Move]) -> None:
        world = play(World().led(), history)
        world.cell.wake(world.now)
        again = through_json(world.cell)
        invariants.check(again, devices=False)

        assert dump(again) == dump(world.cell)
        again.wake(world.now + 5)
        world.cell.wake(world.now + 5)
        ours = decide(world.cell, world.now + 5)
        assert decide(again, world.now + 5) == ours

    explore(anything_decided, check, cases=CASES // 2)


def test_a_leader_may_change_after_every_decision() -> None:
    def check(history: Sequence[Move]) -> None:
        stays = World().led()
        changes = World().led()
        for move in history:
            play(stays, [move])
            play(changes, [move])
            changes.cell = through_json(changes.cell)

        assert dump(changes.cell) == dump(stays.cell)

    explore(ordinary, check, cases=CASES // 5)


def test_indexes_are_built_again_and_not_stored() -> None:
    def check(history: Sequence[Move]) -> None:
        cell = play(World(), history).cell
        invariants.check(through_json(cell), devices=False)

    explore(anything, check, cases=CASES // 5)


def test_what_just_passed_is_told_in_columns() -> None:
    world = World().led().given(facts.registered("w", facts.machine(3)), facts.registered("v"))
    for name in ("a", "b", "c", "d"):
        world.given(facts.task(name, run_id="r"))
    ends: list[facts.Outcome] = ["passed", "failed", "passed", "passed"]
    for one, outcome in zip(world.assign(), ends, strict=True):
        world.given(facts.finished(one, outcome))
    document = json.loads(dump(world.cell))

    assert sorted(document["passed"]["id"]) == ["a", "c", "d"]
    assert [task["id"] for task in document["tasks"]] == ["b"]
    assert list(through_json(world.cell).tasks) == list(world.cell.tasks)


@pytest.mark.parametrize(
    "change",
    [{"version": 1}, {"version": 2}, {"version": "3"}, {"version": None}, {"format": "dtest.run"}],
)
def test_another_version_is_not_read(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument, match="version"):
        load(changed(World().cell, change))


def test_an_empty_document_is_not_read() -> None:
    with pytest.raises(InvalidDocument, match="damaged"):
        load(b"")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seq", "many"),
        ("tasks", [{}]),
        ("tasks", None),
        ("demands", []),
        ("runs", []),
        ("workers", 5),
        ("ended", {"vanished": 1}),
        ("passed", None),
        ("passed", {"id": ["t"]}),
    ],
)
def test_a_damaged_snapshot_is_refused_in_words(field: str, value: object) -> None:
    world = World().led().given(facts.registered("w"))
    running(world)

    with pytest.raises(InvalidDocument, match="snapshot"):
        load(changed(world.cell, {field: value}))


# What a snapshot leaves out, it leaves out on purpose: a new field makes one of these red.


def fields(shape: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(shape)}


@pytest.mark.parametrize(
    ("held", "stored", "rebuilt"),
    [
        (
            Cell,
            snapshot_form.CellDocument,
            {"ready", "free", "changed_tasks", "woken_at", "probes", "shut", "ailing", "enlarged"}
            | {"parameters", "conducted"},
        ),
        (Task, snapshot_form.TaskDocument, set()),
        (Worker, snapshot_form.WorkerDocument, {"free"}),
        (Run, snapshot_form.RunDocument, {"task_ids", "unfinished"}),
        (Demand, snapshot_form.DemandDocument, {"key", "queue", "servers", "unfinished"}),
    ],
)
def test_every_field_is_stored_or_built_again(
    held: type[Any], stored: type[Any], rebuilt: set[str]
) -> None:
    assert fields(held) - fields(stored) == rebuilt
