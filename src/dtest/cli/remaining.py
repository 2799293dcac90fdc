"""How long a run will take from now on, by how many of its tests ended lately. Pure."""

from bisect import bisect_left

LOOKS_MAX = 2_000
"""Remembered; then every other one is forgotten."""


class Remaining:
    """The looks at one run."""

    def __init__(self) -> None:
        self._times_s: list[float] = [0.0]
        self._done: list[int] = [0]

    def note(self, since_s: float, done: int) -> None:
        """Take how many tests had ended ``since_s`` seconds after the first could begin."""
        if since_s <= self._times_s[-1]:
            return
        self._times_s.append(since_s)
        self._done.append(done)
        if len(self._times_s) > LOOKS_MAX:
            self._times_s, self._done = self._times_s[::2], self._done[::2]

    def left_s(self, total: int) -> float | None:
        """Return the seconds until all have ended, if it goes on as in the latter half so far.

        The beginning counts no more: sessions start, and what takes long is run first. None while
        nothing has ended lately.
        """
        now_s, done = self._times_s[-1], self._done[-1]
        before = max(0, bisect_left(self._times_s, now_s / 2) - 1)
        lately = done - self._done[before]
        if lately <= 0:
            return None
        return (total - done) * (now_s - self._times_s[before]) / lately
