"""A suite in a cell: lasting sessions, the queue they pull from, what is known at the end."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from dtest.cli import output
from dtest.cli.api_client import ApiClient
from dtest.cli.reports import today
from dtest.cli.suite import again
from dtest.cli.suite_lots import EARLY_PRIORITY, USUAL_PRIORITY, Lane, Lot, Share
from dtest.cli.suite_options import Bounds
from dtest.cli.watching import Patience, watch_run
from dtest.errors import NoWorkerMatches, TimedOut, TooManyFailures, UsageError
from dtest.events.task import Requirements
from dtest.reports.observation import HARDWARE_CLASS, Planned
from dtest.state.task import TERMINAL
from dtest.suites.plan import makespan_s
from dtest.suites.requirement import document
from dtest.suites.reruns import elsewhere
from dtest.suites.suite import Suite
from dtest.suites.unit import Unit

if TYPE_CHECKING:
    from dtest.reports.muting import KnownFlaky
    from dtest.reports.report import Report
    from dtest.reports.verdicts import Fault, Result

_SUITE: TypeAdapter[Suite] = TypeAdapter(Suite)
LISTED_S = 0.5
"""Longest wait for the list of the tests, between two looks at whether that is still made."""
STOP_S_MAX = 20.0
"""How long the run may take to end once it is cancelled."""
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
    faults: tuple["Fault", ...]
    """Sessions that came to no good end. What that did to tests is in their verdicts."""
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
        for lane in lanes:
            if lane.sessions:
                firsts[len(tasks)] = lane.queue
            title = f" ({lane.name})" if lane.name else ""
            for number in range(1, lane.first_sessions + 1):
                task = self._session(lane, lane.queue, lane.requirements)
                tasks.append({**task, "name": f"session {number}/{lane.first_sessions}{title}"})
        for number in firsts:
            tasks[number]["config"] = {**tasks[number]["config"], "collect": True}
        answer = self._api.submit({"name": self.name, "tasks": tasks})
        self._run_id, self._seq = str(answer["run_id"]), int(answer["seq"])
        names = [str(task["task_id"]) for task in answer["tasks"]]
        self._first = {queue: names[number] for number, queue in firsts.items()}

    def _session(self, lane: Lane, queue: str, requirements: Requirements) -> dict[str, Any]:
        task = {**self._document, "config": {**self._document["config"], "queue": queue}}
        if lane.name:
            task["labels"] = {HARDWARE_CLASS: lane.name}
        asked = document(requirements)
        return {**task, "requirements": asked} if asked else task

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
            None if several else sum(len(lot.nodeids) for lot in lots),
            several,
        )
        cut: BaseException | None = None
        try:
            self._hand_out(shares)
            _load_what_follows()
            self._watched(until)
            for lot in lots:
                self._finish(lot, until)
            self._rerun(shares, bounds, until)
        except (KeyboardInterrupt, SystemExit, TimedOut, NoWorkerMatches, TooManyFailures) as error:
            cut = error
            self.stop(reason=type(error).__name__)
        from dtest.reports.report import gate

        took_s = time.monotonic() - started
        report = self._report(shares)
        code = gate(report.results, self._flaky, today=today())
        proven = replace(report, faults=(), exit_code=code)
        return RunEnd(proven, report.faults, took_s, predicted_s(shares), cut)

    def _hand_out(self, shares: Sequence[Share]) -> None:
        """Fill the queues. Where some tests ask for more, all sessions of a class begin anew.

        Those that ask for more have the better priority: the others leave them their machines.
        """
        tasks: list[dict[str, Any]] = []
        for share in shares:
            for lot in share.lots:
                self._fill(lot.queue, lot.units)
            if share.lane.sessions and all(lot.queue != share.lane.queue for lot in share.lots):
                self._fill(share.lane.queue, [])
            if share.begins_anew:
                tasks += (task for lot in share.lots for task in self._sessions(lot))
        if tasks:
            self._seq = int(
                self._api.submit({"name": self.name, "run_id": self._run_id, "tasks": tasks})["seq"]
            )

    def _sessions(self, lot: Lot) -> Iterator[dict[str, Any]]:
        task = self._session(lot.lane, lot.queue, lot.requirements)
        priority = EARLY_PRIORITY if lot.is_early else USUAL_PRIORITY
        for number in range(1, lot.sessions + 1):
            name = f"tests {number}/{lot.sessions}{lot.title}"
            yield {**task, "name": name, "priority": priority}

    def _report(self, shares: Sequence[Share]) -> "Report":
        unrun = [planned for share in shares for planned in share.unrun]
        planned = {share.lane.name: share.planned for share in shares}
        every = [*unrun, *(item for some in planned.values() for item in some)]
        from dtest.cli.gathering import gather

        report = gather(self._api, self._run_id, planned=every, flaky=self._flaky)
        odd = {name for name, some in planned.items() if _ran_under_other_names(report, name, some)}
        if odd:
            known = (item for name, some in planned.items() if name not in odd for item in some)
            report = gather(self._api, self._run_id, planned=[*unrun, *known], flaky=self._flaky)
        return replace(report, run=replace(report.run, api_url=self._api.url))

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
            self._add(lot, lot.queue, "session again", rerun=0)
            self._watched(patience)

    def _add(
        self,
        lot: Lot,
        queue: str,
        name: str,
        *,
        rerun: int,
        kind: str = "",
        avoid: Sequence[str] = (),
    ) -> None:
        requirements = lot.requirements
        if kind in requirements.hardware:  # where it failed, not on any of several kinds
            requirements = replace(requirements, hardware=(kind,))
        task = {**self._session(lot.lane, queue, requirements), "name": name}
        if rerun:
            task["labels"] = {**task.get("labels", {}), "rerun": str(rerun)}
        task["avoid_workers"] = list(avoid)
        self._seq = int(self._api.submit({**task, "run_id": self._run_id})["seq"])

    def _rerun(self, shares: Sequence[Share], bounds: Bounds, patience: Patience) -> None:
        """Run what failed again, in new processes and elsewhere; what passes then is flaky."""
        suites = {share.lane.name: share.suite for share in shares}
        for number in range(1, (bounds.reruns or 0) + 1):
            failed = [result for result in self._report(shares).results if _is_worth_it(result)]
            if not failed:
                return
            output.say(f"running {len(failed)} again ({number}/{bounds.reruns})")
            for count, (lot, kind, results) in enumerate(_by_lot(failed, shares)):
                where = [(each.key.nodeid, [bad.worker_id for bad in each.bad]) for each in results]
                for group, part in enumerate(elsewhere(where, sessions=lot.sessions)):
                    queue = f"{lot.queue}r{number}x{count}g{group}"
                    for session in range(1, part.sessions + 1):
                        name = f"re-run {number}.{group + 1}, session {session}{lot.title}"
                        self._add(lot, queue, name, rerun=number, kind=kind, avoid=part.avoid)
                    self._fill(queue, again(part.nodeids, suites[lot.lane.name]))
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


def _is_worth_it(result: "Result") -> bool:
    """Say whether a second try could tell more: not of what cannot be collected."""
    from dtest.reports.verdicts import BAD

    found = result.deciding
    return result.verdict in BAD and found is not None and found.phase != "collect"


def _by_lot(
    failed: Sequence["Result"], shares: Sequence[Share]
) -> list[tuple[Lot, str, list["Result"]]]:
    """Sort results by the lot that their tests are of, and the hardware that they failed on."""
    homes = {
        (lot.lane.name, nodeid): lot
        for share in shares
        for lot in share.lots
        for nodeid in lot.nodeids
    }
    others = {share.lane.name: share.lots[0] for share in shares if share.lots}
    groups: dict[tuple[str, str], tuple[Lot, list[Result]]] = {}
    for result in failed:
        nodeid, kind, _ = result.key
        name = kind if kind in others else ""
        lot = homes.get((name, nodeid)) or others[name]  # else every process makes its own ids
        groups.setdefault((lot.queue, kind), (lot, []))[1].append(result)
    return [(lot, kind, results) for (_, kind), (lot, results) in groups.items()]


def _ran_under_other_names(report: "Report", lane: str, planned: Sequence[Planned]) -> bool:
    """Say whether every process makes ids of its own: something is missing, and nothing is."""
    ids = {item.nodeid for item in planned}
    results = [result for result in report.results if lane in ("", result.key.hardware)]
    lost = sum(result.verdict == "not_proven" and result.key.nodeid in ids for result in results)
    seen = sum(bool(result.observations) for result in results)
    return bool(lost) and seen >= len(planned)


def predicted_s(shares: Sequence[Share]) -> float:
    """Return how long the run will probably take: its longest lot, or all that share slots."""
    lots = [lot for share in shares for lot in share.lots]
    longest_s = max((makespan_s(lot.units, sessions=lot.sessions) for lot in lots), default=0.0)
    if not any(share.begins_anew for share in shares):
        return longest_s
    work_s = sum(unit.seconds for lot in lots for unit in lot.units)
    room = sum(share.lane.sessions for share in shares)
    return max(longest_s, work_s / max(1, room))
