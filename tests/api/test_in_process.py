"""The API over a journal in memory: slow readers, lagging projectors, a journal that fails."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from dtest.api import admission
from dtest.api import context as api_context
from dtest.api import events as api_events
from dtest.api import history as api_history
from dtest.api import tasks as api_tasks
from dtest.api.admission import Admission
from dtest.api.app import create_app, gated
from dtest.api.context import ApiContext
from dtest.api.limits import DEFAULT_LIMITS
from dtest.client import Client
from dtest.errors import DtestError, PermissionRefused, SequenceGap, Unavailable
from dtest.events.fields import CellId, ClientId, RunId, TaskId
from dtest.journal.memory import MemoryJournal
from dtest.journal.port import Bounds, Outgoing, Stored
from dtest.journal.room import JournalRoom
from dtest.projections.projector import Projector, Source
from dtest.projections.store import Store
from dtest.roles import api as api_role
from dtest.runtime.ids import IdSource
from dtest.runtime.machine import MachineUsage
from dtest.runtime.ports import free_port
from dtest.state.task import Run
from tests.kit.nats import eventually
from tests.kit.stack import Json, never, problem

CELL = CellId("main")
NOW = 1_750_000_000.0
TOKEN = "a token"
SUBMIT = "/api/tasks/submit"
ENDS_S_MAX = 20.0


class WatchedJournal(MemoryJournal):
    """Says when somebody stops following it, and fails when told to."""

    def __init__(self, **options: Any) -> None:
        super().__init__(clock=lambda: NOW, **options)
        self.followers = 0
        self.left = asyncio.Event()
        self.fault: DtestError | None = None

    @asynccontextmanager
    async def follow(
        self, after: int, *, subject: str | None = None
    ) -> AsyncIterator[AsyncIterator[list[Stored]]]:
        self.followers += 1
        try:
            async with super().follow(after, subject=subject) as feed:
                yield self._failing(feed)
        finally:
            self.followers -= 1
            self.left.set()

    async def _failing(self, feed: AsyncIterator[list[Stored]]) -> AsyncIterator[list[Stored]]:
        async for batch in feed:
            yield batch
            if self.fault is not None:
                raise self.fault

    async def append(self, message: Outgoing, *, guard: Any = None) -> Any:
        if self.fault is not None:
            raise self.fault
        return await super().append(message, guard=guard)


@pytest.fixture
def journal() -> WatchedJournal:
    return WatchedJournal()


@pytest.fixture
async def context(tmp_path: Path, journal: WatchedJournal) -> AsyncIterator[ApiContext]:
    """An API whose projector does not run unless a test runs it."""
    store = Store(tmp_path / "read-model.duckdb", query_s_max=0.2)
    new_id = IdSource()
    client = Client(journal, cell=CELL, client_id=ClientId("api"), now=lambda: NOW, new_id=new_id)
    yield ApiContext(
        CELL,
        store,
        Projector(store, Source(journal, "memory"), cell=CELL),
        journal,
        client,
        cast("Any", None),
        cast("Any", None),
        cast("Any", None),
        lambda: NOW,
        new_id,
        lambda: True,
        Admission(DEFAULT_LIMITS, monotonic=time.monotonic),
        JournalRoom(journal, reserve_ratio=0.1, monotonic=time.monotonic),
        cast("Any", None),
        lambda: None,
        MachineUsage("/"),
    )
    store.close()


@asynccontextmanager
async def asking(context: ApiContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application without its gate."""
    transport = httpx.ASGITransport(create_app(context), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        yield http


@asynccontextmanager
async def serving(context: ApiContext) -> AsyncIterator[int]:
    """A real server, gate and all; yields its port."""
    port = free_port()
    app = gated(create_app(context), token=TOKEN, host="127.0.0.1", port=port)
    config = uvicorn.Config(
        cast("Any", app),
        log_level="critical",
        lifespan="off",
        ws=api_role.EventSocket,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        async with asyncio.TaskGroup() as group:
            group.create_task(server._serve(sockets=[listener]))  # noqa: SLF001 - no signals
            try:
                yield port
            finally:
                server.should_exit = True


def stream(port: int, after: int = 0, types: str = "", **options: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    address = f"ws://127.0.0.1:{port}/api/events/stream?after={after}&types={types}"
    return connect(address, additional_headers=headers, proxy=None, **options)


async def fill(journal: MemoryJournal, *payloads: bytes) -> None:
    for number, payload in enumerate(payloads):
        await journal.append(Outgoing("dtest.main.client.x.task.queued", payload, f"m{number}"))


# -- a projector that lags ------------------------------------------------------------------------


async def test_what_the_read_model_has_not_reached_is_called_sent(
    context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_tasks, "READ_BACK_S_MAX", 0.0)

    async with asking(context) as http:
        answer = await http.post(SUBMIT, json={"tasks": [never(), never()]})

    assert answer.status_code == 202
    assert [task["status"] for task in answer.json()["tasks"]] == ["sent", "sent"]


async def test_a_read_that_is_too_early_says_so(
    context: ApiContext, journal: WatchedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_context, "READ_S_MAX", 0.01)
    await fill(journal, b"{}", b"{}")

    async with asking(context) as http:
        early = problem(await http.get("/api/tasks", params={"after": 2}), 504)
        never_there = problem(await http.get("/api/tasks", params={"after": 3}), 422)
        await context.projector.run(until=2)
        answer = await http.get("/api/tasks", params={"after": 2})

    assert early["code"] == "timed_out"
    assert never_there["code"] == "invalid"
    assert answer.json()["seq"] == 2


async def test_a_read_waits_for_what_is_on_its_way(
    context: ApiContext, journal: WatchedJournal
) -> None:
    await fill(journal, b"{}")

    async with asking(context) as http, asyncio.TaskGroup() as group:
        reading = group.create_task(http.get("/api/events", params={"after": 1}))
        group.create_task(context.projector.run(until=1))

    assert [item["seq"] for item in reading.result().json()["items"]] == [1]


async def test_the_history_of_a_suite_is_bounded_by_runs_and_by_tests(
    context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = context.store.query
    runs = "INSERT INTO runs VALUES (?, 's', '{}', now(), 'x', ?)"
    attempts = (
        "INSERT INTO attempts (task_id, attempt, worker_id, hardware, devices, status, assigned_at,"
        " timeout_observed) VALUES (?, 1, 'w', 'cpu', '[]', 'passed', now(), false)"
    )
    cases = (
        "INSERT INTO testcases VALUES"
        " (?, 1, 1, ?, 'w', ?, 'passed', 'call', ? + 0.5, '', '', 'f', 1, NULL, NULL, NULL, ?)"
    )
    for number in range(4):
        run, task = f"r{number}", f"t{number}"
        ask(runs, [run, number])
        ask(attempts, [task])
        ask(cases, [task, run, f"test_{number}", number, number])
    ask(
        "INSERT INTO testcases VALUES ('t3', 1, 2, 'r3', 'w', 'test_2', 'error', 'call', 9.0,"
        " 'interrupted: pytest stopped', '', 'f', 1, NULL, NULL, NULL, 3)"
    )
    monkeypatch.setattr(api_history, "RUNS_MAX", 2)

    async with asking(context) as http:
        answer = await http.get("/api/history", params={"suite": "s"})
        monkeypatch.setattr(api_history, "TESTS_MAX", 1)
        cut = await http.get("/api/history", params={"suite": "s"})

    found = answer.json()
    durations = dict(zip(found["nodeids"], found["durations_s"], strict=True))
    assert durations == {"test_2": 2.5, "test_3": 3.5}
    assert found["failed"] == [False, False]
    assert not found["truncated"]
    assert (len(cut.json()["nodeids"]), cut.json()["truncated"]) == (1, True)


async def test_ids_are_looked_up_while_the_projector_adds_to_them(context: ApiContext) -> None:
    """The projector folds in a thread of its own."""
    cell = context.projector.rows.cell

    class Met(str):
        """An id that somebody meets just when another one is added."""

        __slots__ = ()

        def startswith(self, *_: Any) -> bool:
            cell.tasks[TaskId(f"new-task-{len(cell.tasks)}")] = cast("Any", None)
            new = RunId(f"new-run-{len(cell.runs)}")
            cell.runs[new] = Run(new, "", NOW)
            return False

    cell.tasks[TaskId(Met("t1"))] = cast("Any", None)
    cell.runs[RunId(Met("r1"))] = Run(RunId(Met("r1")), "", NOW)

    async with asking(context) as http:
        problem(await http.get("/api/tasks/zz"), 404)
        problem(await http.get("/api/runs/zz"), 404)

    assert (len(cell.tasks), len(cell.runs)) == (3, 3)


# -- a journal that fails -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Unavailable("the broker is away", hint="wait"), 503, "unavailable"),
        (PermissionRefused("may not write"), 403, "forbidden"),
        (DtestError("something else"), 500, "internal"),
    ],
)
async def test_a_fault_of_the_journal_has_the_one_form(
    context: ApiContext, journal: WatchedJournal, fault: DtestError, status: int, code: str
) -> None:
    journal.fault = fault

    async with asking(context) as http:
        error = problem(await http.post(SUBMIT, json=never()), status)

    assert error == {"code": code, "message": fault.message, "hint": fault.hint}


async def test_a_full_journal_is_told_apart(context: ApiContext) -> None:
    full = WatchedJournal(messages_max=0)
    client = Client(full, cell=CELL, client_id=ClientId("api"), now=lambda: NOW, new_id=IdSource())

    async with asking(replace(context, client=client)) as http:
        error = problem(await http.post(SUBMIT, json=never()), 507)

    assert error["code"] == "journal_full"


async def test_a_fault_of_dtest_itself_has_the_one_form_and_tells_no_secret(
    context: ApiContext,
) -> None:
    def broken() -> float:
        raise KeyError("a secret")

    client = Client(
        context.journal,
        cell=CELL,
        client_id=ClientId("api"),
        now=broken,
        new_id=context.new_id,
    )

    async with asking(replace(context, client=client)) as http:
        answer = await http.post(SUBMIT, json=never())

    error = problem(answer, 500)
    assert error["code"] == "internal"
    assert "secret" not in answer.text


async def test_a_question_without_end_is_ended(context: ApiContext) -> None:
    sql = "SELECT count(*) FROM range(1000000000) a, range(1000000000) b"

    async with asking(context) as http:
        error = problem(await http.post("/api/query", json={"sql": sql}), 504)
        alive = await http.post("/api/query", json={"sql": "SELECT 1"})

    assert "0.2 s" in error["message"]
    assert alive.json()["rows"] == [[1]]


# -- the stream -----------------------------------------------------------------------------------


async def test_a_reader_that_takes_nothing_is_left(
    context: ApiContext, journal: WatchedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "SEND_S_MAX", 0.2)
    await fill(journal, *[json.dumps({"filling": "x" * 400_000}).encode()] * 60)
    monkeypatch.setattr(api_events, "TELL_S_MAX", 0.1)
    monkeypatch.setattr(api_role, "LINGER_S_MAX", 0.1)
    upgrade = "\r\n".join(
        (
            "GET /api/events/stream?after=0 HTTP/1.1",
            "Host: 127.0.0.1:{port}",
            f"Authorization: Bearer {TOKEN}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "\r\n",
        )
    )
    loop = asyncio.get_running_loop()

    async with serving(context) as port:
        with socket.socket() as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.setblocking(False)
            await loop.sock_connect(lazy, ("127.0.0.1", port))
            await loop.sock_sendall(lazy, upgrade.format(port=port).encode())
            assert (await loop.sock_recv(lazy, 4096)).startswith(b"HTTP/1.1 101")

            async with asyncio.timeout(ENDS_S_MAX):
                await journal.left.wait()

            assert journal.followers == 0
            await eventually(lambda: context.admission.readers_left == 1)
            async with stream(port, after=59) as busy:
                assert json.loads(await busy.recv())["seq"] == 60, "others go on"
            assert await _drained(lazy) < 60 * 400_000, "what it did not take is kept for nobody"


async def _drained(lazy: socket.socket) -> int:
    """Read until the connection ends; return how much came."""
    loop = asyncio.get_running_loop()
    count = 0
    async with asyncio.timeout(ENDS_S_MAX):
        while chunk := await loop.sock_recv(lazy, 1 << 20):
            count += len(chunk)
    return count


async def test_a_reader_that_is_too_slow_is_told_so(
    context: ApiContext, journal: WatchedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_events, "SEND_S_MAX", 0.2)
    await fill(journal, *[json.dumps({"filling": "x" * 400_000}).encode()] * 60)

    async with serving(context) as port, stream(port, max_queue=1, compression=None) as reader:
        async with asyncio.timeout(ENDS_S_MAX):
            await journal.left.wait()
        seqs: list[int] = []
        with pytest.raises(ConnectionClosed) as closed:
            await _note_all(reader, seqs)

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == api_events.TOO_SLOW
        assert "0.2 s" in closed.value.rcvd.reason
        async with stream(port, after=seqs[-1]) as again:
            assert json.loads(await again.recv())["seq"] == seqs[-1] + 1


async def _note_all(reader: Any, seqs: list[int]) -> None:
    while True:
        seqs.append(json.loads(await reader.recv())["seq"])


async def test_a_stream_beyond_the_bound_is_told_to_come_later(
    context: ApiContext, journal: WatchedJournal
) -> None:
    await fill(journal, b"{}")
    few = bounded(context, streams_max=1)

    async with serving(few) as port, stream(port) as first:
        await first.recv()
        async with stream(port) as second:
            with pytest.raises(ConnectionClosed) as closed:
                await second.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == api_events.TRY_LATER
    assert few.admission.lanes.streams.refused == 1


# -- bounds ---------------------------------------------------------------------------------------


def bounded(context: ApiContext, **limits: Any) -> ApiContext:
    """The same API with other bounds."""
    changed = replace(DEFAULT_LIMITS, **limits)
    return replace(context, admission=Admission(changed, monotonic=time.monotonic))


class HeldClient(Client):
    """Records nothing until it may."""

    def __init__(self, context: ApiContext) -> None:
        super().__init__(
            context.journal,
            cell=CELL,
            client_id=ClientId("api"),
            now=lambda: NOW,
            new_id=context.new_id,
        )
        self.flowing = asyncio.Event()

    async def say(self, *facts: Any, **options: Any) -> Any:
        await self.flowing.wait()
        return await super().say(*facts, **options)


async def test_a_flood_of_submissions_is_refused_and_stops_nothing_else(
    context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_tasks, "READ_BACK_S_MAX", 0.0)
    held = HeldClient(context)
    few = bounded(replace(context, client=held), submissions_max=2)
    lane = few.admission.lanes.submissions

    async with asking(few) as http, asyncio.TaskGroup() as group:
        taken = [group.create_task(http.post(SUBMIT, json=never())) for _ in range(2)]
        await eventually(lambda: lane.count == 2)
        refused = await http.post(SUBMIT, json=never())
        error = problem(refused, 429)
        reads = [await http.get(path) for path in ("/api/tasks", "/api/runs", "/api/status")]
        always = [await http.get(path) for path in ("/api/health", "/api/health/db")]
        metrics = await http.get("/api/metrics")
        held.flowing.set()

    assert error["code"] == "overloaded"
    assert "2 submissions at once" in error["message"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert {answer.status_code for answer in (*reads, *always, metrics)} == {200}
    assert 'lane="submissions"} 2.0' in metrics.text
    assert [task.result().status_code for task in taken] == [202, 202]
    assert (lane.count, lane.bytes, lane.accepted, lane.refused) == (0, 0, 2, 1)


async def test_a_flood_of_reads_is_refused_and_stops_no_submission(
    context: ApiContext, journal: WatchedJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_tasks, "READ_BACK_S_MAX", 0.0)
    await fill(journal, b"{}")
    few = bounded(context, reads_max=3)
    lane = few.admission.lanes.reads

    async with asking(few) as http, asyncio.TaskGroup() as group:
        waiting = [group.create_task(http.get("/api/tasks", params={"after": 1})) for _ in range(3)]
        await eventually(lambda: lane.count == 3)
        problem(await http.get("/api/tasks"), 429)
        submitted = await http.post(SUBMIT, json=never())
        metrics = await http.get("/api/metrics")
        await context.projector.run(until=1)

    assert submitted.status_code == 202
    assert metrics.status_code == 200
    assert {task.result().status_code for task in waiting} == {200}


async def test_whoever_waits_for_a_run_takes_no_place_of_those_who_read(
    context: ApiContext, journal: WatchedJournal
) -> None:
    await fill(journal, b"{}")
    few = bounded(context, reads_max=1)
    run = Run(RunId("r1"), "", NOW, [TaskId("t1")], unfinished=1)
    context.projector.rows.cell.runs[run.id] = run
    lanes = few.admission.lanes

    async with asking(few) as http, asyncio.TaskGroup() as group:
        waiting = [
            group.create_task(http.get("/api/runs/r1", params={"wait_s": 10})) for _ in range(3)
        ]
        await eventually(lambda: lanes.waits.count == 3)
        tasks = await http.get("/api/tasks")
        run.unfinished = 0
        async with asyncio.timeout(5.0):
            await context.projector.run(until=1)
            answers = [await each for each in waiting]

    assert (tasks.status_code, lanes.reads.accepted, lanes.waits.accepted) == (200, 1, 3)
    assert {problem(answer, 404)["code"] for answer in answers} == {"not_found"}


async def test_large_bodies_are_counted_by_their_bytes(
    context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_tasks, "READ_BACK_S_MAX", 0.0)
    held = HeldClient(context)
    few = bounded(replace(context, client=held), submission_bytes_max=1_000)
    large = never()
    large["config"]["env"] = {"FILLING": "y" * 1_500}

    async with asking(few) as http, asyncio.TaskGroup() as group:
        alone = group.create_task(http.post(SUBMIT, json=large))
        await eventually(lambda: few.admission.lanes.submissions.count == 1)
        error = problem(await http.post(SUBMIT, json=never()), 429)
        held.flowing.set()

    assert alone.result().status_code == 202, "one alone is never too much"
    assert "1000 bytes of submissions" in error["message"]


async def test_a_journal_that_is_nearly_full_takes_no_submission_but_a_cancellation(
    context: ApiContext, journal: WatchedJournal
) -> None:
    class Nearly(WatchedJournal):
        async def bounds(self) -> Bounds:
            return replace(await super().bounds(), used_bytes=950, max_bytes=1_000)

    room = JournalRoom(Nearly(), reserve_ratio=0.1, monotonic=time.monotonic)
    few = replace(context, room=room)
    cell = context.projector.rows.cell
    cell.runs[RunId("r1")] = Run(RunId("r1"), "", NOW)

    async with asking(few) as http:
        error = problem(await http.post(SUBMIT, json={"tasks": [never()]}), 507)
        cancelled = await http.post("/api/runs/r1/cancel")
        metrics = await http.get("/api/metrics")

    assert error["code"] == "journal_full"
    assert cancelled.status_code == 202
    assert (await journal.bounds()).last == 1, "not even the run was opened"
    assert context.admission.backlog.unfinished(cell) == 0
    assert 'dtest_submissions_refused_total{bound="journal"} 1.0' in metrics.text


async def test_metrics_do_without_a_journal_that_does_not_answer(context: ApiContext) -> None:
    class Away(WatchedJournal):
        async def bounds(self) -> Bounds:
            raise Unavailable("away")

    room = JournalRoom(Away(), reserve_ratio=0.1, monotonic=time.monotonic)

    async with asking(replace(context, room=room)) as http:
        metrics = await http.get("/api/metrics")

    assert metrics.status_code == 200
    assert "dtest_projection_lag_messages" not in metrics.text
    assert "dtest_backlog_tasks 0.0" in metrics.text


async def test_a_body_that_does_not_come_loses_its_place(
    context: ApiContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "CALLER_S_MAX", 0.05)

    async def stalled() -> AsyncIterator[bytes]:
        yield b'{"type":'
        await asyncio.Event().wait()

    async with asking(context) as http:
        error = problem(await http.post(SUBMIT, content=stalled()), 408)

    assert error["code"] == "too_slow"
    assert context.admission.lanes.submissions.count == 0


async def test_a_reader_that_goes_away_is_forgotten(
    context: ApiContext, journal: WatchedJournal
) -> None:
    await fill(journal, b"{}")

    async with serving(context) as port:
        async with stream(port) as reader:
            await reader.recv()
            assert journal.followers == 1
        async with asyncio.timeout(ENDS_S_MAX):
            await journal.left.wait()
        assert journal.followers == 0

        journal.left.clear()
        reader = await stream(port)
        await reader.recv()
        reader.transport.abort()
        async with asyncio.timeout(ENDS_S_MAX):
            await journal.left.wait()
        assert journal.followers == 0


async def test_a_stream_that_breaks_says_why(context: ApiContext, journal: WatchedJournal) -> None:
    await fill(journal, b"{}")
    journal.fault = SequenceGap("dtest-main-journal: 2 is missing, 3 follows 1 " + "x" * 200)

    async with serving(context) as port, stream(port) as reader:
        assert json.loads(await reader.recv())["seq"] == 1
        with pytest.raises(ConnectionClosed) as closed:
            await reader.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1011
    assert "2 is missing" in closed.value.rcvd.reason


ODD: dict[str, bytes] = {
    "no-json": b"{",
    "no-utf8": b"\xff\xfe",
    "nested": b"[" * 600 + b"]" * 600,
    "empty": b"",
    "number": b"7",
    "string": b'"x"',
    "array": b"[1, null, {}]",
    "long": b"x" * 50_000,
}


async def test_messages_that_are_no_events_stop_no_reader(
    context: ApiContext, journal: WatchedJournal
) -> None:
    event = json.dumps({"type": "dev.dtest.task.queued.v1", "subject": "t"}).encode()
    await fill(journal, *ODD.values(), event)

    async with serving(context) as port:
        async with stream(port) as reader:
            messages: list[Json] = [json.loads(await reader.recv()) for _ in range(len(ODD) + 1)]
        async with stream(port, types="task.queued") as reader:
            wanted = json.loads(await reader.recv())

    assert [message["seq"] for message in messages] == list(range(1, len(ODD) + 2))
    shown = dict(zip(ODD, messages, strict=False))
    assert shown["no-json"]["events"] == [{"raw": "{"}]
    assert shown["nested"]["events"][0]["raw"].startswith("[[[")
    assert shown["array"]["events"] == [1, None, {}]
    assert len(shown["long"]["events"][0]["raw"]) == 10_000
    assert wanted["seq"] == len(ODD) + 1


def test_short_answers_are_sent_at_once() -> None:
    """Else the second part of an answer waits for the reader's delayed acknowledgement, 40 ms."""
    with (
        api_role.listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
