"""The page on recovery states every parameter with the default that the code has."""

import dataclasses
import json
from pathlib import Path

from dtest.client import parse_tasks
from dtest.recovery.policy import DEFAULT_RECOVERY, STRATEGIES, RecoveryPolicy, in_force

PAGE = Path(__file__).parents[2] / "docs" / "recovery.md"


def test_every_parameter_stands_on_the_page_with_its_default() -> None:
    rows = [
        line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")
    ]
    stated = {name.strip(" `"): value.strip() for name, value in rows}

    for field in dataclasses.fields(RecoveryPolicy):
        assert stated[field.name] == str(field.default), field.name


def test_the_page_says_what_each_strategy_changes() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines()]
    stated = {
        row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 4
    }
    changed = {name for changes in STRATEGIES.values() for name in changes}

    for name in changed:
        values = [in_force(DEFAULT_RECOVERY, strategy) for strategy in STRATEGIES]
        assert stated[name] == [str(getattr(policy, name)) for policy in values], name
    assert stated["parameter"] == list(STRATEGIES)


def test_the_example_of_a_smaller_variant_is_accepted() -> None:
    _, _, rest = PAGE.read_text().partition("```json\n")
    (task,) = parse_tasks([json.loads(rest.partition("```")[0])], new_id=lambda: "t")

    assert task.fallback_config
