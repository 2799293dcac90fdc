"""What is wrong with a document, in words."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from pydantic import ValidationError

from dtest.wording import did_you_mean

DETAIL_CHARACTERS_MAX = 2_000
"""Most of a refusal's detail: the refusal is an event itself and has to be acceptable."""
VALUE_CHARACTERS_MAX = 80


def explain(error: ValidationError) -> str:
    """Say in one line what is wrong with which field, the first five problems."""
    lines = [
        f"{'.'.join(map(str, problem['loc'])) or 'data'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)[:5]
    ]
    return "; ".join(lines)[:DETAIL_CHARACTERS_MAX]


def told(error: ValidationError, before: str) -> Iterator[str]:
    """Yield what is wrong with each field, with the value that stands there.

    ``before`` stands before the path of each.
    """
    for problem in error.errors(include_url=False, include_context=False):
        path = before + ".".join(map(str, problem["loc"]))
        value = problem["input"]
        is_shown = problem["type"] != "missing" and not isinstance(value, Mapping | list | tuple)
        got = repr(value)
        if len(got) > VALUE_CHARACTERS_MAX:
            got = f"{got[:VALUE_CHARACTERS_MAX]}..."
        yield f"{path.rstrip('.: ')}: {problem['msg']}" + (f", not {got}" if is_shown else "")


def unknown_fields(content: Mapping[Any, Any], shape: type[Any], where: str) -> Iterator[str]:
    """Yield each field that a shape does not have, with the one that may be meant."""
    known = [field.name for field in fields(shape)]
    for name in sorted(map(str, content)):
        if name not in known:
            yield f"{where}: unknown field {name!r}{did_you_mean(name, known)}"
