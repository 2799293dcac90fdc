"""What a client says to a cell: tasks to run, requests to cancel, retry and drain.

Used by the HTTP API and the command line; other languages do the same by the published schemas.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from dtest.conducting.orders import Order
from dtest.errors import InvalidDocument, UsageError
from dtest.events import codec, subject
from dtest.events.catalogue import ClientPayload
from dtest.events.config import CONFIGS, Simulation, config_fault, parse_config
from dtest.events.envelope import Event
from dtest.events.environment import Environment
from dtest.events.fields import DOCUMENT_BYTES_MAX, CellId, ClientId, EventId, RunId
from dtest.events.problem import told, unknown_fields
from dtest.events.runner import Runner
from dtest.events.suite import Selection, SuiteSubmitted
from dtest.events.task import Requirements, Resources, RetryPolicy, TaskQueued
from dtest.journal.port import Appended, Journal, Outgoing

_TASK: TypeAdapter[TaskQueued] = TypeAdapter(TaskQueued)
_SUITE: TypeAdapter[SuiteSubmitted] = TypeAdapter(SuiteSubmitted)
_OF_SUITES = {"environment": Environment, "runner": Runner, "selection": Selection}
_NAMESPACE = uuid.UUID("6a1f9f6e-0b5c-5d0a-9a53-6b6f7d0f5a10")
_OF_CONFIGS = {"simulate": Simulation, "environment": Environment, "runner": Runner}
_NESTED = {"requirements": Requirements, "resources": Resources, "retry_policy": RetryPolicy}
ALIASES = {"test_file": "paths", "test_args": "args"}
"""Other names of fields of a test's config; what is one word there may stand alone."""
Made = TypeVar("Made")
PROBLEMS_MAX = 20
"""Of one document, so many are told."""
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

    Raises InvalidDocument that names all fields that are wrong.
    """
    if not isinstance(document, Mapping):
        message = f"the suite: expected an object, got {type(document).__name__}"
        raise InvalidDocument(message)
    content = {"run_id": run_id, **document}
    found = list(_unknown(content, SuiteSubmitted, _OF_SUITES, "the suite"))
    hint = "see `dtest event schema suite.submitted`"
    spec = _read(_SUITE, content, found, where="the suite", hint=hint)
    try:
        Order(spec).check()
    except UsageError as error:
        raise InvalidDocument(f"the suite: {error.message}", hint=error.hint) from error
    return spec


def _parse(content: dict[str, Any], place: int) -> TaskQueued:
    name = content.get("task_id", place)
    where = f"task {name}"
    kind = str(content.get("type"))
    _spell_out(content, where)
    found = list(_unknown(content, TaskQueued, _NESTED, where))
    for key in ("config", "fallback_config"):
        if kind in CONFIGS and isinstance(content.get(key), Mapping):
            found += _unknown(content[key], CONFIGS[kind], _OF_CONFIGS, f"{where}: {key}", ".")
    hint = f"`dtest event schema task.queued`; docs/tasks.md has the config of {kind}"
    known = [field.name for field in fields(TaskQueued)]
    if not content.keys() <= set(known):
        hint = f"known: {', '.join(sorted(known))}"
    config, fallback = content.get("config", {}), content.get("fallback_config")
    of_config = partial(_of_config, kind, config, fallback, where)
    return _read(_TASK, content, found, where=where, hint=hint, more=of_config)


def _of_config(kind: str, config: object, fallback: object, where: str) -> Iterator[str]:
    """Yield what is wrong with the config of a built-in type, or with what its fallback makes."""
    if not isinstance(config, dict):
        return
    try:
        parse_config(kind, config)
        fault = config_fault(kind, config, fallback if isinstance(fallback, dict) else None)
        yield from [f"{where}: {fault}"] if fault is not None else []
    except ValidationError as error:
        yield from told(error, f"{where}: config.")


def _read(
    adapter: TypeAdapter[Made],
    content: object,
    found: list[str],
    *,
    where: str,
    hint: str,
    more: Callable[[], Iterable[str]] = tuple,
) -> Made:
    """Return what a document says. Raises InvalidDocument with all that is wrong, also ``found``.

    What it does not know was found before, and is passed over here. ``more`` looks closer at
    documents inside of it, if they are documents at all.
    """
    made: Made | None = None
    broken: set[object] = set()
    try:
        made = adapter.validate_python(content)
    except ValidationError as error:
        found += told(error, f"{where}: ")
        broken = {problem["loc"][0] for problem in error.errors() if problem["loc"]}
    if not broken & {"config", "fallback_config"}:
        found += more()
    if made is not None and not found:
        return made
    message = "; ".join(found[:PROBLEMS_MAX])
    if len(found) > PROBLEMS_MAX:
        message += f"; and {len(found) - PROBLEMS_MAX} more"
    if str(DOCUMENT_BYTES_MAX) in message:
        hint = "bring what is large as files: `dtest submit --ship`"
    raise InvalidDocument(message, hint=hint)


def _spell_out(content: dict[str, Any], where: str) -> None:
    """Replace other names of fields in the configs of a test. Raises InvalidDocument for both."""
    for key in ("config", "fallback_config"):
        config = content.get(key)
        if content.get("type") != "test" or not isinstance(config, Mapping):
            continue
        spelled = dict(config)
        for other, own in ALIASES.items():
            if other not in spelled:
                continue
            if own in spelled:
                message = f"{where}: {key}: {other} is another name of {own}, and both are there"
                raise InvalidDocument(message, hint=f"leave out {other}")
            value = spelled.pop(other)
            spelled[own] = [value] if isinstance(value, str) else value
        content[key] = spelled


def _unknown(
    content: Mapping[str, Any],
    shape: type[Any],
    nested: Mapping[str, type[Any]],
    where: str,
    joint: str = ": ",
) -> Iterator[str]:
    """Yield the fields that a document's shape does not know, and those of its parts."""
    yield from unknown_fields(content, shape, where)
    for key, inner in nested.items():
        if isinstance(content.get(key), Mapping):
            yield from unknown_fields(content[key], inner, f"{where}{joint}{key}")


def event_ids(idempotency_key: str | None, count: int) -> list[str] | None:
    """Return ids that repeat with the key; none without one."""
    if idempotency_key is None:
        return None
    return [str(uuid.uuid5(_NAMESPACE, f"{idempotency_key}/event/{n}")) for n in range(count)]
