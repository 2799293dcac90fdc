"""A suite in a cell: lasting sessions, the queue they pull from, what is known at the end."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from dtest.cli import output
from dtest.cli.api_client import ApiClient
from dtest.cli.suite import again
from dtest.cli.suite_failed import by_lot, is_worth_it
from dtest.cli.suite_lots import EARLY_PRIORITY, USUAL_PRIORITY, Lane, Lot, Share
from dtest.cli.suite_options import Bounds
from dtest.cli.watching import Patience, watch_run
from dtest.errors import NoWorkerMatches, SuiteStopped, TimedOut, TooManyFailures, UsageError
from dtest.events.suite import HARDWARE_CLASS
from dtest.events.task import Requirements
from dtest.state.task import TERMINAL
from dtest.suites.plan import makespan_s
from dtest.suites.requirement import document
from dtest.suites.reruns import elsewhere
from dtest.suites.session import SPEAKS
from dtest.suites.suite import Suite
from dtest.suites.unit import Unit

if TYPE_CHECKING:
    from dtest.reports.muting import KnownFlaky
    from dtest.reports.report import Report

_SUITE: TypeAdapter[Suite] = TypeAdapter(Suite)
LISTED_S = 0.5
"""Longest wait for the list of the tests, between two looks at whether that is still made."""
STOP_S_MAX = 20.0
"""How long the run may take to end once it is cancelled."""
_CUTS = (KeyboardInterrupt, SystemExit, TimedOut, NoWorkerMatches, TooManyFailures, SuiteStopped)
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
    """What runs the tests, as a task's config says it; none for pytest."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What is known of the run, and what cut it short if something did."""

    report: "Report"
    took_s: float
    """Since the tests were handed in."""
    predicted_s: float
    cut: BaseException | None = None


class SuiteRun:
    """One run of a suite."""

    def __init__(self, api: ApiClient, name: str, flaky: "KnownFlaky", *, as_json: bool) -> None:
        self._api = api
        self.name = name
        """By which the cell knows the suite again."""
        self._flaky = flaky
        self._as_json = as_json
        self._run_id = ""
        self._seq = 0
        self._document: dict[str, Any] = {}
        self._lanes: Sequence[Lane] = ()
        self._first: dict[str, str] = {}
        """The session that collects the suite, by the lane's queue."""
        self._named = 0
        """How many sessions have a name by which suites tell them apart."""
        self.news: Callable[[], None] | None = None
        """Called at each look at the run, in the place of the words about it."""

    @property
    def id(self) -> str:
        """The id of the run; empty until it has started."""
        return self._run_id

    def start(
        self, place: SuitePlace, paths: Sequence[str], bounds: Bounds, lanes: Sequence[Lane]
    ) -> None:
        """Start the sessions; they warm up while the suite is collected."""
        self._lanes = lanes
        config = {
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
        tasks: list[dict[str, Any]] = []
        firsts: dict[int, str] = {}
        count = sum(lane.first_sessions for lane in lanes)
        for lane in lanes:
            if lane.sessions:
                firsts[len(tasks)] = lane.queue
            title = f" ({lane.name})" if lane.name else ""
            for number in range(1, lane.first_sessions + 1):
                task = self._session(lane, lane.queue, lane.requirements, len(tasks), count)
                tasks.append({**task, "name": f"session {number}/{lane.first_sessions}{title}"})
        self._named = count
        for number in firsts:
            tasks[number]["config"] = {**tasks[number]["config"], "collect": True}
        answer = self._api.submit({"name": self.name, "tasks": tasks})
        self._run_id, self._seq = str(answer["run_id"]), int(answer["seq"])
        names = [str(task["task_id"]) for task in answer["tasks"]]
        self._first = {queue: names[number] for number, queue in firsts.items()}

    def _session(
        self, lane: Lane, queue: str, requirements: Requirements, worker: int, count: int
    ) -> dict[str, Any]:
        """Return a session by its place among ``count`` that may run at the same time."""
        name = {"worker": f"gw{worker}", "workers": count}
        config = {**self._document["config"], "queue": queue, **name}
        task = {**self._document, "config": config}
        if lane.name:
            task["labels"] = {HARDWARE_CLASS: lane.name}
        asked = document(requirements)
        return {**task, "requirements": {**asked, "labels": {**asked.get("labels", {}), **SPEAKS}}}

    def collected(self, bounds: Bounds) -> list[Suite | None]:
        """Wait until each lane has collected the suite; none for a lane that no worker can run.

        Raises UsageError when pytest cannot run it, TimedOut or NoWorkerMatches.
        """
        found: dict[str, Suite] = {}
        waiting = [lane for lane in self._lanes if lane.sessions]

        def look(wait_s: float) -> bool:
            missing = [lane for lane in waiting if lane.queue not in found]
            for lane in missing:
                # A session may end between the two: what it told is asked for once more.
                over = self._is_over(lane)
                where = f"/api/queues/{lane.queue}/suite"
                at_most_s = max(wait_s, LISTED_S) / len(missing)
                answer = self._api.get(where, wait_s=0 if over else at_most_s)
                if answer["suite"] is not None:
                    found[lane.queue] = _SUITE.validate_python(answer["suite"])
                    if lane.is_crowded:
                        self._fill(lane.queue, [])
                elif over:
                    raise self._uncollectable(lane)
            return len(found) == len(waiting)

        patience = Patience(bounds.timeout, bounds.fail_unmatched)
        try:
            self._watched(patience, pause=look)
        except TimedOut as error:
            message = f"the tests were not listed in {bounds.timeout:g} s"
            raise TimedOut(message, hint="look for work that is done at import") from error
        if len(found) < len(waiting) and not look(0.0):
            raise self._uncollectable(next(lane for lane in waiting if lane.queue not in found))
        return [found.get(lane.queue) for lane in self._lanes]

    def _is_over(self, lane: Lane) -> bool:
        """Say whether the session that was to collect has ended: others may wait for ever."""
        return self._task(self._first[lane.queue])["status"] in TERMINAL

    def _task(self, task_id: str) -> dict[str, Any]:
        return self._api.get(f"/api/tasks/{task_id}")

    def _uncollectable(self, lane: Lane) -> UsageError:
        """Say in the runner's words why a session ended without a suite."""
        ended = self._task(self._first[lane.queue])
        said = self._api.content(f"/api/tasks/{ended['task_id']}/logs").decode(errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "dtest:"))]
        complaint = (errors or lines or [f"{ended['status']}, {ended['reason']}"])[-1]
        where = f" on {lane.name}" if lane.name else ""
        config = self._document["config"]
        name = config["runner"]["name"] if "runner" in config else "pytest"
        message = f"{name} cannot run this suite{where}: {complaint}"
        if name != "pytest":
            return UsageError(message, hint=f"`dtest task logs {ended['task_id']}`")
        python = config.get("python", "python")
        return UsageError(message, hint=f"`{python} -m pytest --collect-only`")

    def carry(self, shares: Sequence[Share], bounds: Bounds) -> RunEnd:
        """Hand in all units and wait for the end; without patience, take what is known."""
        started = time.monotonic()
        lots = [lot for share in shares for lot in share.lots]
        several = len(self._lanes) > 1
        until = Patience(
            bounds.timeout,
            bounds.fail_unmatched,
            bounds.failures_max or max(share.suite.failures_max for share in shares) or None,
            None if several else sum(len(lot.tests) for lot in lots),
            several,
            heeds_stop=True,
        )
        cut: BaseException | None = None
        try:
            self._hand_out(shares)
            _load_what_follows()
            self._watched(until)
            for lot in lots:
                self._finish(lot, until)
            self._rerun(shares, bounds, until)
        except _CUTS as error:
            cut = error
            self.stop(reason=type(error).__name__)
        took_s = time.monotonic() - started
        return RunEnd(self._report(shares), took_s, predicted_s(shares), cut)

    def _hand_out(self, shares: Sequence[Share]) -> None:
        """Fill the queues. Where some tests ask for more, all sessions of a class begin anew.

        Those that ask for more have the better priority: the others leave them their machines.
        """
        tasks: list[dict[str, Any]] = []
        for share in shares:
            self._seq = int(self._api.post(f"/api/runs/{self._run_id}/plan", share.plan)["seq"])
        for share in shares:
            for lot in share.lots:
                self._fill(lot.queue, lot.units)
            if share.lane.sessions and all(lot.queue != share.lane.queue for lot in share.lots):
                self._fill(share.lane.queue, [])
        anew = [lot for share in shares if share.begins_anew for lot in share.lots]
        count = self._named + sum(lot.sessions for lot in anew)
        for lot in anew:
            tasks += self._sessions(lot, self._named, count)
            self._named += lot.sessions
        if tasks:
            self._seq = int(
                self._api.submit({"name": self.name, "run_id": self._run_id, "tasks": tasks})["seq"]
            )

    def _sessions(self, lot: Lot, first: int, count: int) -> Iterator[dict[str, Any]]:
        priority = EARLY_PRIORITY if lot.is_early else USUAL_PRIORITY
        for number in range(lot.sessions):
            task = self._session(lot.lane, lot.queue, lot.requirements, first + number, count)
            name = f"tests {number + 1}/{lot.sessions}{lot.title}"
            yield {**task, "name": name, "priority": priority}

    def _report(self, shares: Sequence[Share]) -> "Report":
        from dtest.cli.gathering import gather

        rows = [row for share in shares for row in share.plan_rows]
        url, flaky = self._api.url, self._flaky
        return gather(self._api, self._run_id, api_url=url, flaky=flaky, planned=rows)

    def _fill(self, queue: str, units: Iterable[Unit]) -> None:
        body = {"units": [asdict(unit) for unit in units], "close": True}
        self._api.post(f"/api/queues/{queue}", body)

    def _watched(self, patience: Patience, *, pause: Callable[[float], bool] | None = None) -> None:
        quiet = self._as_json or pause is not None or self.news is not None
        watch_run(
            self._api,
            self._run_id,
            after=self._seq,
            patience=patience,
            as_json=quiet,
            pause=pause,
            news=self.news if pause is None else None,
        )

    def _finish(self, lot: Lot, patience: Patience) -> None:
        """Replace sessions that ended while there was work: a crash too many, a lost agent."""
        for _ in range(REFILLS_MAX):
            state = self._api.get(f"/api/queues/{lot.queue}")
            if not state["waiting"] and not state["held"]:
                return
            if self._api.get(f"/api/runs/{self._run_id}")["cancelled"]:
                return  # somebody has, and means it
            output.say("all sessions have ended before their work; starting another one")
            self._add(lot, lot.queue, "session again", 0)
            self._watched(patience)

    def _add(
        self,
        lot: Lot,
        queue: str,
        name: str,
        worker: int,
        *,
        rerun: int = 0,
        at: tuple[str, Sequence[str]] = ("", ()),
    ) -> None:
        """Add a session, with ``at`` on a kind of hardware and not on some workers."""
        kind, avoid = at
        requirements = lot.requirements
        if kind in requirements.hardware:  # where it failed, not on any of several kinds
            requirements = replace(requirements, hardware=(kind,))
        count = max(self._named, worker + 1)
        task = {**self._session(lot.lane, queue, requirements, worker, count), "name": name}
        if rerun:
            task["labels"] = {**task.get("labels", {}), "rerun": str(rerun)}
        task["avoid_workers"] = list(avoid)
        self._seq = int(self._api.submit({**task, "run_id": self._run_id})["seq"])

    def _rerun(self, shares: Sequence[Share], bounds: Bounds, patience: Patience) -> None:
        """Run what failed again, in new processes and elsewhere; what passes then is flaky."""
        suites = {share.lane.name: share.suite for share in shares}
        for number in range(1, (bounds.reruns or 0) + 1):
            failed = [result for result in self._report(shares).results if is_worth_it(result)]
            if not failed:
                return
            output.say(f"running {len(failed)} again ({number}/{bounds.reruns})")
            worker = 0  # the sessions before have ended, and their names are free
            for count, (lot, kind, some) in enumerate(by_lot(failed, shares)):
                where = [(test, [bad.worker_id for bad in each.bad]) for test, each in some]
                for group, part in enumerate(elsewhere(where, sessions=lot.sessions)):
                    queue = f"{lot.queue}r{number}x{count}g{group}"
                    for session in range(1, part.sessions + 1):
                        name = f"re-run {number}.{group + 1}, session {session}{lot.title}"
                        at = (kind, part.avoid)
                        self._add(lot, queue, name, worker, rerun=number, at=at)
                        worker += 1
                    self._fill(queue, again(part.tests, suites[lot.lane.name]))
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


def _load_what_follows() -> None:
    """Import what is needed once the tests have run, while they run."""
    import dtest.cli.gathering  # noqa: F401


def keys_of(shares: Sequence[Share]) -> dict[tuple[str, int | None], tuple[str, str]]:
    """Return what names each planned test in other runs, by its class and number."""
    return {
        (share.lane.name, each.test.number): each.keys
        for share in shares
        for lot in share.lots
        for each in lot.tests
    }


def predicted_s(shares: Sequence[Share]) -> float:
    """Return how long the run will probably take: its longest lot, or all that share slots."""
    lots = [lot for share in shares for lot in share.lots]
    longest_s = max((makespan_s(lot.units, sessions=lot.sessions) for lot in lots), default=0.0)
    if not any(share.begins_anew for share in shares):
        return longest_s
    work_s = sum(unit.seconds for lot in lots for unit in lot.units)
    room = sum(share.lane.sessions for share in shares)
    return max(longest_s, work_s / max(1, room))
