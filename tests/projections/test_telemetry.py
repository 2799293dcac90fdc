"""Telemetry: the figures of the last day, whatever else arrives."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from dtest.journal.port import Stored
from dtest.projections.projector import Source, TelemetryProjector
from dtest.projections.store import Store
from tests.projections.history import START_S, Delivery, records

STREAM = "dtest-main-telemetry"
DAY_S = 86_400.0
NAMES = ("w0", "w1", "w2")
FIGURES = {
    "cpu_ratio": 0.5,
    "memory_used_bytes": 1.0,
    "memory_bytes": 2.0,
    "disk_free_bytes": 3.0,
    "disk_bytes": 4.0,
    "network_sent_bytes": 5.0,
    "network_received_bytes": 6.0,
    "facts_waiting": 7.0,
    "telemetry_shed": 8.0,
    "output_dropped_bytes": 9.0,
}
SLEEP = asyncio.sleep


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The projector pauses a second after each transaction."""

    async def at_once(_: float) -> None:
        await SLEEP(0)

    monkeypatch.setattr(asyncio, "sleep", at_once)


class Telemetry(Delivery):
    """Deliveries after which nothing comes, seen from before the first or after any other."""

    def __init__(self, *batches: Sequence[Stored], created: str = "once") -> None:
        super().__init__(batches, created=created)

    @asynccontextmanager
    async def follow(
        self, after: int, *, subject: str | None = None
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        assert subject == "dtest.*.telemetry.*"
        async with super().follow(after) as feed:
            yield self._after(feed, after)

    async def _after(
        self, feed: AsyncIterator[list[Stored]], after: int
    ) -> AsyncIterator[list[Stored]]:
        async for batch in feed:
            yield [stored for stored in batch if stored.seq > after]


def sample(seq: int, worker_id: str = "w1", body: Any = FIGURES, *, at: float = 0.0) -> Stored:
    payload = body if isinstance(body, bytes) else orjson.dumps(body)
    return Stored(seq, f"dtest.main.telemetry.{worker_id}", START_S + at, "", payload)


async def project(store: Store, telemetry: Telemetry) -> None:
    source = Source(telemetry, STREAM)
    await TelemetryProjector(store, source, lock=asyncio.Lock()).run()


async def test_a_sample_has_a_row(store: Store) -> None:
    await project(store, Telemetry([sample(1), sample(2, "w2", {"cpu_ratio": 0.25})]))

    first, second = records(store, "SELECT * FROM telemetry ORDER BY seq")
    assert first == {
        "seq": 1,
        "worker_id": "w1",
        "sampled_at": "2026-11-01T00:00:00.000000Z",
        **FIGURES,
    }
    assert (second["worker_id"], second["cpu_ratio"], second["memory_bytes"]) == ("w2", 0.25, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", [], "x", 7, None, {"cpu_ratio": "much"}, {"cpu_ratio": [1]}],
    ids=repr,
)
async def test_what_is_not_understood_is_shed(store: Store, body: Any) -> None:
    odd = orjson.dumps(None) if body is None else body

    await project(store, Telemetry([sample(1, body=odd), sample(2)]))

    assert [row["seq"] for row in records(store, "SELECT seq FROM telemetry")] == [2]
    progress = store.progress(STREAM)
    assert progress is not None
    assert progress.seq == 2


async def test_a_restart_repeats_nothing(store: Store) -> None:
    batches = [[sample(1)], [sample(2), sample(3, at=1.0)]]

    await project(store, Telemetry(*batches[:1]))
    await project(store, Telemetry(*batches))
    await project(store, Telemetry(*batches))

    rows = records(store, "SELECT seq FROM telemetry ORDER BY seq")
    assert [row["seq"] for row in rows] == [1, 2, 3]


async def test_a_flood_leaves_one_sample_of_each_worker_and_second(store: Store) -> None:
    flood = [sample(seq, f"w{seq % 3}", at=seq // 100) for seq in range(1, 301)]
    telemetry = Telemetry(flood[:150], flood[150:])
    projector = TelemetryProjector(store, Source(telemetry, STREAM), lock=asyncio.Lock())

    await projector.run()

    rows = records(store, "SELECT worker_id, count(*) AS count FROM telemetry GROUP BY 1")
    seconds = {name: {at // 100 for at in range(1, 301) if f"w{at % 3}" == name} for name in NAMES}
    assert {row["worker_id"]: row["count"] for row in rows} == {
        name: len(found) for name, found in seconds.items()
    }
    assert projector.shed == len(flood) - sum(map(len, seconds.values()))


async def test_what_is_older_than_a_day_is_forgotten(store: Store) -> None:
    await project(
        store,
        Telemetry(
            [sample(1, at=0.0), sample(2, at=DAY_S / 2)],
            [sample(3, at=DAY_S + 1.0)],
        ),
    )

    rows = records(store, "SELECT seq FROM telemetry ORDER BY seq")
    assert [row["seq"] for row in rows] == [2, 3]


async def test_the_samples_of_another_stream_are_dropped(store: Store) -> None:
    await project(store, Telemetry([sample(1), sample(2)], created="before"))
    await project(store, Telemetry([sample(1, "w9")], created="after"))

    rows = records(store, "SELECT seq, worker_id FROM telemetry ORDER BY seq")
    assert rows == [{"seq": 1, "worker_id": "w9"}]
