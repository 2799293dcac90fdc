"""A suite in a cell: lasting sessions, the queue they pull from, what is known at the end."""

import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dtest.cli import output
from dtest.cli.api_client import ApiClient
from dtest.cli.runs import every_task
from dtest.cli.suite import SuiteOptions
from dtest.cli.watching import Patience, watch_run
from dtest.errors import NoWorkerMatches, TimedOut
from dtest.suites.unit import Unit

STOP_S_MAX = 20.0
"""How long the run may take to end once it is cancelled."""
SESSIONS_MAX = 64
REFILLS_MAX = 3
"""How often sessions that ended before their work are replaced."""
_VERDICTS = ("passed", "failed")


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What each session is bound by."""

    test_timeout_s: float | None = None
    memory_limit_gb: float | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What is known of the run, and what cut it short if something did."""

    run: dict[str, Any]
    cases: list[dict[str, Any]]
    faults: list[dict[str, Any]]
    """Sessions that came to no verdict."""
    took_s: float
    cut: BaseException | None = None


class SuiteRun:
    """One run of a suite."""

    def __init__(self, api: ApiClient, name: str, paths: Sequence[str]) -> None:
        self._api = api
        self._name = name
        self._paths = tuple(paths)
        self._queue = f"q{uuid.uuid4().hex}"
        self._run_id = ""
        self._seq = 0
        self._documents: list[dict[str, Any]] = []
        self._started = time.monotonic()

    def start(self, suite: SuiteOptions, bounds: SessionOptions, *, sessions: int) -> None:
        """Start the sessions; they warm up while the suite is collected."""
        config = {
            "queue": self._queue,
            "paths": self._paths,
            "cwd": str(suite.cwd),
            "python": suite.python,
            "args": suite.args,
            "test_timeout_seconds": bounds.test_timeout_s,
        }
        self._documents = [
            {
                "type": "test",
                "name": f"session {number}/{sessions}",
                "config": {name: value for name, value in config.items() if value is not None},
                "memory_limit_gb": bounds.memory_limit_gb,
            }
            for number in range(1, sessions + 1)
        ]
        body = {"name": self._name, "tasks": self._documents}
        answer = self._api.post("/api/tasks/submit", body)
        self._run_id, self._seq = str(answer["run_id"]), int(answer["seq"])

    def fill(self, units: Sequence[Unit]) -> None:
        """Hand in all units; nothing else will come."""
        body = {"units": [asdict(unit) for unit in units], "close": True}
        self._api.post(f"/api/queues/{self._queue}", body)

    def watch(self, patience: Patience, *, as_json: bool) -> RunEnd:
        """Wait for the end; where there is no more patience, cancel and take what is known."""
        cut: BaseException | None = None
        try:
            run = self._watched(patience, as_json=as_json)
            for _ in range(REFILLS_MAX):
                if not self._left():
                    break
                self._refill()
                run = self._watched(patience, as_json=as_json)
        except (KeyboardInterrupt, SystemExit, TimedOut, NoWorkerMatches) as error:
            cut = error
            run = self.stop(reason=type(error).__name__)
        cases = verdicts(self._api, self._run_id)
        tasks = every_task(self._api, self._run_id)
        faults = [task for task in tasks if task["status"] not in _VERDICTS]
        return RunEnd(run, cases, faults, time.monotonic() - self._started, cut)

    def _watched(self, patience: Patience, *, as_json: bool) -> dict[str, Any]:
        return watch_run(
            self._api, self._run_id, after=self._seq, patience=patience, as_json=as_json
        )

    def _left(self) -> bool:
        state = self._api.get(f"/api/queues/{self._queue}")
        return bool(state["waiting"] or state["held"])

    def _refill(self) -> None:
        output.say("all sessions have ended before the queue was empty; starting one more")
        document = {**self._documents[0], "run_id": self._run_id, "name": "session again"}
        self._seq = int(self._api.post("/api/tasks/submit", document)["seq"])

    def stop(self, *, reason: str) -> dict[str, Any]:
        """Cancel the run and wait for its processes to end; return the run as it is then."""
        output.say("cancelling the run")
        seq = self._api.post(f"/api/runs/{self._run_id}/cancel", {"reason": reason})["seq"]
        try:
            return watch_run(
                self._api, self._run_id, after=seq, patience=Patience(STOP_S_MAX), as_json=True
            )
        except (TimedOut, NoWorkerMatches):
            return self._api.get(f"/api/runs/{self._run_id}")


def usual_sessions(api: ApiClient) -> int:
    """Return how many sessions the cell's workers have room for."""
    workers = api.get("/api/workers")["items"]
    slots = sum(int(worker["slots"]) for worker in workers if worker["status"] == "active")
    return max(1, min(SESSIONS_MAX, slots))


def verdicts(api: ApiClient, run_id: str) -> list[dict[str, Any]]:
    """Return the one verdict of each test case of a run: the latest that was told."""
    latest: dict[str, dict[str, Any]] = {}
    cursor: str | None = None
    while True:
        page = api.get("/api/testcases", run_id=run_id, limit=1000, cursor=cursor)
        for case in page["items"]:
            latest.setdefault(case["nodeid"], case)
        cursor = page["next"]
        if cursor is None:
            return list(latest.values())
