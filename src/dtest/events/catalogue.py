"""The list of all events, by type name, and which role may write each.

A new event is added here, in its entity's file, and nowhere else in this package.
"""

from typing import Literal, get_args

from dtest.events.attempt import (
    AttemptAssigned,
    AttemptCheckpointed,
    AttemptCheckpointFailed,
    AttemptFinished,
    AttemptRefused,
    AttemptReleased,
    AttemptReturned,
    AttemptStarted,
    AttemptStopRequested,
    TestcaseFinished,
)
from dtest.events.breaker import BreakerClosed, BreakerHalfOpened, BreakerOpened
from dtest.events.conductor import ConductorElected
from dtest.events.leader import EventRefused, LeaderElected
from dtest.events.policy import PolicyChanged
from dtest.events.run import RunCancelRequested, RunOpened
from dtest.events.suite import SuitePlanned, SuiteSubmitted
from dtest.events.suite_decision import (
    SuiteBegun,
    SuiteCollected,
    SuiteCut,
    SuiteDivided,
    SuiteEnded,
    SuitePooled,
    SuiteRerunOrdered,
)
from dtest.events.suite_list import SuiteListed
from dtest.events.task import (
    TaskCancelRequested,
    TaskEnded,
    TaskQueued,
    TaskRetryRequested,
    TaskRetryScheduled,
)
from dtest.events.worker import (
    WorkerDraining,
    WorkerDrainRequested,
    WorkerLeft,
    WorkerLost,
    WorkerQuarantined,
    WorkerQuarantineRequested,
    WorkerRegistered,
    WorkerReinstated,
    WorkerReinstateRequested,
    WorkerSuspected,
)

Role = Literal["client", "agent", "scheduler", "conductor"]

ClientPayload = (
    RunOpened
    | RunCancelRequested
    | TaskQueued
    | TaskCancelRequested
    | TaskRetryRequested
    | WorkerDrainRequested
    | WorkerQuarantineRequested
    | WorkerReinstateRequested
    | PolicyChanged
    | SuitePlanned
    | SuiteSubmitted
)
AgentPayload = (
    WorkerRegistered
    | WorkerDraining
    | WorkerLeft
    | AttemptStarted
    | AttemptCheckpointed
    | AttemptCheckpointFailed
    | AttemptRefused
    | AttemptReleased
    | AttemptFinished
    | TestcaseFinished
)
SchedulerPayload = (
    LeaderElected
    | WorkerSuspected
    | WorkerLost
    | WorkerQuarantined
    | WorkerReinstated
    | BreakerOpened
    | BreakerHalfOpened
    | BreakerClosed
    | AttemptAssigned
    | AttemptStopRequested
    | AttemptReturned
    | TaskRetryScheduled
    | TaskEnded
    | EventRefused
)
ConductorPayload = (
    ConductorElected
    | SuiteBegun
    | SuiteListed
    | SuiteCollected
    | SuiteDivided
    | SuitePooled
    | SuiteRerunOrdered
    | SuiteCut
    | SuiteEnded
)
Payload = ClientPayload | AgentPayload | SchedulerPayload | ConductorPayload

WRITTEN_BY: dict[Role, tuple[type[Payload], ...]] = {
    "client": get_args(ClientPayload),
    "agent": get_args(AgentPayload),
    "scheduler": get_args(SchedulerPayload),
    "conductor": get_args(ConductorPayload),
}
PAYLOADS: dict[str, type[Payload]] = {
    payload.TYPE: payload for payloads in WRITTEN_BY.values() for payload in payloads
}
ROLE_OF: dict[str, Role] = {
    payload.TYPE: role for role, payloads in WRITTEN_BY.items() for payload in payloads
}
FIRST_VERSION = 1


def version_of(payload: type[Payload]) -> int:
    """Return the version of an event's meaning; a changed meaning gets the next, and an upcast."""
    version: int = getattr(payload, "VERSION", FIRST_VERSION)
    return version
