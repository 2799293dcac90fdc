"""The AsyncAPI 3.0 document of a cell: who says what where, for clients in any language.

The streams are handed in, because the journal's floor lies above this one. Payloads are the
schemas beside the document; nothing of them is repeated here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dtest.events import subject
from dtest.events.catalogue import FIRST_VERSION, PAYLOADS, ROLE_OF, WRITTEN_BY, Role
from dtest.events.codec import EVENTS_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX, wire_type
from dtest.events.fields import TOKEN_PATTERN, CellId, ClientId, TaskId, WorkerId
from dtest.events.schema import event_schema, schema_file

Node = dict[str, Any]

CELL, TASK, WORKER = CellId("{cell}"), TaskId("{task}"), WorkerId("{worker}")
PARAMETERS: dict[str, str] = {
    "cell": "Name of the cell: one journal with its leader and its workers; by default `main`.",
    "client": "Name of the client that writes; the event's `source` ends with it.",
    "worker": "Identity of the worker.",
    "hardware": "Kind of hardware that the attempt uses, as `cpu` or `cuda`.",
    "task": "Id of the task.",
    "attempt": "Number of the attempt, from 1.",
    "digest": "Digest of a list of tests.",
}
ROLES: dict[str, str] = {
    "client": "Submits tasks and asks for changes: programs of users, CI, the HTTP API.",
    "agent": "Runs attempts on one worker and reports them.",
    "scheduler": "Decides; the server refuses what a deposed leader still writes.",
    "conductor": "Carries runs of suites to their end; several stand by, and one is in office.",
    "reader": "Follows the journal: projections, dashboards, and clients that await a result.",
}
NATS: Node = {"nats": {"bindingVersion": "0.1.0"}}
DIALECT_NAME = "application/schema+json;version=2020-12"
CONTENT_TYPE = "application/cloudevents+json"
GUARD_HEADERS = (
    "Nats-Expected-Last-Subject-Sequence",
    "Nats-Expected-Last-Subject-Sequence-Subject",
)
FIGURES: Node = {
    "type": "object",
    "required": ["at", "worker_id"],
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "worker_id": {"type": "string", "pattern": TOKEN_PATTERN},
    },
    "additionalProperties": {"type": "number"},
}
PUB_ACK: Node = {
    "type": "object",
    "description": "JetStream's answer. Only an answer without `error` means: recorded.",
    "properties": {
        "stream": {"type": "string"},
        "seq": {"type": "integer", "description": "Place of the message in the journal."},
        "duplicate": {
            "type": "boolean",
            "description": "The id was stored before; `seq` is the place of that first copy.",
        },
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer"},
                "err_code": {"type": "integer"},
                "description": {"type": "string"},
            },
        },
    },
}


def asyncapi(streams: Sequence[Mapping[str, Any]]) -> Node:
    """Return the document. ``streams``: the configurations of journal, output and telemetry."""
    journal, output, telemetry = streams
    channels = {
        **{
            f"{role}.{place}": _channel(address, types, journal)
            for role, place, address, types in places(
                "{cell}", "{client}", "{worker}", "{hardware}"
            )
        },
        "output": _channel(
            subject.output(CELL, TASK, 0).removesuffix("0") + "{attempt}", ["chunk"], output
        ),
        "telemetry": _channel(subject.telemetry(CELL, WORKER), ["figures"], telemetry),
        "beat": _channel(subject.beat(CELL, WORKER), ["figures"]),
        "ping": _channel(subject.ping(CELL, WORKER), ["ping"]),
        "acknowledgement": {
            "address": None,
            "description": "The inbox that the publisher's request names.",
            "messages": {"acknowledgement": _message_ref("acknowledgement")},
        },
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "dtest",
            "version": f"{FIRST_VERSION}.0.0",
            "description": "The subjects of a cell, the events on them and who may write which. "
            "docs/publishing.md says how to use them.",
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": name, "description": text} for name, text in ROLES.items()],
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {"cell": _server()},
        "channels": channels,
        "operations": {**_sends(channels), **_receives(channels)},
        "components": {
            "messages": {**_event_messages(), **_other_messages()},
            "parameters": {name: {"description": text} for name, text in PARAMETERS.items()},
            "securitySchemes": {"password": {"type": "userPassword"}},
        },
        "x-dtest-jetstream": {
            "streams": [_facts(stream) for stream in streams],
            "message_bytes_max": MESSAGE_BYTES_MAX,
            "events_per_message_max": EVENTS_PER_MESSAGE_MAX,
        },
    }


def _server() -> Node:
    return {
        "host": "{address}",
        "protocol": "nats",
        "description": "nats-server 2.15.1 or newer, with JetStream.",
        "variables": {"address": {"default": "127.0.0.1:4222"}},
        "security": [{"$ref": "#/components/securitySchemes/password"}],
    }


def _facts(stream: Mapping[str, Any]) -> Node:
    """Leave out what each operator chooses: replicas and size."""
    chosen = ("num_replicas", "max_bytes")
    return {name: value for name, value in stream.items() if name not in chosen}


# -- channels ---------------------------------------------------------------------------------


def places(
    cell: str, client: str, worker: str, hardware: str, digest: str = "{digest}"
) -> Iterator[tuple[Role, str, str, list[str]]]:
    """Yield every place of the journal: who writes, its name, its subject, the types there."""
    for role, payloads in WRITTEN_BY.items():
        for name in sorted(payload.TYPE for payload in payloads):
            if role == "client":
                yield role, name, subject.client(CellId(cell), ClientId(client), name), [name]
            elif role == "agent":
                yield role, name, subject.agent(CellId(cell), WorkerId(worker), name), [name]
    spoken = _scheduler_subjects("cell", "hardware", "worker")
    for name, where in _scheduler_subjects(cell, hardware, worker).items():
        parsed = subject.parse(spoken[name])
        yield "scheduler", name, where, sorted(parsed.types if parsed is not None else ())
    spoken = _conductor_subjects("cell", "digest")
    for name, where in _conductor_subjects(cell, digest).items():
        parsed = subject.parse(spoken[name])
        yield "conductor", name, where, sorted(parsed.types if parsed is not None else ())


def _scheduler_subjects(cell: str, hardware: str, worker: str) -> dict[str, str]:
    return {
        "epoch": subject.epoch(CellId(cell)),
        "decided": subject.decided(CellId(cell)),
        "observed": subject.observed(CellId(cell)),
        "work": subject.work(CellId(cell), hardware, WorkerId(worker)),
    }


def _conductor_subjects(cell: str, digest: str) -> dict[str, str]:
    return {
        "epoch": subject.conductor_epoch(CellId(cell)),
        "decided": subject.conducted(CellId(cell)),
        "list": subject.listed(CellId(cell), digest),
    }


def _channel(
    address: str, messages: Sequence[str], stream: Mapping[str, Any] | None = None
) -> Node:
    kept: Node = {"stream": stream["name"]} if stream is not None else {"stored": False}
    return {
        "address": address,
        "parameters": {
            name: {"$ref": f"#/components/parameters/{name}"}
            for name in PARAMETERS
            if f"{{{name}}}" in address
        },
        "messages": {name: _message_ref(name) for name in messages},
        "x-dtest-jetstream": kept,
    }


# -- messages ---------------------------------------------------------------------------------


def _message_ref(name: str) -> Node:
    return {"$ref": f"#/components/messages/{name}"}


def _event_messages() -> Node:
    messages: Node = {}
    for name in sorted(PAYLOADS):
        one = {"$ref": f"events/{schema_file(name)}"}
        batch = {
            "type": "array",
            "items": one,
            "minItems": 1,
            "maxItems": EVENTS_PER_MESSAGE_MAX,
        }
        messages[name] = {
            "name": wire_type(name),
            "title": name,
            "summary": event_schema(name)["description"],
            "contentType": CONTENT_TYPE,
            "headers": _headers(guarded=ROLE_OF[name] in ("scheduler", "conductor")),
            "payload": {"schemaFormat": DIALECT_NAME, "schema": {"oneOf": [one, batch]}},
        }
    return messages


def _headers(*, guarded: bool) -> Node:
    properties: Node = {
        "Nats-Msg-Id": {
            "type": "string",
            "description": "The id of the (first) event: the same again is not stored again.",
        }
    }
    if guarded:
        guard = "The epoch of its office: the server refuses the message of who was deposed."
        properties |= {name: {"type": "string", "description": guard} for name in GUARD_HEADERS}
    return {"type": "object", "required": ["Nats-Msg-Id"], "properties": properties}


def _other_messages() -> Node:
    return {
        "chunk": {
            "summary": "A part of an attempt's output, as its bytes.",
            "contentType": "application/octet-stream",
            "headers": {
                "type": "object",
                "required": ["Nats-Msg-Id"],
                "properties": {
                    "Nats-Msg-Id": {
                        "type": "string",
                        "description": "`<task>.<attempt>.<offset of the first byte>`",
                    }
                },
            },
        },
        "figures": {
            "summary": "What the worker's machine uses: ratios from 0 to 1, bytes, counts.",
            "contentType": "application/json",
            "payload": FIGURES,
        },
        "ping": {
            "summary": "Empty, or `register` where the worker is asked to register again.",
            "contentType": "text/plain",
            "payload": {"type": "string", "enum": ["", "register"]},
        },
        "acknowledgement": {
            "summary": "What the server answers to a publisher.",
            "contentType": "application/json",
            "payload": PUB_ACK,
        },
    }


# -- operations -------------------------------------------------------------------------------


def _sends(channels: Mapping[str, Any]) -> Node:
    speakers = {name: name.partition(".")[0] for name in channels if "." in name}
    speakers |= {"output": "agent", "telemetry": "agent", "beat": "agent", "ping": "scheduler"}
    operations: Node = {}
    for channel, role in speakers.items():
        operation = _operation("send", role, channel)
        if "stream" in channels[channel]["x-dtest-jetstream"] and channel != "telemetry":
            operation["reply"] = {"channel": {"$ref": "#/channels/acknowledgement"}}
        operations[f"{role}.sends.{channel.removeprefix(f'{role}.')}"] = operation
    return operations


def _receives(channels: Mapping[str, Any]) -> Node:
    hearers = [("reader", name) for name in channels if "." in name]
    hearers += [("reader", "output"), ("reader", "telemetry"), ("scheduler", "beat")]
    hearers += [("agent", "scheduler.work"), ("agent", "ping")]
    return {
        f"{role}.receives.{channel}": _operation("receive", role, channel)
        for role, channel in hearers
    }


def _operation(action: str, role: str, channel: str) -> Node:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "tags": [{"name": role}],
        "bindings": NATS,
    }
