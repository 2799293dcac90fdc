"""The page on recovery states every parameter with the default that the code has."""

import dataclasses
from pathlib import Path

from dtest.recovery.policy import RecoveryPolicy

PAGE = Path(__file__).parents[2] / "docs" / "recovery.md"


def test_every_parameter_stands_on_the_page_with_its_default() -> None:
    rows = [
        line.split("|")[1:3] for line in PAGE.read_text().splitlines() if line.startswith("| `")
    ]
    stated = {name.strip(" `"): value.strip() for name, value in rows}

    for field in dataclasses.fields(RecoveryPolicy):
        assert stated[field.name] == str(field.default), field.name
