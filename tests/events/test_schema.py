"""The published schemas say what the codec does, and the committed files say what the code does."""

import copy
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from dtest.events import codec
from dtest.events.asyncapi import ROLES, asyncapi
from dtest.events.catalogue import PAYLOADS, ROLE_OF, WRITTEN_BY, Payload
from dtest.events.config import config_fault, parse_config
from dtest.events.envelope import Event
from dtest.events.fields import CellId, EventId
from dtest.events.schema import CONFIGS, event_schema, schema_file, schema_id
from dtest.events.subject import parse
from dtest.events.task import TaskQueued
from dtest.journal.streams import Limits, stream_configs
from tests.events.samples import SAMPLES, WORKER
from tools.schemas import address, stale, with_tables, write

ROOT = Path(__file__).parents[2]
TYPES = sorted(PAYLOADS)
NAMES = {"client": "ci", "agent": WORKER, "scheduler": "s1", "conductor": "c1"}
ENVELOPE = ("specversion", "id", "source", "type", "time", "data")
READ_BESIDES = {
    f"data.{name} {value}"
    for name in ("started_at", "finished_at", "not_before", "deadline", "until", "taken_at")
    for value in (0, -1, 0.5)
}
"""Instants as numbers are read, and not promised."""


def event_of(event_type: str) -> Event:
    role = ROLE_OF[event_type]
    source = codec.source("main", role, NAMES[role])
    correlation = "17.42" if role == "scheduler" else None
    return Event(EventId(f"e-{event_type}"), source, 1.5, SAMPLES[event_type], correlation)


def subject_of(event_type: str) -> str:
    variable = {"<cell>": "main", "<client>": "ci", "<worker>": WORKER, "<hardware>": "cuda"}
    variable["<digest>"] = "cd" * 32
    where = address(event_type)
    for name, value in variable.items():
        where = where.replace(name, value)
    return where


def written(event_type: str) -> dict[str, Any]:
    document = json.loads(codec.encode([event_of(event_type)]))
    assert isinstance(document, dict)
    return document


def is_read(event_type: str, document: object) -> bool:
    payload = json.dumps(document).encode()
    record = codec.decode(payload, subject=subject_of(event_type), seq=1, stored_at=0.0)
    return all(isinstance(event, Event) and is_admitted(event.data) for event in record.events)


def is_admitted(data: Payload) -> bool:
    """The fold looks into the config, too."""
    return not isinstance(data, TaskQueued) or config_fault(data.type, data.config) is None


def broken(event_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every way to leave something out, and to put something of a wrong type in its place."""
    whole = written(event_type)
    for name in ENVELOPE:
        yield f"without {name}", {key: value for key, value in whole.items() if key != name}
    for name, value in {
        "specversion": "0.3",
        "id": "",
        "source": 7,
        "time": "2026-11-22T08:15:30",
        "type": "dev.dtest.task.exploded.v1",
    }.items():
        yield f"{name} {value!r}", {**whole, name: value}
    for field in dataclasses.fields(PAYLOADS[event_type]):
        for value in (..., True, [], {}, "", 0, -1, 0.5, None, "2026-11-22T08:15:30", [1], "a b"):
            changed = copy.deepcopy(whole)
            if value is ...:
                del changed["data"][field.name]
            else:
                changed["data"][field.name] = value
            yield f"data.{field.name} {value!r}", changed


def asyncapi_document() -> dict[str, Any]:
    document = json.loads((ROOT / "schemas/asyncapi.json").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


@pytest.fixture(scope="module")
def asyncapi_validator() -> Draft7Validator:
    schema = json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text("utf-8"))
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


# -- the samples ------------------------------------------------------------------------------


def test_there_is_a_sample_of_every_event() -> None:
    assert set(SAMPLES) == set(PAYLOADS)


@pytest.mark.parametrize("event_type", TYPES)
def test_a_sample_leaves_no_field_at_its_default(event_type: str) -> None:
    fields = {field.name for field in dataclasses.fields(PAYLOADS[event_type])}

    assert set(written(event_type)["data"]) == fields


# -- JSON Schema ------------------------------------------------------------------------------


@pytest.mark.parametrize("event_type", TYPES)
def test_a_schema_is_valid_json_schema(event_type: str) -> None:
    schema = event_schema(event_type)

    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert 'additionalProperties": false' not in json.dumps(schema)


@pytest.mark.parametrize("event_type", TYPES)
def test_what_is_written_validates_and_names_its_schema(event_type: str) -> None:
    document = written(event_type)

    Draft202012Validator(event_schema(event_type)).validate(document)
    assert is_read(event_type, document)
    assert document["dataschema"] == schema_id(event_type)


@pytest.mark.parametrize("event_type", TYPES)
def test_unknown_fields_are_ignored(event_type: str) -> None:
    document = written(event_type)
    document["traceparent"] = "00-0-0-00"
    document["data"]["from_the_future"] = {"x": 1}

    Draft202012Validator(event_schema(event_type)).validate(document)
    assert is_read(event_type, document)


@pytest.mark.parametrize("event_type", TYPES)
def test_schema_and_codec_refuse_the_same(event_type: str) -> None:
    validator = Draft202012Validator(event_schema(event_type))
    verdicts = {
        name: (validator.is_valid(document), is_read(event_type, document))
        for name, document in broken(event_type)
    }

    differing = {name for name, (valid, read) in verdicts.items() if valid != read}
    assert differing <= READ_BESIDES
    assert not any(verdicts[name][0] for name in differing)
    assert not any(verdicts[f"without {name}"][0] for name in ENVELOPE)
    assert not verdicts["time '2026-11-22T08:15:30'"][0]


@pytest.mark.parametrize("config", [{}, {"command": []}, {"command": ["x"], "env": {"A": 1}}])
def test_a_task_of_a_built_in_type_needs_a_config_of_its_form(config: dict[str, Any]) -> None:
    validator = Draft202012Validator(event_schema("task.queued"))
    document = written("task.queued")
    document["data"]["config"] = config

    assert not validator.is_valid(document)
    document["data"]["type"] = "of_a_plugin"
    assert validator.is_valid(document)


def test_the_configs_are_those_of_the_built_in_types() -> None:
    configs: dict[str, dict[str, Any]] = {
        "command": {"command": "true"},
        "test": {"paths": ["t"], "cwd": "/srv"},
    }

    assert {kind: type(parse_config(kind, text)) for kind, text in configs.items()} == CONFIGS


# -- AsyncAPI ---------------------------------------------------------------------------------


def test_the_asyncapi_document_is_valid(asyncapi_validator: Draft7Validator) -> None:
    document = asyncapi_document()

    asyncapi_validator.validate(document)
    document["operations"]["client.sends.task.queued"]["action"] = "shout"
    assert not asyncapi_validator.is_valid(document)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi_document()
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))

    for reference in references:
        file, _, pointer = reference.partition("#")
        found = json.loads((ROOT / "schemas" / file).read_text("utf-8")) if file else document
        for part in pointer.split("/")[1:]:
            found = found[part]
        assert found, reference


def test_every_event_has_a_channel_and_a_sender_of_its_role() -> None:
    document = asyncapi(stream_configs(CellId("{cell}"), Limits()))

    assert set(WRITTEN_BY) < set(ROLES)
    for event_type, role in ROLE_OF.items():
        senders = [
            operation["tags"][0]["name"]
            for operation in document["operations"].values()
            if operation["action"] == "send"
            and event_type in _channel(document, operation)["messages"]
        ]
        assert senders == [role], event_type


def test_an_address_is_the_subject_on_which_its_messages_may_stand() -> None:
    document = asyncapi(stream_configs(CellId("{cell}"), Limits()))

    for channel in document["channels"].values():
        events = set(channel["messages"]) & set(PAYLOADS)
        parsed = parse(re.sub("[{}]", "", channel["address"] or ""))
        assert events == (set(parsed.types) if parsed else set())
        variables = set(re.findall(r"{(\w+)}", channel["address"] or ""))
        assert variables == set(channel.get("parameters", {}))


def _channel(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    channel = document["channels"][operation["channel"]["$ref"].removeprefix("#/channels/")]
    assert isinstance(channel, dict)
    return channel


# -- the committed files ----------------------------------------------------------------------


def test_the_committed_files_are_current() -> None:
    assert not stale(ROOT), "run `just schemas` and commit what it writes"


def test_a_check_names_what_is_out_of_date_and_what_is_left_over(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/tasks.md").write_text("no tables\n", encoding="utf-8")
    write(tmp_path)
    left_over = tmp_path / "schemas/events/task.exploded.v1.json"
    left_over.write_text("{}", encoding="utf-8")
    (tmp_path / "schemas/asyncapi.json").unlink()

    command = [sys.executable, str(ROOT / "tools/schemas.py")]
    checked = subprocess.run(
        [*command, "--check", str(tmp_path)], capture_output=True, text=True, check=False
    )
    subprocess.run([*command, "--write", str(tmp_path)], check=True)

    assert checked.returncode == 1
    assert "out of date: schemas/asyncapi.json, schemas/events/task.exploded" in checked.stderr
    assert not stale(tmp_path)
    assert not left_over.exists()
    files = {path.name for path in (tmp_path / "schemas/events").iterdir()}
    assert files == {schema_file(name) for name in PAYLOADS}


def test_what_is_written_by_hand_in_a_table_stays() -> None:
    page = (
        "<!-- generated: RetryPolicy -->\n| `max_retries` | old | - | - | By hand |\n<!-- end -->"
    )

    made = with_tables(page)

    assert "| `max_retries` | integer, 0 to 100 | - | `0` | By hand |" in made
    assert "| `retry_delay_seconds` | number ≥ 0 | s | `0.0` | Delay before" in made
    assert with_tables(made) == made
