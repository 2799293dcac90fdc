"""What ``dtest test`` tells people and programs of a run that has ended."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from dtest.caller.following import Ended
from dtest.cli import output
from dtest.reports.matrix import Matrix, matrix
from dtest.reports.report import Report, blamed, title
from dtest.reports.terminal import shortened
from dtest.reports.verdicts import BAD, Result, Verdict
from dtest.wording import counted

LISTED_MAX = 50
ALIKE_MAX = 5
"""More tests that are not proven for the same cause are told in one line."""
SHOWN: tuple[Verdict, ...] = (
    *("failed", "error", "not_proven", "flaky"),
    *("passed", "skipped", "xfailed", "xpassed"),
)
"""The order of the last line."""
COUNT_WIDTH, CELL_WIDTH = 10, 10


def as_document(report: Report, end: Ended) -> dict[str, Any]:
    """Return what ``--json`` answers."""
    return {
        "run_id": report.run.run_id,
        "counts": report.counts,
        "planned": report.planned,
        "notes": list(report.notes),
        "hardware": report.hardware,
        "testcases": [_case(result) for result in report.results],
        "faults": [
            {"task_id": each.task_id, "name": each.name, "status": each.status}
            | {"reason": each.reason, "detail": each.detail}
            for each in report.faults
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


def tell(report: Report, end: Ended, *, durations: int) -> None:
    """Tell people: what failed and how, what was not proven, and the numbers last."""
    several = report.is_matrix
    _tell_failures(report, several=several)
    for group in report.groups:
        if len(group.results) > 1:
            same = group.signature
            where = f" ({same.frame})" if same.frame else ""
            messages = {blamed(result).message for result in group.results}
            said = messages.pop() if len(messages) == 1 else same.message
            output.say(f"{len(group.results)} x {same.kind}: {said}{where}")
    _tell_unproven(report, several=several)
    for nodeid, entry in sorted(report.muted.items()):
        output.say(f"MUTED {shortened(nodeid)} until {entry.expires}: {entry.reason}")
    for fault in report.faults:
        output.say(f"{fault.name}: {fault.text}")
    for note in report.notes:
        output.say(note)
    timed = [(found.duration_s, result) for result in report.results if (found := result.deciding)]
    for seconds, result in sorted(timed, key=lambda item: -item[0])[:durations]:
        output.say(f"{seconds:8.2f} s  {_name(result, several=several)}")
    if several:
        _tell_matrix(matrix(report))
    output.say(f"{end.took_s:.2f} s; predicted {end.predicted_s:.2f} s")
    if end.cut is not None and end.cut.cause in {"failures", "stopped"}:
        output.say(end.cut.detail)
    output.say(_of_plan(report))
    print(_sums(report))


def _sums(report: Report) -> str:
    """Return the last line: what tests came to, and what else went wrong."""
    counts = Counter(result.verdict for result in report.results if not result.is_task)
    shown = [f"{counts[name]} {name.replace('_', ' ')}" for name in SHOWN if counts[name]]
    ends = sum(result.is_task and result.verdict in BAD for result in report.results)
    more = f"; {ends} {'session' if ends == 1 else 'sessions'} failed" if ends else ""
    return (", ".join(shown) or "no tests ran") + more


def _of_plan(report: Report) -> str:
    """Say how many results were planned, and how many of them there are."""
    if report.planned is None:
        return "not planned: nobody knows how many tests there were to be"
    missing = sum(result.verdict == "not_proven" for result in report.tests)
    return f"{report.planned} planned, {missing or 'none'} without a result"


def _tell_failures(report: Report, *, several: bool) -> None:
    """Tell what failed and how; what failed alike is told once, with all the names."""
    alike: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in report.results:
        if result.verdict in BAD and result.bad[-1].output:
            alike[result.verdict, result.bad[-1].output].append(result)
    for (verdict, text), results in list(alike.items())[:LISTED_MAX]:
        names = [_name(result, several=several) for result in results[:ALIKE_MAX]]
        more = f" and {len(results) - ALIKE_MAX} more" if len(results) > ALIKE_MAX else ""
        count = f"{len(results)} x " if len(results) > 1 else ""
        output.say(f"\n--- {count}{verdict.upper()} {', '.join(names)}{more}")
        output.say(text)
    if len(alike) > LISTED_MAX:
        output.say(f"... and {len(alike) - LISTED_MAX} more")


def _name(result: Result, *, several: bool) -> str:
    """Return the name of a test as a terminal can show it."""
    return shortened(title(result.key, several=several))


def _tell_unproven(report: Report, *, several: bool) -> None:
    """Tell what is flaky or not proven, each by name; many with the same cause by their number."""
    alike: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in report.results:
        if result.verdict == "flaky":
            output.say(f"FLAKY {_name(result, several=several)}")
        elif result.verdict == "not_proven":
            alike[result.key.hardware, result.cause].append(result)
    for (hardware, cause), results in alike.items():
        why = f": {cause}" if cause else ""
        if len(results) > ALIKE_MAX:
            where = f" @ {hardware}" if several else ""
            output.say(f"NOT_PROVEN {counted(len(results), 'test')}{where}{why}")
            continue
        for result in results:
            output.say(f"NOT_PROVEN {_name(result, several=several)}{why}")


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
        output.say(line("", row.cells) + f"  {shortened(row.name)}")
    if len(found.rows) > LISTED_MAX:
        output.say(f"... and {len(found.rows) - LISTED_MAX} more")
