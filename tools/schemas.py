#!/usr/bin/env python3
"""Write what is generated from the events: JSON Schemas, AsyncAPI document, tables of fields.

It stands above dtest.events because the AsyncAPI document also tells the journal's streams.
In docs/tasks.md only names, types, units and defaults are generated; the meanings in the last
column are written by hand and stay.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtest.events.asyncapi import asyncapi, places
from dtest.events.catalogue import PAYLOADS, WRITTEN_BY
from dtest.events.codec import wire_type
from dtest.events.fields import TOKEN_PATTERN, CellId
from dtest.events.parameters import Parameters
from dtest.events.reasons import MEANINGS, RefusalCode
from dtest.events.schema import CONFIGS, event_schema, schema_file, shapes
from dtest.events.task import TaskQueued
from dtest.journal.streams import Limits, stream_configs

EVENTS, SCHEMAS, TASKS = Path("docs/events.md"), Path("schemas/events"), Path("docs/tasks.md")
ASYNCAPI = Path("schemas/asyncapi.json")
PARAMETERS = Path("docs/parameters.md")
UNITS = (
    (re.compile(r"(^|_)(seconds|s)(_|$)"), "s"),
    (re.compile(r"(^|_)gb(_|$)"), "GB"),
    (re.compile(r"(^|_)bytes(_|$)"), "bytes"),
)
"""A name ends with its unit; GB are 10^9 bytes."""
NO_UNIT = "-"
PART = re.compile(r"(<!-- generated: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
MEANING = re.compile(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", re.MULTILINE)
ANCHORS = {"Reason": "reasons", "RefusalCode": "codes-of-eventrefused"}
"""Headings that explain an enumeration, where they are not its name."""
NOTICE = "<!-- Made by `just schemas` from src/dtest/events; do not edit. -->\n"
ABOUT_EVENTS = """\
# Events

Every fact that can stand in a cell's journal. Each is the `data` of a
[CloudEvents](publishing.md) object; its JSON Schema, envelope included, lies in `schemas/events`,
and `schemas/asyncapi.json` tells all subjects. Readers ignore fields that they do not know.

In the tables, *token* is 1 to 100 of the characters `A-Z a-z 0-9 _ -`, *instant* is RFC 3339 with
its zone, GB are 10^9 bytes, and the unit of a number ends its name. A field that holds its
default may be left out.
"""
ABOUT_ROLES = {
    "client": "## Written by clients",
    "agent": "## Written by agents",
    "scheduler": "## Written by the scheduler",
    "conductor": "## Written by the conductor",
}
ABOUT_REFUSALS = """\
## Codes of `event.refused`

The leader answers an event that it cannot accept with `event.refused`: `refused_seq` and `index`
say which, `code` and `detail` why. The event's bytes stay in the journal and change nothing.
"""
ABOUT_PARAMETERS = """\
# Parameters

The numbers by which a cell is led. They are facts: each term of leadership records the version of
its rules and the parameters that it begins with (`leader.elected`), a strategy changes some
([recovery.md](recovery.md)), and each of them can be set while the cell runs:

```console
$ dtest policy show                                   # each value, and where it comes from
$ dtest policy set breaker_threshold=5 rejoin_s_max=10
$ dtest policy set breaker_threshold=default          # as the term and its strategy have it
```

or by `POST /api/policy`, or by the event `policy.changed` from any language. A value that was set
holds from its place in the journal on, through later strategies and terms, until it is reset.
What was worked out and recorded before stays: the end of a breaker that is open, the place of a
task that is queued. Limits that are looked at later count as they are then: a longer
`accept_s_max` also gives more time to what is assigned already. `dtest event verify` checks each
decision with the values that were in force when it was made.
"""
ABOUT_REASONS = """\
## Reasons

Why an attempt or a task ended. *Retry*: `policy` by the task's own `retry_policy` ·
`elsewhere` by the infrastructure budget, on another worker if there is one · `free` always,
without a budget · `once` a single time · `never`.
"""

Schema = Mapping[str, Any]


def generated(root: Path) -> dict[Path, str]:
    """Return every generated file, by its path below the checkout."""
    streams = stream_configs(CellId("{cell}"), Limits())
    return {
        **{SCHEMAS / schema_file(name): _json(event_schema(name)) for name in PAYLOADS},
        ASYNCAPI: _json(asyncapi(streams)),
        EVENTS: catalogue(),
        PARAMETERS: parameters(),
        TASKS: with_tables((root / TASKS).read_text(encoding="utf-8")),
    }


def stale(root: Path) -> list[Path]:
    """Return the files that are not what would be written, and those that would be removed."""
    wanted = generated(root)
    wrong = [path for path, text in wanted.items() if _text(root / path) != text]
    return wrong + _left_over(root, wanted)


def write(root: Path) -> None:
    """Bring all generated files up to date."""
    wanted = generated(root)
    for path, text in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for path in _left_over(root, wanted):
        (root / path).unlink()


def _left_over(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    found = (path.relative_to(root) for path in sorted((root / SCHEMAS).glob("*")))
    return [path for path in found if path not in wanted]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _json(document: object) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


# -- docs/events.md ---------------------------------------------------------------------------


def catalogue() -> str:
    """Return the page that lists all events, the shapes inside them, codes and reasons."""
    parts = [NOTICE + ABOUT_EVENTS]
    inner: dict[str, Schema] = {}
    for role, payloads in WRITTEN_BY.items():
        parts.append(f"{ABOUT_ROLES[role]}\n")
        for payload in payloads:
            found = shapes(payload)
            parts.append(_event(payload.TYPE, found.pop(payload.__name__)))
            inner |= found
    objects = {name: shape for name, shape in sorted(inner.items()) if "properties" in shape}
    parts.append("## Shapes inside events\n")
    for name, shape in objects.items():
        parts.append(f"### {name}\n\n{shape['description']}\n\n{_table(shape)}")
    parts.append(f"{ABOUT_REFUSALS}\n" + "\n".join(f"- `{code}`" for code in RefusalCode) + "\n")
    rows = [
        f"| `{reason}` | {meaning.family} | {meaning.blame} | `{meaning.retry}` |"
        for reason, meaning in MEANINGS.items()
    ]
    head = "| reason | class | blames | retry |\n|---|---|---|---|\n"
    parts.append(f"{ABOUT_REASONS}\n{head}" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _event(event_type: str, shape: Schema) -> str:
    return (
        f"### {event_type}\n\n{shape['description']}\n\n"
        f"- `type`: `{wire_type(event_type)}`\n"
        f"- subject: `{address(event_type)}`\n"
        f"- schema: [{schema_file(event_type)}](../{SCHEMAS}/{schema_file(event_type)})\n\n"
        f"{_table(shape)}"
    )


def address(event_type: str) -> str:
    """Return the subject on which an event stands, its variable parts in angle brackets."""
    journal = places("<cell>", "<client>", "<worker>", "<hardware>", "<digest>")
    return next(where for _, _, where, types in journal if event_type in types)


def _table(shape: Schema) -> str:
    lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, content in shape["properties"].items():
        cells = (f"`{name}`", words(content), default(shape, name), content.get("description", ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# -- docs/parameters.md -----------------------------------------------------------------------


def parameters() -> str:
    """Return the page that lists all parameters."""
    shape = shapes(Parameters)[Parameters.__name__]
    lines = ["| parameter | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for name, content in shape["properties"].items():
        cells = (f"`{name}`", words(content), unit(name), default(shape, name))
        lines.append(f"| {' | '.join((*cells, content['description']))} |")
    return f"{NOTICE}{ABOUT_PARAMETERS}\n" + "\n".join(lines) + "\n"


# -- docs/tasks.md ----------------------------------------------------------------------------


def with_tables(page: str) -> str:
    """Return the page with its tables' computed columns made anew."""
    documents: dict[str, Schema] = {}
    for kind in (TaskQueued, *CONFIGS.values()):
        documents |= shapes(kind)
    return PART.sub(lambda part: part[1] + _described(documents[part[2]], part[3]) + part[4], page)


def _described(shape: Schema, before: str) -> str:
    meanings = dict(MEANING.findall(before))
    lines = ["| field | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for name, content in shape["properties"].items():
        meaning = meanings.get(name, content.get("description", ""))
        cells = (f"`{name}`", words(content), unit(name), default(shape, name), meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# -- cells of a table -------------------------------------------------------------------------


def words(schema: Schema) -> str:
    """Say in words what a value may be."""
    match schema:
        case {"anyOf": options}:
            said = " or ".join(words(one) for one in options if one.get("type") != "null")
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            said = f"[{name}](#{ANCHORS.get(name, name.lower())})"
        case {"enum": values}:
            said = ", ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": items}:
            said = f"list of {words(items)}{_sizes(schema, 'Items', '')}"
        case {"type": "object", "additionalProperties": {"type": "string"}}:
            said = "object of texts"
        case {"type": "string", "format": "date-time"}:
            said = "instant"
        case {"type": "string", "pattern": pattern} if pattern == TOKEN_PATTERN:
            said = "token"
        case {"type": "string"}:
            said = f"text{_sizes(schema, 'Length', ' characters')}"
        case {"type": "integer" | "number" as kind}:
            said = f"{kind}{_range(schema)}"
        case _:
            said = str(schema["type"])
    return said


def _sizes(schema: Schema, what: str, unit_: str) -> str:
    least, most = schema.get(f"min{what}"), schema.get(f"max{what}")
    if most is not None:
        return f", {f'{least} to ' if least else 'at most '}{most}{unit_}"
    return f", at least {least}{unit_}" if least else ""


def _range(schema: Schema) -> str:
    least, most, above = (schema.get(k) for k in ("minimum", "maximum", "exclusiveMinimum"))
    if above is not None:
        return f" > {above:.10g}" + (f", at most {most:.10g}" if most is not None else "")
    if most is not None:
        return f", {least:.10g} to {most:.10g}"
    return f" ≥ {least}" if least is not None else ""


def unit(name: str) -> str:
    """Return the unit that a field's name tells, else a dash."""
    return next((text for pattern, text in UNITS if pattern.search(name)), NO_UNIT)


def default(shape: Schema, name: str) -> str:
    """Return what a field holds that is left out."""
    if name in shape.get("required", ()):
        return "required"
    value = shape["properties"][name]["default"]
    return "none" if value is None else f"`{json.dumps(value)}`"


def main() -> None:
    """Write or check; the exit code of a check is 1 if something is out of date."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="DIR", help="the checkout to write into")
    action.add_argument("--check", type=Path, metavar="DIR", help="the checkout to check")
    chosen = parser.parse_args()
    if chosen.write is not None:
        write(chosen.write)
    elif wrong := stale(chosen.check):
        sys.exit(f"out of date: {', '.join(map(str, wrong))}\n  try: just schemas")


if __name__ == "__main__":
    main()
