"""Who may ask: the bearer token, or a person's cookie, and no web page of another origin.

A token alone would not do: a page in the user's browser can reach loopback, and DNS can be made
to point there. So Host must name this server, and Origin, if a browser sends one, too. A browser
sends a cookie by itself, and to all servers of a host: a cookie lets nobody change anything, and
follows events only from a page of this server.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from dtest.api.body import BODY_BYTES_MAX
from dtest.api.login import PATH, Logins

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/api/health", PATH})
"""Answered without a token: the one says only that the process lives, the other wants a code."""
SAFE_METHODS = frozenset({"GET", "HEAD"})
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_TOO_LARGE = 413
_CODES = {_UNAUTHORIZED: "unauthorized", _FORBIDDEN: "forbidden", _TOO_LARGE: "too_large"}
_POLICY_VIOLATION = 1008


class Gate:
    """ASGI middleware in front of everything, WebSockets included."""

    def __init__(self, app: App, *, token: str, hosts: Iterable[str], logins: Logins) -> None:
        self._app = app
        self._logins = logins
        self._token = token.encode()
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal[1]})
        else:
            await _refuse(send, *refusal)

    def _refusal(self, scope: Scope) -> tuple[int, str, str] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if host not in self._hosts:
            return _FORBIDDEN, f"this server is not called {host!r}", "use its own address"
        origin = headers.get(b"origin")
        if origin is not None and _place(origin) not in self._hosts:
            return _FORBIDDEN, "pages of another origin may not ask", "ask from the same origin"
        if scope["path"] in OPEN_PATHS:
            return None
        if not self._knows(scope, headers, has_origin=origin is not None):
            hint = "send `Authorization: Bearer TOKEN`, or open the link of `dtest login`"
            return _UNAUTHORIZED, "a valid token is required", hint
        length = headers.get(b"content-length", "0")
        if length.isdigit() and int(length) > BODY_BYTES_MAX:
            message = f"a body holds at most {BODY_BYTES_MAX} bytes, this one {length}"
            return _TOO_LARGE, message, "send it in parts"
        return None

    def _knows(self, scope: Scope, headers: dict[bytes, str], *, has_origin: bool) -> bool:
        """Say whether the token is there, or a cookie that may be taken for one here."""
        scheme, _, given = headers.get(b"authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.encode(), self._token)
        may_have = scope["method"] in SAFE_METHODS if scope["type"] == "http" else has_origin
        return may_have and self._logins.is_logged_in(headers.get(b"cookie", ""))


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


async def _refuse(send: Send, status: int, message: str, hint: str) -> None:
    error = {"code": _CODES[status], "message": message, "hint": hint}
    body = orjson.dumps({"error": error})
    headers = [(b"content-type", b"application/json")]
    if status == _UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
