"""Tests by classes of hardware, in few lines: how many came to what, and which differ or are bad.

A class of which nothing is proven is not compared: it is one thing to tell, not one for each test.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from dtest.reports.report import Report, title
from dtest.reports.verdicts import BAD, VERDICTS, CaseKey, Result, Verdict

ABSENT, NOT_FOR_IT = "-", "n/a"
"""Stand where a class of hardware knows no such test, and where a test is not made for it."""
_TELLING: frozenset[str] = BAD | {"not_proven", "flaky"}


@dataclass(frozen=True, slots=True)
class Row:
    """One test."""

    name: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """All of it, with the classes of hardware as columns."""

    classes: tuple[str, ...]
    counts: tuple[tuple[str, tuple[int, ...]], ...]
    """Of each verdict that is there, worst first; and how many tests are not for a class."""
    rows: tuple[Row, ...]
    """Tests that come to something else elsewhere, or to nothing good."""
    unproven: tuple[tuple[str, str], ...]
    """Classes of which nothing is proven, each with a cause."""


def matrix(report: Report) -> Matrix:
    """Return the matrix of a report."""
    classes = report.hardware
    tests: dict[tuple[str, int], dict[str, Result]] = defaultdict(dict)
    for result in report.tests:
        tests[result.key.nodeid, result.key.occurrence][result.key.hardware] = result
    of_class = {
        name: [row[name] for row in tests.values() if name in row and not _is_elsewhere(row[name])]
        for name in classes
    }
    unproven = {
        name: some[0].cause
        for name, some in of_class.items()
        if some and all(result.verdict == "not_proven" for result in some)
    }
    rows = [
        Row(
            title(CaseKey(nodeid, "", place), several=False),
            tuple(_cell(row.get(name)) for name in classes),
        )
        for (nodeid, place), row in sorted(tests.items())
        if _is_telling([row.get(name) for name in classes if name not in unproven])
    ]
    return Matrix(classes, _counts(report, classes), tuple(rows), tuple(unproven.items()))


def _is_elsewhere(result: Result | None) -> bool:
    """Say whether the test is not made for this class of hardware."""
    return result is not None and result.verdict == "skipped" and not result.observations


def _is_telling(results: list[Result | None]) -> bool:
    """Say whether a test differs or is bad; not being made for some class is no difference."""
    cells = {result and result.verdict for result in results if not _is_elsewhere(result)}
    return len(cells) > 1 or bool(cells & _TELLING)


def _cell(result: Result | None) -> str:
    if result is None:
        return ABSENT
    return NOT_FOR_IT if _is_elsewhere(result) else result.verdict.replace("_", " ")


def _counts(report: Report, classes: tuple[str, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    found = Counter(
        (NOT_FOR_IT if _is_elsewhere(result) else result.verdict, result.key.hardware)
        for result in report.tests
    )
    words: list[tuple[Verdict | str, str]] = [
        *((verdict, verdict.replace("_", " ")) for verdict in VERDICTS),
        (NOT_FOR_IT, "not for it"),
    ]
    lines = ((word, tuple(found[key, name] for name in classes)) for key, word in words)
    return tuple((word, numbers) for word, numbers in lines if any(numbers))
