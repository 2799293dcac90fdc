"""JSON Schema (2020-12) of every event with its envelope, made from the payloads' own types.

Readers ignore fields that they do not know, so no schema closes its objects. `just schemas`
writes the schemas down; what a subject demands (its source, its worker) only the codec checks.
"""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from dtest.events.catalogue import PAYLOADS, ROLE_OF, version_of
from dtest.events.codec import wire_type
from dtest.events.config import CommandConfig, TestConfig
from dtest.events.fields import TOKEN_PATTERN
from dtest.events.parameters import Parameters
from dtest.events.policy import PolicyChanged
from dtest.events.task import TaskQueued

DIALECT = GenerateJsonSchema.schema_dialect
CONFIGS: dict[str, type[CommandConfig | TestConfig]] = {
    "command": CommandConfig,
    "test": TestConfig,
}
"""The task types whose ``config`` has a form of its own; others belong to plugins."""
ZONED = r"(Z|[+-][0-9]{2}:[0-9]{2})$"
"""How an instant ends: ``format`` alone is checked by few validators."""

Schema = dict[str, Any]


def event_schema(event_type: str) -> Schema:
    """Return the schema of one whole event, as ``task.queued``. Raises KeyError."""
    payload = PAYLOADS[event_type]
    name, definitions = payload.__name__, shapes(payload)
    if payload is TaskQueued:
        definitions[name]["allOf"] = [_config_rule(kind, CONFIGS[kind]) for kind in CONFIGS]
        for config in CONFIGS.values():
            definitions |= shapes(config)
    if payload is PolicyChanged:
        _name_parameters(definitions[name]["properties"])
    return {
        "$schema": DIALECT,
        "$id": schema_id(event_type),
        "title": event_type,
        "description": definitions[name]["description"],
        "type": "object",
        "properties": {**_envelope(event_type), "data": {"$ref": f"#/$defs/{name}"}},
        "required": ["specversion", "id", "source", "type", "time", "data"],
        "$defs": dict(sorted(definitions.items())),
    }


def schema_id(event_type: str) -> str:
    """Return the name of an event's schema, which stands in its ``dataschema``."""
    return f"urn:dtest:schema:{event_type}:v{version_of(PAYLOADS[event_type])}"


def schema_file(event_type: str) -> str:
    """Return the name of the file that holds an event's schema."""
    return f"{event_type}.v{version_of(PAYLOADS[event_type])}.json"


def _envelope(event_type: str) -> Schema:
    role, token = ROLE_OF[event_type], TOKEN_PATTERN.strip("^$")
    name = "" if role in ("scheduler", "conductor") else f"{token}$"  # of an office, any holder
    return {
        "specversion": {"const": "1.0"},
        "id": {
            "description": "Unique in the cell for ever (a UUIDv7); also the Nats-Msg-Id.",
            "type": "string",
            "minLength": 1,
        },
        "source": {
            "description": f"/dtest/<cell>/{role}/<name>, as the subject says.",
            "type": "string",
            "pattern": f"^/dtest/{token}/{role}/{name}",
        },
        "type": {"const": wire_type(event_type)},
        "time": {
            "description": "When the writer says it happened.",
            **_instant(),
        },
        "subject": {"description": "The id of what the event is about.", "type": "string"},
        "datacontenttype": {"type": "string", "default": "application/json"},
        "dataschema": {"type": "string", "default": schema_id(event_type)},
        "correlationid": {
            "description": "Of a decision: <epoch>.<basis>, shared by all of it.",
            "type": "string",
        },
    }


def _name_parameters(fields: Schema) -> None:
    """State the names and limits of parameters: a choice of any other is refused."""
    known = shapes(Parameters)[Parameters.__name__]["properties"]
    fields["parameters"]["properties"] = {
        name: {key: value for key, value in shape.items() if key != "default"}
        for name, shape in known.items()
    }
    fields["parameters"]["propertyNames"] = {"enum": list(known)}
    fields["reset"]["items"] = {"enum": list(known), "type": "string"}


def _instant() -> Schema:
    return {"type": "string", "format": "date-time", "pattern": ZONED}


def _config_rule(kind: str, config: type[Any]) -> Schema:
    """Have the task's type choose the form of its config."""
    return {
        "if": {"properties": {"type": {"const": kind}}},
        "then": {
            "properties": {"config": {"$ref": f"#/$defs/{config.__name__}"}},
            "required": ["config"],
        },
    }


# -- the dataclasses inside -------------------------------------------------------------------


def shapes(root: type[Any]) -> dict[str, Schema]:
    """Return the schema of a dataclass and of all that it holds, by class name."""
    schema = TypeAdapter(root).json_schema(schema_generator=_Untitled)
    definitions: dict[str, Schema] = schema.pop("$defs", {})
    definitions[root.__name__] = schema
    for kind in _dataclasses(root):
        described = definitions[kind.__name__]
        described["description"] = _prose(kind.__doc__ or "")
        notes = field_notes(kind)
        for field in dataclasses.fields(kind):
            content = described["properties"][field.name]
            if field.name in notes:
                content["description"] = notes[field.name]
            if field.default_factory is not dataclasses.MISSING:
                content["default"] = {}  # the factories make empty objects, or objects of defaults
    _zone(definitions)
    return definitions


class _Untitled(GenerateJsonSchema):
    """Leaves out titles that repeat a field's name in capitals."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401 - as inherited
        return False


def _zone(node: object) -> None:
    """Have every instant say that it needs its zone."""
    if isinstance(node, dict):
        if node.get("format") == "date-time":
            node.update(_instant())
        for inner in node.values():
            _zone(inner)
    elif isinstance(node, list):
        for inner in node:
            _zone(inner)


def _dataclasses(root: type[Any]) -> set[type[Any]]:
    found: set[type[Any]] = set()
    pending = [root]
    while pending:
        kind = pending.pop()
        if kind in found:
            continue
        found.add(kind)
        for hint in get_type_hints(kind).values():
            pending += [
                inner
                for inner in _inside(hint)
                if isinstance(inner, type) and dataclasses.is_dataclass(inner)
            ]
    return found


def _inside(hint: Any) -> Iterator[Any]:  # noqa: ANN401 - any type form
    yield hint
    for argument in get_args(hint):
        yield from _inside(argument)


def field_notes(kind: type[Any]) -> dict[str, str]:
    """Return the docstring below each field that has one."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    notes: dict[str, str] = {}
    if isinstance(definition, ast.ClassDef):
        for first, second in itertools.pairwise(definition.body):
            match first, second:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    notes[name] = _prose(text)
    return notes


def _prose(docstring: str) -> str:
    """Return a docstring as one paragraph of CommonMark."""
    return " ".join(docstring.split()).replace("``", "`")
