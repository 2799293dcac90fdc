"""The output of an attempt: every byte in its place, the head and the tail, bounded."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.agents import output as module
from dtest.agents.output import OutputPump, OutputRefused
from dtest.agents.spool import Slot
from tests.kit.nats import eventually

HEAD, TAIL, CHUNK = 1000, 100, 64


class Killed(Exception):
    """The agent dies here."""


class Stream:
    """Keeps the first chunk of each id, as the stream does."""

    def __init__(self) -> None:
        self.chunks: dict[int, bytes] = {}
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.waiting = asyncio.Event()
        self.fates: list[str] = []
        """What becomes of the next sends: acknowledged, or the agent dies with or without one."""
        self.has_room = True
        self.refusals = 0

    async def send(self, offset: int, chunk: bytes) -> None:
        self.waiting.set()
        await self.flowing.wait()
        if not self.has_room:
            self.refusals += 1
            raise OutputRefused
        fate = self.fates.pop(0) if self.fates else "acknowledged"
        if fate != "not stored":
            self.chunks.setdefault(offset, chunk)
        if fate != "acknowledged":
            raise Killed

    @property
    def text(self) -> bytes:
        """All of it; no chunk may overlap another."""
        place, text = 0, b""
        for offset, chunk in sorted(self.chunks.items()):
            assert offset >= place
            place = offset + len(chunk)
            text += chunk
        return text


class Desk:
    """A slot with an output file, and a pump over it."""

    def __init__(self, path: Path) -> None:
        self.slot = Slot(path)
        self.file = path / "output.log"
        self.file.touch()
        self.stream = Stream()
        self.pump = self.restarted()

    def restarted(self, key: str = "t.1") -> OutputPump:
        self.pump = OutputPump(self.slot, key, self.stream.send)
        return self.pump

    def write(self, data: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(data)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_BYTES_MAX", HEAD)
    monkeypatch.setattr(module, "TAIL_BYTES_MAX", TAIL)
    monkeypatch.setattr(module, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def followed(desk: Desk, until: Callable[[], bool]) -> None:
    """Let the pump follow until a condition holds, then end it wherever it is."""
    async with asyncio.TaskGroup() as group:
        following = group.create_task(desk.pump.follow())
        await eventually(until)
        following.cancel()


async def test_output_without_room_is_kept_until_there_is_room(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    desk.write(b"a" * 300)
    desk.stream.has_room = False

    async with asyncio.TaskGroup() as group:
        following = group.create_task(desk.pump.follow())
        await eventually(lambda: desk.stream.refusals >= 3)
        desk.stream.has_room = True
        await eventually(lambda: desk.pump.sent == 300)
        following.cancel()
    await desk.pump.finish()

    assert desk.stream.text == b"a" * 300
    assert desk.pump.dropped == 0


async def test_an_attempt_ends_though_there_is_no_room_for_its_output(desk: Desk) -> None:
    desk.write(b"a" * 100)
    await desk.pump.finish()
    desk.write(b"b" * 200)
    desk.stream.has_room = False
    await desk.pump.finish()

    assert desk.pump.is_finished
    assert desk.stream.text == b"a" * 100
    assert (desk.pump.produced, desk.pump.dropped) == (300, 200)


async def test_no_output_sends_nothing(desk: Desk) -> None:
    desk.file.unlink()
    await desk.pump.finish()

    assert (desk.pump.produced, desk.pump.sent, desk.stream.chunks) == (0, 0, {})


@pytest.mark.parametrize("size", [1, CHUNK, CHUNK + 1, HEAD, HEAD + 1, HEAD + TAIL])
async def test_all_of_a_short_output_arrives_as_it_is(desk: Desk, size: int) -> None:
    text = os.urandom(size)
    desk.write(text)
    await desk.pump.finish()

    assert desk.stream.text == text
    assert (desk.pump.produced, desk.pump.sent, desk.pump.dropped) == (size, size, 0)


@pytest.mark.parametrize("size", [HEAD + TAIL + 1, 5 * HEAD])
async def test_of_a_long_output_head_and_tail_arrive_and_the_rest_is_counted(
    desk: Desk, size: int
) -> None:
    text = os.urandom(size)
    desk.write(text)
    await desk.pump.finish()

    assert desk.stream.text == text[:HEAD] + text[-TAIL:]
    assert min(offset for offset in desk.stream.chunks if offset >= HEAD) == size - TAIL
    assert (desk.pump.produced, desk.pump.dropped) == (size, size - HEAD - TAIL)


async def test_output_is_sent_while_it_is_written(desk: Desk) -> None:
    async with asyncio.TaskGroup() as group:
        following = group.create_task(desk.pump.follow())
        for number in range(3):
            desk.write(b"line %d\n" % number)
            await eventually(lambda: desk.stream.text == desk.file.read_bytes())
        following.cancel()


async def test_a_file_that_grew_large_gives_its_middle_back_and_counts_right(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1 << 20)
    head = os.urandom(HEAD)
    desk.write(head + bytes(4 << 20))
    desk.pump.bound()  # before anything was sent: the broker may be away
    held = desk.file.stat().st_blocks * 512
    desk.write(b"x" * (2 << 20) + b"the end")
    desk.pump.bound()
    await desk.pump.finish()

    size = HEAD + (6 << 20) + 7
    assert held < 1 << 20
    assert desk.file.stat().st_blocks * 512 < 1 << 20
    assert desk.stream.text == head + b"x" * (TAIL - 7) + b"the end"
    assert (desk.pump.produced, desk.pump.dropped) == (size, size - HEAD - TAIL)


async def test_where_files_cannot_have_holes_the_file_is_cut(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FILE_BYTES_MAX", 1 << 20)
    monkeypatch.setattr(module, "punch", lambda *_: False)
    text = os.urandom(HEAD)
    desk.write(text + bytes(2 << 20))
    desk.pump.bound()
    assert desk.file.stat().st_size > 2 << 20  # the head is not sent yet
    await followed(desk, lambda: desk.pump.sent == HEAD)
    desk.pump.bound()
    desk.write(b"the end")
    desk.restarted()
    await desk.pump.finish()

    assert desk.stream.text == text + b"the end"
    assert desk.pump.produced == HEAD + (2 << 20) + 7
    assert desk.file.stat().st_size == 7


async def test_a_file_that_is_not_there_needs_no_bound(desk: Desk) -> None:
    desk.file.unlink()
    desk.pump.bound()


async def test_output_that_the_attempt_empties_does_not_hang_the_pump(desk: Desk) -> None:
    """As ``echo x > /dev/stdout`` does, which opens the file anew."""
    desk.write(b"before " * 20)
    await followed(desk, lambda: desk.pump.sent == 140)
    desk.file.write_bytes(b"after")
    async with asyncio.timeout(5):
        await desk.pump.finish()

    assert desk.stream.text == b"before " * 20 + b"after"
    assert desk.pump.produced == 145


async def test_output_that_is_emptied_while_a_chunk_is_read_does_not_hang_the_pump(
    desk: Desk,
) -> None:
    desk.write(b"x" * 3 * CHUNK)
    desk.stream.flowing.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(desk.pump.finish())
        await desk.stream.waiting.wait()
        os.truncate(desk.file, 0)
        desk.stream.flowing.set()


@given(
    written=st.lists(st.integers(0, 180), min_size=1, max_size=6),
    fates=st.lists(st.sampled_from(["acknowledged", "not stored", "stored"]), max_size=20),
)
async def test_an_agent_killed_at_any_moment_sends_every_byte_once(
    tmp_path_factory: pytest.TempPathFactory, written: list[int], fates: list[str]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"))
    desk.stream.fates = fates
    for number, size in enumerate([*written, 0]):
        desk.write(bytes([65 + number]) * size)
        while True:
            try:
                await desk.pump.finish()
                break
            except Killed:
                desk.restarted()
    text = b"".join(bytes([65 + number]) * size for number, size in enumerate(written))

    assert desk.stream.text == text
    assert (desk.pump.produced, desk.pump.sent) == (len(text), len(text))


async def test_an_agent_killed_within_the_tail_goes_on_there(desk: Desk) -> None:
    text = os.urandom(3 * HEAD)
    desk.write(text)
    async with asyncio.TaskGroup() as group:
        finishing = group.create_task(desk.pump.finish())
        await eventually(lambda: desk.pump.sent > HEAD)
        finishing.cancel()
    await desk.restarted().finish()

    assert desk.stream.text == text[:HEAD] + text[-TAIL:]
    assert desk.pump.dropped == len(text) - HEAD - TAIL


async def test_progress_of_another_attempt_in_the_slot_is_not_this_ones(desk: Desk) -> None:
    desk.write(b"of the first")
    await desk.pump.finish()
    desk.file.write_bytes(b"of the next one")
    desk.stream.chunks.clear()

    await desk.restarted("u.1").finish()

    assert desk.stream.text == b"of the next one"


async def test_a_disk_without_room_for_a_note_does_not_stop_output(desk: Desk) -> None:
    (desk.slot.path / "output.json").mkdir()
    desk.write(b"text")
    await desk.pump.finish()

    assert desk.stream.text == b"text"
