"""Plans: every test once, in units that shrink, what belongs together in one."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.errors import InvalidDocument
from dtest.suites import suite as module
from dtest.suites.history import GUESS_S, Case, History
from dtest.suites.plan import PlannedTest, makespan_s, plan
from dtest.suites.pools import PoolTest
from dtest.suites.suite import Suite, parts_of
from dtest.suites.suite import joined as whole
from dtest.suites.unit import (
    TESTS_MAX,
    UNIT_BYTES_MAX,
    Part,
    Test,
    Unit,
    decode,
    encode,
    joined,
    pieces_of,
    split,
    weight,
)

SECONDS = st.floats(0, 100, allow_nan=False)


@st.composite
def suites(draw: st.DrawFn) -> list[PlannedTest]:
    """Tests in the order of collection, some in groups."""
    tests: list[PlannedTest] = []
    for file in range(draw(st.integers(0, 6))):
        for group in draw(st.lists(st.sampled_from(["", "A", "B"]), max_size=6, unique=True)):
            tests += [
                planned(
                    f"f{file}.py", len(tests) + n, group and f"f{file}.py::{group}", draw(SECONDS)
                )
                for n in range(draw(st.integers(1, 12)))
            ]
    for test in draw(st.lists(st.integers(0, max(0, len(tests) - 1)), max_size=8, unique=True)):
        if tests:
            tests[test] = replace(tests[test], group="@printer")
    return tests


def planned(file: str, number: int, group: str = "", seconds: float = 0.0) -> PlannedTest:
    """A test of a function of its own."""
    return PlannedTest(Test(number, f"test_{number}", name=f"{file}::t"), file, group, seconds)


def told(units: list[Unit]) -> Counter[tuple[str, int | None]]:
    """File and number of all tests of units."""
    return Counter(
        (part.file, test.number)
        for unit in units
        for part in unit.parts
        for test in part.tests or ()
    )


def numbers(tests: list[PlannedTest]) -> Counter[tuple[str, int | None]]:
    """File and number of all tests of a plan."""
    return Counter((test.file, test.test.number) for test in tests)


@given(tests=suites(), sessions=st.integers(1, 9))
def test_every_test_is_in_one_unit_at_its_place(tests: list[PlannedTest], sessions: int) -> None:
    units = plan(tests, sessions=sessions)

    assert told(units) == numbers(tests)
    assert all(part.tests for unit in units for part in unit.parts)
    assert len({unit.id for unit in units}) == len(units)


@given(tests=suites(), sessions=st.integers(1, 9))
def test_a_group_is_never_parted(tests: list[PlannedTest], sessions: int) -> None:
    group_of = {test.test.number: test.group for test in tests}
    pieces = [piece for unit in plan(tests, sessions=sessions) for piece in pieces_of(unit)]

    groups = [
        {group_of[test.number] for part in piece for test in part.tests or ()} for piece in pieces
    ]
    assert all(len(some) == 1 for some in groups)
    where = Counter(group for (group,) in groups if group.startswith("@"))
    assert all(count == 1 for count in where.values()), "one session has the whole group"
    for piece, (group,) in zip(pieces, groups, strict=True):
        assert {part.group for part in piece} == {group}


@given(tests=suites(), sessions=st.integers(1, 9))
def test_the_sessions_end_at_about_the_same_time(tests: list[PlannedTest], sessions: int) -> None:
    units = plan(tests, sessions=sessions)
    total_s = sum(unit.seconds for unit in units)

    largest = max((unit.seconds for unit in units), default=0.0)
    made = makespan_s(units, sessions=sessions)
    # Graham's bound for a list that is handed out in order.
    assert made <= total_s / sessions + largest + 1e-6
    assert made >= max(largest, total_s / sessions) - 1e-6


def test_a_large_file_is_cut_and_small_ones_are_put_together() -> None:
    tests = [planned("large.py", n, seconds=1.0) for n in range(100)]
    tests += [planned(f"s{n}.py", 100 + n, seconds=0.001) for n in range(200)]

    units = plan(tests, sessions=2)

    large = [unit for unit in units if any(part.file == "large.py" for part in unit.parts)]
    assert len(large) >= 4
    assert len(units) < 100
    assert units[0].seconds == max(unit.seconds for unit in units)
    assert makespan_s(units, sessions=2) == pytest.approx(52.0, abs=5)


def test_no_unit_holds_more_than_a_message_can() -> None:
    tests = [planned("a.py", n) for n in range(3 * TESTS_MAX)]

    units = plan(tests, sessions=1)

    assert told(units) == numbers(tests)
    assert all(sum(map(weight, pieces_of(unit))) <= TESTS_MAX for unit in units)


def test_no_unit_is_larger_than_a_message_however_long_the_names_are() -> None:
    tests = [planned("a.py", n, group="" if n % 2 else "a.py::T") for n in range(600)]
    tests = [replace(each, test=replace(each.test, name="y" * 4_000)) for each in tests]

    units = plan(tests, sessions=1)

    assert told(units) == numbers(tests)
    assert max(len(encode(unit)) for unit in units) < 2 * UNIT_BYTES_MAX


def test_only_what_is_long_comes_before_its_turn() -> None:
    tests = [planned(f"f{n}.py", n, seconds=0.01 * (1 + n % 3)) for n in range(40)]
    tests += [planned("slow.py", 40, seconds=5.0)]

    first, *rest = [
        test.number
        for unit in plan(tests, sessions=2)
        for part in unit.parts
        for test in part.tests or ()
    ]

    assert first == 40
    assert rest == list(range(40)), "the others keep the order of collection"


TEST = st.builds(Test, st.integers(0, 99), st.text(max_size=5))
TESTS = st.lists(TEST, min_size=1, max_size=9)
PART = st.builds(
    Part,
    st.sampled_from(["a.py", "b.py"]),
    st.none() | TESTS.map(tuple),
    st.sampled_from(["", "A", "@B"]),
)
PARTS = st.lists(PART, min_size=1, max_size=6)


def content(unit: Unit) -> list[list[tuple[str, str, Test | None]]]:
    """What goes together: file, group and test of each."""
    return [
        [(part.file, part.group, test) for part in piece for test in part.tests or (None,)]
        for piece in pieces_of(unit)
    ]


@given(parts=PARTS, count=st.integers(1, 9))
def test_splitting_keeps_every_piece_in_order(parts: list[Part], count: int) -> None:
    unit = Unit("u", tuple(parts), 1.0)

    made = split(unit, count)

    assert 1 <= len(made) <= count
    assert [each for part in made for each in content(part)] == content(unit)
    assert sum(each.seconds for each in made) == pytest.approx(1.0)
    assert content(Unit("u", joined(pieces_of(unit)))) == content(unit)
    for each in made:
        assert decode(encode(each)) == each


@given(parts=PARTS, counts=st.tuples(st.integers(1, 9), st.integers(1, 9)))
def test_equal_names_stand_for_equal_tests(parts: list[Part], counts: tuple[int, int]) -> None:
    """A queue takes no name twice: another cut of the same unit must not be taken for the first."""
    unit = Unit("u", tuple(parts), 1.0)
    one, other = ({each.id: content(each) for each in split(unit, count)} for count in counts)

    assert all(one[name] == other[name] for name in one.keys() & other.keys())


@given(
    tests=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=3)), max_size=20),
    at_once=st.integers(1, 7),
)
def test_a_suite_is_the_same_after_its_journey(tests: list[tuple[str, str]], at_once: int) -> None:
    suite = Suite(tuple(tests), ("broken.py",), ("skips.py",), 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TESTS_AT_ONCE", at_once)
        documents = suite.documents()

    assert parts_of(documents[0]) == len(documents)
    assert whole(documents) == suite


def test_what_says_nothing_of_a_suite_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="says nothing of a suite"):
        parts_of(b"{}")


def test_what_is_not_known_is_guessed_from_its_neighbours() -> None:
    names = ("a.py::one", "a.py::two", "b.py::three")
    tests = [PoolTest(Test(n), name, name[:4], "", (name, "")) for n, name in enumerate(names)]

    assert [test.seconds for test in History().predicted(tests)] == [GUESS_S] * 3
    known = History({"a.py::one": 4.0})
    assert [test.seconds for test in known.predicted(tests)] == [4.0, 4.0, 4.0]


def test_a_history_is_completed_by_what_others_know_and_keeps_its_own() -> None:
    own = History({"a": 4.0, "b": 1.0}, {"a"})
    others = History({"a": 9.0, "b": 9.0, "c": 2.0, "d": 3.0}, {"b", "c"})

    both = own.completed_by(others)

    assert both.durations == {"a": 4.0, "b": 1.0, "c": 2.0, "d": 3.0}
    assert both.failed == {"a", "c"}
    assert own.completed_by(History()) == own
    assert History().completed_by(others) == others


def test_a_history_follows_the_latest_runs() -> None:
    history = History().with_run([Case("a", 4.0, True), Case("b", 1.0, False)])
    assert (history.durations, set(history.failed)) == ({"a": 4.0, "b": 1.0}, {"a"})

    history = history.with_run([Case("a", 2.0, False)])
    assert (history.durations["a"], set(history.failed)) == (3.0, set())


def test_files_whose_tests_are_not_known_are_told_and_timed_by_what_ran_before() -> None:
    suite = Suite(whole=("a.t", "b.t"))
    history = History({"a.t::x": 1.0, "a.t::y": 2.0, "a.txt::z": 4.0})

    assert whole(suite.documents()) == suite
    assert (suite.is_empty, suite.files) == (False, {"a.t", "b.t"})
    assert history.of_files(["a.t", "b.t"]) == {"a.t": 3.0, "b.t": 0.0}
