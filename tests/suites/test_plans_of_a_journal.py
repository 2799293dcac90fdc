"""The audit counts what was planned and what has a result, by numbers alone."""

from dtest.events.attempt import TestcaseFinished
from dtest.events.catalogue import Payload
from dtest.events.fields import RunId, TaskId, WorkerId
from dtest.events.suite import HARDWARE_CLASS, PlannedTest, SuitePlanned
from dtest.events.suite_decision import (
    WHOLE_FIRST,
    SuiteCollected,
    SuiteDivided,
    SuiteEnded,
    SuitePooled,
)
from dtest.events.suite_list import ListPart, SuiteListed
from dtest.events.task import TaskQueued
from dtest.suites.conservation import Conservation
from dtest.suites.suite import digest_of

RUN = RunId("r")


def session(task: str = "s", hardware: str = "") -> TaskQueued:
    labels = {HARDWARE_CLASS: hardware} if hardware else {}
    config = {"cwd": "/suite", "queue": "q"}
    return TaskQueued(TaskId(task), "test", config, run_id=RUN, labels=labels)


def planned(*numbers: int, total: int = 0, hardware: str = "", cause: str = "") -> SuitePlanned:
    tests = tuple(PlannedTest(number, f"a.py::t{number}", cause) for number in numbers)
    return SuitePlanned(RUN, total or len(numbers), hardware, tests)


def result(number: int | None, task: str = "s") -> TestcaseFinished:
    return TestcaseFinished(TaskId(task), 1, WorkerId("w"), 1, "a.py::t", "passed", number=number)


def counted(*facts: Payload) -> tuple[list[str], list[str]]:
    """What is short, and what cannot be."""
    violations: list[str] = []
    conservation = Conservation(violations.append)
    for fact in facts:
        conservation.take(fact)
    return list(conservation.finish()), violations


def test_a_plan_of_which_all_have_a_result_is_whole() -> None:
    plan = planned(0, 1, total=3), planned(2, total=3)

    assert counted(session(), *plan, *(result(number) for number in (2, 0, 1, 0))) == ([], [])


def test_a_plan_is_short_by_what_has_no_result() -> None:
    short, violations = counted(session(), planned(0, 1, 2), result(1), result(None))

    assert (short, violations) == (["run r: 2 of 3 planned tests have no result"], [])


def test_what_no_session_can_run_needs_no_result() -> None:
    assert counted(
        session(), planned(0), planned(1, total=1, cause="asks for rocm"), result(0)
    ) == (
        [],
        [],
    )


def test_each_class_of_hardware_has_a_plan_of_its_own() -> None:
    plans = planned(0, hardware="cuda"), planned(0, hardware="cpu")

    short, _ = counted(session("g", "cuda"), session("c", "cpu"), *plans, result(0, "g"))

    assert short == ["run r on cpu: 1 of 1 planned tests have no result"]


def test_a_plan_that_was_cut_off_while_it_was_told_is_short() -> None:
    short, violations = counted(session(), planned(0, total=5), result(0))

    assert (short, violations) == (["run r: of 5 planned tests 1 are told"], [])


def test_results_and_numbers_that_no_plan_explains_are_violations() -> None:
    _, stranger = counted(session(), planned(0), result(0), result(7))
    _, twice = counted(session(), planned(0, 0), result(0))

    assert stranger == ["run r: the result 7 is of no planned test"]
    assert twice == ["run r: the number 0 is planned twice"]


def whole(*told: str, not_proven: int = 0) -> tuple[list[str], list[str]]:
    """What is said of a run of two files that run as a whole, of which this was told."""
    content = ListPart(1, (), whole=("a.t", "b.t"))
    digest = digest_of([content])
    counts = {"passed": len(told), "not_proven": not_proven}
    results = (
        TestcaseFinished(TaskId("s"), 1, WorkerId("w"), number, nodeid, "passed")
        for number, nodeid in enumerate(told)
    )
    return counted(
        SuiteListed(digest, 0, content),
        SuiteCollected(RUN, digest, "", 0, 2, 0, 2),
        session(),
        SuiteDivided(RUN, 1, 0, 0.0),
        SuitePooled(RUN, 0, "", ((WHOLE_FIRST, WHOLE_FIRST + 1),), "q", sessions=1),
        *results,
        SuiteEnded(RUN, 0, counts, 0),
    )


def test_files_that_run_as_a_whole_are_to_have_a_result_each() -> None:
    assert whole("a.t::one", "a.t::two", "b.t") == ([], [])


def test_a_file_that_ran_as_a_whole_without_a_word_is_short_and_never_green() -> None:
    short, violations = whole("a.t::one", "x/b.t::one")

    assert short == ["run r: nothing is told of b.t"]
    assert violations == ["run r: 1 planned tests have no result, and its sums do not say so"]
    assert whole("a.t::one", not_proven=1)[1] == []
