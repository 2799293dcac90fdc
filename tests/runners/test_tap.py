"""TAP as its many writers write it becomes cases; a plan that is not met says so."""

from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.runners import tap
from tests.runners.reading import named, outcomes, recorded

NODE = recorded("node-20.tap")
FORMS: list[tuple[str, dict[str, str]]] = [
    ("1..1\nok 1 - adds\n", {"adds": "passed"}),
    ("ok 1 adds\n1..1\n", {"adds": "passed"}),
    ("1..2\nok\nnot ok\n", {"test 1": "passed", "test 2": "failed"}),
    ("1..1\nok 1 - a # SKIP no network\n", {"a": "skipped"}),
    ("1..1\nok 1 # skip\n", {"test 1": "skipped"}),
    ("1..1\nnot ok 1 - a # TODO later\n", {"a": "xfailed"}),
    ("1..1\nok 1 - a # todo\n", {"a": "xpassed"}),
    ("1..1\nok 1 - a \\# SKIP b\n", {"a # SKIP b": "passed"}),
    ("1..0 # SKIP no database\n", {"(all)": "skipped"}),
    ("TAP version 13\r\n1..1\r\nok 1 - a\r\n", {"a": "passed"}),
    ("npm noise\n1..1\nmore noise\nok 1 - a\n# end\n", {"a": "passed"}),
    ("1..1\nok 1 - okay\nokay is no test\n", {"okay": "passed"}),
    ("    1..1\n    not ok 1 - in\nnot ok 1 - out\n1..1\n", {"out::in": "failed"}),
    ("    ok 1 - in\n    1..1\nnot ok 1 - out\n1..1\n", {"out::in": "passed", "out": "failed"}),
]
WRONG = [
    ("", "no plan"),
    ("ok 1\n", "no plan"),
    ("1..3\nok 1\nok 2\n", "planned 3 tests and reported 2"),
    ("1..1\nok 1\nok 2\n", "planned 1 tests and reported 2"),
    ("1..3\nok 1\nBail out! no disk\n", "bailed out: no disk"),
    ("1..1\n# Subtest: s\n    1..2\n    ok 1 - in\n", "ends within a subtest"),
    ("1..1\n    1..2\n    ok 1 - in\nok 1 - s\n", "planned 2 tests and reported 1"),
    ("1..1\n    ok 1 - in\nok 1 - s\n", "has no plan"),
    ("1..1\nok 1 - s\n    ok 1 - of nobody\n    1..1\n", "ends within a subtest"),
    ("1..2\nnot ok 1\n  ---\n  error: x\nok 2\n", "planned 2 tests and reported 1"),
]


@pytest.mark.parametrize(("text", "expected"), FORMS)
def test_each_form_of_a_line_is_understood(text: str, expected: dict[str, str]) -> None:
    reading = tap.read(text.encode())

    assert (outcomes(reading), reading.problem) == (expected, "")


@pytest.mark.parametrize(("text", "problem"), WRONG)
def test_a_stream_that_does_not_tell_all_says_why(text: str, problem: str) -> None:
    assert problem in tap.read(text.encode()).problem


def test_the_stream_of_node_is_read() -> None:
    reading = tap.read(NODE)

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
    assert named(reading, "fails").message == "Expected values to be strictly equal:"
    assert "2 !== 3" in named(reading, "fails").output
    assert 0 < named(reading, "fails").duration_s < 1
    assert named(reading, "skips").message == "not here"


def test_what_perl_says_behind_a_failure_is_its_output() -> None:
    text = """\
    1..2
    not ok 1 - total
    #   Failed test 'total'
    #   at t/cart.t line 4.
    ok 2 - empty
    """

    reading = tap.read(dedent(text).encode())

    assert named(reading, "total").message == "Failed test 'total'"
    assert "line 4" in named(reading, "total").output
    assert named(reading, "empty").output == ""


@given(st.lists(st.sampled_from(["passed", "failed", "skipped", "xfailed"]), min_size=1), st.data())
def test_of_a_stream_that_is_cut_off_the_tests_before_count_and_the_rest_is_missed(
    verdicts: list[str], data: st.DataObject
) -> None:
    forms = {
        "passed": "ok {n} - t{n}",
        "failed": "not ok {n} - t{n}\n  ---\n  error: no\n  ...",
        "skipped": "ok {n} - t{n} # SKIP why",
        "xfailed": "not ok {n} - t{n} # TODO why",
    }
    lines = [forms[verdict].format(n=n) for n, verdict in enumerate(verdicts, 1)]
    kept = data.draw(st.integers(0, len(lines)))

    reading = tap.read("\n".join([f"1..{len(lines)}", *lines[:kept]]).encode())

    assert [case.outcome for case in reading.cases] == verdicts[:kept]
    assert bool(reading.problem) == (kept < len(lines))


@given(st.binary())
def test_nothing_that_is_read_raises(data: bytes) -> None:
    tap.read(data)


@given(st.integers(0, len(NODE)))
def test_a_stream_of_node_cut_anywhere_never_has_more_failures(length: int) -> None:
    whole = tap.read(NODE)

    reading = tap.read(NODE[:length])

    assert len(reading.cases) <= len(whole.cases)
    if length < NODE.index(b"1..6"):
        assert reading.problem


@pytest.mark.parametrize(
    ("line", "name", "outcome"),
    [
        ("not ok 1 - Notes#todo returns", "Notes#todo returns", "failed"),
        ("not ok 1 - a # TODO", "a", "xfailed"),
        ("not ok 1 - a #todo later", "a", "xfailed"),
        ("ok 1 - a # Skipped: no lamp", "a", "skipped"),
        ("not ok 1 - a # SKIP no lamp", "a", "skipped"),
        ("ok 1 # SKIP", "test 1", "skipped"),
        (r"not ok 1 - a \# TODO b", "a # TODO b", "failed"),
        (r"ok 1 - a \\ # skip", "a \\", "skipped"),
        ("ok 1 - hello # description", "hello # description", "passed"),
        ("ok 1 - a # time=12ms", "a", "passed"),
    ],
)
def test_directives_are_those_of_the_specification(line: str, name: str, outcome: str) -> None:
    (case,) = tap.read(f"TAP version 14\n1..1\n{line}\n".encode()).cases

    assert (case.name, case.outcome) == (name, outcome)


def test_a_number_outside_of_the_plan_is_told_and_what_may_fail_excuses_what_is_in_it() -> None:
    outside = tap.read(b"TAP version 14\n1..2\nok 1 - a\nok 3 - c\n")
    nested = tap.read(
        b"TAP version 14\n1..1\n# Subtest: later\n    1..1\n    not ok 1 - in\n"
        b"not ok 1 - later # TODO\n"
    )

    assert outside.problem == "it planned 2 tests and reported the 3th"
    assert [case.outcome for case in nested.cases] == ["xfailed"]
