"""What `go test -json` tells becomes cases; packages that fail outside their tests say so."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.runners import go_events
from dtest.runners.case import Ended, Order
from dtest.runners.go import Go
from tests.runners.reading import named, outcomes, recorded

CART = recorded("go.jsonl")
PACKAGE = "example.com/shop/cart"
VARIANT = "example.com/b [example.com/b.test]"
BUILD = b"\n".join(
    json.dumps(event).encode()
    for event in (
        {"ImportPath": VARIANT, "Action": "build-output", "Output": "b.go:1: syntax error\n"},
        {"ImportPath": VARIANT, "Action": "build-fail"},
        {"Action": "fail", "Package": "example.com/b", "FailedBuild": VARIANT},
    )
)


def events(*some: dict[str, object]) -> bytes:
    return b"".join(json.dumps({"Package": PACKAGE, **each}).encode() + b"\n" for each in some)


def test_tests_and_subtests_become_cases() -> None:
    reading = go_events.read(CART)

    assert reading.problem == ""
    assert outcomes(reading) == {
        f"{PACKAGE}::TestAdds": "passed",
        f"{PACKAGE}::TestTotals/empty": "passed",
        f"{PACKAGE}::TestTotals/many": "failed",
        f"{PACKAGE}::TestElsewhere": "skipped",
    }
    bad = named(reading, f"{PACKAGE}::TestTotals/many")
    assert (bad.message, bad.duration_s) == ("cart_test.go:12: got 3, want 2", 0.02)
    assert "===" not in bad.output


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (
            events({"Action": "output", "Output": "panic: no config\n"}, {"Action": "fail"}),
            "failed outside its tests: panic: no config",
        ),
        (
            events({"Action": "run", "Test": "TestA"}, {"Action": "pass", "Test": "TestA"}),
            "nothing says how the package",
        ),
        (CART[:-20], "cut off"),
        (
            BUILD,
            "example.com/b failed outside its tests: b.go:1: syntax error",
        ),
    ],
)
def test_a_package_that_did_not_end_well_by_its_tests_is_a_problem(
    stream: bytes, problem: str
) -> None:
    assert problem in go_events.read(stream).problem


def test_a_test_that_its_package_took_down_is_an_error() -> None:
    stream = events({"Action": "run", "Test": "TestA"}, {"Action": "fail"})

    (case,) = go_events.read(stream).cases

    assert (case.outcome, case.message) == ("error", "its package ended before this test did")


@given(
    st.binary()
    | st.recursive(st.none() | st.text() | st.floats(), st.lists).map(
        lambda value: json.dumps({"Action": value, "Package": value, "Test": value}).encode()
    )
)
def test_nothing_that_is_read_raises(data: bytes) -> None:
    go_events.read(data)


def test_packages_are_listed_and_run_one_by_one() -> None:
    go, order = Go(), Order(("-race",))

    assert go.list_command(order, ".") == ("go", "list", "./...")
    assert go.listed(order, ".", Ended(0, b"a/b\na/c\n")).whole == ("a/b", "a/c")
    assert "exit status 1" in go.listed(order, ".", Ended(1, b"")).problem
    assert go.command(order, "a/b", None, "") == ("go", "test", "-json", "-race", "a/b")
    assert go.command(order, "a/b", ["TestA/x", "TestA/y", "TestB"], "")[-3:] == (
        *("-run", "^(TestA|TestB)$"),
        "a/b",
    )


def test_a_package_without_tests_is_skipped() -> None:
    stream = events(
        {"Action": "output", "Output": f"?   \t{PACKAGE}\t[no test files]\n"}, {"Action": "skip"}
    )

    reading = Go().read(Order(), None, Ended(0, stream), None)

    assert outcomes(reading) == {"(package)": "skipped"}
