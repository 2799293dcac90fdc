"""What a client says to a cell: tasks to run, requests to cancel, retry and drain.

Used by the HTTP API and the command line; other languages do the same by the published schemas.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dtest.conducting.orders import Order
from dtest.errors import InvalidDocument, UsageError
from dtest.events import codec, subject
from dtest.events.catalogue import ClientPayload
from dtest.events.config import CONFIGS, Simulation, config_fault
from dtest.events.envelope import Event
from dtest.events.environment import Environment
from dtest.events.fields import DOCUMENT_BYTES_MAX, CellId, ClientId, EventId, RunId
from dtest.events.problem import explain
from dtest.events.runner import Runner
from dtest.events.suite import Selection, SuiteSubmitted
from dtest.events.task import Requirements, Resources, RetryPolicy, TaskQueued
from dtest.journal.port import Appended, Journal, Outgoing

_TASK: TypeAdapter[TaskQueued] = TypeAdapter(TaskQueued)
_SUITE: TypeAdapter[SuiteSubmitted] = TypeAdapter(SuiteSubmitted)
_OF_SUITES = {"environment": Environment, "runner": Runner, "selection": Selection}
_NAMESPACE = uuid.UUID("6a1f9f6e-0b5c-5d0a-9a53-6b6f7d0f5a10")
_NESTED = {"requirements": Requirements, "resources": Resources, "retry_policy": RetryPolicy}
TASKS_MAX = 100_000
"""Most tasks of one submission."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an event of a submission stands in the journal."""

    seq: int
    index: int


class Client:
    """One client of one cell."""

    def __init__(
        self,
        journal: Journal,
        *,
        cell: CellId,
        client_id: ClientId,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._journal = journal
        self._cell = cell
        self._client_id = client_id
        self._now = now
        self._new_id = new_id

    async def say(
        self, facts: Sequence[ClientPayload], *, ids: Sequence[str] | None = None
    ) -> list[Placed]:
        """Append facts of one type, in order; return where each stands.

        The same ``ids`` again store nothing again. Raises as ``Journal.append``, and
        InvalidDocument, with nothing stored, for a fact that fits in no message.
        """
        source = codec.source(self._cell, "client", self._client_id)
        now = self._now()
        names = ids or [self._new_id() for _ in facts]
        events = [
            Event(EventId(name), source, now, fact) for name, fact in zip(names, facts, strict=True)
        ]
        where = subject.client(self._cell, self._client_id, facts[0].TYPE)
        placed: list[Placed] = []
        starts = {event.id: place for place, event in enumerate(events)}
        parts = list(codec.split(events))
        for first, body in parts:
            if len(body) > codec.MESSAGE_BYTES_MAX:
                name = events[starts[first]].data.entity_id
                message = f"{name}: {len(body)} bytes; an event holds {codec.MESSAGE_BYTES_MAX}"
                raise InvalidDocument(message, hint="hand large inputs over as files")
        for number, (first, body) in enumerate(parts):
            result = await self._journal.append(Outgoing(where, body, first))
            if not isinstance(result, Appended):
                raise AssertionError(result)
            end = starts[parts[number + 1][0]] if number + 1 < len(parts) else len(events)
            placed += [Placed(result.seq, index) for index in range(end - starts[first])]
        return placed


def parse_tasks(
    documents: Iterable[object],
    *,
    new_id: Callable[[], str],
    run_id: RunId | None = None,
    idempotency_key: str | None = None,
) -> list[TaskQueued]:
    """Read task documents; a missing ``task_id`` is made up, from the key if there is one.

    Raises InvalidDocument that names the task and the field.
    """
    tasks: list[TaskQueued] = []
    for place, document in enumerate(documents):
        if not isinstance(document, Mapping):
            message = f"task {place}: expected an object, got {type(document).__name__}"
            raise InvalidDocument(message)
        content = dict(document)
        if "task_id" not in content:
            content["task_id"] = (
                new_id()
                if idempotency_key is None
                else str(uuid.uuid5(_NAMESPACE, f"{idempotency_key}/{place}"))
            )
        if run_id is not None:
            content.setdefault("run_id", run_id)
        tasks.append(_parse(content, place))
        if len(tasks) > TASKS_MAX:
            message = f"a submission holds at most {TASKS_MAX} tasks"
            raise InvalidDocument(message, hint="send it in parts")
    if not tasks:
        message = "the submission holds no task"
        raise InvalidDocument(message, hint="give an object, or an array of objects")
    return tasks


def parse_suite(document: object, *, run_id: RunId) -> SuiteSubmitted:
    """Read the document of a suite; a missing ``run_id`` is the given one.

    Raises InvalidDocument that names the field.
    """
    if not isinstance(document, Mapping):
        message = f"the suite: expected an object, got {type(document).__name__}"
        raise InvalidDocument(message)
    content = {"run_id": run_id, **document}
    _known_only(content, SuiteSubmitted, "the suite")
    for key, nested in _OF_SUITES.items():
        if isinstance(content.get(key), Mapping):
            _known_only(content[key], nested, f"the suite: {key}")
    try:
        spec = _SUITE.validate_python(content)
    except ValidationError as error:
        message = f"the suite: {explain(error)}"
        raise InvalidDocument(message, hint="see `dtest event schema suite.submitted`") from error
    try:
        Order(spec).check()
    except UsageError as error:
        raise InvalidDocument(f"the suite: {error.message}", hint=error.hint) from error
    return spec


def _parse(content: dict[str, Any], place: int) -> TaskQueued:
    name = content.get("task_id", place)
    _known_only(content, TaskQueued, f"task {name}")
    for key, nested in _NESTED.items():
        if isinstance(content.get(key), Mapping):
            _known_only(content[key], nested, f"task {name}: {key}")
    for key in ("config", "fallback_config"):
        shape = CONFIGS.get(str(content.get("type")))
        _known_config_only(content.get(key), shape, f"task {name}: {key}")
    try:
        task = _TASK.validate_python(content)
    except ValidationError as error:
        message = f"task {name}: {explain(error)}"
        hint = "see `dtest event schema task.queued`"
        if str(DOCUMENT_BYTES_MAX) in message:
            hint = "bring what is large as files: `dtest submit --ship`"
        raise InvalidDocument(message, hint=hint) from error
    fault = config_fault(task.type, task.config, task.fallback_config)
    if fault is not None:
        message = f"task {name}: {fault}"
        raise InvalidDocument(message, hint=f"see docs/tasks.md for the config of {task.type}")
    return task


def _known_config_only(config: object, shape: type[Any] | None, where: str) -> None:
    """Refuse what a built-in type does not know; other types know their own."""
    if shape is None or not isinstance(config, Mapping):
        return
    _known_only(config, shape, where)
    if isinstance(config.get("simulate"), Mapping):
        _known_only(config["simulate"], Simulation, f"{where}.simulate")
    if isinstance(config.get("environment"), Mapping):
        _known_only(config["environment"], Environment, f"{where}.environment")


def _known_only(content: Mapping[str, Any], shape: type[Any], where: str) -> None:
    known = {field.name for field in fields(shape)}
    unknown = sorted(map(str, set(content) - known))
    if unknown:
        message = f"{where}: unknown field {unknown[0]!r}"
        raise InvalidDocument(message, hint=f"known: {', '.join(sorted(known))}")


def event_ids(idempotency_key: str | None, count: int) -> list[str] | None:
    """Return ids that repeat with the key; none without one."""
    if idempotency_key is None:
        return None
    return [str(uuid.uuid5(_NAMESPACE, f"{idempotency_key}/event/{n}")) for n in range(count)]
