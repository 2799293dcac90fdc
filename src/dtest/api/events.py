"""Events: list them, and follow them by WebSocket from any sequence number."""

import asyncio
from contextlib import suppress
from typing import Annotated

import orjson
import structlog
from fastapi import APIRouter, Query, WebSocket, WebSocketDisconnect

from dtest.api.context import ApiContext, Context
from dtest.api.listing import After, Cursor, Limit, Listing, one_of, page
from dtest.api.models import Page
from dtest.errors import DtestError, Overloaded
from dtest.journal.memory import fits
from dtest.journal.port import Stored

log = structlog.get_logger()

router = APIRouter(prefix="/api/events", tags=["events"])

EVENTS = Listing(
    "SELECT * FROM (SELECT *, printf('%020d/%06d', seq, idx) AS page_key FROM events)",
    "page_key",
    str,
    frozenset({"data"}),
)
RAW_CHARS_MAX = 10_000
SEND_S_MAX = 10.0
"""A reader that takes no message for so long is left: what it does not take piles up here."""
TELL_S_MAX = 5.0
"""Longest wait for a reader that is left to take the word about it."""
BAD_REQUEST = 1008
INTERNAL_ERROR = 1011
TRY_LATER = 1013
"""All places are taken."""
TOO_SLOW = 4408
"""The reader took nothing for ``SEND_S_MAX``; it may go on after the last number that it has."""
CLOSE_CHARS_MAX = 40
"""Of a closing frame's reason, which holds 123 bytes."""


@router.get("", summary="List events, newest first")
async def list_events(
    context: Context,
    type: Annotated[list[str] | None, Query(max_length=30)] = None,
    entity: Annotated[str | None, Query(max_length=200)] = None,
    refused: Annotated[bool | None, Query()] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
    after: After = None,
) -> Page:
    """Return events that fit all filters, refused ones included."""
    filters = {
        **dict([one_of("type", type)]),
        "entity = ?": entity,
        "(refusal IS NOT NULL) = ?": refused,
    }
    return await page(context, EVENTS, filters, limit=limit, cursor=cursor, after=after)


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    """Send each message of the journal after ``?after=`` as one JSON text, then those to come.

    ``?types=task.*,attempt.finished`` selects by type. Closing codes: 1008 a wrong query, 1011 the
    journal cannot be read, 1013 too many streams, 4408 this reader is too slow.
    """
    context: ApiContext = socket.app.state.context
    await socket.accept()
    try:
        async with context.admission.lanes.streams.through():
            await _stream(context, socket)
    except Overloaded as error:
        await socket.close(TRY_LATER, f"too many streams: try again in {error.retry_after_s} s")


async def _stream(context: ApiContext, socket: WebSocket) -> None:
    try:
        after = max(0, int(socket.query_params.get("after", "0")))
    except ValueError:
        await socket.close(BAD_REQUEST, "after must be a sequence number")
        return
    wanted = [name for name in socket.query_params.get("types", "").split(",") if name]
    bounds = await context.journal.bounds()
    after = min(after, bounds.last)
    reading = asyncio.ensure_future(_send(context, socket, after, wanted))  # noqa: TID251 - below
    closing = asyncio.ensure_future(_closed(socket))  # noqa: TID251 - both are awaited here
    try:
        await asyncio.wait({reading, closing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, closing):
            task.cancel()
        ended, _ = await asyncio.gather(reading, closing, return_exceptions=True)
    if isinstance(ended, TimeoutError):
        context.admission.readers_left += 1
        log.warning("event_reader_left", silent_s=SEND_S_MAX)
        with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(TELL_S_MAX):
                await socket.close(TOO_SLOW, f"nothing was taken for {SEND_S_MAX:g} s")
    elif isinstance(ended, DtestError):
        await socket.close(INTERNAL_ERROR, ended.message[:CLOSE_CHARS_MAX])


async def _closed(socket: WebSocket) -> None:
    try:
        while True:
            await socket.receive()
    except (WebSocketDisconnect, RuntimeError):  # starlette's word for: it is closed already
        return


async def _send(context: ApiContext, socket: WebSocket, after: int, wanted: list[str]) -> None:
    async with context.journal.follow(after) as feed:
        async for batch in feed:
            for stored in batch:
                text = as_message(stored, wanted)
                if text is not None:
                    async with asyncio.timeout(SEND_S_MAX):
                        await socket.send_text(text)


def as_message(stored: Stored, wanted: list[str]) -> str | None:
    """Return a message with its events as written; none if no event has a wanted type."""
    try:
        content = orjson.loads(stored.payload)
        return _message(stored, content, wanted)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):  # no JSON, or nested too deeply
        text = stored.payload[:RAW_CHARS_MAX].decode(errors="replace")
        return _message(stored, {"raw": text}, wanted)


def _message(stored: Stored, content: object, wanted: list[str]) -> str | None:
    events = content if isinstance(content, list) else [content]
    if wanted:
        events = [event for event in events if _is_wanted(event, wanted)]
        if not events:
            return None
    body = {"seq": stored.seq, "subject": stored.subject, "events": events}
    return orjson.dumps(body).decode()


def _is_wanted(event: object, wanted: list[str]) -> bool:
    wire = event.get("type") if isinstance(event, dict) else None
    if not isinstance(wire, str):
        return False
    name = wire.removeprefix("dev.dtest.").rpartition(".")[0]
    return any(fits(name, pattern) for pattern in wanted)
