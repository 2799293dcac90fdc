"""Values for parameters, drawn from what each of them permits."""

from functools import cache
from random import Random
from typing import Any, get_type_hints

from pydantic import TypeAdapter

from dtest.events.parameters import NAMES, UNRECORDED, Numbers, Parameters

SIZES = frozenset({"rulings_max", "assignments_max"})
"""How much one decision holds: where they are tiny, it takes many decisions to say anything."""


@cache
def limits_of(name: str) -> tuple[float, float]:
    """The least and the greatest value that a parameter takes."""
    schema: dict[str, Any] = _schema(name)
    least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1e-9)
    return least, schema["maximum"]


@cache
def _schema(name: str) -> dict[str, Any]:
    return TypeAdapter(get_type_hints(Parameters, include_extras=True)[name]).json_schema()


def value_of(name: str, rng: Random) -> int | float:
    """A value that is permitted: half or double the default, or one of the ends."""
    least, most = limits_of(name)
    usual = getattr(UNRECORDED, name)
    drawn = rng.choice([usual / 2, usual * 2, least, most]) if name not in SIZES else usual * 2
    return within(name, drawn)


def within(name: str, drawn: float) -> int | float:
    """The value, or the nearest one that the parameter takes."""
    least, most = limits_of(name)
    value = min(max(drawn, least), most)
    return max(1, round(value)) if _schema(name)["type"] == "integer" else float(value)


def quick(rng: Random, count: int) -> Numbers:
    """So many parameters with half their default, or double where that makes nobody wait."""
    drawn = rng.sample(sorted(NAMES), count)
    factors = {name: 0.5 if "_s" in name else rng.choice([0.5, 2.0]) for name in drawn}
    return {name: within(name, factors[name] * getattr(UNRECORDED, name)) for name in drawn}


def some(rng: Random, count: int) -> Numbers:
    """So many parameters with a value each."""
    return {name: value_of(name, rng) for name in rng.sample(sorted(NAMES), count)}
