"""Sends the output of one attempt from its file to the output stream: bounded, binary-safe.

The head goes out while the attempt runs, the tail when it ended; what lies between is dropped
and counted, and its disk space given back. What is about to be sent is noted first: a restarted
agent sends the same chunk again, which the stream knows, and goes on behind it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

from dtest.agents.hole import punch
from dtest.agents.spool import Slot

CHUNK_BYTES = 256 << 10
HEAD_BYTES_MAX = 8 << 20
TAIL_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 64 << 20
"""On disk; more for as long as it takes to look again."""
LOOK_EVERY_S = 0.25
AGAIN_S = 1.0
"""Between trials to store output while there is no room for it."""
_STAT_BLOCK_BYTES = 512

Send = Callable[[int, bytes], Awaitable[None]]
"""Stores a chunk that starts at an offset; returns when it is acknowledged.

Raises OutputRefused where there is no room: what comes after the output must not wait for it.
"""


class OutputRefused(Exception):
    """The output stream takes nothing, though others may."""


class OutputPump:
    """The output of one attempt."""

    def __init__(self, slot: Slot, key: str, send: Send) -> None:
        self._slot = slot
        self._path = slot.path / "output.log"
        self._key = key
        self._send = send
        noted = slot.note("output.json", key) or {}
        self._gone = int(noted.get("gone", 0))
        """Bytes that once stood before the file's present start."""
        self._place = int(noted.get("place", 0))
        """How far the file was sent, or passed over."""
        self._chunk_bytes = int(noted.get("chunk_bytes", 0))
        """Of the chunk that was to be sent next when this was last noted."""
        self.sent = int(noted.get("sent", 0))
        self.is_finished = False

    @property
    def produced(self) -> int:
        """Bytes that the attempt wrote."""
        return self._gone + self._size()

    @property
    def dropped(self) -> int:
        """Bytes that were not sent; meaningful once finished."""
        return max(0, self.produced - self.sent)

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    async def follow(self) -> None:
        """Send the head as it grows, until cancelled."""
        while True:
            try:
                await self._send_head()
            except OutputRefused:  # it is on disk, and there may be room before it ends
                await asyncio.sleep(AGAIN_S)
            await asyncio.sleep(LOOK_EVERY_S)

    async def finish(self) -> None:
        """Send the rest of the head, then the tail; give up what there is no room for."""
        with suppress(OutputRefused):
            await self._send_rest()
        self.is_finished = True

    async def _send_rest(self) -> None:
        await self._send_head()
        size = self._size()
        self._place = max(self._place, size - TAIL_BYTES_MAX)
        while self._place < size and await self._send_next(size - self._place):
            pass

    def bound(self) -> None:
        """Give back what lies between head and tail once the file is too large."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return
        if found.st_blocks * _STAT_BLOCK_BYTES <= FILE_BYTES_MAX:
            return
        head_left = max(0, HEAD_BYTES_MAX - self.sent)
        if punch(self._path, self._place + head_left, found.st_size - TAIL_BYTES_MAX):
            return
        if not head_left:  # a file system without holes; what is written right now is not counted
            self._gone += found.st_size
            self._place = 0
            os.truncate(self._path, 0)  # the attempt appends: it goes on at the new end
            self._note()

    async def _send_head(self) -> None:
        size = self._size()
        if size < self._place:  # the attempt emptied it, as by opening /dev/stdout
            self._gone += self._place
            self._place = 0
        while self.sent < HEAD_BYTES_MAX and self._place < size:
            if not await self._send_next(min(HEAD_BYTES_MAX - self.sent, size - self._place)):
                return
            size = self._size()

    async def _send_next(self, room: int) -> bool:
        count = self._chunk_bytes or min(CHUNK_BYTES, room)
        chunk = self._read(count)
        if chunk:
            self._chunk_bytes = len(chunk)
            self._note()
            await self._send(self._gone + self._place, chunk)
            self._place += len(chunk)
            self.sent += len(chunk)
        self._chunk_bytes = 0
        return bool(chunk)

    def _read(self, count: int) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._place)
                return file.read(count)
        except FileNotFoundError:
            return b""  # the attempt removed its own directory

    def _note(self) -> None:
        self._slot.keep(
            "output.json",
            self._key,
            {
                "gone": self._gone,
                "place": self._place,
                "sent": self.sent,
                "chunk_bytes": self._chunk_bytes,
            },
        )
