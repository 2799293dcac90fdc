"""Facts with plain defaults: a test states only what it is about.

Makes facts; records nothing and decides nothing.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any, Literal

from dtest.events import codec, subject
from dtest.events.attempt import (
    AttemptAssigned,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptStarted,
    AttemptStopRequested,
    TestcaseFinished,
)
from dtest.events.catalogue import ROLE_OF, Payload
from dtest.events.conductor import ConductorElected
from dtest.events.fields import CellId, ClientId, RunId, TaskId, WorkerId
from dtest.events.leader import LeaderElected
from dtest.events.reasons import Reason
from dtest.events.suite_list import SuiteListed
from dtest.events.task import TaskQueued
from dtest.events.worker import (
    Capability,
    Device,
    HeldAttempt,
    WorkerLeft,
    WorkerLost,
    WorkerRegistered,
    WorkerSuspected,
)

CELL = CellId("main")
CLIENT = ClientId("tester")
LEADER = "leader-1"
START = 1_750_000_000.0
"""The first instant of every world, seconds since 1970 UTC."""

Outcome = Literal["passed", "failed", "faulted", "cancelled"]


def instant(at: float) -> datetime:
    """The instant as payloads hold it."""
    return datetime.fromtimestamp(at, UTC)


def task(task_id: str, /, after: tuple[str, ...] = (), **more: Any) -> TaskQueued:
    """A command that asks for nothing special."""
    more.setdefault("config", {"command": ["true"]})
    if "run_id" in more:
        more["run_id"] = RunId(more["run_id"])
    dependencies = tuple(TaskId(upstream) for upstream in after)
    kind = more.pop("type", "command")
    return TaskQueued(TaskId(task_id), kind, dependencies=dependencies, **more)


def cuda(index: int = 0, memory_gb: float | None = 24.0, compute: float | None = 8.9) -> Device:
    """A CUDA device."""
    return Device("cuda", index, f"GPU {index}", memory_gb, compute)


def machine(slots: int = 1, *devices: Device, **more: Any) -> Capability:
    """A server with as many processors as slots."""
    more.setdefault("cpus", float(slots))
    more.setdefault("memory_gb", 64.0)
    return Capability(slots, devices=devices, **more)


def registered(
    name: str,
    capability: Capability | None = None,
    *,
    incarnation: str = "i1",
    held: tuple[tuple[str, int], ...] = (),
    pid: int | None = None,
) -> WorkerRegistered:
    """An agent joins."""
    return WorkerRegistered(
        WorkerId(name),
        incarnation,
        f"{name}.lab",
        capability or machine(),
        pid=pid,
        held=tuple(HeldAttempt(TaskId(task_id), attempt) for task_id, attempt in held),
    )


def started(assigned: AttemptAssigned, at: float = START) -> AttemptStarted:
    """The worker accepted what it was assigned."""
    return AttemptStarted(assigned.task_id, assigned.attempt, assigned.worker_id, instant(at))


def finished(
    assigned: AttemptAssigned,
    outcome: Outcome = "passed",
    reason: Reason | None = None,
    at: float = START,
) -> AttemptFinished:
    """The attempt ended."""
    return AttemptFinished(
        assigned.task_id,
        assigned.attempt,
        assigned.worker_id,
        outcome,
        instant(at),
        instant(at),
        reason,
    )


def checkpointed(assigned: AttemptAssigned, number: int = 1) -> AttemptCheckpointed:
    """What the attempt left so far is stored."""
    where = (assigned.task_id, assigned.attempt, assigned.worker_id)
    name = f"{assigned.task_id}/{assigned.attempt}/{number}"
    return AttemptCheckpointed(*where, number, name, 10_240, "ab", instant(START + number))


def not_checkpointed(assigned: AttemptAssigned) -> AttemptCheckpointFailed:
    """What the attempt left could not be stored."""
    where = (assigned.task_id, assigned.attempt, assigned.worker_id)
    return AttemptCheckpointFailed(*where, "there is no room")


def refused(assigned: AttemptAssigned) -> AttemptRefused:
    """The worker cannot take it."""
    return AttemptRefused(assigned.task_id, assigned.attempt, assigned.worker_id, "disk is full")


def released(assigned: AttemptAssigned) -> AttemptReleased:
    """The worker hands it back."""
    return AttemptReleased(assigned.task_id, assigned.attempt, assigned.worker_id)


def testcase(assigned: AttemptAssigned, ordinal: int = 1) -> TestcaseFinished:  # noqa: PT028
    """One test case of the attempt has its verdict."""
    return TestcaseFinished(
        assigned.task_id, assigned.attempt, assigned.worker_id, ordinal, "test_x.py::test", "passed"
    )


testcase.__test__ = False  # type: ignore[attr-defined]  # a fact, no test


def suspected(name: str, incarnation: str = "i1") -> WorkerSuspected:
    """The detector cannot hear the worker."""
    return WorkerSuspected(WorkerId(name), incarnation, "silence", 1.0)


def lost(name: str, incarnation: str = "i1") -> WorkerLost:
    """The worker counts as gone."""
    return WorkerLost(WorkerId(name), incarnation, "silence")


def left(name: str, incarnation: str = "i1") -> WorkerLeft:
    """The worker ended in good order."""
    return WorkerLeft(WorkerId(name), incarnation)


def where(data: Payload) -> str:  # noqa: PLR0911 - one line for each place
    """The subject on which its rightful writer writes a fact."""
    match data:
        case LeaderElected():
            return subject.epoch(CELL)
        case WorkerSuspected():
            return subject.observed(CELL)
        case AttemptAssigned():
            return subject.work(CELL, data.hardware, data.worker_id)
        case AttemptStopRequested():
            return subject.work(CELL, "cpu", data.worker_id)
        case _ if ROLE_OF[data.TYPE] == "scheduler":
            return subject.decided(CELL)
        case ConductorElected():
            return subject.conductor_epoch(CELL)
        case SuiteListed():
            return subject.listed(CELL, data.digest)
        case _ if ROLE_OF[data.TYPE] == "conductor":
            return subject.conducted(CELL)
        case _ if ROLE_OF[data.TYPE] == "agent":
            return subject.agent(CELL, speaker(data), data.TYPE)
        case _:
            return subject.client(CELL, CLIENT, data.TYPE)


def source(data: Payload) -> str:
    """The ``source`` of a fact's rightful writer."""
    role = ROLE_OF[data.TYPE]
    name = {"client": CLIENT, "scheduler": LEADER, "conductor": LEADER}.get(role)
    return codec.source(CELL, role, name or speaker(data))


def speaker(data: Payload) -> WorkerId:
    """The worker that a fact of an agent is about."""
    return WorkerId(getattr(data, "worker_id", ""))


def sha256(content: bytes) -> str:
    """The digest of a content, as facts carry it."""
    return hashlib.sha256(content).hexdigest()
