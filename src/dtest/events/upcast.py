"""Old shapes of events become the latest shape before anyone else sees them.

One pure function per step, keyed by type and version. Events only grow optional fields, so a step
is needed where a meaning or a limit changes.
"""

from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _within(longest: dict[str, int]) -> Step:
    """Return a step to wider limits: what was beyond the old ones stays refused."""

    def step(data: dict[str, Any]) -> dict[str, Any]:
        for name, chars_max in longest.items():
            text = data.get(name)
            if isinstance(text, str) and len(text) > chars_max:
                return {**data, name: None}  # what no version accepts
        return data

    return step


STEPS: dict[tuple[str, int], Step] = {("testcase.finished", 1): _within({"nodeid": 4_096})}
"""``(type, n)`` maps to the function from the data of version n to that of version n + 1."""


def upcast(
    event_type: str,
    version: int,
    data: dict[str, Any],
    *,
    to_version: int,
    steps: Mapping[tuple[str, int], Step] = STEPS,
) -> dict[str, Any]:
    """Carry ``data`` from ``version`` up to ``to_version``.

    Raises KeyError if a step is missing; the caller refuses the event.
    """
    for step in range(version, to_version):
        data = steps[event_type, step](data)
    return data
