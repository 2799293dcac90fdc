"""Which rule is for which test, and whose word counts: rules in their order, then marks."""

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import UsageError
from dtest.events.suite_list import Marks
from dtest.events.task import ANYWHERE, Requirements
from dtest.suites.rules import Rule, general, needs_of, read_rules
from dtest.suites.suite import Suite


def suite(*tests: str, marks: tuple[Marks, ...] = (), marked: tuple[int, ...] = ()) -> Suite:
    return Suite(tuple((test, "") for test in tests), marks=marks, marked=marked)


def marked(*keywords: dict[str, Any], names: tuple[str, ...] = ()) -> Marks:
    return Marks(names, tuple(([], each) for each in keywords))


@pytest.mark.parametrize(
    ("match", "nodeid", "holds"),
    [
        ("tests/gpu", "tests/gpu/test_a.py::test", True),
        ("tests/gpu/", "tests/gpu/test_a.py::test", True),
        ("./tests/gpu", "tests/gpu/test_a.py::test", True),
        ("tests/gpu", "tests/gpus/test_a.py::test", False),
        ("gpu", "tests/gpu/test_a.py::test", False),
        ("**/gpu", "tests/gpu/test_a.py::test", True),
        ("**/gpu", "gpu/test_a.py::test", True),
        ("tests/gpu/**", "tests/gpu/deep/test_a.py::test[a/b::c]", True),
        ("tests/*/test_a.py", "tests/gpu/test_a.py::test", True),
        ("tests/*/test_a.py", "tests/gpu/deep/test_a.py::test", False),
        ("tests/**/test_a.py", "tests/test_a.py::test", True),
        ("**/test_gpu_*.py", "tests/test_gpu_a.py::test", True),
        ("test_?.py", "test_a.py::test", True),
        ("test_a.py", "test_aXpy::test", False),
        ("test_a.py::TestA", "test_a.py::TestA::test_b", True),
        ("test_a.py::test_n", "test_a.py::test_n[3]", True),
        ("test_a.py::test_n", "test_a.py::test_name", False),
        ("test_a.py::*gpu*", "test_a.py::TestA::test_on_gpu_2", True),
        ("**::*gpu*", "deep/test_a.py::test_gpu", True),
        ("test_a.py::test_n[3]", "test_a.py::test_n[3]", True),
        ("test_a.py::test_n[3]", "test_a.py::test_n[33]", False),
    ],
)
def test_a_pattern_is_a_path_or_a_name_with_all_inside(
    match: str, nodeid: str, holds: bool
) -> None:
    assert Rule({}, match).holds(nodeid, Marks()) is holds


NAMES = st.text("ab*", min_size=1, max_size=8)


@given(NAMES, st.text("ab", min_size=1, max_size=12))
def test_stars_in_names_stand_for_anything(names: str, name: str) -> None:
    """The shell's way is the oracle; a test is held by its class, and without parameters, too."""
    held = [f"{name}::t[1]", f"{name}::t", name]

    for place in range(len(held)):
        found = Rule({}, f"a.py::{names}").holds(f"a.py::{held[place]}", Marks())
        assert found is any(fnmatchcase(each, names) for each in held[place:])


def test_many_stars_take_no_longer_than_a_few() -> None:
    """Trying all places of thirty stars would take longer than the universe is old."""
    assert not Rule({}, f"a.py::{'*a' * 30}*b").holds(f"a.py::{'a' * 4_000}", Marks())


def test_a_rule_may_ask_for_a_marker_too() -> None:
    rule = Rule({}, "tests", "gpu")

    assert rule.holds("tests/test_a.py::test", Marks(("gpu", "slow")))
    assert not rule.holds("tests/test_a.py::test", Marks(("slow",)))
    assert not rule.holds("other/test_a.py::test", Marks(("gpu",)))


RULES = read_rules(
    [
        {"min_memory_gb": 1},
        {"match": "a.py", "hardware": "cuda", "min_memory_gb": 2},
        {"marker": "gpu", "hardware": ["rocm"]},
    ],
    source="pyproject.toml",
)


def test_later_rules_win_over_earlier_ones_and_marks_over_rules() -> None:
    found = needs_of(
        suite(
            *("b.py::t", "a.py::t", "a.py::gpu", "a.py::marked", "b.py::nested"),
            marks=(
                Marks(),
                marked(names=("gpu",)),
                marked({"hardware": "tpu"}),
                marked({"min_memory_gb": 16}, {"hardware": "qnn", "min_memory_gb": 4}),
            ),
            marked=(0, 0, 1, 2, 3),
        ),
        RULES,
    )

    assert found == [
        Requirements(min_memory_gb=1.0),
        Requirements(hardware=("cuda",), min_memory_gb=2.0),
        Requirements(hardware=("rocm",), min_memory_gb=2.0),
        Requirements(hardware=("tpu",), min_memory_gb=2.0),
        Requirements(hardware=("qnn",), min_memory_gb=16.0),
    ]
    assert general(RULES) == Requirements(min_memory_gb=1.0)


def test_a_suite_without_marks_and_rules_asks_for_nothing() -> None:
    assert needs_of(suite("a.py::t", "a.py::u"), ()) == [ANYWHERE, ANYWHERE]


def test_wrong_marks_are_told_with_their_tests() -> None:
    wrong = marked({"hardwear": "cuda"})

    with pytest.raises(UsageError) as refused:
        needs_of(suite("a.py::t", "a.py::u", marks=(Marks(), wrong), marked=(0, 1)), ())
    assert refused.value.message.startswith(
        "pytest.mark.dtest of a.py::u: unknown keyword 'hardwear'; known: hardware"
    )
    positional = Marks((), ((["cuda"], {}),))
    with pytest.raises(UsageError, match=r"a.py::t: takes keywords only, not 'cuda'.*and 1 more"):
        needs_of(suite("a.py::t", "a.py::u", marks=(positional,), marked=(0, 0)), ())


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ({"hardware": "cuda"}, "requirements is no list of tables"),
        (["cuda"], "requirements is no list of tables"),
        ([{"match": "a"}], r"requirements\[0\]: asks for nothing"),
        (
            [{"hardware": "cuda"}, {"match": 3, "hardware": "cuda"}],
            r"requirements\[1\]: match is 3",
        ),
        ([{"marker": "", "hardware": "cuda"}], r"requirements\[0\]: marker is ''"),
        ([{"matches": "a", "hardware": "cuda"}], "unknown keyword 'matches'"),
    ],
)
def test_rules_that_make_no_sense_are_named(entries: object, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        read_rules(entries, source="pyproject.toml")
