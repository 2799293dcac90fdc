"""What an attempt may use, and which config it runs: the task's document, and what recovery adds.

A task that states no time-out has none, unless the policy says that one follows from how long
other tasks of its signature took on the same kind of hardware. Pure.
"""

from dataclasses import dataclass

from dtest.events.config import merged
from dtest.events.fields import Document
from dtest.events.task import TaskQueued
from dtest.scheduling.policy import SchedulingPolicy
from dtest.state.cell import Cell
from dtest.state.durations import duration_key
from dtest.state.task import Task


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one attempt; none where there is no limit."""

    timeout_s: float | None
    idle_timeout_s: float | None
    memory_gb: float | None
    observed: bool = False
    """The run time-out follows from earlier attempts."""


def limits_of(
    cell: Cell, task: Task, spec: TaskQueued, where: tuple[str, bool], policy: SchedulingPolicy
) -> Limits:
    """Return the limits of the next attempt; ``where``: its hardware, and whether simulated."""
    idle_s = _times(spec.idle_timeout_seconds, task.timeout_factor)
    memory_gb = _times(spec.memory_limit_gb, task.remedy.memory_factor if task.remedy else 1.0)
    if spec.timeout_seconds is not None or cell.timeouts == "declared":
        timeout_s = _times(spec.timeout_seconds, task.timeout_factor)
        return Limits(timeout_s, idle_s, memory_gb)
    reckoned_s = observed_timeout_s(cell, task, spec, where, policy)
    timeout_s = _times(reckoned_s, task.timeout_factor)
    return Limits(timeout_s, idle_s, memory_gb, reckoned_s is not None)


def observed_timeout_s(
    cell: Cell, task: Task, spec: TaskQueued, where: tuple[str, bool], policy: SchedulingPolicy
) -> float | None:
    """Return the time-out that follows from observation, none as long as too little is known.

    Never below the longest run that passed. The smaller variant of a task is other work.
    """
    if task.remedy is not None and task.remedy.fallback:
        return None
    hardware, simulated = where
    known = cell.durations.get(duration_key(spec, hardware, simulated=simulated))
    if known is None or known.count < policy.observed_passes_min:
        return None
    high_s = policy.observed_multiplier * known.quantile_s(policy.observed_quantile)
    return max(policy.observed_floor_s, high_s, known.longest_s)


def config_of(spec: TaskQueued, task: Task) -> tuple[Document, bool]:
    """Return what the next attempt runs, and whether that is the task's smaller variant."""
    if task.remedy is None or not task.remedy.fallback or spec.fallback_config is None:
        return spec.config, False
    return merged(spec.config, spec.fallback_config), True


def _times(stated: float | None, factor: float) -> float | None:
    return None if stated is None else stated * factor
