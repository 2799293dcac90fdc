"""How schedulers hear and ask others at once: core NATS, where nothing is stored."""

from collections.abc import Awaitable, Callable
from typing import Protocol

NO_RESPONDERS = 503


class Line(Protocol):
    """A connection, as far as leadership needs it."""

    @property
    def is_connected(self) -> bool:
        """Say whether anything can be heard now."""
        ...

    async def ping(self, where: str, payload: bytes, *, timeout_s: float) -> int:
        """Return 0 for an answer, 503 if nobody is there; raise TimeoutError for neither."""
        ...

    async def listen(
        self, where: str, heard: Callable[[str, bytes], None]
    ) -> Callable[[], Awaitable[None]]:
        """Have ``heard(subject, payload)`` called for each message; returns how to stop that."""
        ...

    async def serve(
        self, where: str, answer: Callable[[bytes], bytes | None]
    ) -> Callable[[], Awaitable[None]]:
        """Answer each request there, or keep silent for none; returns how to stop that."""
        ...

    def on_reconnect(self, call: Callable[[], None]) -> Callable[[], None]:
        """Have ``call`` called after each reconnection; returns how to stop that."""
        ...
