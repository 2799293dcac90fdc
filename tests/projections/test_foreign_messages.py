"""Whatever anybody writes into the journal, each message gets its rows and stops nobody."""

from datetime import datetime, timedelta, timezone
from typing import Any

import orjson
import pytest

from dtest.events.attempt import AttemptFinished
from dtest.events.fields import TaskId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.worker import Capability, WorkerRegistered
from dtest.projections.rows import RAW_CHARS_MAX
from dtest.projections.store import Store
from tests.projections.history import (
    EPOCH,
    STREAM,
    Delivery,
    History,
    in_batches,
    project,
    records,
    task,
)

QUEUE = "dtest.main.client.tests.task.queued"
ENVELOPE = {
    "specversion": "1.0",
    "id": "foreign",
    "source": "/dtest/main/client/tests",
    "type": "dev.dtest.task.queued.v1",
    "time": "2026-11-01T00:00:00Z",
}
TASK = {"task_id": "foreign", "type": "command", "config": {"command": ["true"]}}
WHOLE = {**ENVELOPE, "data": TASK}


def nested(depth: int, inside: bytes = b"") -> bytes:
    return b"[" * depth + inside + b"]" * depth


def with_config(config: bytes) -> bytes:
    """A task of a type that only a plugin knows, so that its config is passed through."""
    marked = {**ENVELOPE, "data": {**TASK, "type": "plugin", "config": "HERE"}}
    return orjson.dumps(marked).replace(b'"HERE"', config)


NO_EVENT: dict[str, tuple[str, bytes]] = {
    "empty": (QUEUE, b""),
    "no-json": (QUEUE, b"{"),
    "no-utf8": (QUEUE, b"\xff\xfe\x00" + b'{"a":1}'),
    "nul-bytes": (QUEUE, b"\x00" * 100),
    "lone-surrogate": (QUEUE, rb'{"type": "\ud800"}'),
    "nan": (QUEUE, b'{"type": NaN}'),
    "infinity": (QUEUE, b"[1e999]"),
    "number": (QUEUE, b"7"),
    "null": (QUEUE, b"null"),
    "empty-object": (QUEUE, b"{}"),
    "empty-array": (QUEUE, b"[]"),
    "array-of-numbers": (QUEUE, b"[1]"),
    "nested-so-that-it-cannot-be-written-again": (QUEUE, nested(1000)),
    "nested-so-that-it-cannot-be-read": (QUEUE, nested(100_000)),
    "nested-data": (QUEUE, b'{"data": ' + nested(600) + b"}"),
    "too-large": (QUEUE, orjson.dumps({**WHOLE, "filling": "x" * 2_000_000})),
    "too-many": (QUEUE, orjson.dumps([WHOLE] * 1_001)),
    "unknown-type": (QUEUE, orjson.dumps({**WHOLE, "type": "dev.dtest.task.eaten.v1"})),
    "future-version": (QUEUE, orjson.dumps({**WHOLE, "type": "dev.dtest.task.queued.v9999"})),
    "type-is-a-list": (QUEUE, orjson.dumps({**WHOLE, "type": ["x"]})),
    "id-is-a-number": (QUEUE, orjson.dumps({**WHOLE, "id": 1})),
    "data-is-null": (QUEUE, orjson.dumps({**WHOLE, "data": None})),
    "forged-source": (QUEUE, orjson.dumps({**WHOLE, "source": "/dtest/main/agent/w1"})),
    "no-zone": (QUEUE, orjson.dumps({**WHOLE, "time": "2026-11-01T00:00:00"})),
    "on-the-leaders-subject": ("dtest.main.scheduler.decided", orjson.dumps(WHOLE)),
    "on-no-subject": ("dtest.main.client.x", orjson.dumps(WHOLE)),
}
UNUSUAL: dict[str, bytes] = {
    "before-all-calendars": orjson.dumps({**WHOLE, "time": "0001-01-01T00:00:00+23:59"}),
    "after-all-calendars": orjson.dumps({**WHOLE, "time": "9999-12-31T23:59:59-23:59"}),
    "nul-in-names": orjson.dumps({**WHOLE, "id": "a\0b", "data": {**TASK, "name": "a\0b"}}),
    "unicode": orjson.dumps({**WHOLE, "id": "ü🧪", "data": {**TASK, "name": "\U0010ffff"}}),
    "deep-config": with_config(b'{"a": ' + nested(500) + b"}"),
    "large-numbers": with_config(b'{"a": 18446744073709551616, "b": 18446744073709551615}'),
    "large-config": with_config(orjson.dumps({"a": "x" * 500_000})),
}


@pytest.mark.parametrize("name", NO_EVENT)
async def test_what_is_no_event_has_one_row_with_the_reason(
    store: Store, history: History, name: str
) -> None:
    seq = history.raw(*NO_EVENT[name])
    after = history.queue("t1")

    await project(store, Delivery([history.stored]))

    (row,) = records(store, "SELECT * FROM events WHERE seq = ?", seq)
    assert row["refusal"]
    assert (row["id"], row["type"], row["entity"]) == (None, None, None)
    assert records(store, "SELECT task_id FROM tasks") == [{"task_id": "t1"}]
    progress = store.progress(STREAM)
    assert progress is not None
    assert progress.seq == after


@pytest.mark.parametrize("name", UNUSUAL)
async def test_an_unusual_event_has_its_row(store: Store, history: History, name: str) -> None:
    """Whether it is accepted is the codec's matter."""
    seq = history.raw(QUEUE, UNUSUAL[name])
    history.queue("t1")

    await project(store, Delivery([history.stored]))

    (row,) = records(store, "SELECT * FROM events WHERE seq = ?", seq)
    assert (row["refusal"] is None) == (row["type"] == "task.queued")
    assert 0 < len(row["data"]) <= RAW_CHARS_MAX
    tasks = records(store, "SELECT task_id, document FROM tasks WHERE task_id = 'foreign'")
    assert len(tasks) == (row["refusal"] is None)
    assert all(orjson.loads(found["document"])["task_id"] == "foreign" for found in tasks)


async def test_a_batch_of_good_and_bad_events_has_a_row_for_each(
    store: Store, history: History
) -> None:
    bad: list[Any] = [1, None, {}, {**WHOLE, "type": "x"}]
    seq = history.raw(QUEUE, orjson.dumps([WHOLE, *bad]))

    await project(store, Delivery([history.stored]))

    rows = records(store, "SELECT idx, id, refusal FROM events WHERE seq = ? ORDER BY idx", seq)
    assert [row["idx"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["refusal"] is None for row in rows] == [True, False, False, False, False]


@pytest.mark.parametrize("number", [-(2**63), 2**31, 2**32 + 5, 2**63 - 1, 2**64 - 1])
async def test_no_number_stops_the_projector(store: Store, history: History, number: int) -> None:
    """Whether they are accepted is the codec's matter."""
    at = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=12)))
    history.say(LeaderElected("lead-2", number))
    history.say(WorkerRegistered(WorkerId("huge"), "i1", "h", Capability(slots=number, cpus=1e308)))
    history.queue("t1")
    history.assign("t1", 1, "w1")
    history.say(history.case("t1", 1, "w1", number, line=number))
    history.say(
        AttemptFinished(
            *(TaskId("t1"), 1, WorkerId("w1"), "failed", at, EPOCH),
            exit_code=number,
            signal=number,
            cpu_s=1e308,
            memory_bytes_peak=number,
            output_bytes=number,
            output_bytes_dropped=number,
        )
    )

    await project(store, Delivery([history.stored]))

    progress = store.progress(STREAM)
    assert progress is not None
    assert progress.seq == history.last
    assert store.query("SELECT * FROM attempts").rows


async def test_a_task_may_have_the_longest_document(store: Store, history: History) -> None:
    seq = history.say(task("t1", labels={f"label-{n}": "x" * 200 for n in range(2_000)}))

    await project(store, Delivery(in_batches(history.stored, 1)))

    (row,) = records(store, "SELECT document FROM tasks WHERE seq = ?", seq)
    assert len(orjson.loads(row["document"])["labels"]) == 2_000
