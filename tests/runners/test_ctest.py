"""CTest: what its list and its report say, and that what could not run is no skip."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.runners.case import Ended, Order, Reading
from dtest.runners.ctest import CTest
from tests.runners.reading import named, outcomes, recorded

LIST = recorded("ctest-3.25.list.json")
PRINTED = recorded("ctest-3.25.run.txt")
REPORT = recorded("ctest-3.25.run.xml")
ORDER = Order(paths=("build",))


def groups(**properties: list[dict[str, object]]) -> dict[str, str]:
    tests = [{"name": name, "properties": some} for name, some in properties.items()]
    output = json.dumps({"tests": tests}).encode()
    return {name: group for _, name, group in CTest().listed(ORDER, "b", Ended(0, output)).tests}


def prop(name: str, *values: str) -> dict[str, object]:
    return {"name": name, "value": list(values)}


def read(report: bytes, printed: bytes = PRINTED) -> Reading:
    return CTest().read(ORDER, None, Ended(8, printed, (("r.xml", report),)), None)


def test_tests_are_listed_and_those_of_a_fixture_stay_together() -> None:
    listing = CTest().listed(ORDER, "build", Ended(0, b"noise\n" + LIST))

    assert listing.problem == ""
    assert [name for _, name, _ in listing.tests] == [
        *("good", "bad", "dies", "skipped", "off", "slow", "missing", "setup", "needs"),
        "odd name [x]+(y)",
    ]
    assert {name for _, name, group in listing.tests if group == "setup"} == {"setup", "needs"}


def test_what_is_tied_over_others_stays_together_too() -> None:
    assert groups(
        a=[prop("DEPENDS", "b")],
        b=[prop("RESOURCE_LOCK", "port")],
        c=[prop("RESOURCE_LOCK", "port"), prop("FIXTURES_REQUIRED", "db")],
        d=[prop("FIXTURES_SETUP", "db")],
        e=[prop("FIXTURES_SETUP", "port")],
        f=[],
    ) == {"a": "a", "b": "a", "c": "a", "d": "a", "e": "", "f": ""}


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(1, b""), "exit status 1"),
        (Ended(0, b"No tests"), "cannot be read"),
        (Ended(0, b'{"tests": []}'), "is it a build directory?"),
        (Ended(0, b'{"tests": [5]}'), "cannot be read"),
    ],
)
def test_what_is_no_list_says_why(ended: Ended, problem: str) -> None:
    assert problem in CTest().listed(ORDER, "build", ended).problem


def test_tests_are_named_exactly() -> None:
    order = Order(("-C", "Debug"), test_timeout_s=5)

    assert CTest().command(order, "b", ["a.b", "c [d]+"], "/r") == (
        *("ctest", "--test-dir", "b", "-C", "Debug", "-R", r"^(a\.b|c \[d\]\+)$"),
        *("--timeout", "5", "--output-junit", "/r"),
    )


def test_the_report_and_what_was_printed_make_the_cases() -> None:
    reading = read(REPORT)

    assert reading.problem == ""
    assert outcomes(reading) == {
        "good": "passed",
        "bad": "failed",
        "dies": "failed",
        "skipped": "skipped",
        "off": "skipped",
        "slow": "failed",
        "missing": "error",
        "setup": "passed",
        "needs": "passed",
        "odd name [x]+(y)": "passed",
    }
    messages = {name: named(reading, name).message for name in ("bad", "dies", "slow", "missing")}
    assert messages == {
        "bad": "Failed",
        "dies": "Exception: SegFault",
        "slow": "Timeout",
        "missing": "Unable to find executable",
    }
    assert named(reading, "bad").output == "said"


def test_without_a_report_nothing_is_proven() -> None:
    reading = CTest().read(ORDER, None, Ended(0, PRINTED), None)

    assert (reading.cases, "wrote no report" in reading.problem) == ((), True)


@given(st.binary(), st.binary())
def test_nothing_that_is_read_raises(printed: bytes, report: bytes) -> None:
    read(report, printed)
    CTest().listed(ORDER, "b", Ended(0, printed))
