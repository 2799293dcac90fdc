"""The pages about events and tasks say what the dataclasses say, and their links lead somewhere."""

import dataclasses
import json
import re
from typing import Any

import pytest

from dtest.client import parse_tasks
from dtest.events import config
from dtest.events.environment import Environment
from dtest.events.runner import Runner
from dtest.events.task import Requirements, Resources, RetryPolicy, TaskQueued
from tests.kit.markdown import DOCS, blocks_in

TABLES: dict[str, type[Any]] = {
    "TaskQueued": TaskQueued,
    "Requirements": Requirements,
    "Resources": Resources,
    "RetryPolicy": RetryPolicy,
    "CommandConfig": config.CommandConfig,
    "TestConfig": config.TestConfig,
    "Runner": Runner,
    "Environment": Environment,
    "Simulation": config.Simulation,
}
PAGES = ("events.md", "publishing.md", "runners.md", "tasks.md")
ROW = re.compile(r"^\| `(\w+)` \| (.+) \| (.+) \| (.+) \| (.*) \|$", re.MULTILINE)
TABLE = re.compile(r"<!-- generated: (\w+) -->(.*?)<!-- end -->", re.DOTALL)


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(table: str) -> list[tuple[str, ...]]:
    """Field, type, unit, default, meaning."""
    found = dict(TABLE.findall(page("tasks.md")))
    return [match.groups() for match in ROW.finditer(found[table])]


def default_of(field: "dataclasses.Field[Any]") -> str:
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        value = {} if made == type(made)() else made
    if value is dataclasses.MISSING:
        return "required"
    return "none" if value is None else f"`{json.dumps(value)}`"


def anchors(text: str) -> set[str]:
    """The names that a forge gives to headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_every_part_of_a_task_has_its_table() -> None:
    assert [name for name, _ in TABLE.findall(page("tasks.md"))] == list(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_every_field_with_its_default(table: str) -> None:
    stated = [(name, default) for name, _, _, default, _ in rows(table)]

    assert stated == [
        (field.name, default_of(field)) for field in dataclasses.fields(TABLES[table])
    ]


@pytest.mark.parametrize("table", TABLES)
def test_a_row_states_the_unit_that_ends_the_name_and_a_meaning(table: str) -> None:
    units = {"seconds": "s", "gb": "GB", "bytes": "bytes"}
    for name, kind, unit, _, meaning in rows(table):
        assert unit == units.get(name.rpartition("_")[2], "-"), name
        assert kind.strip(), name
        assert meaning.strip(), name


def test_there_is_one_example_of_each_type_and_it_is_accepted() -> None:
    examples = [json.loads(text) for text in blocks_in("tasks.md", "json")]

    tasks = parse_tasks(examples, new_id=lambda: "not asked for")

    assert [task.type for task in tasks] == ["command", "test"]


@pytest.mark.parametrize("name", PAGES)
def test_a_link_leads_to_a_heading_or_a_file(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page(name)):
        file, _, anchor = target.partition("#")
        assert (DOCS / (file or name)).is_file(), target
        assert not anchor or anchor in anchors(page(file or name)), target
