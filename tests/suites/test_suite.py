"""What a suite holds survives its way in parts, with the marks of each test."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import InvalidDocument
from dtest.events.suite_list import Function, Marks
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


NAMES = st.lists(st.text(min_size=1, max_size=40), max_size=9, unique=True).map(tuple)


@st.composite
def crowded(draw: st.DrawFn) -> Suite:
    """Draw suites in which anything may be what is long."""
    nodeids = draw(NAMES)
    functions = tuple(Function(name, name, 1, "") for name in draw(NAMES) or ("f",))
    marks = (NO_MARKS, *(Marks((name,)) for name in draw(NAMES)))
    function, mark = st.integers(0, len(functions) - 1), st.integers(0, len(marks) - 1)
    return Suite(
        tuple((nodeid, draw(st.sampled_from(("", nodeid)))) for nodeid in nodeids),
        broken=draw(NAMES),
        skipped=draw(NAMES),
        failures_max=draw(st.integers(0, 3)),
        whole=draw(NAMES),
        marks=tuple(marks),
        marked=tuple(draw(mark) for _ in nodeids),
        functions=functions,
        places=tuple((draw(function), 0, draw(st.sampled_from(("", "x" * 40)))) for _ in nodeids),
        notes=draw(NAMES),
    )


@given(crowded(), st.integers(1, 600))
def test_no_part_is_larger_than_a_message_whatever_is_long(suite: Suite, bytes_max: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DOCUMENT_BYTES_MAX", bytes_max)
        documents = suite.documents()

    found = joined(documents)
    assert marks_by_test(found) == marks_by_test(suite)
    assert [found.file_at(place) for place in range(len(found.tests))] == [
        suite.file_at(place) for place in range(len(suite.tests))
    ]
    assert [found.test_at(place) for place in range(len(found.tests))] == [
        suite.test_at(place) for place in range(len(suite.tests))
    ]
    for name in ("tests", "broken", "skipped", "failures_max", "whole", "notes"):
        assert getattr(found, name) == getattr(suite, name)
    frame, item_max = 200, 900
    assert max(map(len, documents)) <= frame + max(bytes_max, item_max)


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
