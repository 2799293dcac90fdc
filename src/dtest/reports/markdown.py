"""A report as Markdown: a summary for the page of a CI run, never longer than such pages take.

What does not fit is counted, not silently left out; the other formats hold it.
"""

import html
import re
from collections import defaultdict
from collections.abc import Iterable

from dtest.reports.matrix import NOT_FOR_IT, matrix
from dtest.reports.report import Report, title
from dtest.reports.terminal import uncoloured
from dtest.reports.verdicts import BAD, VERDICTS, Result

CHARS_MAX = 60_000
"""Comments on GitHub end at 65,536 characters."""
GROUPS_MAX, LISTED_MAX, MATRIX_ROWS_MAX = 25, 50, 50
OUTPUT_CHARS_MAX, NAME_CHARS_MAX = 1_500, 300
_NO_MARKUP = str.maketrans({char: f"\\{char}" for char in r"\`*_{}[]<>#|!~"})


def markdown(report: Report) -> str:
    """Return the summary."""
    sections = [_head(report), _groups(report)]
    by_verdict: dict[str, list[Result]] = defaultdict(list)
    for result in report.results:
        muted = result.verdict in BAD and result.key.nodeid in report.muted
        by_verdict["muted" if muted else result.verdict].append(result)
    several = report.is_matrix
    sections += [_faults(report), _notes(report)]
    for word, heading in (("not_proven", "Not proven"), ("flaky", "Flaky"), ("muted", "Muted")):
        sections.append(_listed(report, heading, by_verdict[word], several=several))
    if several:
        sections.append(_matrix(report))
    return _joined(section for section in sections if section)


def _joined(sections: Iterable[str]) -> str:
    """Join whole sections as long as they fit, and say how many did not."""
    written: list[str] = []
    left = 0
    size = 0
    for section in sections:
        if size + len(section) + 100 > CHARS_MAX:
            left += 1
            continue
        written.append(section)
        size += len(section) + 1
    if left:
        written.append(f"*{left} more sections did not fit; see the HTML or JSON report.*\n")
    return "\n".join(written)


def _head(report: Report) -> str:
    run = report.run
    lines = [f"## {report.in_words}: {_plain(run.name)}", ""]
    if not run.finished:
        lines += ["*The run has not ended: this is what is known so far.*", ""]
    counts = report.counts
    names = [verdict for verdict in VERDICTS if verdict in counts]
    if names:
        lines.append(f"| {' | '.join(name.replace('_', ' ') for name in names)} | tests |")
        lines.append("|---:" * (len(names) + 1) + "|")
        lines.append(
            f"| {' | '.join(str(counts[name]) for name in names)} | {len(report.results)} |"
        )
        lines.append("")
    facts = [f"run {_code(run.run_id)}"]
    if report.commit:
        facts.append(f"commit {_code(report.commit)}")
    if report.span is not None:
        facts.append(f"{(report.span[1] - report.span[0]).total_seconds():.1f} s")
    workers = {attempt.worker_id for attempt in report.attempts}
    facts.append(f"{len(workers)} worker{'' if len(workers) == 1 else 's'}")
    if report.hardware:
        facts.append(f"hardware {', '.join(map(_code, report.hardware))}")
    return "\n".join([*lines, " · ".join(facts), ""])


def _groups(report: Report) -> str:
    several = report.is_matrix
    groups = [
        (group, failing)
        for group in report.groups
        if (
            failing := [
                item
                for item in group.results
                if item.verdict in BAD and item.key.nodeid not in report.muted
            ]
        )
    ]
    if not groups:
        return ""
    total = sum(len(failing) for _, failing in groups)
    lines = [f"### Failures: {total} in {len(groups)} kinds", ""]
    size = 0
    for shown, (group, failing) in enumerate(groups):
        last = failing[0].bad[-1]
        head = f"{len(failing)} x {group.signature.kind}: {_line(last.message)}"
        named = [f"- {_code(title(item.key, several=several))}" for item in failing[:5]]
        more = [f"- and {len(failing) - 5} more"] if len(failing) > 5 else []  # noqa: PLR2004
        output = ["", *_fenced(last.output)] if last.output else []
        block = [f"<details><summary>{html.escape(head)}</summary>", "", *named, *more, *output]
        text = "\n".join([*block, "", "</details>", ""])
        if shown == GROUPS_MAX or size + len(text) > CHARS_MAX // 2:
            lines.append(f"*and {len(groups) - shown} more kinds of failure*")
            break
        lines.append(text)
        size += len(text)
    return "\n".join([*lines, ""])


def _faults(report: Report) -> str:
    if not report.faults:
        return ""
    lines = [f"### Tasks that came to no good end: {len(report.faults)}", ""]
    lines += [
        f"- {_plain(fault.name)}: {_plain(fault.text)}" for fault in report.faults[:LISTED_MAX]
    ]
    return "\n".join([*lines, *_more(len(report.faults)), ""])


def _notes(report: Report) -> str:
    lines = [f"- {_plain(note)}" for note in report.notes[:LISTED_MAX]]
    return "\n".join(["### Notes", "", *lines, *_more(len(report.notes)), ""]) if lines else ""


def _listed(report: Report, heading: str, results: list[Result], *, several: bool) -> str:
    if not results:
        return ""
    lines = [f"### {heading}: {len(results)}", ""]
    for result in results[:LISTED_MAX]:
        entry = report.muted.get(result.key.nodeid)
        why = result.cause or (result.bad[-1].message if result.bad else "")
        if entry is not None:
            why = f"muted until {entry.expires.isoformat()}: {entry.reason}; {why}"
        lines.append(f"- {_code(title(result.key, several=several))} {_plain(why)}".rstrip())
    return "\n".join([*lines, *_more(len(results)), ""])


def _matrix(report: Report) -> str:
    """Return the tests that do not come to the same on every class of hardware."""
    found = matrix(report)
    tests = {(result.key.nodeid, result.key.occurrence) for result in report.tests}
    differing = [row for row in found.rows if len({*row.cells} - {NOT_FOR_IT}) > 1]
    lines = [f"### Hardware: {len(differing)} of {len(tests)} tests differ", ""]
    lines += (f"- {_code(name)} nothing is proven: {_plain(why)}" for name, why in found.unproven)
    if found.unproven:
        lines.append("")
    if differing:
        lines.append(f"| test | {' | '.join(_plain(name) for name in found.classes)} |")
        lines.append("|---" * (len(found.classes) + 1) + "|")
    for row in differing[:MATRIX_ROWS_MAX]:
        lines.append(f"| {_code(row.name)} | {' | '.join(row.cells)} |")
    return "\n".join([*lines, *_more(len(differing)), ""])


def _more(count: int) -> list[str]:
    return [f"- and {count - LISTED_MAX} more"] if count > LISTED_MAX else []


def _plain(text: str) -> str:
    """Return one line of text with no markup in it."""
    return _line(text).translate(_NO_MARKUP)


def _line(text: str) -> str:
    line = " ".join(uncoloured(text).split())
    return line if len(line) <= NAME_CHARS_MAX else f"{line[:NAME_CHARS_MAX]}…"


def _code(text: str) -> str:
    """Return text as code, in a line or a cell of a table."""
    line = " ".join(text.split())[:NAME_CHARS_MAX].replace("|", "\N{BROKEN BAR}")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _fenced(text: str) -> list[str]:
    """Return the end of a text as a block of code that nothing in it can close."""
    text = uncoloured(text)
    kept = text if len(text) <= OUTPUT_CHARS_MAX else f"…\n{text[-OUTPUT_CHARS_MAX:]}"
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", kept)), default=0))
    return [f"{fence}text", kept.replace("\r", ""), fence]
