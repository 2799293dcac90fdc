"""Feeds a lasting test session from a queue: units in, verdicts out, half of the rest to others.

A unit is acknowledged once the journal has the verdicts of all its tests, so whatever dies, nobody
loses a test. What was given to the session stands in a file that outlives the agent.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import structlog

from dtest.agents.pacing import Pace, given_from
from dtest.agents.queue_port import Pulled, Queue
from dtest.errors import DtestError, InvalidDocument, NotFound, Unavailable
from dtest.events.suite_list import Function, Marks
from dtest.suites.suite import Suite
from dtest.suites.unit import Piece, Unit, decode, encode, expected_s, joined, pieces_of, split

log = structlog.get_logger()

LOOK_EVERY_S = 0.02
"""Of the slices in its hands one lasts longer, so no session waits for that."""
AHEAD = 2
"""Slices in the session's hands: the one that runs, and the next. Fewer would stop the session: its
last test waits for its successor."""
DRY_S = 0.03
"""A queue that has something answers sooner."""
BEAT_EVERY_S = 1.0
STATE_EVERY_S = 0.05
STATE_EVERY_S_MAX = 0.15
HUNGRY_EVERY_S = 0.2
GIVE_EVERY_S = 0.2
PULL_S = 1.0
AGAIN_S = 0.5
UNCLOSED_S_MAX = 900.0
"""For a queue that nobody fills and nobody closes: whoever wanted to has gone."""
STORED_S_MAX = 10.0
"""After the end of the session, for the journal to take its last verdicts."""


@dataclass(slots=True)
class _Held:
    """A unit that was pulled and not acknowledged."""

    unit: Unit
    handle: str
    pieces: list[Piece] = field(default_factory=list)
    """What may go elsewhere as long as the session has not got it; from ``given`` on."""
    given: int = 0
    slices: int = 0
    """How many were made of it."""
    open: set[str] = field(default_factory=set)
    """Those that have not ended."""
    putting: bool = False
    """A part that goes elsewhere is not in the queue yet."""
    verdicts: int = 0
    """How many of the session precede the end of its latest slice."""

    @property
    def left(self) -> int:
        """Pieces that the session has not got."""
        return len(self.pieces) - self.given

    def is_done(self, stored: int) -> bool:
        """Say whether nothing of it is left, and the journal has all its verdicts."""
        return not (self.left or self.open or self.putting) and self.verdicts <= stored


class Feeder:
    """The units of one session."""

    def __init__(
        self, queue: Queue, directory: Path, *, name: str, read: Callable[[], None]
    ) -> None:
        self._queue = queue
        self._path = directory / "feed.jsonl"
        self._kill_path = directory / "cases.jsonl.work" / "kill"
        self._name = name
        self._read = read
        self._held: dict[str, _Held] = {}
        self._begun: dict[str, tuple[float, float]] = {}
        """When a slice began, and how long it was to take."""
        self._pace = Pace()
        self._told = 0
        self._stored = 0
        self._suite: Suite | None = None
        """What was collected and not told yet."""
        self._gift: tuple[str, Unit] | None = None
        self._waiting_said = False
        self._ended = False
        self._hungry: set[str] = set()
        self._gave_at = 0.0
        self._room = asyncio.Event()
        self._dry_since: float | None = None

    # -- what the session says --------------------------------------------------------------------

    def told(self) -> None:
        """Count a verdict that was told."""
        self._told += 1

    def stored(self) -> None:
        """Count a verdict that the journal has."""
        self._stored += 1

    def heard(self, entry: dict[str, Any]) -> None:
        """Take a record of the session that is no verdict."""
        match entry:
            case {"kind": "begin", "unit": str(name), "at": float(at)} if name in self._begun:
                self._begun[name] = (at, self._begun[name][1])
            case {"kind": "unit", "unit": str(name), "at": float(at)}:
                held = self._held.get(name.rpartition("/")[0])
                if held is not None and name in held.open:
                    held.open.remove(name)
                    held.verdicts = self._told
                    self._pace.begins_in(float(entry.get("setup_s", 0.0)))
                    began, expected = self._begun.pop(name, (0.0, 0.0))
                    if began:
                        self._pace.measured(at - began, expected)
                    self._room.set()
            case {"kind": "collected", "nodeids": list(nodeids), "groups": list(groups)}:
                self._suite = Suite(
                    tuple(zip(nodeids, groups, strict=True)),
                    tuple(entry["broken"]),
                    tuple(entry["skipped"]),
                    entry["maxfail"],
                    tuple(entry.get("whole", ())),
                    tuple(Marks(**marks) for marks in entry.get("marks", ())),
                    tuple(entry.get("marked", ())),
                    tuple(Function(*each) for each in entry.get("functions", ())),
                    tuple(tuple(place) for place in entry.get("places", ())),
                    tuple(entry.get("notes", ())),
                )

    def end_test(self, why: str) -> None:
        """Have the running test ended, and named with the reason."""
        with suppress(OSError):  # the session has just ended
            self._kill_path.write_text(why, encoding="utf-8")

    # -- the work ---------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Feed the session until the queue is empty, then say so and return."""
        self._recover()
        await self._patiently(self._queue.open)
        stop = await self._queue.on_hungry(self._hungry.add)
        try:
            async with asyncio.TaskGroup() as group:
                pulling = group.create_task(self._pull())
                await self._feed()
                pulling.cancel()
        finally:
            await stop()
            await self._queue.leave()

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        beat_at = state_at = hungry_at = 0.0
        state_every_s = STATE_EVERY_S
        while not self._ended:
            self._read()
            await self._acknowledge()
            self._slice()
            now = loop.time()
            if now - beat_at > BEAT_EVERY_S:
                beat_at = now
                await self._queue.beat([held.handle for held in self._held.values()])
            is_idle = self._is_dry(now) and not self._held
            if self._is_dry(now):
                self._say_wait()
            if not is_idle:
                state_at, state_every_s = 0.0, STATE_EVERY_S
            elif now - state_at > state_every_s:
                state_at = now
                state_every_s = min(STATE_EVERY_S_MAX, state_every_s * 1.2)
                await self._look_whether_all_is_done()
            if is_idle and now - hungry_at > HUNGRY_EVERY_S:
                hungry_at = now
                await self._queue.say_hungry(self._name)
            if self._hungry:
                self._give(now)
            await asyncio.sleep(LOOK_EVERY_S)

    async def close(self, *, is_stopped: bool = False) -> None:
        """Let go after the end of the session: acknowledge what is stored, give back the rest.

        Where the suite itself has stopped the run nobody is to run the rest: it leaves the queue.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(STORED_S_MAX):
                while any(held.is_done(self._told) for held in self._held.values()):
                    await self._acknowledge()
                    await asyncio.sleep(LOOK_EVERY_S)
        for held in self._held.values():
            await (self._queue.done if is_stopped else self._queue.give_back)(held.handle)
        self._held.clear()
        while is_stopped:
            try:
                pulled = await self._queue.pull(DRY_S)
            except Unavailable:
                break  # whoever watches the run will cancel it
            if pulled is None:
                break
            await self._queue.done(pulled.handle)
        await self._queue.leave()

    # -- in ---------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Take up what an earlier process of this agent gave to the session."""
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                self._recall(orjson.loads(line))
            except (orjson.JSONDecodeError, InvalidDocument, KeyError):
                continue  # torn: killed while it was written, and the session has not read it

    def _recall(self, entry: dict[str, Any]) -> None:
        if "held" in entry:
            unit = decode(orjson.dumps(entry["held"]))
            self._held[unit.id] = _Held(unit, entry["handle"], pieces_of(unit))
        elif "unit" in entry:
            name = entry["unit"]["id"]
            held = self._held[name.rpartition("/")[0]]
            held.given = entry["upto"]
            held.slices += 1
            held.open.add(name)
        elif "gave" in entry:
            held = self._held[entry["gave"]]
            del held.pieces[entry["from"] :]
        self._ended = self._ended or bool(entry.get("end"))

    async def _pull(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._room.clear()
            if not self._has_room():
                await self._room.wait()
                continue
            if self._dry_since is None:
                self._dry_since = loop.time()
            try:
                pulled = await self._queue.pull(PULL_S)
            except Unavailable as error:
                log.warning("queue_unavailable", problem=error.message)
                await asyncio.sleep(AGAIN_S)
                continue
            if pulled is not None:
                self._dry_since = None
                await self._take(pulled)

    def _has_room(self) -> bool:
        """Say whether the session will soon need more than what is held."""
        return not any(held.left for held in self._held.values()) and self._open_count <= AHEAD

    @property
    def _open_count(self) -> int:
        return sum(len(held.open) for held in self._held.values())

    def _is_dry(self, now: float) -> bool:
        return self._dry_since is not None and now - self._dry_since > DRY_S

    async def _take(self, pulled: Pulled) -> None:
        try:
            unit = decode(pulled.body)
        except InvalidDocument as error:  # nobody else could read it either
            log.warning("unit_not_understood", problem=error.message)
            await self._queue.done(pulled.handle)
            return
        known = self._held.get(unit.id)
        if known is not None:  # it was handed out again: this session still has it
            known.handle = pulled.handle
            return
        self._held[unit.id] = _Held(unit, pulled.handle, pieces_of(unit))
        self._write({"held": orjson.Fragment(encode(unit)), "handle": pulled.handle})
        self._slice()

    def _slice(self) -> None:
        """Hand out as much as the session needs to be busy for a moment, and no more."""
        for held in self._held.values():
            while held.left and self._open_count < AHEAD:
                self._hand_out(held)

    def _hand_out(self, held: _Held) -> None:
        first = held.given
        held.given += self._pace.fitting(islice(held.pieces, first, None))
        pieces = held.pieces[first : held.given]
        name = f"{held.unit.id}/{held.slices}"
        held.slices += 1
        held.open.add(name)
        self._begun[name] = (0.0, sum(map(expected_s, pieces)))
        document = {"id": name, "parts": joined(pieces)}
        self._write({"unit": document, "upto": held.given})
        self._waiting_said = False
        if not held.left:
            self._room.set()

    # -- out --------------------------------------------------------------------------------------

    async def _acknowledge(self) -> None:
        """Put into the queue what goes elsewhere, then take out what is done and stored."""
        if self._suite is not None:
            suite, self._suite = self._suite, None
            await self._patiently(lambda: self._queue.tell(suite.documents()))
        if self._gift is not None:
            (name, unit), self._gift = self._gift, None
            parts = split(unit, max(1, len(self._hungry)))
            documents = [(part.id, encode(part)) for part in parts]
            self._hungry.clear()
            await self._patiently(lambda: self._queue.put(documents))
            if name in self._held:
                self._held[name].putting = False
                self._write({"gave": name, "from": len(self._held[name].pieces)})
        for name, held in list(self._held.items()):
            if held.is_done(self._stored):
                await self._queue.done(held.handle)
                del self._held[name]
                self._room.set()

    def _give(self, now: float) -> None:
        """Let go of half of what the session has not got, to somebody who has nothing."""
        if not self._held:
            self._hungry.clear()  # as hungry as they are
        rich = [held for held in self._held.values() if held.left]
        if self._gift is not None or not rich or now - self._gave_at < GIVE_EVERY_S:
            return
        held = rich[-1]
        first = given_from(held.pieces, held.given) if held.slices else held.given
        given, held.pieces = held.pieces[first:], held.pieces[:first]
        held.putting = True
        self._room.set()
        self._gave_at = now
        # Named by its content: who gets the unit after this session may give other tests of it.
        name = f"{held.unit.id}-{first}to{first + len(given)}"
        self._gift = (held.unit.id, Unit(name, joined(given)))

    async def _look_whether_all_is_done(self) -> None:
        try:
            state = await self._queue.state()
        except NotFound:  # forgotten after long silence
            await self._patiently(self._queue.open)
            return
        except Unavailable as error:
            log.warning("queue_unavailable", problem=error.message)
            return
        now = asyncio.get_running_loop().time()
        since = self._dry_since if self._dry_since is not None else now
        is_forsaken = not state.closed and now - since > UNCLOSED_S_MAX
        if is_forsaken:
            log.warning("queue_forsaken", session=self._name, seconds=UNCLOSED_S_MAX)
        if (state.is_empty or is_forsaken) and not self._held:
            self._write({"end": True})
            self._ended = True

    def _say_wait(self) -> None:
        """Tell the session that nothing follows for now: it may run its last test."""
        if not self._waiting_said and not any(held.left for held in self._held.values()):
            self._waiting_said = True
            self._write({"wait": True})

    def _write(self, entry: dict[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(orjson.dumps(entry) + b"\n")

    async def _patiently(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask until the queue answers."""
        while True:
            try:
                return await ask()
            except DtestError as error:
                log.warning("queue_unavailable", problem=error.message, next_step=error.hint)
                await asyncio.sleep(AGAIN_S)
