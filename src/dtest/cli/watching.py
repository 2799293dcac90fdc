"""Follow a run to its end: a progress bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from dtest.cli.api_client import ApiClient
from dtest.cli.output import say
from dtest.errors import TimedOut

LOOK_EVERY_S = 0.1
LOOK_EVERY_S_MAX = 0.5
PLAIN_EVERY_S = 5.0
_FAILING = ("failed", "error")


class _Screen(Protocol):
    def state(self, run: dict[str, Any]) -> None: ...
    def line(self, text: str) -> None: ...


class _Plain:
    """Lines for logs: a change at most every few seconds."""

    def __init__(self) -> None:
        self._told_at = 0.0
        self._told = ""

    def state(self, run: dict[str, Any]) -> None:
        """Tell how far the run is, if that changed."""
        text = progress_text(run)
        now = time.monotonic()
        if text != self._told and (now - self._told_at > PLAIN_EVERY_S or run["finished"]):
            self._told_at, self._told = now, text
            say(text)

    def line(self, text: str) -> None:
        """Tell something at once."""
        say(text)


@contextmanager
def _screen() -> Iterator[_Screen]:
    if not sys.stderr.isatty():
        yield _Plain()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        bar = progress.add_task("tasks", total=None)

        class Drawn:
            def state(self, run: dict[str, Any]) -> None:
                done = run["tasks"] - run["waiting"] - run["running"]
                progress.update(
                    bar, description=progress_text(run), total=run["tasks"], completed=done
                )

            def line(self, text: str) -> None:
                console.print(text, markup=False, highlight=False)

        yield Drawn()


def progress_text(run: dict[str, Any]) -> str:
    """Say in one line how far a run is."""
    states = (
        "passed",
        "failed",
        "errored",
        "cancelled",
        "skipped",
        "expired",
        "running",
        "waiting",
    )
    counts = [f"{run[name]} {name}" for name in states if run[name]]
    cases = [f"{count} {name}" for name, count in sorted(run["testcases"].items())]
    shown = f"tasks: {', '.join(counts) or 'none'}"
    return f"{shown}; tests: {', '.join(cases)}" if cases else shown


def watch_run(
    api: ApiClient,
    run_id: str,
    *,
    after: int | None = None,
    wait_s: float | None = None,
    as_json: bool = False,
) -> dict[str, Any]:
    """Wait until a run has ended; tell failures of tests as they come. Raises TimedOut."""
    started = time.monotonic()
    seen: set[tuple[str, int, int]] = set()
    delay_s = LOOK_EVERY_S
    with _screen() as screen:
        while True:
            run = api.get(f"/api/runs/{run_id}", after=after)
            for case in [] if as_json else _failures(api, run, seen):
                attempt = f" (attempt {case['attempt']})" if case["attempt"] > 1 else ""
                screen.line(f"{case['outcome'].upper():6} {case['nodeid']}{attempt}")
                if case["message"]:
                    screen.line(f"       {case['message'].splitlines()[0][:200]}")
            if not as_json:
                screen.state(run)
            if run["finished"] and run["tasks"]:
                return run
            if wait_s is not None and time.monotonic() - started > wait_s:
                message = f"run {run['run_id']} did not end in {wait_s:g} s"
                raise TimedOut(message, hint="`dtest why TASK` says what it waits for")
            time.sleep(delay_s)
            delay_s = min(LOOK_EVERY_S_MAX, delay_s * 1.2)


def _failures(
    api: ApiClient, run: dict[str, Any], seen: set[tuple[str, int, int]]
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


def exit_code(run: dict[str, Any]) -> int:
    """Return what a run's end means: 0 all well, 1 work failed, 3 infrastructure, 130 cancelled."""
    if run["failed"] or any(run["testcases"].get(name) for name in _FAILING):
        return 1
    if run["errored"]:
        return 1 if run["errored"] == run["errored_by_work"] else 3
    if run["skipped"] or run["expired"]:
        return 3
    return 130 if run["cancelled"] else 0
