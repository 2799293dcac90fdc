"""Follow a run to its end: a progress bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dtest.caller.api_client import ApiClient, Asked
from dtest.caller.patience import PatientApi
from dtest.caller.unmatched import unmatched_of
from dtest.cli.output import say
from dtest.errors import TimedOut
from dtest.reports.terminal import shortened

LOOK_EVERY_S = 0.1
LOOK_EVERY_S_MAX = 0.5
QUIET_S_MAX = 5.0
"""Where nothing is told before the end."""
PLAIN_EVERY_S = 5.0
UNMATCHED_EVERY_S = 5.0
_FAILING = ("failed", "error")
_STATES = (
    *("passed", "failed", "errored", "cancelled", "skipped", "expired"),
    *("running", "waiting"),
)


class Screen(Protocol):
    """Where a run is shown."""

    def state(self, progress: "Progress") -> None:
        """Show how far the run is."""
        ...

    def line(self, text: str) -> None:
        """Show a line at once."""
        ...


class _Plain:
    """Lines for logs: a change at most every few seconds."""

    def __init__(self) -> None:
        self._told_at = 0.0
        self._told = ""

    def state(self, progress: "Progress") -> None:
        """Tell how far the run is, if that changed."""
        text = progress.text
        now = time.monotonic()
        if text != self._told and (now - self._told_at > PLAIN_EVERY_S or progress.finished):
            self._told_at, self._told = now, text
            say(text)

    def line(self, text: str) -> None:
        """Tell something at once."""
        say(text)


@contextmanager
def screen() -> Iterator[Screen]:
    """Show a run for the length of a block."""
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bars(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        bar = bars.add_task("tasks", total=None)

        class Drawn:
            def state(self, progress: Progress) -> None:
                text, done, total = progress.text, progress.done, progress.total
                bars.update(bar, description=text, total=total, completed=done)

            def line(self, text: str) -> None:
                console.print(text, markup=False, highlight=False)

        yield Drawn()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: by its tests where their number is known, else by its tasks."""

    text: str
    done: int
    total: int
    finished: bool


def progress_of(run: Mapping[str, Any]) -> Progress:
    """Say how far a run is, by its tasks."""
    cases = [f"{count} {name}" for name, count in sorted(run["testcases"].items())]
    finished = bool(run["finished"])
    counts = [f"{run[name]} {name}" for name in _STATES if run[name]]
    shown = f"tasks: {', '.join(counts) or 'none'}"
    text = f"{shown}; tests: {', '.join(cases)}" if cases else shown
    done = run["tasks"] - run["waiting"] - run["running"]
    return Progress(text, done, run["tasks"], finished)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a run, and for what not."""

    wait_s: float | None = None
    fail_unmatched: bool = False
    """Do not wait for a worker that does not exist."""


UNTIL_ENDED = Patience()


def watch_run(
    api: ApiClient,
    run_id: str,
    *,
    after: int | None = None,
    patience: Patience = UNTIL_ENDED,
    as_json: bool = False,
) -> dict[str, Any]:
    """Wait until a run has ended; tell failures of tests as they come.

    Raises TimedOut, or NoWorkerMatches when that is why it does not end.
    """
    started = time.monotonic()
    delay_s, longest_s = LOOK_EVERY_S, LOOK_EVERY_S_MAX
    if as_json:
        delay_s = longest_s = QUIET_S_MAX
    run = api.get(f"/api/runs/{run_id}", after=after)
    with screen() as on:
        asked = PatientApi(api, on.line)
        watch = _Watch(asked, on, as_json=as_json)
        while True:
            watch.tell(run)
            if run["finished"] and run["tasks"]:
                return run
            left_s = math.inf
            if patience.wait_s is not None:
                left_s = started + patience.wait_s - time.monotonic()
            over = left_s < 0
            watch.look_for_unmatched(run, raising=over or patience.fail_unmatched)
            if over:
                message = f"run {run['run_id']} did not end in {patience.wait_s:g} s"
                raise TimedOut(message, hint="`dtest why TASK` says what it waits for")
            wait_s = min(delay_s, left_s)
            delay_s = min(longest_s, delay_s * 1.2)
            run = asked.get(f"/api/runs/{run['run_id']}", after=run["as_of_seq"], wait_s=wait_s)


@dataclass(slots=True)
class _Watch:
    """What was told of a run so far."""

    api: Asked
    screen: Screen
    as_json: bool
    seen: set[tuple[str, int, int]] = field(default_factory=set)
    unmatched: set[str] = field(default_factory=set)
    looked_at: float | None = None

    def tell(self, run: dict[str, Any]) -> None:
        """Tell failures that are new, and how far the run is."""
        if self.as_json:
            return
        for case in _failures(self.api, run, self.seen):
            attempt = f" (attempt {case['attempt']})" if case["attempt"] > 1 else ""
            self.screen.line(f"{case['outcome'].upper():6} {shortened(case['nodeid'])}{attempt}")
            if case["message"]:
                self.screen.line(f"       {case['message'].splitlines()[0][:200]}")
        self.screen.state(progress_of(run))

    def look_for_unmatched(self, run: dict[str, Any], *, raising: bool) -> None:
        """Tell, or raise, what waits for a worker that does not exist; look now and then."""
        now = time.monotonic()
        due = self.looked_at is None or now - self.looked_at > UNMATCHED_EVERY_S
        if not run["waiting"] or not (due or raising):
            return
        self.looked_at = now
        for found in unmatched_of(self.api, run["run_id"]):
            if raising:
                raise found.error()
            if found.text not in self.unmatched:
                self.screen.line(f"{found.text} (waiting for one that can)")
            self.unmatched.add(found.text)


def _failures(
    api: Asked, run: dict[str, Any], seen: set[tuple[str, int, int]]
) -> list[dict[str, Any]]:
    if not any(run["testcases"].get(name) for name in _FAILING):
        return []
    page = api.get("/api/testcases", run_id=run["run_id"], outcome=list(_FAILING), limit=1000)
    fresh = []
    for case in reversed(page["items"]):
        key = (case["task_id"], case["attempt"], case["ordinal"])
        if key not in seen:
            seen.add(key)
            fresh.append(case)
    return fresh


def concluded(api: Asked, run: dict[str, Any], *, quiet: bool) -> int:
    """Tell what did not pass, and return the exit code: the verdict that every report has."""
    found = api.get(f"/api/runs/{run['run_id']}/verdict", after=run["as_of_seq"])
    for each in () if quiet else found["told"]:
        where = f" @ {each['hardware']}" if each["hardware"] else ""
        name = shortened(each["name"]) + where
        say(f"{each['verdict'].upper()} {name}: {each['message']}".rstrip(": "))
    for note in () if quiet else found["notes"]:
        say(note)
    return int(found["exit_code"])
