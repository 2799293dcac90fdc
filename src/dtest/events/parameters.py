"""The numbers by which a cell is led: terms of leadership record them, clients may change them.

The fold and the deciders take every number from the state, so a journal is replayed and checked
with those that were in force. Here stand their names, limits and, as defaults, the values of the
terms that recorded none. **A default never changes**: what new terms begin with is stated by their
rules (``dtest.leadership.rules``), and a new parameter defaults to what was done without it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, Field, Strict, TypeAdapter, ValidationError

from dtest.events.fields import Name
from dtest.events.problem import explain

YEAR_S = 31_536_000.0
"""Longest duration of any parameter in seconds: instants stay within what a date can tell."""

Delay = Annotated[float, Strict(), Field(ge=0, le=YEAR_S)]
Duration = Annotated[float, Strict(), Field(ge=0.001, le=YEAR_S)]
Patience = Annotated[float, Strict(), Field(ge=0.1, le=YEAR_S)]
"""Of what is tried again at once: shorter, a leader would do nothing else."""
Part = Annotated[float, Strict(), Field(ge=0, le=1)]
Factor = Annotated[float, Strict(), Field(ge=1, le=100)]
"""Raised to the 64th power at most, which a float holds."""
Points = Annotated[float, Strict(), Field(ge=0, le=100)]
Budget = Annotated[int, Strict(), Field(ge=0, le=1_000_000)]
Quantity = Annotated[int, Strict(), Field(ge=1, le=100_000)]
Value = Annotated[int, Strict()] | Annotated[float, Strict(), Field(allow_inf_nan=False)]
Strategy = Literal["progressive", "aggressive", "minimal"]
"""How much is spent on recovery: a named set of parameters."""
Numbers = dict[str, int | float]
"""Values of some parameters, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """A value for each parameter."""

    # Order of tasks, life of assignments and workers:
    ageing_s_per_level: Delay = 60.0
    """Waiting time that outweighs one priority level, in seconds: a task that has waited so long
    overtakes newer ones that are one level more urgent. Holds for tasks queued from then on."""
    accept_s_max: Patience = 10.0
    """Longest time in seconds that a worker may take to confirm an assignment before it returns to
    the queue."""
    accept_again_s: Delay = 5.0
    """Extra time in seconds for confirmations after a pause of the journal."""
    accept_idle_s_max: Duration = 60.0
    """Longest time in seconds to confirm an assignment while nothing at all is stored."""
    pause_s_min: Duration = 2.0
    """Shortest silence of the journal in seconds that counts as a pause."""
    rejoin_s_max: Delay = 2.0
    """Time in seconds for a worker whose agent is gone to come back before its work is given
    away."""
    avoid_max: Quantity = 8
    """Number of workers that a task avoids at most once it faulted: those on which it did last, and
    before them those that it asked to avoid."""
    # Placement:
    assignments_max: Quantity = 2_000
    """Number of assignments in one decision at most."""
    passed_over_max: Quantity = 100
    """Number of tasks of one demand that a decision passes over at most because they avoid every
    free worker."""
    keep_room_after_s: Delay = 10.0
    """Waiting time in seconds after which room is kept for a task that needs more than is free."""
    # Observed time-outs:
    observed_passes_min: Quantity = 20
    """Number of passed runs of a signature before a time-out follows from them."""
    observed_quantile: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.99
    """Quantile of the observed durations from which a time-out follows, from 0 to 1."""
    observed_multiplier: Factor = 1.5
    """Factor applied to that quantile to get the time-out."""
    observed_floor_s: Duration = 60.0
    """Shortest observed time-out in seconds."""
    durations_max: Quantity = 1_024
    """Number of signatures whose durations are kept; the one not seen for longest goes."""
    duration_count_max: Quantity = 4_096
    """Number of durations of a signature at which all its counts are halved: old ones fade."""
    # Retries:
    rulings_max: Quantity = 2_000
    """Number of rulings of recovery in one decision at most; the rest follows in the next."""
    faults_max: Budget = 3
    """Number of retries of a task after faults of the infrastructure."""
    refusals_max: Budget = 20
    """Number of refused or unconfirmed attempts of a task before it is errored."""
    preemptions_max: Budget = 50
    """Number of attempts of a task that were handed back or taken away before it is errored."""
    timeout_multiplier: Factor = 1.5
    """Factor applied to the time-outs of an attempt that ran into one, for the next attempt."""
    timeout_factor_max: Factor = 10.0
    """Largest time-out of a retry as a multiple of what the task states."""
    timeout_observed_factor: Annotated[float, Strict(), Field(gt=1, le=100)] = 10.0
    """Factor applied to an observed time-out for the one repetition after it."""
    undersized_part: Annotated[float, Strict(), Field(gt=0, le=1)] = 0.9
    """Part of a machine's memory from which an attempt counts as too large for it, from 0 to 1."""
    memory_multiplier: Factor = 1.5
    """Factor applied to a task's memory limit for its repetition on a larger machine."""
    larger_wait_s: Delay = 300.0
    """Time in seconds that a task waits for a larger place while none takes work."""
    fault_delay_s: Delay = 1.0
    """Delay in seconds before the first retry after a fault."""
    refusal_delay_s: Delay = 0.2
    """Delay in seconds before the first retry after a refusal."""
    backoff_factor: Factor = 2.0
    """Growth of a delay with each retry."""
    delay_s_max: Delay = 300.0
    """Longest delay in seconds before a retry."""
    jitter: Part = 0.2
    """Part of a delay that is spread by the task's id, from 0 to 1."""
    # Breakers:
    breaker_threshold: Quantity = 3
    """Number of faults in a row, of as many tasks, that opens a breaker."""
    breaker_open_s: Duration = 300.0
    """Time in seconds before an open breaker lets one attempt through."""
    kind_workers_min: Quantity = 2
    """Number of workers that the faults in a row of a signature must come from."""
    kind_openings_max: Quantity = 3
    """Number of openings in a row after which the waiting tasks of a kind are errored."""
    kinds_max: Quantity = 256
    """Number of kinds of task whose faults are kept; the oldest one with a closed breaker goes."""
    kind_faults_max: Quantity = 64
    """Number of faults that are kept of one kind of task."""
    fleet_workers_min: Quantity = 3
    """Number of workers that trip on one kind of task before that is blamed."""
    fleet_ratio_min: Part = 1 / 3
    """Part of the workers that ran the kind which these must be, from 0 to 1."""
    fleet_tasks_min: Quantity = 2
    """Number of tasks of the kind that must have faulted."""
    fleet_window_s: Duration = 600.0
    """Time in seconds back to which faults of a kind count."""
    # Health and quarantine:
    strikes_max: Quantity = 32
    """Number of strikes that are kept of one worker; the oldest goes."""
    forgiven_passes: Quantity = 20
    """Number of verdicts of a worker after which a strike against it is forgotten."""
    health_threshold: Points = 70.0
    """Score from 0 to 100 below which a worker is quarantined."""
    strike_points: Points = 10.0
    """Points that a fresh strike takes from the score of 100."""
    strike_half_life_s: Duration = 600.0
    """Time in seconds after which a strike weighs half."""
    strike_pass_factor: Part = 0.8
    """Factor applied to the weight of a strike with each verdict of its worker, from 0 to 1."""
    quarantine_s: Duration = 300.0
    """Length of a first quarantine in seconds."""
    quarantine_factor: Factor = 2.0
    """Growth of a quarantine with each one before it, and of the time that a device's breaker is
    open with each opening in a row."""
    quarantine_s_max: Duration = 3_600.0
    """Longest quarantine, and longest time that a device's breaker is open, in seconds."""
    quarantine_memory_s: Delay = 86_400.0
    """Time in seconds after its end for which a quarantine makes the next one longer."""
    probation_s: Duration = 300.0
    """Time in seconds after which a worker, device or kind that nothing tried is let in again."""


NAMES = frozenset(field.name for field in fields(Parameters))


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    """Build the validators of all parameters; only who reads parameters pays for them."""
    hints = get_type_hints(Parameters, include_extras=True)
    return {name: TypeAdapter(hint) for name, hint in hints.items()}


def _checked(name: str, value: float) -> int | float:
    try:
        checked: int | float = _adapters()[name].validate_python(value)
    except ValidationError as error:
        message = f"{name}: {explain(error).removeprefix('data: ')}"
        raise ValueError(message) from error
    return checked


def check_known(numbers: Numbers) -> Numbers:
    """Return the values as the parameters hold them; other names stay as they are.

    Whoever reads a newer writer's term may not know all of its parameters. Raises ValueError.
    """
    return {
        name: _checked(name, value) if name in NAMES else value for name, value in numbers.items()
    }


def check_all(numbers: Numbers) -> Numbers:
    """Return the values as the parameters hold them. Raises ValueError, also for unknown names."""
    check_names(numbers)
    return check_known(numbers)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names. Raises ValueError for one that no parameter has."""
    checked = tuple(names)
    for name in checked:
        if name not in NAMES:
            from difflib import get_close_matches  # noqa: PLC0415 - only who misspells pays for it

            near = get_close_matches(name, sorted(NAMES), 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            message = f"no parameter is called {name[:100]!r}{hint}"
            raise ValueError(message)
    return checked


Stated = Annotated[dict[Name, Value], AfterValidator(check_known)]
"""What a term states; a newer one may state more than this code knows."""
Chosen = Annotated[dict[Name, Value], AfterValidator(check_all)]
ParameterNames = Annotated[tuple[Name, ...], AfterValidator(check_names)]


def changed(parameters: Parameters, numbers: Mapping[str, float]) -> Parameters:
    """Return the parameters with other values for those that are named; others do nothing."""
    known: dict[str, Any] = {name: value for name, value in numbers.items() if name in NAMES}
    return replace(parameters, **known) if known else parameters


UNRECORDED = Parameters()
"""What was in force in the terms that recorded no parameters. It never changes."""
UNRECORDED_STRATEGIES: Mapping[str, Numbers] = {
    # The parameters as they are: ever more patience with what faults again.
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
"""What each strategy changed in those terms. It never changes. None touches how a health score is
reckoned, so that scores stay comparable."""
