"""The parts of a drill: the wire that can be cut, the report, the rehearsal."""

import asyncio
from pathlib import Path

import duckdb
import pytest

from dtest.archive.reader import read_archive
from dtest.drills.evidence import keep
from dtest.drills.proxy import Proxy
from dtest.drills.rehearsal import rehearse
from dtest.drills.replica import projection_differences, replica
from dtest.drills.report import Injection, Report, page, spread
from dtest.errors import InvalidDocument, NotFound
from dtest.journal.port import Stored
from dtest.journal.streams import journal_name
from dtest.projections.projector import Projector, Source
from dtest.projections.store import opened
from dtest.runtime.ports import free_port
from tests.kit.facts import CELL, finished, machine, registered, started, task
from tests.kit.world import World


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def test_a_wire_that_is_cut_delivers_once_it_is_mended() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    proxy = Proxy(free_port(), server.sockets[0].getsockname()[1])
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one\n")
    assert await reader.readline() == b"one\n"

    proxy.hold(forth=False, back=True)
    writer.write(b"two\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await reader.readline()
    await proxy.mend()

    assert await reader.readline() == b"two\n"
    writer.close()
    await writer.wait_closed()
    await proxy.stop()
    server.close()


async def test_a_wire_to_nowhere_is_closed() -> None:
    proxy = Proxy(free_port(), free_port())
    await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await proxy.stop()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        ([5.0], {"min": 5.0, "p50": 5.0, "p99": 5.0, "max": 5.0}),
        ([*map(float, range(1, 101))], {"min": 1.0, "p50": 50.0, "p99": 99.0, "max": 100.0}),
        ([3.0, 1.0], {"min": 1.0, "p50": 1.0, "p99": 3.0, "max": 3.0}),
    ],
)
def test_the_spread_is_by_nearest_rank(values: list[float], expected: dict[str, float]) -> None:
    assert spread(values) == expected


def test_a_report_says_what_must_be_in_it() -> None:
    report = Report(
        "leader", 1, 7, [Injection("SIGKILL", 1.0, 1.25), Injection("other", 2.0, None)]
    )
    document = report.document()

    assert {"lost", "duplicated", "violations", "recovery_ms"} <= document.keys()
    assert document["recovery_ms"] == {"min": 250.0, "p50": 250.0, "p99": 250.0, "max": 250.0}
    assert document["holds"]
    report.violations.append("it <b>broke</b>")
    assert not report.document()["holds"]
    text = page([report])
    assert "it &lt;b&gt;broke&lt;/b&gt;" in text
    assert "http" not in text


def history() -> World:
    world = World().led().given(registered("w", machine(2)), registered("v", machine(2)))
    world.given(task("a"), task("b"), task("c"))
    one, two, _ = world.assign()
    return world.given(started(one), finished(one), started(two))


async def test_a_take_over_is_rehearsed_and_the_copy_is_all_that_changes() -> None:
    world = history()
    before = list(world.journal)
    found = await rehearse(world.journal)

    assert found.violations == []
    assert found.tasks["passed"] == 1
    assert found.decided == {}
    assert world.journal == before


async def test_the_loss_of_a_worker_is_rehearsed() -> None:
    world = history()
    running = next(name for name in ("w", "v") if world.worker(name).running)
    found = await rehearse(world.journal, [running])

    assert found.attempts_given_away == len(world.worker(running).running)
    assert found.decided["worker.lost"] == 1
    assert found.decided["task.retry_scheduled"] == found.attempts_given_away
    assert found.violations == []


async def test_a_worker_that_is_not_there_cannot_be_lost() -> None:
    with pytest.raises(NotFound, match="no worker nobody") as caught:
        await rehearse(history().journal, ["nobody"])
    assert "v, w" in caught.value.hint


async def test_what_a_drill_keeps_can_be_rehearsed_on(tmp_path: Path) -> None:
    world = history()
    log = tmp_path / "scheduler.log"
    log.write_text("what it said")
    copy = await replica(world.journal)

    first = await keep(copy, CELL, logs=[log], to=tmp_path / "kept" / "worker")
    second = await keep(copy, CELL, logs=[], to=tmp_path / "kept" / "worker")

    assert (first.name, second.name) == ("worker", "worker-2")
    assert (first / "logs" / "scheduler.log").read_text() == "what it said"
    for directory in (first, second):
        kept = list(read_archive(directory / "journal"))
        assert [message.payload for message in kept] == [one.payload for one in world.journal]
        assert (await rehearse(kept)).tasks["passed"] == 1


async def test_an_empty_journal_is_no_rehearsal(tmp_path: Path) -> None:
    with pytest.raises(InvalidDocument, match="holds no message"):
        await rehearse([])


# -- the read model and a replay ------------------------------------------------------------------


async def read_model(stored: list[Stored], file: Path, until: int) -> None:
    """Project a journal up to a message."""
    journal = await replica(stored[:until])
    with opened(file) as store:
        projector = Projector(store, Source(journal, journal_name(CELL)), cell=CELL)
        await projector.start()
        await projector.run(until=until)


def told() -> list[Stored]:
    world = World().led().given(registered("w", machine(4)))
    for number in range(40):
        world.given(task(f"t{number}"))
    for one in world.assign():
        world.given(started(one), finished(one))
    return world.journal


@pytest.mark.parametrize("stand", [1, 20, 43])
async def test_a_read_model_that_stands_in_the_middle_is_compared_up_to_there(
    tmp_path: Path, stand: int
) -> None:
    stored = told()
    await read_model(stored, tmp_path / "file", stand)

    found = await projection_differences(
        await replica(stored), CELL, tmp_path / "file", tmp_path / "fresh"
    )
    assert found == []


async def test_rows_that_differ_from_a_replay_are_named(tmp_path: Path) -> None:
    stored = told()
    await read_model(stored, tmp_path / "file", 20)
    with duckdb.connect(str(tmp_path / "file")) as forger:
        forger.execute("UPDATE tasks SET status = 'passed' WHERE task_id = 't3'")

    found = await projection_differences(
        await replica(stored), CELL, tmp_path / "file", tmp_path / "fresh"
    )
    assert len(found) == 1
    assert "the read model's tasks has" in found[0]


async def test_a_read_model_ahead_of_what_was_read_is_told_and_not_waited_for(
    tmp_path: Path,
) -> None:
    stored = told()
    await read_model(stored, tmp_path / "file", 20)

    found = await projection_differences(
        await replica(stored[:10]), CELL, tmp_path / "file", tmp_path / "fresh"
    )
    assert found == ["the read model stands at 20, the messages that were read end at 10"]
