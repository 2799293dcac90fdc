"""The command line's side of the HTTP API: errors come back as dtest's own."""

import sys
import time
import weakref
from typing import Any, Protocol

import httpx

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


class Asked(Protocol):
    """What answers questions."""

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask; query values that are none are left out."""
        ...


class ApiClient:
    """One API, by its address and token."""

    def __init__(self, url: str, token: str, *, busy_wait_s: float) -> None:
        self.url = url
        self._busy_wait_s = busy_wait_s
        """How long one request waits in all while the API takes no more, or the journal is away."""
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=REQUEST_S_MAX, trust_env=False
        )
        weakref.finalize(self, self._http.close)

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask; query values that are none are left out."""
        chosen: dict[str, Any] = {name: value for name, value in query.items() if value is not None}
        return self._json("GET", path, params=chosen)

    def post(self, path: str, body: object = None, **headers: str) -> dict[str, Any]:
        """Send a document."""
        return self._json("POST", path, json=body, headers=headers)

    def submit(self, body: object, *, key: str | None = None) -> dict[str, Any]:
        """Submit tasks once, however often it has to be said; the default key is a new one."""
        return self.post("/api/tasks/submit", body, **{KEY: key or IdSource()()})

    def post_bytes(self, path: str, content: bytes) -> dict[str, Any]:
        """Send bytes."""
        headers = {"Content-Type": "application/octet-stream"}
        return self._json("POST", path, content=content, headers=headers)

    def content(self, path: str, **query: object) -> bytes:
        """Return the bytes of an answer."""
        chosen: dict[str, Any] = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", path, params=chosen).content

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        return dict(self._request(method, path, **options).json())

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        """Ask until the API can do it, as often and as late as it says."""
        waited_s = 0.0
        is_safe = method == "GET" or KEY in options.get("headers", {})
        while True:
            answer = self._asked(method, path, **options)
            why = _passing(answer, is_safe=is_safe)
            if not why:
                break
            told_s = _retry_after_s(answer)
            wait_s = told_s + JITTER * told_s * jitter()
            if waited_s + wait_s > self._busy_wait_s:
                break
            text = f"dtest: {why}; asking again in {wait_s:.0f} s"
            print(text, file=sys.stderr, flush=True)
            time.sleep(wait_s)
            waited_s += wait_s
        if answer.is_success:
            return answer
        raise _problem(answer, path, waited_s)

    def _asked(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        try:
            return self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            message = f"the API at {self.url} did not answer {path} in {REQUEST_S_MAX:g} s"
            raise TimedOut(message) from error
        except httpx.HTTPError as error:
            message = f"no API answers at {self.url}"
            raise Unavailable(
                message, hint="start one with `dtest up`, or set DTEST_API_URL"
            ) from error


def _passing(answer: httpx.Response, *, is_safe: bool) -> str:
    """Say why the same may be asked again later; nothing if it may not.

    While the journal is away it is unknown whether something was stored: only what changes
    nothing, or is recognised when it comes again, is safe to repeat.
    """
    if answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return "the API is overloaded"
    is_away = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
    return "the journal is away" if is_away and is_safe and "Retry-After" in answer.headers else ""


def _retry_after_s(answer: httpx.Response) -> int:
    """Read when to ask again; a date, or nonsense, counts as soon."""
    told = answer.headers.get("Retry-After", "")
    return max(1, int(told)) if told.isascii() and told.isdigit() else 1


def _problem(answer: httpx.Response, path: str, waited_s: float) -> DtestError:
    try:
        problem = answer.json()["error"]
        message, hint = str(problem["message"]), str(problem.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        message, hint = f"{path}: HTTP {answer.status_code}", ""
    kind = _ERRORS.get(answer.status_code, DtestError)
    if kind is Unavailable and waited_s:
        message = f"{message} (waited {waited_s:.0f} s)"
    if kind is Overloaded:
        message = f"{message} (waited {waited_s:.0f} s)"
        hint = "submit less at once, add workers, or wait longer: DTEST_BUSY_WAIT_S"
    return kind(message, hint=hint)


def open_api(settings: Settings) -> ApiClient:
    """Return the client of the settings' API. Raises Unavailable if nothing runs."""
    return ApiClient(
        settings.require("api_url"),
        settings.require("token"),
        busy_wait_s=settings.limit("busy_wait_s"),
    )
