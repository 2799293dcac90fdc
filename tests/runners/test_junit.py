"""JUnit XML as runners write it becomes cases; what is cut off or short says so."""

from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.runners import junit
from dtest.runners.case import OUTPUT_CHARS_MAX, Reading
from tests.runners.reading import named, outcomes, recorded

NODE = recorded("node-20.junit.xml")
CLASS = '<testcase classname="a.B" name="t">'


def one(content: str) -> str:
    return f"<testsuite><testcase name='t'>{content}</testcase></testsuite>"


FORMS = [
    (f"<testsuite>{CLASS}</testcase></testsuite>", "a.B::t", "passed", ""),
    (f'<testsuite name="a.B">{CLASS}</testcase></testsuite>', "a.B::t", "passed", ""),
    (f'<testsuite name="s">{CLASS}</testcase></testsuite>', "s::a.B::t", "passed", ""),
    (one('<failure message="no">text</failure>'), "t", "failed", "no"),
    (one("<failure>first\nsecond</failure>"), "t", "failed", "first"),
    (one("<failure message='f'/><error message='e'/>"), "t", "error", "e"),
    (one("<skipped type='pytest.xfail' message='bug'/>"), "t", "xfailed", "bug"),
    (one("<skipped/>"), "t", "skipped", ""),
    ("<testsuite><testcase name='t' status='disabled'/></testsuite>", "t", "skipped", "disabled"),
    ("<testsuite><testcase/></testsuite>", "(no name)", "passed", ""),
]
WRONG = [
    ("", "no element found"),
    ("<testsuite>", "no element found"),
    ("<testsuite></testsuites>", "mismatched tag"),
    ("<testsuite" + ">" * 3, "no element found"),
    ("<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y 'z'>]><testsuite/>", "document type"),
    ("<?xml version='1.0' encoding='no-such'?><testsuite/>", "cannot be read"),
    ("<testsuite>" * 200, "deeper than"),
    ("<testsuite name='s' tests='3'><testcase name='t'/></testsuite>", "says it has 3 tests"),
]


@pytest.mark.parametrize(("text", "name", "outcome", "message"), FORMS)
def test_each_form_of_a_case_is_understood(
    text: str, name: str, outcome: str, message: str
) -> None:
    reading = junit.read(text.encode())

    assert reading.problem == ""
    assert [(case.name, case.outcome, case.message) for case in reading.cases] == [
        (name, outcome, message)
    ]


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_what_is_no_whole_report_says_why(text: str, problem: str) -> None:
    assert problem in junit.read(text.encode()).problem


def test_the_report_of_node_is_read() -> None:
    reading = junit.read(NODE)

    assert reading.problem == ""
    assert outcomes(reading) == {
        "adds": "passed",
        "fails": "failed",
        "skips": "skipped",
        "later": "xfailed",
        "outer::inner # 1": "passed",
        "outer::deep::bad": "failed",
        "/srv/shop/t/b.test.js": "failed",
    }
    bad = named(reading, "outer::deep::bad")
    assert bad.message == "deep <&> trouble"
    assert "a.test.js:6:103" in bad.output
    assert named(reading, "adds").duration_s > 0


def test_words_around_and_between_reports_are_passed_over() -> None:
    around = b"> npm test\n\n" + NODE + b"npm ERR! <code> & more\n" + NODE + b"\nbye <&"

    assert junit.read(around) == Reading(junit.read(NODE).cases * 2)


@given(st.integers(0, len(NODE.rstrip()) - 1))
def test_a_report_that_is_cut_off_tells_what_stands_before_and_says_so(length: int) -> None:
    reading = junit.read(NODE[:length])

    assert reading.problem
    assert reading.cases == junit.read(NODE).cases[: len(reading.cases)]


@given(st.binary() | st.text().map(lambda text: f"<testsuite>{text}</testsuite>".encode()))
def test_nothing_that_is_read_raises(data: bytes) -> None:
    junit.read(data)


WORDS = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cn"]), max_size=20)


@given(st.lists(st.tuples(WORDS, WORDS, st.sampled_from(["", "failure", "error", "skipped"]))))
def test_all_cases_of_a_report_are_read_with_their_words(cases: list[tuple[str, str, str]]) -> None:
    def written(name: str, message: str, kind: str) -> str:
        verdict = f"<{kind} message={quoteattr(message)}/>" if kind else ""
        return f"<testcase name={quoteattr(name)}>{verdict}</testcase>"

    body = "".join(written(*case) for case in cases)
    reading = junit.read(f"<testsuite tests='{len(cases)}'>{body}</testsuite>".encode())

    kinds = {"": "passed", "failure": "failed"}
    assert reading.problem == ""
    assert [(case.name, case.outcome) for case in reading.cases] == [
        (name or "(no name)", kinds.get(kind, kind)) for name, _, kind in cases
    ]


def test_output_is_bounded() -> None:
    text = "x" * (3 * OUTPUT_CHARS_MAX)
    report = f"<testsuite><testcase name='t'><failure>{text}</failure></testcase></testsuite>"

    (case,) = junit.read(report.encode()).cases

    assert len(case.output) <= OUTPUT_CHARS_MAX
    assert "characters left out" in case.output


@pytest.mark.parametrize(
    ("text", "outcomes", "problem"),
    [
        (
            '<testsuite name="s" tests="1"><testcase name="a"/><error message="x"/></testsuite>',
            ["passed", "error"],
            "",
        ),
        ('<testsuite name="s" errors="1"><error>gone</error></testsuite>', ["error"], ""),
        (
            '<testsuite name="s" tests="1" failures="1"><testcase name="a"/></testsuite>',
            ["passed"],
            "the suite 's' says that 1 failed, and tells of 0",
        ),
        (
            '<testsuite failures="1"><testcase><failure/></testcase><testcase/></testsuite>',
            ["failed", "passed"],
            "",
        ),
    ],
)
def test_errors_of_a_suite_count_and_counts_that_do_not_fit_are_told(
    text: str, outcomes: list[str], problem: str
) -> None:
    reading = junit.read(text.encode())

    assert sorted(case.outcome for case in reading.cases) == sorted(outcomes)
    assert reading.problem == problem


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ('tests="2" failures="1"', "it says that 1 tests failed, and tells of none"),
        ('tests="5"', "it says it has 5 tests and holds 2"),
        ('tests="2" failures="0"', ""),
        ("", ""),
    ],
)
def test_counts_of_the_whole_report_are_held_against_it(counts: str, problem: str) -> None:
    suites = '<testsuite name="s"><testcase name="a"/><testcase name="b"/></testsuite>'
    reading = junit.read(f"<testsuites {counts}>{suites}</testsuites>".encode())

    assert (len(reading.cases), reading.problem) == (2, problem)
