"""What speaks against a worker, its devices, or a kind of task: strikes, breakers, quarantine.

Holds facts. When a breaker opens and what a health score is, ``dtest.recovery`` says.
"""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import orjson

from dtest.events.fields import TaskId, WorkerId
from dtest.events.reasons import MEANINGS, Reason
from dtest.events.task import TaskQueued

KIND_KEY_CHARS_MAX = 180
WORKER_PREFIX = "worker:"
DEVICE_PREFIX = "device:"
Probed = Literal["", "passed", "faulted"]

STRIKING = frozenset(
    reason
    for reason, meaning in MEANINGS.items()
    if meaning.blame in ("worker", "device") and meaning.retry == "elsewhere"
)
"""Faults that speak against the worker, or against its devices."""
DEVICE_FAULTS = frozenset(reason for reason in STRIKING if MEANINGS[reason].blame == "device")
"""Those of them that speak against the devices which the attempt had."""
LOSSES = frozenset({Reason.WORKER_LOST, Reason.AGENT_CRASH})
"""Nobody reported these from the place: they say nothing about the task that ran there, for a
broken network must not be blamed on a revision. All attempts of one loss are one strike."""


class Guard(StrEnum):
    """Whether work is let through."""

    CLOSED = "closed"
    """All is let through."""
    OPEN = "open"
    """Nothing is."""
    HALF_OPEN = "half_open"
    """One attempt at a time is, to try."""
    QUARANTINED = "quarantined"
    """Nothing is, for longer each time (workers only)."""
    PROBATION = "probation"
    """As half open, after a quarantine."""


BARRED = frozenset({Guard.OPEN, Guard.QUARANTINED})
TRYING = frozenset({Guard.HALF_OPEN, Guard.PROBATION})


@dataclass(slots=True)
class Strike:
    """A fault that speaks against a worker."""

    seq: int
    at: float
    task_id: TaskId
    reason: Reason
    kinds: tuple[str, ...]
    """What else could be to blame: the task's signature and revision."""
    passes: int = 0
    """Verdicts that the worker brought since."""


@dataclass(slots=True)
class Health:
    """What speaks against one worker; it outlives the worker's registrations."""

    strikes: list[Strike] = field(default_factory=list)
    """One for each task, the latest; none older than a passed probe."""
    guard: Guard = Guard.CLOSED
    since: float = 0.0
    until: float | None = None
    """When the guard is looked at again; none for a quarantine that an operator ends."""
    cause: str = ""
    probe: tuple[TaskId, int] | None = None
    """The attempt that is being tried."""
    probed: Probed = ""
    """How the try ended."""
    quarantines: int = 0
    noted_at: float = 0.0
    """When something last spoke for or against it."""
    pardoned: bool = False
    """Strikes were taken back since the guard closed the way."""

    @property
    def lets_work_in(self) -> bool:
        """Say whether an attempt may begin there."""
        tried = self.guard in TRYING and self.probe is None and not self.probed
        return tried or self.guard is Guard.CLOSED


@dataclass(slots=True)
class DeviceHealth:
    """What speaks against one device of a worker; gone once its breaker closes."""

    reason: Reason
    """Of the latest fault."""
    kinds: tuple[str, ...]
    """What else could be to blame: the task's signature and revision."""
    guard: Guard = Guard.CLOSED
    since: float = 0.0
    until: float | None = None
    """When the guard is looked at again."""
    count: int = 0
    """Openings in a row."""
    probe: tuple[TaskId, int] | None = None
    """The attempt that is being tried."""
    probed: Probed = ""
    released: str = ""
    """Why it is let in before its time: the cause of the closing that is due."""


KindFault = tuple[int, float, WorkerId, TaskId]
"""``(seq, at, worker, task)``."""


@dataclass(slots=True)
class Kind:
    """What speaks against the tasks of one signature or revision."""

    key: str
    faults: list[KindFault] = field(default_factory=list)
    passed: dict[WorkerId, float] = field(default_factory=dict)
    """When each worker last brought a verdict, since the first fault."""
    passed_seq: int = 0
    guard: Guard = Guard.CLOSED
    since: float = 0.0
    until: float | None = None
    cause: str = ""
    count: int = 0
    """Openings in a row."""
    workers: tuple[WorkerId, ...] = ()
    """Where it faulted before the breaker opened."""
    probe: TaskId | None = None
    probed: Probed = ""


def signature_of(spec: TaskQueued) -> str:
    """Return what tasks of the same kind share.

    The label ``signature``; else the type and the name; else the type and a digest of the config.
    """
    stated = spec.labels.get("signature")
    if stated:
        return _key("signature:", stated)
    name = spec.name or hashlib.sha256(_bytes(spec)).hexdigest()[:12]
    return _key("signature:", f"{spec.type}/{name}")


def _bytes(spec: TaskQueued) -> bytes:
    return orjson.dumps(spec.config, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def _key(prefix: str, text: str) -> str:
    if len(text) > KIND_KEY_CHARS_MAX:
        text = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
    return prefix + text


def kinds_of(spec: TaskQueued) -> tuple[str, ...]:
    """Return the keys of all kinds that a task belongs to."""
    revision = spec.labels.get("revision")
    signature = signature_of(spec)
    return (signature, _key("revision:", revision)) if revision else (signature,)


def worker_breaker(worker_id: WorkerId) -> str:
    """Return the id of a worker's breaker."""
    return f"{WORKER_PREFIX}{worker_id}"


def device_breaker(worker_id: WorkerId, device_id: str) -> str:
    """Return the id of the breaker of one of a worker's devices."""
    return f"{DEVICE_PREFIX}{worker_id}/{device_id}"


def device_of(breaker_id: str) -> tuple[WorkerId, str]:
    """Return the worker and the device of a device's breaker."""
    worker_id, _, device_id = breaker_id.removeprefix(DEVICE_PREFIX).partition("/")
    return WorkerId(worker_id), device_id
