"""A pytest suite: what it holds, and how it is cut into units."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import orjson

from dtest.agents.pytest_session import EXIT_USAGE, SESSION_MODULE
from dtest.errors import TimedOut, UsageError
from dtest.runtime.lifecycle import end_with_parent, signals_held
from dtest.suites.history import History
from dtest.suites.plan import plan
from dtest.suites.unit import Part, Unit

NOT_FOUND_PLACE = 10**9
"""Where no test stands: a node id of no test is reported by the session that looks for it."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What pytest found."""

    tests: tuple[tuple[str, str], ...]
    """Node id of each, and the group of tests that it shares dear fixtures with."""
    broken: tuple[str, ...]
    """Files, and node ids of no test, that are errors."""
    skipped: tuple[str, ...] = ()
    """Files that skip themselves as a whole."""
    failures_max: int = 0
    """What the suite's own settings say of ``--maxfail``; 0 for no limit."""

    @property
    def files(self) -> set[str]:
        """All files."""
        names = (*(nodeid for nodeid, _ in self.tests), *self.broken, *self.skipped)
        return {name.partition("::")[0] for name in names}

    def places(self) -> dict[str, int]:
        """Return the place of each test in its file."""
        counts: Counter[str] = Counter()
        found: dict[str, int] = {}
        for nodeid, _ in self.tests:
            file = nodeid.partition("::")[0]
            found.setdefault(nodeid, counts[file])
            counts[file] += 1
        return found

    def only(self, nodeids: Collection[str]) -> "Collected":
        """Return it with none but these tests."""
        return replace(
            self,
            tests=tuple(test for test in self.tests if test[0] in nodeids),
            broken=tuple(name for name in self.broken if name in nodeids),
            skipped=(),
        )

    def units(self, history: History, *, sessions: int, failed_first: bool = False) -> list[Unit]:
        """Cut the suite into what the sessions take at a time."""
        known = {nodeid.partition("::")[0] for nodeid, _ in self.tests}
        named = [name for name in self.broken if "::" in name]
        whole = [name for name in (*self.broken, *self.skipped) if "::" not in name]
        files = [name for name in whole if name not in known]
        units = plan(history.predicted(self.tests), files, sessions=sessions)
        if failed_first:
            units.sort(key=lambda unit: not _holds(unit, history.failed))
        lost = [
            Unit(f"lost{number}", (Part(name.partition("::")[0], ((NOT_FOUND_PLACE, name),)),))
            for number, name in enumerate(named)
        ]
        return [*units, *lost]


def _holds(unit: Unit, nodeids: Collection[str]) -> bool:
    return any(nodeid in nodeids for part in unit.parts for _, nodeid in part.tests or ())


@dataclass(frozen=True, slots=True)
class SuiteOptions:
    """How to run the suite."""

    cwd: Path
    python: str
    args: tuple[str, ...] = ()


class Collecting:
    """pytest, asked what it would run, while something else is done."""

    def __init__(self, paths: Sequence[str], options: SuiteOptions) -> None:
        self._options = options
        self._directory = tempfile.TemporaryDirectory(prefix="dtest-collect-")
        home = Path(self._directory.name)
        self._report = home / "cases.jsonl"
        self._said = home / "said.txt"
        wanted = home / "paths.txt"
        wanted.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
        command = [sys.executable, "-I", "-m", SESSION_MODULE, "--collect-only"]
        command += ["--python", options.python, "--cwd", str(options.cwd)]
        command += ["--out", str(self._report), "--paths-file", str(wanted), "--", *options.args]
        self._process = _started(command, self._said)

    def __enter__(self) -> Self:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever still runs of it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._directory.cleanup()

    def result(self, *, wait_s: float | None = None) -> Collected:
        """Wait for the answer. Raises UsageError when pytest cannot be run, TimedOut."""
        try:
            code = self._process.wait(timeout=wait_s)
        except subprocess.TimeoutExpired as error:
            message = f"pytest did not list the tests in {wait_s:g} s"
            raise TimedOut(message, hint="look for work that is done at import") from error
        complaint = _complaint(self._said.read_text(encoding="utf-8", errors="replace"))
        entries = _entries(self._report)
        if code == EXIT_USAGE or not entries:
            message = f"pytest cannot run this suite: {complaint}"
            raise UsageError(message, hint=f"`{self._options.python} -m pytest --collect-only`")
        return _collected(entries)


def _started(command: list[str], output: Path) -> "subprocess.Popen[bytes]":
    """Start it in a session of its own, which ends with this process.

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
        release()
        return process


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


def _collected(entries: list[dict[str, Any]]) -> Collected:
    tests: list[tuple[str, str]] = []
    broken: list[str] = []
    skipped: list[str] = []
    failures_max = 0
    for entry in entries:
        match entry["kind"]:
            case "collected":
                tests += zip(entry["nodeids"], entry["groups"], strict=True)
                failures_max = int(entry["maxfail"] or 0)
            case "case":  # could not be collected, or is skipped as a whole: run it to report it
                (broken if entry["outcome"] == "error" else skipped).append(str(entry["nodeid"]))
    return Collected(tuple(tests), tuple(broken), tuple(skipped), failures_max)
