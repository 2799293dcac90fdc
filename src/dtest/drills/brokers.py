"""Drills on brokers and what they store."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from dtest.drills import leader
from dtest.drills.drill import Scene
from dtest.drills.load import Condition, seen_within
from dtest.drills.report import Injection
from dtest.errors import DtestError, SequenceGap
from dtest.journal.connection import NatsAddress, connect
from dtest.journal.jetstream import JetStreamJournal
from dtest.journal.port import Stored, read_to
from dtest.journal.streams import journal_name
from dtest.roles.child import Child
from dtest.runtime.clock import SystemClock
from dtest.runtime.ids import secret
from dtest.runtime.nats_server import EmbeddedServer
from dtest.runtime.ports import free_port

RECOVERED_S_MAX = 60.0
COPY_READ_S_MAX = 30.0
DOWN_S = 5.0
APART_S_MAX = 8.0


async def kill_all(scene: Scene, _: int) -> Injection:
    """Kill every broker at once; they come back with all that was acknowledged."""
    injection = await _kill(scene.ground.brokers(), "all brokers killed", scene)
    await scene.ground.brokers_are_whole()
    return injection


async def failover(scene: Scene, number: int) -> Injection:
    """Kill the leader, and then the broker that leads the journal's stream."""
    scene.report.injections.append(await leader.kill(scene, number))
    return await kill_stream_leader(scene, number)


async def kill_stream_leader(scene: Scene, _: int) -> Injection:
    """Kill the broker that leads the journal's stream; the others elect and work goes on."""
    child = await scene.ground.stream_leader()
    injection = await _kill([child], "stream leader killed", scene)
    await scene.ground.brokers_are_whole()
    return injection


async def partition(scene: Scene, _: int) -> Injection:
    """Cut off the broker that leads the journal's stream; the others elect, it comes back."""
    child = await scene.ground.stream_leader()
    wire = scene.ground.wiring.wires[child.name]
    at = scene.watcher.since()
    await wire.cut()
    async with scene.watcher.expecting(_goes_on()) as again:  # what is stored from here on
        try:
            recovered_at = await seen_within(again, RECOVERED_S_MAX, "the end of an attempt")
            await asyncio.sleep(scene.rng.uniform(0.0, APART_S_MAX))
        finally:
            await wire.mend()
    await scene.ground.brokers_are_whole()
    return Injection("stream leader cut off", at, recovered_at, child.name)


async def two_down(scene: Scene, _: int) -> Injection:
    """Keep two brokers down for a while, the stream's leader among them; work goes on."""
    first = await scene.ground.stream_leader()
    others = [child for child in scene.ground.brokers() if child is not first]
    victims = [first, scene.rng.choice(others)]
    for child in victims:
        child.may_start.clear()
    try:
        injection = await _kill(victims, "two brokers down", scene)
        await asyncio.sleep(DOWN_S)
    finally:
        for child in victims:
            child.may_start.set()
    await scene.ground.brokers_are_whole()
    return injection


async def _kill(victims: list[Child], kind: str, scene: Scene) -> Injection:
    """Recovered is when the end of an attempt is stored again."""
    names = ", ".join(child.name for child in victims)
    async with scene.watcher.expecting(_goes_on()) as again:
        at = scene.watcher.since()
        for child in victims:
            os.kill(child.process.pid, signal.SIGKILL)
        recovered_at = await seen_within(again, RECOVERED_S_MAX, "the end of an attempt")
    return Injection(kind, at, recovered_at, names)


def _goes_on() -> Condition:
    """From here on: the end of an attempt is stored."""
    now = SystemClock().now()

    def condition(kind: str, _: object, stored: Stored) -> bool:
        return kind == "attempt.finished" and stored.stored_at > now

    return condition


async def flip_bit(scene: Scene, number: int) -> Injection:
    """Flip a bit of a stored block, in a copy: what is read then is the truth, or is refused."""
    child = scene.ground.brokers()[0]
    before = len(scene.watcher.messages)
    copy = scene.ground.directory / f"copy-{number}"
    child.may_start.clear()
    at = scene.watcher.since()
    try:
        child.process.terminate()
        await child.process.wait()
        await asyncio.to_thread(shutil.copytree, scene.ground.directory / "nats", copy)
    finally:
        async with scene.watcher.expecting(_goes_on()) as again:
            child.may_start.set()
            await seen_within(again, RECOVERED_S_MAX, "the end of an attempt")
    block, place = await asyncio.to_thread(_flip, copy, scene)
    noticed = await _read_copy(scene, copy, before)
    await asyncio.to_thread(shutil.rmtree, copy)
    detail = f"bit of byte {place} in {block}: {noticed or 'not noticed'}"
    if not noticed:
        scene.report.violations.append(detail)
    return Injection("bit flipped", at, None, detail)


def _flip(copy: Path, scene: Scene) -> tuple[str, int]:
    """Flip one bit of a block of the journal's stream."""
    stream = journal_name(scene.ground.opened.cell)
    blocks = sorted(copy.glob(f"**/streams/{stream}/msgs/*.blk"))
    block = scene.rng.choice([path for path in blocks if path.stat().st_size])
    content = bytearray(block.read_bytes())
    place = scene.rng.randrange(len(content))
    content[place] ^= 1 << scene.rng.randrange(8)
    block.write_bytes(content)
    return block.name, place


async def _read_copy(scene: Scene, copy: Path, before: int) -> str:
    """Serve the copy and read it; say how the damage was noticed, or nothing."""
    server = EmbeddedServer(copy, free_port(), "drill", secret())
    process = await server.start()
    try:
        address = NatsAddress((server.url,), server.user, server.password)
        connection = await connect(address, name="dtest drill copy", wait_s=RECOVERED_S_MAX)
        try:
            async with asyncio.timeout(COPY_READ_S_MAX):
                return await _compare(scene, connection, before)
        finally:
            await connection.close()
    except TimeoutError:
        return "the copy cannot be read to its end"
    except DtestError as error:
        return error.message
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _compare(scene: Scene, connection: object, before: int) -> str:
    opened = scene.ground.opened
    journal = JetStreamJournal(
        connection,  # type: ignore[arg-type]
        journal_name(opened.cell),
        new_id=opened.new_id,
    )
    bounds = await journal.bounds()
    if bounds.messages < before:
        return f"{before - bounds.messages} messages are missing"
    truth = scene.watcher.messages
    try:
        async for batch in read_to(journal, 0, min(bounds.last, len(truth))):
            for stored in batch:
                known = truth[stored.seq - 1]
                if (stored.payload, stored.subject) != (known.payload, known.subject):
                    return ""  # other bytes, and nobody said so
    except SequenceGap as gap:
        return gap.message
    return "the damage lies where nothing is read: all messages are what they were"
