"""Old shapes of events become the latest shape before anyone else sees them.

One pure function per step, keyed by type and version. Events only grow optional fields, so the
table stays empty until a meaning changes.
"""

from collections.abc import Callable, Mapping
from typing import Any

Step = Callable[[dict[str, Any]], dict[str, Any]]
STEPS: dict[tuple[str, int], Step] = {}
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
