"""How long a retry waits: exponential, bounded, spread by the task's id. Pure."""

import zlib

from dtest.events.parameters import Parameters


def backoff_s(parameters: Parameters, first_s: float, retry: int, salt: str) -> float:
    """Return the delay before retry number ``retry`` (from 0), seconds.

    Exponential, bounded, and spread by a hash of ``salt`` so that tasks which faulted together
    do not return together; the same arguments give the same delay.
    """
    if first_s <= 0:
        return 0.0
    full = min(first_s * parameters.backoff_factor ** min(retry, 64), parameters.delay_s_max)
    spread = zlib.crc32(f"{salt}/{retry}".encode()) / 0xFFFFFFFF
    return full * (1.0 - parameters.jitter + 2.0 * parameters.jitter * spread)
