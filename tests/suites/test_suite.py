"""What a suite holds survives its way in parts, with the marks of each test."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import InvalidDocument
from dtest.events.suite_list import Marks
from dtest.suites import suite as module
from dtest.suites.suite import NO_MARKS, Suite, joined

GPU = Marks(("gpu",), (([], {"hardware": "cuda"}),))
SLOW = Marks(("slow",))


@st.composite
def suites(draw: st.DrawFn) -> Suite:
    count = draw(st.integers(0, 12))
    tests = tuple((f"f{n % 3}.py::t{n}", "") for n in range(count))
    marks = draw(st.sampled_from(((), (NO_MARKS, GPU, SLOW))))
    numbers = st.integers(0, max(0, len(marks) - 1))
    marked = tuple(draw(numbers) for _ in range(count)) if marks else ()
    return Suite(tests, ("broken.py",), ("skipped.py",), 3, ("whole.t",), marks, marked)


def marks_by_test(suite: Suite) -> list[tuple[str, Marks]]:
    return [(nodeid, suite.marks_at(place)) for place, (nodeid, _) in enumerate(suite.tests)]


@given(suites(), st.integers(1, 5))
def test_parts_hold_what_was_cut_into_them(suite: Suite, at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TESTS_AT_ONCE", at_once)
        found = joined(suite.documents())

    assert marks_by_test(found) == marks_by_test(suite)
    assert (found.broken, found.skipped, found.failures_max) == (("broken.py",), ("skipped.py",), 3)
    assert found.whole == ("whole.t",)


@given(suites())
def test_a_choice_keeps_the_marks_of_its_tests(suite: Suite) -> None:
    chosen = suite.only(lambda place: not place % 2)

    assert marks_by_test(chosen) == marks_by_test(suite)[::2]
    assert [chosen.number_at(place) for place in range(len(chosen.tests))] == list(
        range(0, len(suite.tests), 2)
    )


@given(suites(), suites())
def test_two_suites_together_hold_the_tests_of_both_once(one: Suite, other: Suite) -> None:
    found = one.with_tests_of(other)

    known = {nodeid for nodeid, _ in one.tests}
    fresh = [each for each in marks_by_test(other) if each[0] not in known]
    assert marks_by_test(found) == [*marks_by_test(one), *fresh]


def test_a_document_of_an_older_session_has_no_marks() -> None:
    document = orjson.dumps({"parts": 1, "tests": [["a.py::t", ""]]})

    assert marks_by_test(joined([document])) == [("a.py::t", NO_MARKS)]


@pytest.mark.parametrize("marked", [[0], [0, 2], [0, -1]])
def test_numbers_that_name_no_marks_are_refused(marked: list[int]) -> None:
    content = {"parts": 1, "tests": [["a", ""], ["b", ""]], "marks": [{}, {}], "marked": marked}

    with pytest.raises(InvalidDocument, match="marked"):
        joined([orjson.dumps(content)])
