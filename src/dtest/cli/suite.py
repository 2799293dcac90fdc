"""A pytest suite as tasks: collect once, cut into parts, and the report at the end."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from dtest.agents.pytest_session import EXIT_USAGE, SESSION_SCRIPT
from dtest.errors import UsageError

PARTS_PER_WORKER = 4


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


def collect(paths: Sequence[str], options: SuiteOptions) -> Collected:
    """Ask pytest what it would run. Raises UsageError when pytest cannot be run."""
    with tempfile.TemporaryDirectory(prefix="dtest-collect-") as directory:
        report = Path(directory) / "cases.jsonl"
        wanted = Path(directory) / "paths.txt"
        wanted.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        command = [sys.executable, "-I", "-S", SESSION_SCRIPT, "--collect-only"]
        command += ["--python", options.python, "--cwd", str(options.cwd)]
        command += ["--out", str(report), "--paths-file", str(wanted), "--", *options.args]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        entries = _entries(report)
    if done.returncode == EXIT_USAGE or not entries:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        message = f"pytest cannot run this suite: {lines[-1] if lines else 'no reason given'}"
        hint = f"try `{options.python} -m pytest --collect-only`"
        raise UsageError(message, hint=hint)
    return _collected(entries, options.cwd)


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


def write_junit(path: Path, run: dict[str, Any], cases: Sequence[dict[str, Any]]) -> None:
    """Write a JUnit XML report (xunit2): failure is an assertion, error is all else."""
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    suites: dict[str, TestSuite] = {}
    for case in sorted(cases, key=lambda item: str(item["nodeid"])):
        classname, _, name = str(case["nodeid"]).rpartition("::")
        written = TestCase(name or case["nodeid"], classname=_dotted(classname))
        written.time = float(case["duration_s"])
        match case["outcome"]:
            case "failed":
                written.result = [_result(Failure, case)]
            case "error":
                written.result = [_result(Error, case)]
            case "skipped" | "xfailed":
                written.result = [_result(Skipped, case)]
        file = classname.partition("::")[0]
        suite = suites.setdefault(file, TestSuite(file or "tests"))
        suite.add_testcase(written)
    report = JUnitXml(str(run["name"]))
    for suite in suites.values():
        suite.add_property("dtest.run_id", str(run["run_id"]))
        report.add_testsuite(suite)
    report.update_statistics()  # type: ignore[no-untyped-call]
    report.write(str(path), pretty=True)


def _result(kind: type[Any], case: dict[str, Any]) -> Any:  # noqa: ANN401 - junitparser is untyped
    made = kind(_printable(str(case["message"])), str(case["outcome"]))
    made.text = _printable(str(case["output"]))
    return made


FIRST_PRINTABLE = " "


def _printable(text: str) -> str:
    """Leave out the characters that XML 1.0 cannot hold."""
    return "".join(char for char in text if char in "\t\n\r" or char >= FIRST_PRINTABLE)


def _dotted(classname: str) -> str:
    file, _, rest = classname.partition("::")
    module = file.removesuffix(".py").replace("/", ".")
    return ".".join(part for part in (module, rest.replace("::", ".")) if part)
