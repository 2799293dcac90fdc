"""JetStream's own API: asked patiently, and its answers read."""

import asyncio
import base64
import json
from datetime import datetime
from typing import Any

from dtest.errors import Unavailable
from dtest.journal.connection import Connection
from dtest.journal.port import Bounds, Stored

ASK_S_MAX = 2.0
"""A cluster that elects drops what it is asked: ask again soon."""
ASK_S_MIN = 0.1
ASK_AGAIN_S = 0.1
PATIENCE_S = 30.0
NO_MESSAGE = 10037
NOT_NOW = frozenset({10008, 10009})
"""A cluster has no leader at this moment, or another one than it had."""
_ID = b"Nats-Msg-Id:"
_NOBODY = {"description": "nobody serves it"}


async def ask_api(
    connection: Connection,
    verb: str,
    request: dict[str, object],
    *,
    wait_s: float = PATIENCE_S,
    again: frozenset[int] = frozenset(),
) -> dict[str, Any]:
    """Ask JetStream's API, patiently: a server that just started answers late.

    Errors with a code of ``again`` are asked about again, too, and returned when the time is over.
    Raises Unavailable or PermissionRefused.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait_s
    body = json.dumps(request).encode() if request else b""
    while True:
        try:
            left_s = max(ASK_S_MIN, deadline - loop.time())
            answer = await connection.ask(f"$JS.API.{verb}", body, timeout_s=min(ASK_S_MAX, left_s))
            reply = answer.json() if answer.status == 0 else {"error": _NOBODY}
            error = reply.get("error", {})
            code = error.get("err_code")
            if error is not _NOBODY and code not in NOT_NOW | again:
                return reply
            if code in again and loop.time() > deadline:
                return reply
            problem = str(error.get("description"))
        except TimeoutError as error:
            problem = str(error) or "no answer"
        if loop.time() > deadline:
            message = f"JetStream does not answer {verb}: {problem}"
            raise Unavailable(message, hint="is JetStream enabled on the server?")
        await asyncio.sleep(ASK_AGAIN_S)


async def get_message(
    connection: Connection,
    stream: str,
    request: dict[str, object],
    *,
    wait_s: float = PATIENCE_S,
) -> Stored | None:
    """Return one message of a stream. Raises as ``ask_api``."""
    reply = await ask_api(connection, f"STREAM.MSG.GET.{stream}", request, wait_s=wait_s)
    error = reply.get("error")
    if error is not None:
        if error.get("err_code") == NO_MESSAGE:
            return None
        message = f"{stream}: {error.get('description')}"
        raise Unavailable(message)
    found = reply["message"]
    headers = base64.b64decode(found.get("hdrs", ""))
    ids = [line for line in headers.split(b"\r\n") if line.startswith(_ID)]
    return Stored(
        int(found["seq"]),
        str(found["subject"]),
        datetime.fromisoformat(found["time"]).timestamp(),
        ids[-1][len(_ID) :].strip().decode(errors="replace") if ids else "",
        base64.b64decode(found.get("data", "")),
    )


async def get_info(
    connection: Connection, stream: str, *, wait_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Return what the server says about a stream. Raises as ``ask_api``."""
    reply = await ask_api(connection, f"STREAM.INFO.{stream}", {}, wait_s=wait_s)
    if "error" in reply:
        message = f"{stream}: {reply['error'].get('description')}"
        raise Unavailable(message, hint="create the streams with `dtest server migrate`")
    return reply


async def get_bounds(connection: Connection, stream: str, *, wait_s: float = PATIENCE_S) -> Bounds:
    """Return what a stream holds. Raises as ``ask_api``."""
    return bounds_of(await get_info(connection, stream, wait_s=wait_s))


def bounds_of(info: dict[str, Any]) -> Bounds:
    """Read what a stream holds."""
    state = info["state"]
    first, last = int(state["first_seq"]), int(state["last_seq"])
    limit = int(info["config"].get("max_bytes", -1))
    return Bounds(
        first,
        last,
        int(state["messages"]),
        str(info["created"]),
        int(state["bytes"]),
        limit if limit > 0 else None,
    )
