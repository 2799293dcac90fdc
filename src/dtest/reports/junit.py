"""A report as JUnit XML, in the xunit2 family, with its re-runs as Maven Surefire writes them.

One suite for each file, worker and class of hardware, because the schema gives properties to
suites alone. Only what the deciding failure said is written in full beside each earlier one.
"""

import re
from collections import Counter
from xml.etree import ElementTree as ET

from dtest.reports.observation import Observation
from dtest.reports.plan import split
from dtest.reports.report import Report, blamed, duration_s, title
from dtest.reports.terminal import uncoloured
from dtest.reports.verdicts import CaseKey, Result

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITE_OF_TASKS = "dtest"


def junit(report: Report) -> bytes:
    """Return the document."""
    several = report.is_matrix
    suites: dict[tuple[str, str, str], list[Result]] = {}
    for result in report.results:
        decided = result.deciding
        file = _SUITE_OF_TASKS if result.is_task else split(result.key.nodeid)[0]
        where = (file, result.key.hardware, decided.worker_id if decided is not None else "")
        suites.setdefault(where, []).append(result)
    root = ET.Element("testsuites", name=printable(report.run.name))
    for where, results in sorted(suites.items()):
        _suite(root, report, where, [_case(report, result, several) for result in results])
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    root.set("time", f"{sum(duration_s(result) for result in report.results):.3f}")
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite(
    root: ET.Element, report: Report, where: tuple[str, str, str], cases: list[ET.Element]
) -> None:
    file, hardware, worker_id = where
    held = Counter(child.tag for case in cases for child in case)
    suite = ET.SubElement(
        root,
        "testsuite",
        name=printable(file),
        tests=str(len(cases)),
        failures=str(held["failure"]),
        errors=str(held["error"]),
        skipped=str(held["skipped"]),
        time=f"{sum(float(case.get('time', 0)) for case in cases):.3f}",
    )
    if report.run.opened_at is not None:
        suite.set("timestamp", report.run.opened_at.isoformat(timespec="seconds"))
    if worker_id:
        suite.set("hostname", printable(worker_id))
    properties = ET.SubElement(suite, "properties")
    stated = {"run_id": report.run.run_id, "worker": worker_id, "hardware": hardware}
    for name, value in {**stated, "commit": report.commit}.items():
        if value:
            ET.SubElement(properties, "property", name=f"dtest.{name}", value=printable(value))
    for name, value in report.properties:
        ET.SubElement(properties, "property", name=printable(name), value=printable(value))
    suite.extend(cases)


def _case(report: Report, result: Result, several: bool) -> ET.Element:  # noqa: FBT001 - private
    if result.is_task:
        classname, name = "dtest.task", printable(title(result.key, several=False))
    else:
        classname, name = _names(result.key, several=several)
    case = ET.Element("testcase", classname=classname, name=name)
    case.set("time", f"{duration_s(result):.3f}")
    _properties(case, result)
    entry = report.muted.get(result.key.nodeid)
    match result.verdict:
        case "failed" | "error" if entry is not None:
            why = f"muted until {entry.expires.isoformat()}: {entry.reason}"
            said = f"{result.verdict}: {blamed(result).message}"
            _child(case, "skipped", f"{why}; {said}", "dtest.muted", blamed(result).output)
        case "failed" | "error":
            last = blamed(result)
            tag = "failure" if last.outcome == "failed" else "error"
            _child(case, tag, last.message, last.outcome, last.output)
            _earlier(case, "rerun", result.bad[:-1])
        case "not_proven" if entry is not None:
            _child(case, "skipped", f"not proven, and muted; {result.cause}", "dtest.muted")
        case "not_proven":
            _child(case, "error", f"not proven: {result.cause}", "not_proven")
        case "flaky":
            _earlier(case, "flaky", result.bad)
        case "skipped" | "xfailed":
            message = result.deciding.message if result.deciding is not None else result.cause
            _child(case, "skipped", message, f"pytest.{result.verdict}")
    return case


def _properties(case: ET.Element, result: Result) -> None:
    """Write what the test recorded of itself, where pytest writes it and trackers read it."""
    recorded = result.deciding.properties if result.deciding is not None else ()
    if recorded:
        holder = ET.SubElement(case, "properties")
        for name, value in recorded:
            ET.SubElement(holder, "property", name=printable(name), value=printable(value))


def _earlier(case: ET.Element, word: str, bad: tuple[Observation, ...]) -> None:
    for item in bad:
        kind = "Failure" if item.outcome == "failed" else "Error"
        child = _child(case, f"{word}{kind}", item.message, item.outcome)
        ET.SubElement(child, "stackTrace").text = printable(item.output)


def _child(case: ET.Element, tag: str, message: str, kind: str, text: str = "") -> ET.Element:
    child = ET.SubElement(case, tag, message=printable(message), type=kind)
    if text:
        child.text = printable(text)
    return child


def _names(key: CaseKey, *, several: bool) -> tuple[str, str]:
    """Return class and name of a test; of a file that was not collected, none and its module.

    Parameters of a test may hold any character, ``::`` too.
    """
    file, inside = split(key.nodeid)
    module = file.removesuffix(".py").replace("/", ".")
    words, bracket, parameters = inside.partition("[")
    *classes, name = words.split("::")
    place = f" #{key.occurrence}" if key.occurrence > 1 else ""
    place += f" @ {key.hardware or 'unknown'}" if several else ""
    if not name:
        return "", printable(module + place)
    return printable(".".join((module, *classes))), printable(name + bracket + parameters + place)


def printable(text: str) -> str:
    """Return a text without colours, and without the characters that XML 1.0 cannot hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", uncoloured(text))
