"""A pytest suite as tasks: collect once, cut into parts, and the report at the end."""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dtest.agents.pytest_session import EXIT_USAGE, SESSION_SCRIPT
from dtest.errors import TimedOut, UsageError
from dtest.runtime.lifecycle import end_with_parent, signals_held

PARTS_PER_WORKER = 4
_TOLD_BY_CASES = ("collection_error", "crash_signal")


@dataclass(frozen=True, slots=True)
class Collected:
    """What pytest found."""

    files: dict[str, int]
    """Absolute path of each file with the number of its tests; files that cannot be collected
    count as one."""
    tests: int
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """How to run the suite."""

    cwd: Path
    python: str
    args: tuple[str, ...] = ()


def collect(
    paths: Sequence[str], options: SuiteOptions, *, wait_s: float | None = None
) -> Collected:
    """Ask pytest what it would run. Raises UsageError when pytest cannot be run, TimedOut."""
    with tempfile.TemporaryDirectory(prefix="dtest-collect-") as directory:
        report = Path(directory) / "cases.jsonl"
        wanted = Path(directory) / "paths.txt"
        wanted.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        command = [sys.executable, "-I", "-S", SESSION_SCRIPT, "--collect-only"]
        command += ["--python", options.python, "--cwd", str(options.cwd)]
        command += ["--out", str(report), "--paths-file", str(wanted), "--", *options.args]
        said = Path(directory) / "said.txt"
        code = _run(command, said, wait_s)
        complaint = _complaint(said.read_text(encoding="utf-8", errors="replace"))
        entries = _entries(report)
    if code == EXIT_USAGE or not entries:
        message = f"pytest cannot run this suite: {complaint}"
        raise UsageError(message, hint=f"`{options.python} -m pytest --collect-only`")
    return _collected(entries, options.cwd)


def _run(command: list[str], output: Path, wait_s: float | None) -> int:
    """Run it to its end, or end all of it; return its exit code.

    What it says goes to a file: a pipe would be kept open by what a test left running.
    """
    with output.open("wb") as file, signals_held() as release:

        def prepare() -> None:
            release()
            end_with_parent()

        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509 - no threads yet
        )
        try:
            release()
            return process.wait(timeout=wait_s)
        except subprocess.TimeoutExpired as error:
            message = f"pytest did not list the tests in {wait_s:g} s"
            raise TimedOut(message, hint="look for work that is done at import") from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _complaint(said: str) -> str:
    """Return the line that says what is wrong: pytest's own word for it, else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no reason given"])[-1]


def _entries(report: Path) -> list[dict[str, Any]]:
    try:
        lines = report.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [orjson.loads(line) for line in lines]


def _collected(entries: list[dict[str, Any]], cwd: Path) -> Collected:
    root = cwd
    files: dict[str, int] = {}
    tests = 0
    broken: list[str] = []
    for entry in entries:
        match entry["kind"]:
            case "session":
                root = Path(entry["rootdir"])
            case "collected":
                tests += int(entry["count"])
                for name, count in entry["files"].items():
                    path = str(root / name)
                    files[path] = files.get(path, 0) + int(count)
            case "case":  # could not be collected, or is skipped as a whole: run it to report it
                name = str(entry["nodeid"]).partition("::")[0]
                files.setdefault(str(root / name), 1)
                if entry["outcome"] == "error":
                    broken.append(str(entry["nodeid"]))
    return Collected(files, tests, tuple(broken))


def parts(files: dict[str, int], count: int) -> list[list[str]]:
    """Cut files into at most ``count`` parts of similar size: largest first, to the smallest."""
    wanted = max(1, min(count, len(files)))
    made: list[list[str]] = [[] for _ in range(wanted)]
    sizes = [0] * wanted
    for path, tests in sorted(files.items(), key=lambda item: (-item[1], item[0])):
        smallest = sizes.index(min(sizes))
        made[smallest].append(path)
        sizes[smallest] += tests
    return [sorted(part) for part in made if part]


def task_documents(
    found: Collected, asked: Sequence[str], options: SuiteOptions, *, workers: int
) -> list[dict[str, Any]]:
    """Return the tasks that run the suite."""
    named = [path for path in asked if "::" in path]
    cut = [list(asked)] if named else parts(found.files, workers * PARTS_PER_WORKER)
    shared = {"cwd": str(options.cwd), "python": options.python, "args": list(options.args)}
    return [
        {
            "type": "test",
            "name": f"tests {number}/{len(cut)}",
            "config": {"paths": part, **shared},
        }
        for number, part in enumerate(cut, 1)
    ]


def write_junit(
    path: Path,
    run: dict[str, Any],
    cases: Sequence[dict[str, Any]],
    faults: Sequence[dict[str, Any]] = (),
) -> None:
    """Write a JUnit XML report (xunit2): failure is an assertion, error is all else.

    ``faults`` are tasks that came to no verdict; one that no case explains is an error of its own.
    """
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    suites: dict[str, TestSuite] = {}
    for case in sorted(cases, key=lambda item: str(item["nodeid"])):
        file, classname, name = _split(_printable(str(case["nodeid"])))
        written = TestCase(name, classname=classname)
        written.time = float(case["duration_s"])
        match case["outcome"]:
            case "failed":
                written.result = [_result(Failure, case)]
            case "error":
                written.result = [_result(Error, case)]
            case "skipped" | "xfailed":
                written.result = [_result(Skipped, case)]
        suite = suites.setdefault(file, TestSuite(file))
        suite.add_testcase(written)
    for fault in [task for task in faults if not _is_explained(task, cases)]:
        written = TestCase(str(fault["name"]), classname="dtest.task")
        written.result = [Error(f"{fault['status']}: {fault['reason']}", str(fault["reason"]))]
        suites.setdefault("dtest", TestSuite("dtest")).add_testcase(written)
    report = JUnitXml(_printable(str(run["name"])))
    for suite in suites.values():
        suite.add_property("dtest.run_id", str(run["run_id"]))
        report.add_testsuite(suite)
    report.update_statistics()  # type: ignore[no-untyped-call]
    report.write(str(path), pretty=True)


def _is_explained(fault: dict[str, Any], cases: Sequence[dict[str, Any]]) -> bool:
    """Say whether a case tells the same: a file that was not collected, a test that crashed."""
    return fault["reason"] in _TOLD_BY_CASES and any(
        case["outcome"] == "error" and case["task_id"] == fault["task_id"] for case in cases
    )


def _split(nodeid: str) -> tuple[str, str, str]:
    """Return file, dotted class and name of a test; of a file that was not collected, its module.

    Parameters of a test may hold any character, ``::`` too.
    """
    file, _, inside = nodeid.partition("::")
    module = file.removesuffix(".py").replace("/", ".")
    words, bracket, parameters = inside.partition("[")
    *classes, name = words.split("::")
    if not name:
        return file, "", module
    return file, ".".join((module, *classes)), name + bracket + parameters


def _result(kind: type[Any], case: dict[str, Any]) -> Any:  # noqa: ANN401 - junitparser is untyped
    made = kind(_printable(str(case["message"])), str(case["outcome"]))
    made.text = _printable(str(case["output"]))
    return made


_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _printable(text: str) -> str:
    """Replace the characters that XML 1.0 cannot hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
