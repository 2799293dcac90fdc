"""What an attempt is given: its config and its limits, from the task's document and from recovery.

A task that states no time-out has none, unless the policy says that one follows from how long
other tasks of its signature took on the same kind of hardware. Pure.
"""

from dataclasses import replace

from dtest.events.attempt import AttemptAssigned
from dtest.events.config import merged
from dtest.state.cell import Cell
from dtest.state.durations import duration_key
from dtest.state.task import Task


def is_as_stated(cell: Cell, task: Task) -> bool:
    """Say whether the next attempt gets just what the task's document states."""
    return task.remedy is None and task.timeout_factor == 1.0 and cell.timeouts == "declared"


def adjusted(
    cell: Cell, task: Task, stated: AttemptAssigned, *, simulated: bool
) -> AttemptAssigned:
    """Return an assignment that holds what the document states with what the attempt really gets.

    ``simulated``: its worker is.
    """
    spec, remedy = task.spec, task.remedy
    config, fallback = stated.config, False
    if spec and spec.fallback_config is not None and remedy is not None and remedy.fallback:
        config, fallback = merged(config, spec.fallback_config), True
    timeout_s, observed = stated.timeout_seconds, False
    if spec and timeout_s is None and cell.timeouts == "observed" and not fallback:
        key = duration_key(spec, stated.hardware, simulated=simulated)
        timeout_s = observed_timeout_s(cell, key)
        observed = timeout_s is not None
    return replace(
        stated,
        config=config,
        fallback=fallback,
        timeout_seconds=_times(timeout_s, task.timeout_factor),
        timeout_observed=observed,
        idle_timeout_seconds=_times(stated.idle_timeout_seconds, task.timeout_factor),
        memory_limit_gb=_times(stated.memory_limit_gb, remedy.memory_factor if remedy else 1.0),
    )


def observed_timeout_s(cell: Cell, key: str) -> float | None:
    """Return the time-out that follows from observation, none as long as too little is known.

    Never below the longest run that passed.
    """
    known, parameters = cell.durations.get(key), cell.parameters
    if known is None or known.count < parameters.observed_passes_min:
        return None
    high_s = parameters.observed_multiplier * known.quantile_s(parameters.observed_quantile)
    return max(parameters.observed_floor_s, high_s, known.longest_s)


def _times(stated: float | None, factor: float) -> float | None:
    return None if stated is None else stated * factor
