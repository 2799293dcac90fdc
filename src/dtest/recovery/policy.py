"""The settings of recovery as one frozen value, and the backoff that follows from them."""

import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """Budgets and delays; a task's own ``retry_policy`` governs failures, this governs faults."""

    faults_max: int = 3
    """Retries after infrastructure faults, for each task."""
    fault_delay_s: float = 1.0
    refusal_delay_s: float = 0.2
    backoff_factor: float = 2.0
    delay_s_max: float = 300.0
    jitter: float = 0.2
    """Part of a delay that is spread by the task's id, from 0 to 1."""


DEFAULT_RECOVERY = RecoveryPolicy()


def backoff_s(policy: RecoveryPolicy, first_s: float, retry: int, salt: str) -> float:
    """Return the delay before retry number ``retry`` (from 0), seconds.

    Exponential, bounded, and spread by a hash of ``salt`` so that tasks which faulted together
    do not return together; the same arguments give the same delay.
    """
    if first_s <= 0:
        return 0.0
    full = min(first_s * policy.backoff_factor ** min(retry, 64), policy.delay_s_max)
    spread = zlib.crc32(f"{salt}/{retry}".encode()) / 0xFFFFFFFF
    return full * (1.0 - policy.jitter + 2.0 * policy.jitter * spread)
