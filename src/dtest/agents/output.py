"""Sends the output of one attempt from its file to the output stream: bounded, binary-safe.

The head goes out while the attempt runs, the tail when it ended; what lies between is dropped
and counted. A file that grows beyond its bound is cut, so no attempt can fill the disk.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

CHUNK_BYTES = 256 << 10
HEAD_BYTES_MAX = 8 << 20
TAIL_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 64 << 20

Send = Callable[[int, bytes], Awaitable[None]]
"""Stores a chunk that starts at an offset; returns when it is acknowledged."""


class OutputPump:
    """The output of one attempt."""

    def __init__(self, path: Path, send: Send) -> None:
        self._path = path
        self._send = send
        self._read = 0
        """Place in the file."""
        self._cut = 0
        """Bytes that were cut off the file's start."""
        self.sent = 0
        self.dropped = 0

    @property
    def produced(self) -> int:
        """Bytes that the attempt wrote, as far as they were seen."""
        return self._cut + self._size()

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    async def pump(self) -> int:
        """Send what is new of the head; return the bytes seen so far."""
        size = self._size()
        while self.sent < HEAD_BYTES_MAX and self._read < size:
            room = min(CHUNK_BYTES, HEAD_BYTES_MAX - self.sent, size - self._read)
            await self._send_next(room)
        if size > FILE_BYTES_MAX and self.sent >= HEAD_BYTES_MAX:
            self.dropped += size - self._read
            self._cut += size
            self._read = 0
            os.truncate(self._path, 0)  # the attempt appends: it goes on at the new end
        return self._cut + size

    async def finish(self) -> None:
        """Send the rest of the head, then the tail."""
        await self.pump()
        size = self._size()
        skipped = max(0, size - self._read - TAIL_BYTES_MAX)
        self.dropped += skipped
        self._read += skipped
        while self._read < size:
            await self._send_next(min(CHUNK_BYTES, size - self._read))

    async def _send_next(self, count: int) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read)
            chunk = file.read(count)
        await self._send(self._cut + self._read, chunk)
        self._read += len(chunk)
        self.sent += len(chunk)
