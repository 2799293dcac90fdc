"""The settings of recovery as one frozen value, and the backoff that follows from them."""

import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from dtest.events.policy import Strategy

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """Budgets and delays; a task's own ``retry_policy`` governs failures, this governs faults."""

    faults_max: int = 3
    """Retries after infrastructure faults, for each task."""
    refusals_max: int = 20
    """Refused or unaccepted attempts of one task before it is given up."""
    preemptions_max: int = 50
    """Attempts of one task that were handed back or taken away before it is given up."""
    timeout_multiplier: float = 1.5
    """A retry after a time-out has this many times the time of the attempt before it."""
    timeout_factor_max: float = 10.0
    """Longest time-out of any retry, as a multiple of what the task states."""
    timeout_observed_factor: float = 10.0
    """Time-out of the one repetition after a limit that nobody stated, by that limit."""
    undersized_part: float = 0.9
    """An attempt that used so much of its machine's memory was too large for it, from 0 to 1."""
    memory_multiplier: float = 1.5
    """Memory limit of the repetition on a larger machine, by what the task states."""
    larger_wait_s: float = 300.0
    """So long a task waits for a larger place of which none takes work."""
    fault_delay_s: float = 1.0
    refusal_delay_s: float = 0.2
    backoff_factor: float = 2.0
    delay_s_max: float = 300.0
    jitter: float = 0.2
    """Part of a delay that is spread by the task's id, from 0 to 1."""
    breaker_threshold: int = 3
    """Faults in a row, of so many tasks, that open a breaker."""
    breaker_open_s: float = 300.0
    kind_workers_min: int = 2
    """Faults in a row open a signature's breaker only if they come from so many workers."""
    kind_openings_max: int = 3
    """After so many openings in a row the waiting tasks of a kind are given up."""
    fleet_workers_min: int = 3
    """So many workers that trip on one kind, within the window, are not to blame."""
    fleet_ratio_min: float = 1 / 3
    """Of the workers that ran it."""
    fleet_tasks_min: int = 2
    fleet_window_s: float = 600.0
    health_threshold: float = 70.0
    """A worker whose score is below it is quarantined."""
    strike_points: float = 10.0
    """What a fresh strike takes from the score of 100."""
    strike_half_life_s: float = 600.0
    strike_pass_factor: float = 0.8
    """What a strike weighs after a verdict of its worker, by what it weighed before."""
    quarantine_s: float = 300.0
    quarantine_factor: float = 2.0
    quarantine_s_max: float = 3600.0
    quarantine_memory_s: float = 86_400.0
    """A quarantine counts as a repeated one for so long after the one before ended."""
    probation_s: float = 300.0
    """A worker to which nothing comes while it is tried is let in after that."""


DEFAULT_RECOVERY = RecoveryPolicy()
STRATEGIES: dict[Strategy, dict[str, Any]] = {
    # The defaults: ever more patience with what faults again.
    "progressive": {},
    # Results soon: more and earlier attempts, and guards that close the way late and briefly.
    "aggressive": {
        "faults_max": 6,
        "fault_delay_s": 0.5,
        "delay_s_max": 60.0,
        "timeout_multiplier": 2.0,
        "breaker_threshold": 5,
        "breaker_open_s": 60.0,
        "health_threshold": 50.0,
        "quarantine_s": 60.0,
    },
    # Faults are to be seen, and little is to be spent on them.
    "minimal": {
        "faults_max": 1,
        "fault_delay_s": 5.0,
        "timeout_multiplier": 1.0,
        "breaker_threshold": 2,
        "breaker_open_s": 600.0,
        "health_threshold": 75.0,
        "quarantine_s": 600.0,
    },
}
"""What each strategy changes. None touches how a score is reckoned, so scores stay comparable."""


@cache
def in_force(policy: RecoveryPolicy, strategy: Strategy) -> RecoveryPolicy:
    """Return a policy as the chosen strategy changes it."""
    return replace(policy, **STRATEGIES[strategy])


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


def instant_of(at: float) -> datetime:
    """Return an instant as events hold it; ``at`` in seconds since 1970 UTC."""
    return _EPOCH + timedelta(microseconds=round(at * 1e6))
