"""CTest: listed as JSON, run in parts by a regular expression that names tests exactly.

Tests that set up for each other, depend on each other or share a resource stay in one part.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from dtest.runners import junit
from dtest.runners.case import (
    BAD,
    Case,
    Ended,
    Listing,
    Order,
    Outcome,
    Progress,
    Reading,
    bounded,
    one_line,
    seconds,
)

_LINKS = (
    *("FIXTURES_SETUP", "FIXTURES_CLEANUP", "FIXTURES_REQUIRED"),
    "RESOURCE_LOCK",
)
_SPECIAL = re.compile(r"([\\^$.\[\]|()*+?{}-])")
_STATUS = re.compile(r" *[0-9]+/[0-9]+ +Test +#[0-9]+: (.+?) \.*(?:\*\*\*)?\s*(\S.*?) +[0-9.]+ sec")
_SKIPS = ("SKIP_RETURN_CODE", "SKIP_REGULAR_EXPRESSION")
"""Messages of tests that skipped themselves; all other reasons not to run are errors."""


class CTest:
    """The adapter. A path is a build directory."""

    listed_by: Literal["command", "paths"] = "command"
    writes_results = True
    limits_tests = True
    tests_max = 100
    """CMake's regular expressions have a limit."""

    def targets(self, order: Order) -> Listing:
        """Only ctest can say what there is."""
        return Listing()

    def list_command(self, order: Order, path: str) -> tuple[str, ...]:
        """Ask ctest."""
        return ("ctest", "--test-dir", path, *order.arguments, "--show-only=json-v1")

    def listed(self, order: Order, path: str, ended: Ended) -> Listing:
        """Read the list."""
        if ended.exit_code:
            return Listing(problem=f"ctest did not list it: exit status {ended.exit_code}")
        try:
            tests = json.loads(_object(ended.output))["tests"]
            named = [(str(test["name"]), _links(test)) for test in tests]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return Listing(problem=f"ctest's list cannot be read: {error!r}")
        if not named:
            return Listing(problem="ctest knows no tests there: is it a build directory?")
        groups = _groups(named)
        return Listing(tuple((path, name, groups[name]) for name, _ in named))

    def command(
        self, order: Order, target: str, names: Sequence[str] | None, results: str
    ) -> tuple[str, ...]:
        """Name the tests exactly."""
        limit_s = order.test_timeout_s
        return (
            *("ctest", "--test-dir", target, *order.arguments),
            *(() if names is None else ("-R", f"^({'|'.join(map(_exactly, names))})$")),
            *(() if limit_s is None else ("--timeout", f"{limit_s:g}")),
            *("--output-junit", results),
        )

    def progress(self) -> Progress | None:
        """It isolates tests from each other by itself."""
        return None

    def blamed(self, left: Sequence[str]) -> Sequence[str]:
        """Blame all that is missing: ctest itself broke down."""
        return left

    def read(
        self, order: Order, names: Sequence[str] | None, ended: Ended, progress: Progress | None
    ) -> Reading:
        """Read the report; only what is printed says how a test failed."""
        if not ended.results:
            return Reading(problem="ctest wrote no report: 3.21 or later is needed")
        found, problem = junit.elements(ended.results[0][1])
        said = ended.output.decode("utf-8", "replace")
        printed = {test[1]: test[2] for test in map(_STATUS.fullmatch, said.splitlines()) if test}
        return Reading(tuple(_case(element, printed) for element in found), problem)


def _object(output: bytes) -> bytes:
    """Return the JSON without what is printed around it."""
    return output[output.find(b"{") : output.rfind(b"}") + 1]


def _links(test: dict[str, Any]) -> set[str]:
    """Return what ties a test to others."""
    links: set[str] = set()
    for each in test.get("properties", ()):
        if each["name"] in _LINKS:
            links |= {
                f"{'lock' if 'LOCK' in each['name'] else 'fixture'} {value}"
                for value in each["value"]
            }
        elif each["name"] == "DEPENDS":
            links |= {f"test {name}" for name in each["value"]}
    return links


def _groups(named: Iterable[tuple[str, set[str]]]) -> dict[str, str]:
    """Return for each test the first test that it is tied to, over others too; empty for none."""
    tests = dict(named)
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while roots.setdefault(name, name) != name:
            name = roots[name]
        return name

    for name, links in tests.items():
        for link in sorted(links):
            first, second = root(f"test {name}"), root(link)
            roots[second] = first
    members: dict[str, list[str]] = {}
    for name in tests:
        members.setdefault(root(f"test {name}"), []).append(name)
    return {name: some[0] if len(some) > 1 else "" for some in members.values() for name in some}


def _exactly(name: str) -> str:
    return _SPECIAL.sub(r"\\\1", name)


def _case(element: junit.Element, printed: dict[str, str]) -> Case:
    name = element.get("name")
    outcome, message, _ = junit.verdict(element)
    outcome, message = _meant(element, outcome, message or printed.get(name, ""))
    said = element.child("system-out")
    output = said.content if said is not None else ""
    return Case(
        name,
        outcome,
        one_line(message) if outcome != "passed" else "",
        bounded(output) if outcome in BAD else "",
        seconds(element.attributes.get("time")),
    )


def _meant(element: junit.Element, outcome: Outcome, message: str) -> tuple[Outcome, str]:
    """Tell a test that skipped itself or is disabled from one that could not be run."""
    if outcome != "skipped" or element.get("status") == "disabled" or message.startswith(_SKIPS):
        return outcome, message
    return "error", message
