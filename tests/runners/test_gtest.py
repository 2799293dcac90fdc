"""GoogleTest: lists, filters, reports, and what a program printed before it died."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtest.runners.case import Ended, Order, Progress, Reading
from dtest.runners.gtest import GoogleTest
from tests.runners.reading import named, outcomes, recorded

LIST = recorded("gtest-1.12.list.txt")
PRINTED = recorded("gtest-1.12.run.txt")
REPORT = recorded("gtest-1.12.run.xml")
DEATH = recorded("gtest-1.12.death.txt")
PROGRAM = Path(__file__).parents[1] / "kit" / "gtest_program.py"
ORDER = Order(paths=("build/t",))
ALL = {
    "Math.Adds": "passed",
    "Math.Fails": "failed",
    "Math.DISABLED_Later": "skipped",
    "Math.Skips": "skipped",
    "Math.Dies": "passed",
    "Math.AfterDeath": "passed",
    "Math.Hangs": "passed",
    "DISABLED_Off.Never": "skipped",
    "Typed/0.HasSize": "passed",
    "Typed/1.HasSize": "passed",
    "Broken.One": "passed",
    "Few/Values.IsSmall/0": "passed",
    "Few/Values.IsSmall/1": "passed",
    "Few/Values.IsSmall/2": "failed",
    "Named/Values.IsSmall/n1": "passed",
    "Named/Values.IsSmall/n2": "passed",
}


def after(printed: bytes) -> Progress:
    progress = GoogleTest().progress()
    assert progress is not None
    progress.feed(printed)
    return progress


def read(printed: bytes, report: bytes | None, *names: str) -> Reading:
    results = () if report is None else (("r.xml", report),)
    return GoogleTest().read(ORDER, names or None, Ended(1, b"", results), after(printed))


def test_typed_parameterised_and_disabled_tests_are_listed() -> None:
    listing = GoogleTest().listed(ORDER, "build/t", Ended(0, LIST))

    assert listing.tests == tuple(("build/t", name, "") for name in ALL)


@pytest.mark.parametrize(
    ("ended", "problem"),
    [(Ended(-11, b""), "did not list"), (Ended(0, b"hello\n"), "is it a GoogleTest program?")],
)
def test_what_lists_nothing_is_no_test_program(ended: Ended, problem: str) -> None:
    assert problem in GoogleTest().listed(ORDER, "build/t", ended).problem


def test_tests_are_named_exactly_and_the_callers_filter_has_done_its_work() -> None:
    order = Order(("--gtest_filter=A*", "--gtest_shuffle"), ("t",))

    assert GoogleTest().list_command(order, "t") == (
        *("./t", "--gtest_filter=A*", "--gtest_shuffle"),
        "--gtest_list_tests",
    )
    assert GoogleTest().command(order, "t", ["A.b", "A.c/0"], "/r") == (
        *("./t", "--gtest_shuffle", "--gtest_filter=A.b:A.c/0"),
        "--gtest_output=xml:/r",
    )


def test_the_report_and_what_was_printed_make_the_cases() -> None:
    reading = read(PRINTED, REPORT)

    assert (outcomes(reading), reading.problem) == (ALL, "")
    bad = named(reading, "Math.Fails")
    assert (bad.message, bad.file, bad.line) == ("Expected equality of these values:", "t.cc", 6)
    assert bad.output.startswith("said before\n")
    assert named(reading, "Math.Skips").message == "not here"


def test_without_a_report_what_was_printed_says_what_ended_and_what_ran() -> None:
    reading, progress = read(DEATH, None), after(DEATH)

    assert outcomes(reading) == {
        "Math.Adds": "passed",
        "Math.Fails": "failed",
        "Math.Skips": "skipped",
    }
    assert reading.problem
    assert progress.running() == "Math.Dies"


def test_a_disabled_test_that_was_asked_for_is_skipped_though_nothing_tells_of_it() -> None:
    reading = read(b"", b"<testsuites/>", "A.DISABLED_b", "A.c")

    assert outcomes(reading) == {"A.DISABLED_b": "skipped"}


def test_what_a_test_prints_without_an_end_of_line_does_not_hide_its_end() -> None:
    printed = b"[ RUN      ] A.b\nword[       OK ] A.b (12 ms)\n[ RUN      ] A.c\n"

    progress = after(printed)

    assert [(case.name, case.duration_s) for case in progress.cases()] == [("A.b", 0.012)]
    assert progress.running() == "A.c"


@given(st.lists(st.integers(1, 200)))
def test_how_the_output_is_cut_into_pieces_does_not_matter(sizes: list[int]) -> None:
    progress = GoogleTest().progress()
    assert progress is not None
    rest = PRINTED
    for size in sizes:
        progress.feed(rest[:size])
        rest = rest[size:]
    progress.feed(rest)

    assert progress.cases() == after(PRINTED).cases()


def test_output_without_end_is_bounded() -> None:
    progress = after(b"[ RUN      ] A.b\n")
    for _ in range(40):
        progress.feed(b"x" * 1_000_000)

    assert len(progress.said()) < 200_000
    assert progress.running() == "A.b"


@given(st.binary(), st.binary())
def test_nothing_that_is_read_raises(printed: bytes, report: bytes) -> None:
    read(printed, report)
    GoogleTest().listed(ORDER, "t", Ended(0, printed))


# -- the program that stands for a real one in other tests ----------------------------------------


def said(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(PROGRAM), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False).stdout


def plain(printed: str) -> list[str]:
    """The lines that tell of tests."""
    lines = re.sub(r"\(\d+ ms\)", "(0 ms)", printed).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("[ RUN"))
    told = [line for line in lines[start:] if not line.startswith(("[-----", "[====="))]
    ends = [at for at, line in enumerate(told) if line.startswith("[  PASSED  ]")]
    return [line for line in told[: ends[0] if ends else None] if line]


def test_the_program_of_these_tests_lists_what_the_real_one_lists(tmp_path: Path) -> None:
    assert said("--gtest_list_tests", cwd=tmp_path).splitlines() == LIST.decode().splitlines()[1:]


def test_the_program_of_these_tests_prints_and_reports_what_the_real_one_does(
    tmp_path: Path,
) -> None:
    copy = tmp_path / "t"
    copy.write_bytes(PROGRAM.read_bytes())
    command = [sys.executable, str(copy), f"--gtest_output=xml:{tmp_path}/r.xml"]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout

    assert plain(printed) == plain(PRINTED.decode())
    assert read(printed.encode(), (tmp_path / "r.xml").read_bytes()) == read(PRINTED, REPORT)


def test_the_program_of_these_tests_dies_as_the_real_one_does(tmp_path: Path) -> None:
    copy = tmp_path / "t"
    copy.write_bytes(PROGRAM.read_bytes())
    (tmp_path / "DIE").touch()

    died = subprocess.run(
        [sys.executable, str(copy), "--gtest_filter=Math.*"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert died.returncode == -6
    assert plain(died.stdout) == plain(DEATH.decode())
