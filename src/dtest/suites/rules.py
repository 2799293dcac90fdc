"""Which tests ask for what: rules of ``[[tool.dtest.requirements]]``, then the tests' own marks."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from dtest.errors import UsageError
from dtest.events.suite_list import Marks
from dtest.events.task import Requirements
from dtest.suites.requirement import KEYWORDS, Stated, layered, stated
from dtest.suites.suite import Suite

CHOICES = ("match", "marker")
"""Keys of a rule that say which tests it is for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What some tests ask for."""

    asked: Stated
    match: str | None = None
    """Path or node id as a pattern: `*` is any text within a part, `**` any text."""
    marker: str | None = None
    """Only tests that carry this marker."""

    @property
    def is_general(self) -> bool:
        """Say whether it is for all tests."""
        return self.match is None and self.marker is None

    def holds(self, nodeid: str, marks: Marks) -> bool:
        """Say whether it is for this test."""
        if self.marker is not None and self.marker not in marks.names:
            return False
        return self.match is None or _pattern(self.match).fullmatch(nodeid) is not None


def read_rules(entries: object, *, source: str) -> tuple[Rule, ...]:
    """Read the entries of the settings. Raises UsageError that names the entry."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        message = f"{source}: requirements is no list of tables"
        raise UsageError(message, hint="each begins with [[tool.dtest.requirements]]")
    return tuple(
        _rule(entry, f"{source}: requirements[{place}]") for place, entry in enumerate(entries)
    )


def _rule(entry: Mapping[str, Any], where: str) -> Rule:
    for name in CHOICES:
        if name in entry and not (isinstance(entry[name], str) and entry[name]):
            message = f"{where}: {name} is {entry[name]!r}, no text"
            raise UsageError(message)
    asked = {name: value for name, value in entry.items() if name not in CHOICES}
    try:
        checked = stated(asked)
    except ValueError as error:
        message = f"{where}: {error}"
        raise UsageError(message, hint=f"besides these: {', '.join(CHOICES)}") from error
    return Rule(checked, entry.get("match"), entry.get("marker"))


@cache
def _pattern(match: str) -> re.Pattern[str]:
    """Return what a pattern stands for: a file, a directory, a class or a test, with all inside."""
    path, inside, names = match.removeprefix("./").partition("::")
    words = re.split(r"(\*\*/|\*\*|\*|\?)", path.rstrip("/"))
    meaning = {"**/": "(?:[^:]*/)?", "**": "[^:]*", "*": "[^/:]*", "?": "[^/:]"}
    text = "".join(meaning.get(word, re.escape(word)) for word in words)
    if inside:
        return re.compile(rf"{text}::{_named(names)}(?:(?:::|\[).*)?", re.DOTALL)
    return re.compile(rf"{text}(?:(?:/|::).*)?", re.DOTALL)


def _named(names: str) -> str:
    """Return the expression for names with stars.

    What stands between two stars is where it is found first, for good: trying all places of
    several would take the longer the more stars there are, by powers.
    """
    first, *others = [re.escape(word) for word in names.split("*")]
    if not others:
        return first
    *between, last = others
    return first + "".join(f"(?>.*?{word})" for word in between if word) + f".*{last}"


def general(rules: Sequence[Rule]) -> Requirements:
    """Return what the whole suite asks for."""
    return layered(rule.asked for rule in rules if rule.is_general)


def needs_of(suite: Suite, rules: Sequence[Rule]) -> list[Requirements]:
    """Return what each test asks for: by rules, of which later ones win, and by marks, which win.

    Raises UsageError that names the tests whose marks make no sense.
    """
    marks: dict[int, list[Stated]] = {}
    wrong: dict[int, str] = {}
    for number, each in enumerate(suite.marks):
        try:
            marks[number] = [_asked(*asked) for asked in reversed(each.asked)]
        except ValueError as error:
            wrong[number] = str(error)
    problems = [
        f"{nodeid}: {wrong[suite.marked[place]]}"
        for place, (nodeid, _) in enumerate(suite.tests)
        if suite.marked and suite.marked[place] in wrong
    ]
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        message = f"pytest.mark.dtest of {problems[0]}{more}"
        raise UsageError(message, hint="docs/testing.md says what a mark may ask for")
    found: dict[tuple[tuple[int, ...], int], Requirements] = {}
    needs: list[Requirements] = []
    for place, (nodeid, _) in enumerate(suite.tests):
        of_test = suite.marks_at(place)
        holding = tuple(n for n, rule in enumerate(rules) if rule.holds(nodeid, of_test))
        key = (holding, suite.marked[place] if suite.marked else 0)
        if key not in found:
            layers = [rules[n].asked for n in holding]
            found[key] = layered([*layers, *marks.get(key[1], ())])
        needs.append(found[key])
    return needs


def _asked(arguments: Sequence[object], keywords: Mapping[str, object]) -> Stated:
    if arguments:
        message = f"takes keywords only, not {arguments[0]!r}; known: {', '.join(KEYWORDS)}"
        raise ValueError(message)
    return stated(keywords)
