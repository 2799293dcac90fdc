"""The page on recovery states every parameter with the default that the code has."""

import json
from pathlib import Path

from dtest.client import parse_tasks
from dtest.leadership.rules import CURRENT

PAGE = Path(__file__).parents[2] / "docs" / "recovery.md"


def test_the_page_says_what_each_strategy_changes() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines()]
    stated = {
        row[0].strip(" `"): [cell.strip() for cell in row[1:]] for row in rows if len(row) == 4
    }
    changed = {name for changes in CURRENT.strategies.values() for name in changes}

    for name in changed:
        own = getattr(CURRENT.parameters, name)
        values = [strategy.get(name, own) for strategy in CURRENT.strategies.values()]
        assert stated[name] == [str(value) for value in values], name
    assert stated["parameter"] == list(CURRENT.strategies)


def test_the_example_of_a_smaller_variant_is_accepted() -> None:
    _, _, rest = PAGE.read_text().partition("```json\n")
    (task,) = parse_tasks([json.loads(rest.partition("```")[0])], new_id=lambda: "t")

    assert task.fallback_config
