"""A caller's side of the HTTP API: errors come back as dtest's own.

Asks by httpcore, the half of httpx that sends and receives: the other half, which a call of the
command line does not need, would take longer to load than most calls take.
"""

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

import httpcore
import orjson

from dtest.errors import (
    Conflict,
    DtestError,
    InvalidDocument,
    JournalFull,
    NotFound,
    Overloaded,
    PermissionRefused,
    TimedOut,
    Unavailable,
)
from dtest.runtime.ids import IdSource, jitter
from dtest.settings import Settings

REQUEST_S_MAX = 40.0
FIRST_ERROR = 300
"""Redirections are none of this API's answers."""
NONE: Mapping[str, str] = {}
Made = TypeVar("Made")
_TIMEOUT = dict.fromkeys(("connect", "read", "write", "pool"), REQUEST_S_MAX)
_FAILED = (
    *(httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol),
    ValueError,  # of what is no address
)
KEY = "Idempotency-Key"
JITTER = 0.25
"""Of the wait: those who are told the same do not all come back at once."""
_ERRORS: dict[int, type[DtestError]] = {
    400: InvalidDocument,
    401: PermissionRefused,
    403: PermissionRefused,
    404: NotFound,
    409: Conflict,
    422: InvalidDocument,
    429: Overloaded,
    503: Unavailable,
    504: TimedOut,
    507: JournalFull,
}


def nobody(_: str) -> None:
    """Tell nobody."""


class Asked(Protocol):
    """What answers questions."""

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask; query values that are none are left out."""
        ...


class Streamed(Asked, Protocol):
    """What answers at length, too."""

    def lines(
        self, path: str, make: Callable[[dict[str, Any]], Made], **query: object
    ) -> list[Made]:
        """Ask for an answer of one document on each line; return what is made of each."""
        ...


class ApiClient:
    """One API, by its address and token."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        busy_wait_s: float,
        tell: Callable[[str], None] = nobody,
    ) -> None:
        self.url = url
        self._tell = tell
        """Told when a request has to be made again later."""
        self._busy_wait_s = busy_wait_s
        """How long one request waits in all while the API takes no more, or the journal is away."""
        self._headers = {"Authorization": f"Bearer {token}"}
        self._http = httpcore.ConnectionPool()
        weakref.finalize(self, self._http.close)

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask; query values that are none are left out."""
        return self._document("GET", _with(path, query))

    def post(self, path: str, body: object = None, **headers: str) -> dict[str, Any]:
        """Send a document."""
        stated = {"Content-Type": "application/json", **headers}
        content = None if body is None else orjson.dumps(body)
        return self._document("POST", _quoted(path), content, stated)

    def submit(self, body: object, *, key: str | None = None) -> dict[str, Any]:
        """Submit tasks once, however often it has to be said; the default key is a new one."""
        return self.post("/api/tasks/submit", body, **{KEY: key or IdSource()()})

    def post_bytes(self, path: str, content: bytes) -> dict[str, Any]:
        """Send bytes."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._document("POST", _quoted(path), content, headers)

    def content(self, path: str, **query: object) -> bytes:
        """Return the bytes of an answer."""
        return self._request("GET", _with(path, query)).content

    def lines(
        self, path: str, make: Callable[[dict[str, Any]], Made], **query: object
    ) -> list[Made]:
        """Return what is made of each line of an answer, which is read piece by piece."""
        waited_s = 0.0
        while True:
            with self._streamed("GET", _with(path, query)) as answer:
                if answer.status < FIRST_ERROR:
                    return self._made(answer, path, make)
                answer.read()
            wait_s = self._waits(answer, waited_s, is_safe=True)
            if wait_s is None:
                raise _problem(answer, path, waited_s)
            waited_s += wait_s

    def _made(
        self, answer: httpcore.Response, path: str, make: Callable[[dict[str, Any]], Made]
    ) -> list[Made]:
        made: list[Made] = []
        rest = b""
        end: int | None = None
        for chunk in answer.iter_stream():
            *whole, rest = (rest + chunk).split(b"\n")
            try:
                for document in map(orjson.loads, whole):
                    if document.keys() == {"end"}:
                        end = document["end"]
                    else:
                        made.append(make(document))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise self._no_api(path) from error
        if end is None and made and not rest:
            message = f"the answer of {self.url} broke off: {path}"
            raise Unavailable(message, hint="ask again")
        if rest or end != len(made):
            raise self._no_api(path)
        return made

    def _no_api(self, path: str) -> Unavailable:
        message = f"what answers at {self.url} is no API of dtest: {path} is not what it answers"
        return Unavailable(message, hint="see DTEST_API_URL and --api")

    def _document(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] = NONE,
    ) -> dict[str, Any]:
        answer = self._request(method, path, content, headers)
        try:
            return dict(orjson.loads(answer.content))
        except (ValueError, TypeError) as error:
            raise self._no_api(path) from error

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] = NONE,
    ) -> httpcore.Response:
        """Ask until the API can do it, as often and as late as it says."""
        waited_s = 0.0
        is_safe = method == "GET" or KEY in headers
        while True:
            answer = self._asked(method, path, content, headers)
            wait_s = self._waits(answer, waited_s, is_safe=is_safe)
            if wait_s is None:
                break
            waited_s += wait_s
        if answer.status < FIRST_ERROR:
            return answer
        raise _problem(answer, path, waited_s)

    def _waits(self, answer: httpcore.Response, waited_s: float, *, is_safe: bool) -> float | None:
        """Wait as long as an answer says; return how long, or none if the same is not asked again.

        ``waited_s`` is how long this request has waited already.
        """
        why = _passing(answer, is_safe=is_safe)
        if not why:
            return None
        told_s = _retry_after_s(answer)
        wait_s = told_s + JITTER * told_s * jitter()
        if waited_s + wait_s > self._busy_wait_s:
            return None
        self._tell(f"{why}; asking again in {wait_s:.0f} s")
        time.sleep(wait_s)
        return wait_s

    def _asked(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpcore.Response:
        with self._streamed(method, path, content, headers) as answer:
            answer.read()
            return answer

    @contextmanager
    def _streamed(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] = NONE,
    ) -> Iterator[httpcore.Response]:
        """Ask once; the block reads the answer. Raises TimedOut or Unavailable."""
        try:
            with self._http.stream(
                method,
                f"{self.url.rstrip('/')}{path}".encode("ascii"),
                headers=[
                    (name.encode(), value.encode())
                    for name, value in {**self._headers, **headers}.items()
                ],
                content=content,
                extensions={"timeout": _TIMEOUT},
            ) as answer:
                yield answer
        except httpcore.TimeoutException as error:
            message = f"the API at {self.url} did not answer {path} in {REQUEST_S_MAX:g} s"
            raise TimedOut(message) from error
        except _FAILED as error:
            message = f"no API answers at {self.url}"
            raise Unavailable(
                message, hint="start one with `dtest up`, or set DTEST_API_URL"
            ) from error


def _with(path: str, query: Mapping[str, object]) -> str:
    """Return a path with a query; values that are none are left out."""
    chosen = {name: _written(value) for name, value in query.items() if value is not None}
    return f"{_quoted(path)}?{urlencode(chosen, doseq=True)}" if chosen else _quoted(path)


def _quoted(path: str) -> str:
    return quote(path, safe="/%:@+,;=~", errors="surrogateescape")


def _written(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _header(answer: httpcore.Response, name: str) -> str:
    found = (value for key, value in answer.headers if key.lower() == name.lower().encode())
    return next(found, b"").decode(errors="replace")


def _passing(answer: httpcore.Response, *, is_safe: bool) -> str:
    """Say why the same may be asked again later; nothing if it may not.

    While the journal is away it is unknown whether something was stored: only what changes
    nothing, or is recognised when it comes again, is safe to repeat.
    """
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return "the API is overloaded"
    is_away = answer.status == HTTPStatus.SERVICE_UNAVAILABLE
    return "the journal is away" if is_away and is_safe and _header(answer, "Retry-After") else ""


def _retry_after_s(answer: httpcore.Response) -> int:
    """Read when to ask again; a date, or nonsense, counts as soon."""
    told = _header(answer, "Retry-After")
    return max(1, int(told)) if told.isascii() and told.isdigit() else 1


def _problem(answer: httpcore.Response, path: str, waited_s: float) -> DtestError:
    try:
        problem = orjson.loads(answer.content)["error"]
        message, hint = str(problem["message"]), str(problem.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        message, hint = f"{path}: HTTP {answer.status}", ""
    kind = _ERRORS.get(answer.status, DtestError)
    if kind is Unavailable and waited_s:
        message = f"{message} (waited {waited_s:.0f} s)"
    if kind is Overloaded:
        message = f"{message} (waited {waited_s:.0f} s)"
        hint = "submit less at once, add workers, or wait longer: DTEST_BUSY_WAIT_S"
    return kind(message, hint=hint)


def open_api(settings: Settings, *, tell: Callable[[str], None] = nobody) -> ApiClient:
    """Return the client of the settings' API. Raises Unavailable if nothing runs."""
    return ApiClient(
        settings.require("api_url"),
        settings.require("token"),
        busy_wait_s=settings.limit("busy_wait_s"),
        tell=tell,
    )
