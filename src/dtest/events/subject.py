"""Every subject of the system is built and read here, and nowhere else.

A subject says who speaks; the type inside says what happened.
"""

import functools
import re
from dataclasses import dataclass

from dtest.events.catalogue import ROLE_OF, WRITTEN_BY, Role
from dtest.events.fields import TOKEN_PATTERN, CellId, ClientId, RunId, TaskId, WorkerId

ROOT = "dtest"
JOURNALLED = ("client", "agent", "scheduler", "work", "conductor")
"""First words of what the journal keeps."""
TOKEN = re.compile(TOKEN_PATTERN)
_EPOCH_TYPES = frozenset({"leader.elected"})
_OBSERVED_TYPES = frozenset({"worker.suspected"})
_WORK_TYPES = frozenset({"attempt.assigned", "attempt.stop_requested"})
_DECIDED_TYPES = (
    frozenset(name for name, role in ROLE_OF.items() if role == "scheduler")
    - _EPOCH_TYPES
    - _OBSERVED_TYPES
    - _WORK_TYPES
)
_CONDUCTED_EPOCH_TYPES = frozenset({"conductor.elected"})
_LISTED_TYPES = frozenset({"suite.listed"})
_CONDUCTED_TYPES = (
    frozenset(name for name, role in ROLE_OF.items() if role == "conductor")
    - _CONDUCTED_EPOCH_TYPES
    - _LISTED_TYPES
)
_ROLES: dict[str, Role] = {role: role for role in WRITTEN_BY}
_OF_OFFICES: dict[tuple[str, ...], frozenset[str]] = {
    ("scheduler", "epoch"): _EPOCH_TYPES,
    ("scheduler", "decided"): _DECIDED_TYPES,
    ("scheduler", "observed"): _OBSERVED_TYPES,
    ("conductor", "epoch"): _CONDUCTED_EPOCH_TYPES,
    ("conductor", "decided"): _CONDUCTED_TYPES,
    ("conductor", "list"): _LISTED_TYPES,
}


@dataclass(frozen=True, slots=True)
class Address:
    """What a subject of the journal says: who speaks, and which types may stand there."""

    cell: str
    role: Role
    name: str
    """The client, the agent's worker, or for ``work`` the worker addressed; else empty."""
    types: frozenset[str]


def client(cell: CellId, client_id: ClientId, event_type: str) -> str:
    """Where a client writes an event of that type."""
    return f"{ROOT}.{cell}.client.{client_id}.{event_type}"


def agent(cell: CellId, worker_id: WorkerId, event_type: str) -> str:
    """Where an agent writes an event of that type."""
    return f"{ROOT}.{cell}.agent.{worker_id}.{event_type}"


def epoch(cell: CellId) -> str:
    """Where a candidate writes ``leader.elected``: the fencing token's subject."""
    return f"{ROOT}.{cell}.scheduler.epoch"


def decided(cell: CellId) -> str:
    """Where the leader writes the decisions that are not dispatches."""
    return f"{ROOT}.{cell}.scheduler.decided"


def observed(cell: CellId) -> str:
    """Where the leader's detector writes what it saw."""
    return f"{ROOT}.{cell}.scheduler.observed"


def work(cell: CellId, hardware: str, worker_id: WorkerId) -> str:
    """Where the leader writes what a worker has to do."""
    return f"{ROOT}.{cell}.work.{hardware}.{worker_id}"


def work_of(cell: CellId, worker_id: WorkerId) -> str:
    """Filter for all that one worker has to do, whatever the hardware."""
    return f"{ROOT}.{cell}.work.*.{worker_id}"


def conductor_epoch(cell: CellId) -> str:
    """Where a candidate writes ``conductor.elected``: the fencing token of conductors."""
    return f"{ROOT}.{cell}.conductor.epoch"


def conducted(cell: CellId) -> str:
    """Where the conductor writes what it decides about suites."""
    return f"{ROOT}.{cell}.conductor.decided"


def listed(cell: CellId, digest: str) -> str:
    """Where the conductor writes a list of tests."""
    return f"{ROOT}.{cell}.conductor.list.{digest}"


def output(cell: CellId, task_id: TaskId, attempt: int) -> str:
    """Where an agent writes the output of an attempt (own stream, limited age)."""
    return f"{ROOT}.{cell}.output.{task_id}.{attempt}"


def workspace(cell: CellId) -> str:
    """Where the API writes what clients shipped (own stream, limited age): the subjects below."""
    return f"{ROOT}.{cell}.workspace"


def telemetry(cell: CellId, worker_id: WorkerId) -> str:
    """Where an agent writes its use of resources (own stream, short age)."""
    return f"{ROOT}.{cell}.telemetry.{worker_id}"


def beat(cell: CellId, worker_id: WorkerId) -> str:
    """Where an agent beats (core NATS, not stored)."""
    return f"{ROOT}.{cell}.beat.{worker_id}"


def ping(cell: CellId, worker_id: WorkerId) -> str:
    """Where an agent answers pings (core NATS, not stored)."""
    return f"{ROOT}.{cell}.ping.{worker_id}"


def leader(cell: CellId) -> str:
    """Where the leader answers pings (core NATS, not stored)."""
    return f"{ROOT}.{cell}.leader"


def standby(cell: CellId) -> str:
    """Where each scheduler that stands by answers pings (core NATS, not stored)."""
    return f"{ROOT}.{cell}.standby"


def conductor(cell: CellId) -> str:
    """Where the conductor answers pings (core NATS, not stored)."""
    return f"{ROOT}.{cell}.conducting"


def memory(cell: CellId) -> str:
    """Where APIs answer what they know of earlier runs of a suite (core NATS, not stored)."""
    return f"{ROOT}.{cell}.memory"


def unit(cell: CellId, queue: str) -> str:
    """Where units of tests wait for a session (own stream; what is done leaves it)."""
    return f"{ROOT}.{cell}.queue.{queue}.unit"


def plan(cell: CellId, queue: str) -> str:
    """Where a queue is closed: no more is put in, but what sessions give back."""
    return f"{ROOT}.{cell}.queue.{queue}.plan"


def collected(cell: CellId, queue: str, part: int) -> str:
    """Where the session that collected a suite says what it holds, in parts from 0."""
    return f"{ROOT}.{cell}.queue.{queue}.collected.{part}"


def any_collected(cell: CellId) -> str:
    """Filter for the last word of each session about what a suite holds."""
    return f"{ROOT}.{cell}.queue.*.collected.0"


def recalled(cell: CellId, run_id: RunId, part: int) -> str:
    """Where a client's knowledge of earlier runs waits for the plan of a run, in parts from 0."""
    return f"{ROOT}.{cell}.queue.{run_id}.recalled.{part}"


def hungry(cell: CellId, queue: str) -> str:
    """Where a session says that it has nothing to do (core NATS, not stored)."""
    return f"{ROOT}.{cell}.hungry.{queue}"


def journal_filters(cell: CellId) -> list[str]:
    """The subjects that the journal's stream keeps."""
    return [f"{ROOT}.{cell}.{part}.>" for part in JOURNALLED]


@functools.lru_cache(maxsize=10_000)
def parse(subject: str) -> Address | None:
    """Read a subject of the journal; none if it is not in the grammar."""
    tokens = subject.split(".")
    if not all(map(TOKEN.fullmatch, tokens)):
        return None
    match tokens:
        case [root, cell, ("client" | "agent") as role, name, entity, event] if root == ROOT:
            event_type = f"{entity}.{event}"
            if ROLE_OF.get(event_type) != role:
                return Address(cell, _role(role), name, frozenset())
            return Address(cell, _role(role), name, frozenset({event_type}))
        case [root, cell, ("scheduler" | "conductor") as office, *where] if root == ROOT:
            types = _OF_OFFICES.get((office, *where[:1]), frozenset())
            extra = where[:1] == ["list"]
            return (
                Address(cell, _role(office), "", types)
                if len(where) == 1 + extra and types
                else None
            )
        case [root, cell, "work", _, worker] if root == ROOT:
            return Address(cell, "scheduler", worker, _WORK_TYPES)
        case _:
            return None


def _role(word: str) -> Role:
    return _ROLES[word]
