"""When a run is ended before its tests have."""

from collections.abc import Sequence
from typing import NamedTuple

from dtest.conducting.orders import Order
from dtest.errors import DtestError, NoWorkerMatches
from dtest.events.fields import TaskId
from dtest.events.suite_decision import CutCause, SuiteCut
from dtest.state.suite import Phase, SuiteRun

COMPLAINT_CHARS_MAX = 2_000


class Cut(NamedTuple):
    """Why, and what may help."""

    cause: CutCause
    detail: str = ""
    hint: str = ""

    def fact(self, suite: SuiteRun) -> SuiteCut:
        """Return what is to be recorded."""
        return SuiteCut(suite.run_id, self.cause, self.detail, self.hint)


class Seen(NamedTuple):
    """What is known of a run besides its state."""

    failures: int = 0
    failures_max: int = 0
    """What the suite's own settings allow; 0 for any number."""
    stopped: str = ""
    """How a session says that the suite ended its run itself."""
    unmatched: Sequence[str] = ()
    """What waits for a worker that does not exist, in words."""


def cut_of(suite: SuiteRun, seen: Seen, now: float) -> Cut | None:
    """Return why a run is to be ended now, none if it is to go on."""
    spec = suite.spec
    if suite.cut is not None or spec is None:
        return None
    if suite.cancelled:
        return Cut("cancelled", "a client cancelled the run")
    if seen.stopped:
        return Cut("stopped", seen.stopped, "what it had not run is not proven")
    most = spec.failures_max or seen.failures_max
    if most and seen.failures >= most:
        hint = "--maxfail says how many a run may have"
        return Cut("failures", f"ended after {seen.failures} failures", hint)
    limit_s = spec.timeout_seconds
    is_late = limit_s is not None and now >= suite.submitted_at + limit_s
    if seen.unmatched and (is_late or spec.fail_unmatched):
        return Cut("unmatched", seen.unmatched[0], "start a worker that has it")
    if is_late and suite.phase is not Phase.RUNNING:
        detail = f"the tests were not listed in {limit_s:g} s"
        return Cut("timeout", detail, "look for work that is done at import")
    if is_late:
        detail = f"run {suite.run_id} did not end in {limit_s:.3g} s"
        return Cut("timeout", detail, "`dtest why TASK` says what it waits for")
    return None


def cut_by(error: DtestError) -> Cut:
    """Return the cut that an error of a document, of marks or of the fleet means."""
    cause: CutCause = "unmatched" if isinstance(error, NoWorkerMatches) else "invalid"
    return Cut(cause, error.message, error.hint)


def uncollectable(order: Order, hardware: str, said: str, ended: str, task: TaskId) -> Cut:
    """Return why a session ended without a suite, in the runner's words."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "dtest:"))]
    complaint = (errors or lines or [ended])[-1][:COMPLAINT_CHARS_MAX]
    where = f" on {hardware}" if hardware else ""
    hint = f"`dtest task logs {task}` shows all that it wrote"
    if order.runner == "pytest":
        python = order.spec.python or "python"
        hint = f"`{python} -m pytest --collect-only` says more; {hint}"
    return Cut("uncollectable", f"{order.runner} cannot run this suite{where}: {complaint}", hint)
