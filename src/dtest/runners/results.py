"""Tells the forms of results apart by the line that they start with."""

from collections.abc import Callable
from typing import NamedTuple

from dtest.runners import go_events, junit, tap
from dtest.runners.case import Reading


class Form(NamedTuple):
    """A form in which runners write results."""

    claims: Callable[[bytes], bool]
    """Whether results of this form start with a line."""
    read: Callable[[bytes], Reading]


FORMS: dict[str, Form] = {
    "JUnit XML": Form(junit.claims, junit.read),
    "go test -json": Form(go_events.claims, go_events.read),
    "TAP": Form(tap.claims, tap.read),
}
"""By name."""


def read(data: bytes) -> Reading:
    """Return the cases of results in any known form."""
    for line in data.splitlines():
        for form in FORMS.values():
            if form.claims(line):
                return form.read(data)
    what = "nothing" if not data.strip() else "something else"
    return Reading(problem=f"expected results as {', '.join(FORMS)}, and there was {what}")
