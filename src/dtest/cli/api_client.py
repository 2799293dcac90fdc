"""The command line's side of the HTTP API: errors come back as dtest's own."""

import weakref
from typing import Any, Protocol

import httpx

from dtest.errors import (
    Conflict,
    DtestError,
    InvalidDocument,
    JournalFull,
    NotFound,
    PermissionRefused,
    TimedOut,
    Unavailable,
)
from dtest.settings import Settings

REQUEST_S_MAX = 40.0
_ERRORS: dict[int, type[DtestError]] = {
    400: InvalidDocument,
    401: PermissionRefused,
    403: PermissionRefused,
    404: NotFound,
    409: Conflict,
    422: InvalidDocument,
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

    def __init__(self, url: str, token: str) -> None:
        self.url = url
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

    def content(self, path: str, **query: object) -> bytes:
        """Return the bytes of an answer."""
        chosen: dict[str, Any] = {name: value for name, value in query.items() if value is not None}
        return self._request("GET", path, params=chosen).content

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        return dict(self._request(method, path, **options).json())

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        try:
            answer = self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            message = f"the API at {self.url} did not answer {path} in {REQUEST_S_MAX:g} s"
            raise TimedOut(message) from error
        except httpx.HTTPError as error:
            message = f"no API answers at {self.url}"
            raise Unavailable(
                message, hint="start one with `dtest up`, or set DTEST_API_URL"
            ) from error
        if answer.is_success:
            return answer
        try:
            problem = answer.json()["error"]
            message, hint = str(problem["message"]), str(problem.get("hint", ""))
        except (ValueError, KeyError, TypeError):
            message, hint = f"{path}: HTTP {answer.status_code}", ""
        raise _ERRORS.get(answer.status_code, DtestError)(message, hint=hint)


def open_api(settings: Settings) -> ApiClient:
    """Return the client of the settings' API. Raises Unavailable if nothing runs."""
    return ApiClient(settings.require("api_url"), settings.require("token"))
