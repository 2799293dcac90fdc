"""Who is let in: the lanes before any body is read, and patience with slow callers.

A caller who sends or takes nothing for long would hold a place for nothing, so it loses it.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from starlette.exceptions import HTTPException

from dtest.api.auth import App, Receive, Scope, Send
from dtest.api.backlog import Backlog
from dtest.api.body import BODY_BYTES_MAX
from dtest.api.lanes import Lane, Lanes
from dtest.api.limits import ApiLimits
from dtest.api.problems import overloaded
from dtest.errors import Overloaded

log = structlog.get_logger()

CALLER_S_MAX = 30.0
"""Longest wait for the next part of a body, and for a caller to take a part of its answer."""
READING_MAX = 2
"""Statements at once: more would only take turns, and leave less to everything else."""
_TOO_SLOW = 408


class Admission:
    """The bounds of one API process, and what they did so far."""

    def __init__(self, limits: ApiLimits, *, monotonic: Callable[[], float]) -> None:
        self.limits = limits
        self.lanes = Lanes(limits, monotonic=monotonic)
        self.backlog = Backlog(limits.backlog_tasks_max, monotonic=monotonic)
        self.reading = asyncio.Semaphore(READING_MAX)
        """Held by each statement that the read model runs for a lane."""
        self.readers_left = 0
        """Event streams that were closed because their reader was too slow."""


class Doorkeeper:
    """ASGI middleware: each request through its lane."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or answer 429."""
        if scope["type"] != "http":  # event streams take their places themselves, and are told so
            await self._app(scope, receive, send)
            return
        lanes: Lanes = scope["app"].state.context.admission.lanes
        lane = lanes.of(scope["method"], scope["path"], scope["query_string"])
        if lane is None:
            await self._app(scope, receive, send)
            return
        caller = _Caller(receive, send)
        try:
            has_body = lane in (lanes.submissions, lanes.uploads)
            async with lane.through(_body_bytes(scope) if has_body else 0):
                await self._pass(scope, caller, lane)
        except Overloaded as error:
            await overloaded(error)(scope, receive, send)

    async def _pass(self, scope: Scope, caller: "_Caller", lane: Lane) -> None:
        try:
            await self._app(scope, caller.receive, caller.send)
        except Exception:
            if not caller.is_gone:
                raise
            log.warning("caller_left", lane=lane.kind, path=scope["path"], silent_s=CALLER_S_MAX)


def _body_bytes(scope: Scope) -> int:
    """Return the size that a request states for its body, else the largest that is taken."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return int(length) if length.isdigit() else BODY_BYTES_MAX


class _Caller:
    """The other end of one request, with bounds on its slowness."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.is_gone = False
        self._receive = receive
        self._send = send
        self._has_body = True

    async def receive(self) -> Any:  # noqa: ANN401 - ASGI's messages
        """Return the next message of the caller."""
        if not self._has_body:  # what comes is the end of the connection
            return await self._receive()
        try:
            async with asyncio.timeout(CALLER_S_MAX):
                message = await self._receive()
        except TimeoutError:
            text = f"no part of the body came for {CALLER_S_MAX:g} s"
            raise HTTPException(_TOO_SLOW, text) from None
        self._has_body = bool(message.get("more_body"))
        return message

    async def send(self, message: Any) -> None:  # noqa: ANN401 - ASGI's messages
        """Send a part of the answer."""
        try:
            async with asyncio.timeout(CALLER_S_MAX):
                await self._send(message)
        except TimeoutError:
            self.is_gone = True
            raise
