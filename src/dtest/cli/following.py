"""``dtest task logs --follow``: the output of a task as it comes, over attempts and absences."""

import base64
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from dtest.caller.api_client import Asked
from dtest.cli.output import say
from dtest.errors import TimedOut, Unavailable

WAIT_S = 15.0
"""How long one question waits for something new."""
AWAY_S_MAX = 120.0
"""How long the API, or the journal behind it, may be away."""
AGAIN_S = 0.5


def follow_output(
    connect: Callable[[], Asked],
    task: str,
    *,
    attempt: int | None,
    to: BinaryIO,
    look: Callable[[], float] = lambda: WAIT_S,
) -> None:
    """Write the output of an attempt, and of those after it, until the task has ended.

    ``connect`` is called anew when the API was away: it may come back elsewhere. Each byte is
    written once. ``look`` is called before each question: it says how long that may wait, and
    raises what ends the following. Raises NotFound, and Unavailable or TimedOut when the API stays
    away.
    """
    asking = _Asking(connect)
    after, told = "0:0", 0
    while True:
        path = f"/api/tasks/{task}/output"
        piece = asking.get(path, attempt=attempt, after=after, wait_s=look())
        task, attempt, after = piece["task_id"], int(piece["attempt"]), piece["next"]
        if told and told < attempt <= piece["latest_attempt"]:
            say(f"attempt {attempt} starts")
        told = max(told, min(attempt, piece["latest_attempt"]))
        to.write(base64.b64decode(piece["data"]))
        to.flush()
        if not piece["complete"]:
            continue
        if piece["final"] and piece["latest_attempt"] <= attempt:
            return
        attempt, after = attempt + 1, "0:0"


class _Asking:
    """An API that may be away for a while, and then come back elsewhere."""

    def __init__(self, connect: Callable[[], Asked]) -> None:
        self._connect = connect
        self._api = connect()
        self._answered = False

    def get(self, path: str, **query: object) -> dict[str, Any]:
        """Ask until there is an answer."""
        deadline = time.monotonic() + AWAY_S_MAX
        told = False
        while True:
            try:
                answer = self._api.get(path, **query)
            except (Unavailable, TimedOut) as error:
                if time.monotonic() > deadline or not self._answered:
                    raise
                if not told:
                    say(f"{error.message}; asking again")
                told = True
                time.sleep(AGAIN_S)
                self._api = self._again()
                continue
            self._answered = True
            return answer

    def _again(self) -> Asked:
        try:
            return self._connect()
        except Unavailable:  # the file that tells where it is is away as well
            return self._api
