"""An API that may be away for a moment: what is safe to ask again is asked again."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from dtest.caller.api_client import ApiClient
from dtest.errors import TimedOut, Unavailable

SILENCE_S_MAX = 30.0
"""How long an API that has answered before may be away: a local one is started again."""
AGAIN_S = 0.3
Made = TypeVar("Made")


class PatientApi:
    """An API, asked until there is an answer; ``tell`` is told when it is away."""

    def __init__(self, api: ApiClient, tell: Callable[[str], None]) -> None:
        self._api = api
        self._tell = tell

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask. Raises Unavailable or TimedOut when it stays away."""
        return self._until_answered(lambda: self._api.get(path, **query))

    def lines(
        self, path: str, make: Callable[[dict[str, Any]], Made], **query: object
    ) -> list[Made]:
        """Ask for lines; all over again if the answer breaks off."""
        return self._until_answered(lambda: self._api.lines(path, make, **query))

    def post_once(self, path: str, body: object, *, key: str) -> dict[str, Any]:
        """Send a document that has one effect, however often it is sent under the key."""
        return self._until_answered(lambda: self._api.post(path, body, **{"Idempotency-Key": key}))

    def post_again(self, path: str, body: object) -> dict[str, Any]:
        """Send a document that may have its effect twice."""
        return self._until_answered(lambda: self._api.post(path, body))

    def _until_answered(self, ask: Callable[[], Made]) -> Made:
        deadline = time.monotonic() + SILENCE_S_MAX
        told = False
        while True:
            try:
                return ask()
            except (Unavailable, TimedOut) as error:
                if time.monotonic() > deadline:
                    raise
                if not told:
                    self._tell(f"{error.message}; asking again")
                told = True
                time.sleep(AGAIN_S)
