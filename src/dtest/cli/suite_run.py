"""A suite in a cell: lasting sessions, the queue they pull from, what is known at the end."""

import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from dtest.cli import output
from dtest.cli.api_client import ApiClient
from dtest.cli.gathering import gather
from dtest.cli.reports import today
from dtest.cli.suite import again
from dtest.cli.suite_options import Bounds
from dtest.cli.watching import Patience, watch_run
from dtest.errors import NoWorkerMatches, TimedOut, TooManyFailures, UsageError
from dtest.reports.muting import KnownFlaky
from dtest.reports.observation import Planned
from dtest.reports.report import Report, gate
from dtest.reports.verdicts import BAD, Fault, Result
from dtest.state.task import TERMINAL
from dtest.suites.plan import makespan_s
from dtest.suites.reruns import elsewhere
from dtest.suites.suite import Suite
from dtest.suites.unit import Unit

_SUITE: TypeAdapter[Suite] = TypeAdapter(Suite)
STOP_S_MAX = 20.0
"""How long the run may take to end once it is cancelled."""
SESSIONS_MAX = 64
REFILLS_MAX = 3
"""How often sessions that ended before their work are replaced."""


@dataclass(frozen=True, slots=True)
class SuitePlace:
    """Where the suite lies and what runs it."""

    cwd: str
    """Absolute, on each worker; or within the workspace."""
    python: str | None
    args: tuple[str, ...] = ()
    workspace: str | None = None
    """The tree that was shipped."""
    environment: dict[str, Any] | None = None
    """The recipe of the interpreter's environment, in the place of ``python``."""
    runner: dict[str, Any] | None = None
    """What runs the tests; none for pytest."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What is known of the run, and what cut it short if something did."""

    report: Report
    faults: tuple[Fault, ...]
    """Sessions that came to no good end. What that did to tests is in their verdicts."""
    took_s: float
    """Since the tests were handed in."""
    predicted_s: float
    cut: BaseException | None = None


class SuiteRun:
    """One run of a suite."""

    def __init__(self, api: ApiClient, name: str, flaky: KnownFlaky, *, as_json: bool) -> None:
        self._api = api
        self.name = name
        """By which the cell knows the suite again."""
        self._flaky = flaky
        self._as_json = as_json
        self._queue = f"q{uuid.uuid4().hex}"
        self._run_id = ""
        self._collector = ""
        """The session that collects the suite."""
        self._seq = 0
        self._document: dict[str, Any] = {}
        self._sessions = 1
        self.pause: Callable[[float], bool] | None = None
        """Waits between two looks at the run in the place of the words about it."""

    @property
    def id(self) -> str:
        """The id of the run; empty until it has started."""
        return self._run_id

    def start(
        self, place: SuitePlace, paths: Sequence[str], bounds: Bounds, *, sessions: int
    ) -> None:
        """Start the sessions; they warm up while the suite is collected."""
        self._sessions = sessions
        config = {
            "queue": self._queue,
            "paths": list(paths),
            "cwd": place.cwd,
            "workspace": place.workspace,
            "environment": place.environment,
            "python": place.python,
            "args": list(place.args),
            "runner": place.runner,
            "test_timeout_seconds": bounds.test_timeout,
        }
        self._document = {
            "type": "test",
            "config": {name: value for name, value in config.items() if value is not None},
            "memory_limit_gb": bounds.memory_limit,
        }
        tasks = [
            {**self._document, "name": f"session {number}/{sessions}"}
            for number in range(1, sessions + 1)
        ]
        tasks[0]["config"] = {**self._document["config"], "collect": True}
        answer = self._api.submit({"name": self.name, "tasks": tasks})
        self._run_id, self._seq = str(answer["run_id"]), int(answer["seq"])
        self._collector = str(answer["tasks"][0]["task_id"])

    def collected(self, bounds: Bounds) -> Suite:
        """Wait until a session has collected the suite.

        Raises UsageError when pytest cannot run it, TimedOut or NoWorkerMatches.
        """
        found: list[Suite] = []

        def look(wait_s: float) -> bool:
            answer = self._api.get(f"/api/queues/{self._queue}/suite", wait_s=wait_s)
            if answer["suite"] is not None:
                found.append(_SUITE.validate_python(answer["suite"]))
            # Who was to collect and has ended will tell nothing; the others would wait for long.
            return bool(found) or self._task(self._collector)["status"] in TERMINAL

        patience = Patience(bounds.timeout, bounds.fail_unmatched)
        try:
            self._watched(patience, pause=look)
        except TimedOut as error:
            message = f"the tests were not listed in {bounds.timeout:g} s"
            raise TimedOut(message, hint="look for work that is done at import") from error
        if not found:
            look(0.0)  # it may have told and ended in this very moment
        if not found:
            raise self._uncollectable()
        return found[0]

    def _uncollectable(self) -> UsageError:
        """Say in the runner's words why a session ended without a suite."""
        ended = self._task(self._collector)
        said = self._api.content(f"/api/tasks/{ended['task_id']}/logs").decode(errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "dtest:"))]
        complaint = (errors or lines or [f"{ended['status']}, {ended['reason']}"])[-1]
        config = self._document["config"]
        name = config["runner"]["name"] if "runner" in config else "pytest"
        message = f"{name} cannot run this suite: {complaint}"
        if name != "pytest":
            return UsageError(message, hint=f"`dtest task logs {ended['task_id']}`")
        python = config.get("python", "python")
        return UsageError(message, hint=f"`{python} -m pytest --collect-only`")

    def _task(self, task_id: str) -> dict[str, Any]:
        return self._api.get(f"/api/tasks/{task_id}")

    def carry(self, found: Suite, units: Sequence[Unit], bounds: Bounds) -> RunEnd:
        """Hand in all units and wait for the end; without patience, take what is known."""
        started = time.monotonic()
        until = Patience(
            bounds.timeout,
            bounds.fail_unmatched,
            bounds.failures_max or found.failures_max or None,
            len(found.tests),
        )
        cut: BaseException | None = None
        try:
            self._fill(self._queue, units)
            self._watched(until)
            self._finish(self._queue, until)
            self._rerun(found, bounds, until)
        except (KeyboardInterrupt, SystemExit, TimedOut, NoWorkerMatches, TooManyFailures) as error:
            cut = error
            self.stop(reason=type(error).__name__)
        took_s = time.monotonic() - started
        report = self._report(found)
        code = gate(report.results, self._flaky, today=today())
        proven = replace(report, faults=(), exit_code=code)
        return RunEnd(
            proven, report.faults, took_s, makespan_s(units, sessions=self._sessions), cut
        )

    def _report(self, found: Suite) -> Report:
        planned = [Planned(nodeid) for nodeid, _ in found.tests]
        report = gather(self._api, self._run_id, planned=planned, flaky=self._flaky)
        lost = [result for result in report.results if result.verdict == "not_proven"]
        if lost and len(report.results) - len(lost) >= len(planned):
            # Every process makes ids of its own: what was planned ran under other names.
            report = gather(self._api, self._run_id, flaky=self._flaky)
        return replace(report, run=replace(report.run, api_url=self._api.url))

    def _fill(self, queue: str, units: Iterable[Unit]) -> None:
        body = {"units": [asdict(unit) for unit in units], "close": True}
        self._api.post(f"/api/queues/{queue}", body)

    def _watched(self, patience: Patience, *, pause: Callable[[float], bool] | None = None) -> None:
        pause = pause or self.pause
        quiet = self._as_json or pause is not None
        watch_run(
            self._api,
            self._run_id,
            after=self._seq,
            patience=patience,
            as_json=quiet,
            pause=pause,
        )

    def _finish(self, queue: str, patience: Patience) -> None:
        """Replace sessions that ended while there was work: a crash too many, a lost agent."""
        for _ in range(REFILLS_MAX):
            state = self._api.get(f"/api/queues/{queue}")
            if not state["waiting"] and not state["held"]:
                return
            if self._api.get(f"/api/runs/{self._run_id}")["cancelled"]:
                return  # somebody has, and means it
            output.say("all sessions have ended before their work; starting another one")
            self._add(queue, "session again", rerun=0)
            self._watched(patience)

    def _add(self, queue: str, name: str, *, rerun: int, avoid: Sequence[str] = ()) -> None:
        config = {**self._document["config"], "queue": queue}
        labels = {"labels": {"rerun": str(rerun)}} if rerun else {}
        task = {**self._document, **labels, "config": config, "name": name, "run_id": self._run_id}
        task["avoid_workers"] = list(avoid)
        self._seq = int(self._api.submit(task)["seq"])

    def _rerun(self, found: Suite, bounds: Bounds, patience: Patience) -> None:
        """Run what failed again, in new processes and elsewhere; what passes then is flaky."""
        for number in range(1, bounds.reruns + 1):
            failed = [result for result in self._report(found).results if _is_worth_it(result)]
            if not failed:
                return
            output.say(f"running {len(failed)} again ({number}/{bounds.reruns})")
            where = [(each.key.nodeid, [bad.worker_id for bad in each.bad]) for each in failed]
            for group, part in enumerate(elsewhere(where, sessions=self._sessions), 1):
                queue = f"{self._queue}r{number}g{group}"
                for session in range(1, part.sessions + 1):
                    name = f"re-run {number}.{group}, session {session}"
                    self._add(queue, name, rerun=number, avoid=part.avoid)
                self._fill(queue, again(part.nodeids, found))
            self._watched(patience)

    def stop(self, *, reason: str) -> None:
        """Cancel the run and wait for its processes to end."""
        output.say("cancelling the run")
        seq = self._api.post(f"/api/runs/{self._run_id}/cancel", {"reason": reason})["seq"]
        try:
            patience = Patience(STOP_S_MAX)
            watch_run(self._api, self._run_id, after=seq, patience=patience, as_json=True)
        except (TimedOut, NoWorkerMatches):
            return


def _is_worth_it(result: Result) -> bool:
    """Say whether a second try could tell more: not of what cannot be collected."""
    found = result.deciding
    return result.verdict in BAD and found is not None and found.phase != "collect"


def is_remote(api: ApiClient) -> bool:
    """Say whether some worker is on another machine, which does not see the files of this one."""
    here = socket.gethostname()
    return any(worker["host"] != here for worker in _real_workers(api))


def usual_sessions(api: ApiClient) -> int:
    """Return how many sessions the cell's workers have room for."""
    slots = sum(int(worker["slots"]) for worker in _real_workers(api))
    return max(1, min(SESSIONS_MAX, slots))


def _real_workers(api: ApiClient) -> list[dict[str, Any]]:
    workers = api.get("/api/workers")["items"]
    return [each for each in workers if each["status"] == "active" and not each["simulated"]]
