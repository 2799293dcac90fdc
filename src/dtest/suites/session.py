"""Which agents can run sessions of a suite by the form of units that this version writes."""

from collections.abc import Mapping
from typing import Final

SPEAKS: Final[Mapping[str, str]] = {"dtest.units": "2"}
"""The label by which an agent says that it takes tests by number and place; older ones, which know
tests by their node ids, have none."""


def speaks(labels: Mapping[str, str]) -> bool:
    """Say whether an agent with these labels can run sessions."""
    return all(labels.get(name) == value for name, value in SPEAKS.items())
