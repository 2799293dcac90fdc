#!/usr/bin/env python3
"""Speaks the command line of a GoogleTest program with the tests of ``recorded/gtest.cc``.

Files beside it play the part of that program's environment variables: DIE, HANG and BROKEN. Each
run adds its filter to ``runs.txt`` there. ``tests/runners/test_gtest.py`` holds it to what the real
one wrote.
"""

import os
import sys
import time
from pathlib import Path
from xml.sax.saxutils import quoteattr

HERE = Path(__file__).parent
EQUAL = (
    "Expected equality of these values:\n  1 + 1\n    Which is: 2\n  3\narithmetic",
    "Value of: false\n  Actual: false\nExpected: true",
)
SMALL = ("Expected: (GetParam()) < (3), actual: 3 vs 3",)
# suite, type parameter, tests: name, value parameter, line, failures
SUITES: list[tuple[str, str, list[tuple[str, str, int, tuple[str, ...]]]]] = [
    (
        "Math",
        "",
        [
            ("Adds", "", 5, ()),
            ("Fails", "", 6, EQUAL),
            ("DISABLED_Later", "", 7, ("Failed",)),
            ("Skips", "", 9, ()),
            ("Dies", "", 10, ()),
            ("AfterDeath", "", 11, ()),
            ("Hangs", "", 12, ()),
        ],
    ),
    ("DISABLED_Off", "", [("Never", "", 8, ("Failed",))]),
    ("Typed/0", "int", [("HasSize", "", 20, ())]),
    ("Typed/1", "char", [("HasSize", "", 20, ())]),
    ("Broken", "", [("One", "", 22, ())]),
    (
        "Few/Values",
        "",
        [(f"IsSmall/{n}", f"{n + 1}", 14, SMALL if n == 2 else ()) for n in range(3)],
    ),
    ("Named/Values", "", [(f"IsSmall/n{n}", f"{n}", 14, ()) for n in (1, 2)]),
]


def say(text: str) -> None:
    """Write a line at once, as a program does before it dies."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def matches(name: str, patterns: str) -> bool:
    """Whether a filter names a test; the patterns that are asked for here have no wildcards but a
    star at the end."""
    return any(
        name == each or (each.endswith("*") and name.startswith(each[:-1]))
        for each in patterns.split(":")
    )


def is_set(name: str) -> bool:
    """Whether the program is told to misbehave."""
    return (HERE / name).exists()


def list_tests(patterns: str) -> None:
    """Print all tests."""
    for suite, type_param, tests in SUITES:
        named = [(name, value) for name, value, *_ in tests if matches(f"{suite}.{name}", patterns)]
        if named:
            say(f"{suite}." + (f"  # TypeParam = {type_param}" if type_param else ""))
        for name, value in named:
            say(f"  {name}" + (f"  # GetParam() = {value}" if value else ""))


def run(name: str, value: str, line: int, failures: tuple[str, ...]) -> str:
    """Run one test; return what its case in the report holds."""
    say(f"[ RUN      ] {name}")
    if name == "Math.Fails":
        say("said before")
    if name == "Math.Dies" and is_set("DIE"):
        os.abort()
    if name == "Math.Hangs" and is_set("HANG"):
        time.sleep(600)
    if name == "Math.Skips" or (name == "Broken.One" and is_set("BROKEN")):
        why = "not here" if name == "Math.Skips" else ""
        say(f"t.cc:{line}: Skipped\n{why}\n[  SKIPPED ] {name} (0 ms)")
        return f"<skipped message={quoteattr(f't.cc:{line}&#x0A;{why}')}/>".replace("&amp;#", "&#")
    for failure in failures:
        say(f"t.cc:{line}: Failure\n{failure}")
    param = f", where GetParam() = {value}" if value and failures else ""
    say(f"[  FAILED  ] {name}{param} (0 ms)" if failures else f"[       OK ] {name} (0 ms)")
    return "".join(
        f"<failure message={quoteattr(text)} type=''/>"
        for text in (f"t.cc:{line}\n{failure}" for failure in failures)
    )


def run_suite(suite: str, tests: list[tuple[str, str, int, tuple[str, ...]]], patterns: str) -> str:
    """Run what a filter names of a suite; return its part of the report."""
    chosen = [test for test in tests if matches(f"{suite}.{test[0]}", patterns)]
    if suite == "Broken" and chosen and is_set("BROKEN"):
        say("t.cc:21: Failure\nFailed\nno such device")
    cases = ""
    for name, value, line, failures in chosen:
        attributes = f'name="{name}" file="t.cc" line="{line}" time="0" classname="{suite}"'
        if "DISABLED_" in f"{suite}.{name}":
            if not suite.startswith("DISABLED_"):
                say(f"[ DISABLED ] {suite}.{name}")
            cases += f'<testcase {attributes} status="notrun" result="suppressed"/>'
            continue
        content = run(f"{suite}.{name}", value, line, failures)
        result = "skipped" if content.startswith("<skipped") else "completed"
        cases += f'<testcase {attributes} status="run" result="{result}">{content}</testcase>'
    return f'<testsuite name="{suite}" tests="{len(chosen)}">{cases}</testsuite>' if chosen else ""


def main(arguments: list[str]) -> int:
    """Do as the arguments say."""
    options = dict(word.partition("=")[::2] for word in arguments)
    patterns = options.get("--gtest_filter", "*")
    if "--gtest_list_tests" in options:
        list_tests(patterns)
        return 0
    with (HERE / "runs.txt").open("a", encoding="utf-8") as file:
        file.write(f"{patterns}\n")
    report = "".join(run_suite(suite, tests, patterns) for suite, _, tests in SUITES)
    path = options.get("--gtest_output", "").partition(":")[2]
    if path:
        Path(path).write_text(f"<testsuites>{report}</testsuites>", encoding="utf-8")
    return int("<failure" in report or (is_set("BROKEN") and 'name="Broken"' in report))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
