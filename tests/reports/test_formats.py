"""Every format holds every verdict, and says it as those who read the format expect."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from junitparser import xunit2

from dtest.reports.ctrf import ctrf
from dtest.reports.document import document
from dtest.reports.formats import FORMATS
from dtest.reports.junit import junit
from dtest.reports.markdown import CHARS_MAX, markdown
from dtest.reports.observation import Known, Observation, Planned
from dtest.reports.report import Report, compose
from tests.reports.samples import ILLEGAL, NASTY, RUN, everything, full_report, known, seen

HERE = Path(__file__).parent
XSD = xmlschema.XMLSchema(str(HERE / "junit-10.xsd"))
CTRF_SCHEMA = json.loads((HERE / "ctrf-schema-0.0.json").read_text())
OWN_SCHEMA = json.loads(
    (HERE.parents[1] / "src/dtest/reports/report.schema.json").read_text(encoding="utf-8")
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def empty() -> Report:
    return compose(Known(RUN))


def odd(name: str, message: str, output: str) -> Report:
    """A report of tests whose texts may hold anything."""
    cases = [
        seen(f"a.py::{name}x", "failed", message=message, output=output, ordinal=1),
        seen(f"a.py::{name}x", "passed", message=message, ordinal=1, attempt=2),
        seen(f"a.py::T::{name}y[{name}]", "error", message=message, output=output, ordinal=2),
        seen(f"a.py::{name}z", "skipped", message=message, output=output, ordinal=3),
    ]
    return compose(known(*cases, planned=[Planned(f"b.py::{name}")]))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_run_gives_the_same_bytes(form: Any) -> None:
    run = everything()
    turned = Known(run.run, run.parts, run.attempts[::-1], run.observations[::-1], run.planned)

    assert FORMATS[form](compose(run)) == FORMATS[form](compose(turned))


# -- JUnit ----------------------------------------------------------------------------------------


def junit_cases(report: Report) -> list[Any]:
    """The cases as junitparser reads them."""
    read = xunit2.JUnitXml.fromstring(junit(report))
    return [case for suite in read for case in suite]


@pytest.mark.parametrize("report", [full_report(), empty()], ids=["full", "empty"])
def test_junit_holds_to_the_schema(report: Report) -> None:
    XSD.validate(junit(report).decode())


@settings(max_examples=30)
@given(TEXT, TEXT, TEXT)
def test_junit_holds_to_the_schema_whatever_a_test_says(a: str, b: str, c: str) -> None:
    written = junit(odd(a, b, c)).decode()

    XSD.validate(written)
    assert written.count("<testcase ") == 4


def test_junit_counts_and_names_every_test_once() -> None:
    report = full_report()
    read = xunit2.JUnitXml.fromstring(junit(report))
    cases = [case for suite in read for case in suite]

    names = {(case.classname, case.name) for case in cases}
    assert len(names) == len(cases) == len(report.results)
    assert read.tests == len(cases)
    assert read.failures == report.counts["failed"] - 2, "those that are muted"
    assert read.errors == report.counts["error"] + report.counts["not_proven"]
    for suite in read:
        stored = (suite.tests, suite.failures, suite.errors, suite.skipped)
        suite.update_statistics()  # type: ignore[no-untyped-call]
        assert (suite.tests, suite.failures, suite.errors, suite.skipped) == stored


def test_junit_tells_flaky_tests_and_re_runs() -> None:
    cases = {case.name: case for case in junit_cases(full_report())}

    flaky = cases["test_flaky[x::y] @ cpu"]
    assert flaky.classname == "tests.test_a.TestA"
    assert [(item.message, item.stack_trace) for item in flaky.flaky_failures()] == [
        ("boom 17", "\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}")
    ]
    assert flaky.result == []
    bad = cases["test_bad @ cpu"]
    assert [item.message for item in bad.result] == ["other"]
    assert [item.message for item in bad.rerun_failures()] == [NASTY]
    assert "ValueError: no 0x7f12" in next(iter(bad.rerun_failures())).stack_trace


def test_junit_says_failure_error_skip_and_not_proven() -> None:
    def only(outcome: Any, **more: Any) -> Any:
        (case,) = junit_cases(compose(known(seen("a.py::t", outcome, message="why", **more))))
        return [(type(item).__name__, item.type, item.message) for item in case.result]

    assert only("failed") == [("Failure", "failed", "why")]
    assert only("error", phase="setup") == [("Error", "error", "why")]
    assert only("skipped") == [("Skipped", "pytest.skipped", "why")]
    assert only("xfailed") == [("Skipped", "pytest.xfailed", "why")]
    assert only("xpassed") == only("passed") == []
    (never,) = junit_cases(compose(known(planned=[Planned("a.py::t")])))
    assert [(item.type, item.message) for item in never.result] == [
        ("not_proven", "not proven: no task reported it")
    ]


def test_junit_shows_muted_failures_as_skipped_with_the_reason() -> None:
    cases = {case.name: case for case in junit_cases(full_report())}

    (result,) = cases["test_muted @ cpu"].result
    assert result.type == "dtest.muted"
    assert result.message == ("muted until 2026-12-31: slow disk; failed: ValueError: late by 3 s")


def test_junit_has_worker_hardware_and_commit_as_properties() -> None:
    read = xunit2.JUnitXml.fromstring(junit(full_report()))
    stated = [
        {item.name: item.value for item in suite.properties()}  # type: ignore[no-untyped-call]
        for suite in read
    ]

    assert {
        "dtest.run_id": "run-1",
        "dtest.worker": "w1",
        "dtest.hardware": "cpu",
        "dtest.commit": "abc123",
    } in stated
    assert any(
        item.get("dtest.worker") == "w2" and item["dtest.hardware"] == "cuda"
        for item in stated
        if "dtest.hardware" in item
    )


def test_junit_replaces_what_xml_cannot_hold_and_drops_colours() -> None:
    written = junit(compose(known(seen("a.py::t", "failed", message=f"{ILLEGAL}\ud800|")))).decode()

    assert 'message="��\N{REPLACEMENT CHARACTER}|"' in written


# -- CTRF -----------------------------------------------------------------------------------------


def valid(schema: Any, validator: Any, text: bytes) -> Any:
    """The document, which must hold to a schema."""
    found = json.loads(text)
    validator.check_schema(schema)
    errors = list(validator(schema, format_checker=FormatChecker()).iter_errors(found))
    assert not errors, errors[:3]
    return found


@pytest.mark.parametrize("report", [full_report(), empty()], ids=["full", "empty"])
def test_ctrf_holds_to_its_schema(report: Report) -> None:
    found = valid(CTRF_SCHEMA, Draft7Validator, ctrf(report))["results"]

    summary = found["summary"]
    statuses = ("passed", "failed", "skipped", "pending", "other")
    assert summary["tests"] == len(found["tests"]) == sum(summary[name] for name in statuses)
    assert Counter(test["rawStatus"] for test in found["tests"]) == report.counts
    assert len({test["id"] for test in found["tests"]}) == len(found["tests"])


def test_ctrf_tells_flaky_tests_with_their_earlier_attempts() -> None:
    tests = {test["name"]: test for test in json.loads(ctrf(full_report()))["results"]["tests"]}

    flaky = tests["tests/test_a.py::TestA::test_flaky[x::y] @ cpu"]
    assert (flaky["status"], flaky["flaky"], flaky["retries"]) == ("passed", True, 1)
    assert [
        (each["attempt"], each["status"], each["message"]) for each in flaky["retryAttempts"]
    ] == [(1, "failed", "boom 17")]
    assert flaky["suite"] == ["tests/test_a.py", "TestA"]
    assert flaky["labels"] == {"hardware": "cpu"}
    never = tests["tests/test_a.py::test_never @ cpu"]
    assert (never["status"], never["rawStatus"]) == ("other", "not_proven")
    assert tests["tests/test_c.py::test_muted @ cuda"]["tags"] == ["muted"]


# -- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("report", [full_report(), empty()], ids=["full", "empty"])
def test_json_holds_to_its_schema(report: Report) -> None:
    found = valid(OWN_SCHEMA, Draft202012Validator, document(report))

    assert Counter(item["verdict"] for item in found["results"]) == found["counts"] == report.counts
    assert found["exit_code"] == report.exit_code
    grouped = sum(len(group["tests"]) for group in found["groups"])
    assert grouped == sum(1 for item in found["results"] if item["signature"])


# -- Markdown -------------------------------------------------------------------------------------


def many(count: int, **more: Any) -> Report:
    """So many failures, each of its own kind."""
    cases: list[Observation] = [
        seen(
            f"a.py::t{'long' * 100}{n}",
            "failed",
            ordinal=n,
            message=f"Error{chr(97 + n % 26)}{chr(97 + n // 26 % 26)} happened",
            **more,
        )
        for n in range(1, count + 1)
    ]
    return compose(known(*cases, planned=[Planned(f"b.py::{'x' * 500}{n}") for n in range(count)]))


def test_markdown_tells_what_matters() -> None:
    written = markdown(full_report())

    assert written.startswith("## Failed: nightly\n")
    assert (
        "| failed | error | not proven | flaky | xpassed | xfailed | skipped | passed | tests |"
        in written
    )
    assert "| 7 | 4 | 2 | 1 | 2 | 2 | 2 | 4 | 24 |" in written
    assert "### Failures: 9 in 6 kinds" in written
    assert "### Muted: 2" in written
    assert "### Flaky: 1" in written
    assert "### Not proven: 2" in written
    assert "### Hardware: 2 of 12 tests differ" in written
    assert "| `tests/test_a.py::TestA::test_flaky[x::y]` | flaky | failed |" in written
    assert "### Tasks that came to no good end: 1" in written


def test_markdown_of_nothing_says_so() -> None:
    assert markdown(empty()).startswith("## No tests ran: nightly\n")


@pytest.mark.parametrize("output", ["", "`" * 40 + "\n" + "line\n" * 5_000])
def test_markdown_is_never_too_long(output: str) -> None:
    written = markdown(many(300, output=output))

    assert len(written) <= CHARS_MAX
    assert "Failures: 300" in written
    assert re.search(r"and \d+ more", written)


def test_no_text_of_a_test_is_markup() -> None:
    name = "a|b`c``d"
    text = f"```\n{NASTY}\n````"
    written = markdown(odd(name, NASTY, text))

    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", written, flags=re.MULTILINE | re.DOTALL)
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", outside)
    assert "<script" not in outside.replace("\\<script", "")
    assert "</script>" not in outside.replace("\\</script\\>", "")
    assert "&lt;/script&gt;" in outside
    fences = re.findall(r"^(`{3,})text$", written, flags=re.MULTILINE)
    assert fences
    assert all(len(fence) > 4 for fence in fences)
