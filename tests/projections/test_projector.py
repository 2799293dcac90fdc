"""The projector: however a history arrives, its database is the same, and it is the fold's."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dtest.errors import Unavailable
from dtest.events.fields import RunId, TaskId
from dtest.events.reasons import Reason
from dtest.events.task import TaskRetryScheduled
from dtest.journal.port import Stored
from dtest.projections.store import Progress, Store, opened
from dtest.state.cell import Cell
from dtest.state.fold import apply_all
from dtest.state.task import LIVE, TERMINAL, Task
from tests.kit.world import World
from tests.projections.history import (
    CREATED,
    EPOCH,
    STREAM,
    Delivery,
    History,
    database_of,
    in_batches,
    project,
    records,
    tables,
)
from tests.projections.story import Story

STEPS = 90
SEEDS = range(3, 5)
SEEDS_SLOW = range(100, 120)
TASKS = """
SELECT task_id, run_id, status, reason, attempt, worker_id, hardware, epoch_us(since) AS since,
    epoch_us(queued_at) AS queued_at, flaky, upstream, seq
FROM tasks ORDER BY task_id
"""
WORKERS = "SELECT worker_id, status, incarnation, evidence, running FROM workers"
RUNS = "SELECT run_id, name, tasks, running + waiting AS unfinished FROM run_summary"


@pytest.fixture(scope="module")
def stories() -> dict[int, World]:
    """Each told once."""
    return {seed: Story(seed).tell(STEPS) for seed in SEEDS}


def cuts(stored: Sequence[Stored], seed: int) -> list[int]:
    """Batch sizes at random."""
    luck = random.Random(seed)
    return [luck.choice([1, 2, 3, 10, 40]) for _ in stored]


# -- the same database, whatever the way ----------------------------------------------------------


def test_a_story_has_everything_in_it(stories: dict[int, World]) -> None:
    seen = [event for world in stories.values() for item in world.history for event in item.events]
    types = {getattr(event, "type", "malformed") for event in seen}
    statuses = {task.status for world in stories.values() for task in world.cell.tasks.values()}

    assert {"worker.lost", "attempt.released", "task.retry_scheduled", "malformed"} <= types
    assert statuses >= TERMINAL - {"expired", "errored"}
    assert any(task.attempt > 1 for world in stories.values() for task in world.cell.tasks.values())


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_database_does_not_depend_on_the_batches(
    tmp_path: Path, stories: dict[int, World], seed: int
) -> None:
    stored = stories[seed].journal
    expected = await database_of(tmp_path / "at-once", stored, len(stored))

    assert await database_of(tmp_path / "random", stored, *cuts(stored, seed)) == expected
    assert await database_of(tmp_path / "few", stored, 1 + seed) == expected


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_stream_that_is_delivered_again_and_again_changes_nothing(
    tmp_path: Path, stories: dict[int, World], seed: int
) -> None:
    stored = stories[seed].journal
    expected = await database_of(tmp_path / "expected", stored)
    luck = random.Random(seed)
    again: list[list[Stored]] = []
    for batch in in_batches(stored, 17):
        twice = [item for item in batch for _ in range(luck.choice([1, 1, 3]))]
        again += [twice, *luck.sample(again, min(len(again), 2)), twice]
    again += again[:3]

    with opened(tmp_path / "again") as store:
        await project(store, Delivery(again), until=len(stored) + 1)

        assert tables(store) == expected


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_projector_that_stops_anywhere_goes_on_where_it_stood(
    tmp_path: Path, stories: dict[int, World], seed: int
) -> None:
    stored = stories[seed].journal
    expected = await database_of(tmp_path / "expected", stored)
    stops = sorted(random.Random(seed).sample(range(1, len(stored)), 12))

    for stop in [*stops, len(stored)]:
        with opened(tmp_path / "stopped") as store:
            after = store.progress(STREAM)
            start = after.seq if after is not None else 0
            batches = [stored[:start], *in_batches(stored[start:stop], *cuts(stored, stop))]
            projector = await project(store, Delivery(batches))
            assert projector.seq == stop
            assert projector.rows.cell.seq == stop

    with opened(tmp_path / "stopped") as store:
        assert tables(store) == expected


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_projector_that_is_to_stop_in_the_middle_of_a_batch_reads_nothing_beyond(
    tmp_path: Path, stories: dict[int, World], seed: int
) -> None:
    stored = stories[seed].journal
    whole = Delivery([stored])
    for stop in random.Random(seed).sample(range(1, len(stored)), 3):
        expected = await database_of(tmp_path / f"expected-{stop}", stored[:stop])
        with opened(tmp_path / f"cut-{stop}") as store:
            projector = await project(store, whole, until=stop)

            assert (projector.seq, projector.rows.cell.seq) == (stop, stop)
            assert tables(store) == expected
            await projector.run(until=len(stored))
            assert projector.seq == len(stored)


async def test_a_stop_after_each_single_message_loses_nothing(
    tmp_path: Path, history: History
) -> None:
    history.open("run-1", "nightly", branch="main")
    history.queue("t1", retries=1)
    history.assign("t1", 1, "w1")
    history.start("t1", 1, "w1")
    history.say(history.case("t1", 1, "w1", 1))
    history.lose("w1")
    history.say(TaskRetryScheduled(TaskId("t1"), 1, EPOCH, Reason.WORKER_LOST, "infrastructure"))
    history.assign("t1", 2, "w2")
    history.finish("t1", 1, "w1", "failed")
    history.finish("t1", 2, "w2")
    expected = await database_of(tmp_path / "expected", history.stored)

    for stop in range(1, history.last + 1):
        with opened(tmp_path / "stopped") as store:
            await project(store, Delivery(in_batches(history.stored, 1)), until=stop)

    with opened(tmp_path / "stopped") as store:
        assert tables(store) == expected


# -- the leader's own fold ------------------------------------------------------------------------


def facts_of(task: Task) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "run_id": task.run_id,
        "status": str(task.status),
        "reason": str(task.reason) if task.reason is not None else None,
        "attempt": task.attempt,
        "worker_id": task.worker_id,
        "hardware": task.hardware or None,
        "since": round(task.since * 1e6),
        "queued_at": round(task.queued_at * 1e6),
        "flaky": task.flaky,
        "upstream": task.upstream,
        "seq": task.seq,
    }


def check_against(store: Store, cell: Cell) -> None:
    """Every figure that both have is the same in both."""
    tasks = records(store, TASKS)
    assert tasks == [facts_of(cell.tasks[name]) for name in sorted(cell.tasks)]
    check_attempts(store, cell)
    workers = records(store, WORKERS)
    assert {tuple(row.values()) for row in workers} == {
        (w.id, str(w.status), w.incarnation, w.evidence, len(w.running))
        for w in cell.workers.values()
    }
    runs = records(store, RUNS)
    assert {tuple(row.values()) for row in runs} == {
        (run.id, run.name or run.id, len(run.task_ids), run.unfinished)
        for run in cell.runs.values()
    }
    (counted,) = records(store, "SELECT count(refusal) AS refused, max(seq) AS seq FROM events")
    assert counted == {"refused": cell.refused + len(cell.refusals), "seq": cell.seq}


def check_attempts(store: Store, cell: Cell) -> None:
    """One row for each attempt; only the last of a live task is live."""
    attempts = records(store, "SELECT * FROM attempts ORDER BY task_id, attempt")
    by_task: dict[str, list[dict[str, Any]]] = {}
    for row in attempts:
        by_task.setdefault(row["task_id"], []).append(row)
    for task in cell.tasks.values():
        rows = by_task.pop(task.id, [])
        assert [row["attempt"] for row in rows] == list(range(1, task.attempt + 1))
        ended = {"passed", "failed", "faulted", "cancelled", "released", "returned"}
        assert all(row["status"] in ended for row in rows[:-1])
        if rows and task.status in LIVE:
            assert rows[-1]["status"] == str(task.status)
            assert rows[-1]["worker_id"] == task.worker_id
        elif rows:
            assert rows[-1]["status"] in ended
        if task.status == "passed":
            assert rows[-1]["status"] == "passed"
            assert all(row["status"] != "passed" for row in rows[:-1])
        assert all(row["reason"] for row in rows if row["status"] not in {"passed", *LIVE})
    assert by_task == {}


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_projection_says_what_the_leader_folds(
    tmp_path: Path, stories: dict[int, World], seed: int
) -> None:
    world = stories[seed]
    half = len(world.journal) // 2

    with opened(tmp_path / "read-model") as store:
        for end in (half, len(world.journal)):
            await project(store, Delivery(in_batches(world.journal[:end], *cuts(world.journal, 1))))
            cell = Cell(world.cell.id)
            check_against(store, apply_all(cell, world.history[:end]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS_SLOW)
async def test_many_stories_are_projected_as_they_are_folded(tmp_path: Path, seed: int) -> None:
    world = Story(seed).tell(1_000)
    stored = world.journal
    expected = await database_of(tmp_path / "at-once", stored)

    with opened(tmp_path / "random") as store:
        await project(store, Delivery(in_batches(stored, *cuts(stored, seed))))
        check_against(store, world.replayed())
        assert tables(store) == expected


# -- files of other streams -----------------------------------------------------------------------


async def test_the_file_of_another_stream_is_made_anew(tmp_path: Path, history: History) -> None:
    other = History()
    other.elect("somebody-else")
    history.queue("t1")
    expected = await database_of(tmp_path / "expected", history.stored)

    with opened(tmp_path / "read-model") as store:
        await project(store, Delivery([other.stored], created="2020-01-01T00:00:00Z"))
        await project(store, Delivery([history.stored]))

        assert tables(store) == expected
        assert store.progress(STREAM) == Progress(CREATED, history.last)


async def test_a_file_that_is_ahead_of_its_journal_is_made_anew(
    tmp_path: Path, history: History
) -> None:
    shorter = history.stored[:2]
    expected = await database_of(tmp_path / "expected", shorter)
    history.queue("t1")

    with opened(tmp_path / "read-model") as store:
        await project(store, Delivery([history.stored]))
        await project(store, Delivery([shorter]))

        assert tables(store) == expected


async def test_a_damaged_file_is_filled_again(tmp_path: Path, history: History) -> None:
    path = tmp_path / "read-model"
    history.queue("t1")
    expected = await database_of(path, history.stored)
    path.write_bytes(path.read_bytes()[:10_000])

    assert await database_of(path, history.stored) == expected


async def test_an_empty_journal_is_projected_at_once(store: Store) -> None:
    projector = await project(store, Delivery([]))

    assert projector.seq == 0
    assert store.progress(STREAM) is None


# -- waiting --------------------------------------------------------------------------------------


async def test_what_is_projected_is_reached_without_waiting(store: Store, history: History) -> None:
    projector = await project(store, Delivery([history.stored]))

    assert await projector.reached(history.last, wait_s=0.0)
    assert not await projector.reached(history.last + 1, wait_s=0.0)


async def test_the_end_of_a_run_is_waited_for(store: Store) -> None:
    told = History()
    told.elect()
    told.join("w")
    told.queue("a", run_id="r")
    told.assign("a", 1, "w")
    running = told.last
    told.finish("a", 1, "w")
    delivery = Delivery([told.stored[:-1], told.stored[-1:]])
    projector = await project(store, delivery, until=running)
    assert not await projector.run_ended(RunId("r"), wait_s=0.0)
    assert not await projector.run_ended(RunId("nobody"), wait_s=0.0)

    async with asyncio.timeout(20.0), asyncio.TaskGroup() as group:
        ended = group.create_task(projector.run_ended(RunId("r"), wait_s=60.0))
        await projector.run(until=told.last)

    assert ended.result()
    assert await projector.run_ended(RunId("r"), wait_s=0.0)


async def test_a_projector_whose_write_failed_does_not_go_on(
    store: Store, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fold is ahead of the file: the rows in between would be missing for ever."""
    projector = await project(store, Delivery([history.stored]), until=0)

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", broken)
        with pytest.raises(OSError, match="No space"):
            await projector.run(until=history.last)

    with pytest.raises(Unavailable):
        await projector.run(until=history.last)
    assert store.progress(STREAM) is None
