"""What ``dtest test`` tells people and programs of a run that has ended."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from dtest.cli import output
from dtest.cli.suite_run import RunEnd
from dtest.errors import TooManyFailures
from dtest.reports.matrix import Matrix, matrix
from dtest.reports.report import Report, title
from dtest.reports.verdicts import BAD, Result, Verdict

LISTED_MAX = 50
ALIKE_MAX = 5
"""More tests that are not proven for the same cause are told in one line."""
SHOWN: tuple[Verdict, ...] = (
    *("failed", "error", "not_proven", "flaky"),
    *("passed", "skipped", "xfailed", "xpassed"),
)
"""The order of the last line."""
COUNT_WIDTH, CELL_WIDTH = 10, 10


def as_document(report: Report, end: RunEnd) -> dict[str, Any]:
    """Return what ``--json`` answers."""
    return {
        "run_id": report.run.run_id,
        "counts": report.counts,
        "hardware": report.hardware,
        "testcases": [_case(result) for result in report.results],
        "faults": [
            {"task_id": each.task_id, "name": each.name, "status": each.status}
            | {"reason": each.reason}
            for each in end.faults
        ],
        "seconds": round(end.took_s, 3),
        "predicted_seconds": round(end.predicted_s, 3),
        "exit_code": report.exit_code,
    }


def _case(result: Result) -> dict[str, Any]:
    found = result.deciding
    return {
        "nodeid": result.key.nodeid,
        "hardware": result.key.hardware or None,
        "outcome": result.verdict,
        "phase": found.phase if found is not None else None,
        "duration_s": found.duration_s if found is not None else None,
        "message": found.message if found is not None else result.cause,
        "file": found.file if found is not None else result.key.nodeid.partition("::")[0],
        "line": found.line if found is not None else None,
        "worker_id": found.worker_id if found is not None else None,
        "tries": len(result.observations),
    }


def tell(report: Report, end: RunEnd, *, durations: int) -> None:
    """Tell people: what failed and how, what was not proven, and the numbers last."""
    several = report.is_matrix
    told = [result for result in report.results if result.verdict in BAD]
    for result in told[:LISTED_MAX]:
        if result.bad[-1].output:
            output.say(f"\n--- {result.verdict.upper()} {title(result.key, several=several)}")
            output.say(result.bad[-1].output)
    if len(told) > LISTED_MAX:
        output.say(f"... and {len(told) - LISTED_MAX} more")
    for group in report.groups:
        if len(group.results) > 1:
            same = group.signature
            where = f" ({same.frame})" if same.frame else ""
            output.say(f"{len(group.results)} x {same.kind}: {same.message}{where}")
    _tell_unproven(report, several=several)
    for nodeid, entry in sorted(report.muted.items()):
        output.say(f"MUTED {nodeid} until {entry.expires}: {entry.reason}")
    for fault in end.faults:
        output.say(f"{fault.name}: {fault.status}, {fault.reason}")
    timed = [(found.duration_s, result) for result in report.results if (found := result.deciding)]
    for seconds, result in sorted(timed, key=lambda item: -item[0])[:durations]:
        output.say(f"{seconds:8.2f} s  {title(result.key, several=several)}")
    if several:
        _tell_matrix(matrix(report))
    output.say(f"{end.took_s:.2f} s; predicted {end.predicted_s:.2f} s")
    if isinstance(end.cut, TooManyFailures):
        output.say(end.cut.message)
    counts = report.counts
    shown = [f"{counts[name]} {name.replace('_', ' ')}" for name in SHOWN if name in counts]
    print(", ".join(shown) or "no tests ran")


def _tell_unproven(report: Report, *, several: bool) -> None:
    """Tell what is flaky or not proven, each by name; many with the same cause by their number."""
    alike: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in report.results:
        if result.verdict == "flaky":
            output.say(f"FLAKY {title(result.key, several=several)}")
        elif result.verdict == "not_proven":
            alike[result.key.hardware, result.cause].append(result)
    for (hardware, cause), results in alike.items():
        why = f": {cause}" if cause else ""
        if len(results) > ALIKE_MAX:
            where = f" @ {hardware}" if several else ""
            output.say(f"NOT_PROVEN {len(results)} tests{where}{why}")
            continue
        for result in results:
            output.say(f"NOT_PROVEN {title(result.key, several=several)}{why}")


def _tell_matrix(found: Matrix) -> None:
    """Show how many tests came to what on each class of hardware, and which differ."""
    widths = [max(CELL_WIDTH, len(name)) for name in found.classes]

    def line(first: str, cells: Iterable[str]) -> str:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        return "  ".join((first.ljust(COUNT_WIDTH), *padded))

    output.say("\n" + line("", found.classes))
    for word, numbers in found.counts:
        output.say(line(word, map(str, numbers)))
    for name, cause in found.unproven:
        output.say(f"{name}: nothing is proven: {cause}")
    if found.rows:
        output.say("\n" + line("", found.classes) + "  test")
    for row in found.rows[:LISTED_MAX]:
        output.say(line("", row.cells) + f"  {row.name}")
    if len(found.rows) > LISTED_MAX:
        output.say(f"... and {len(found.rows) - LISTED_MAX} more")
