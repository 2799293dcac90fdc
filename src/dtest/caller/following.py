"""Hands a suite in and follows its run to the end. What there is to show goes to a port.

The run is the cell's: whoever follows may go away at any time, and come back.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from dtest.caller.api_client import ApiClient
from dtest.caller.gathering import FIRST, Place, fresh_observations, gather, place_of, plan_of
from dtest.caller.patience import PatientApi
from dtest.caller.unmatched import unmatched_of
from dtest.errors import (
    DtestError,
    NoWorkerMatches,
    SuiteStopped,
    TimedOut,
    TooManyFailures,
    UsageError,
)
from dtest.reports.observation import CutShort, Observation, Planned
from dtest.reports.report import Report
from dtest.runtime.first_suite import FirstSuite

LOOK_S_MIN = 0.1
LOOK_S_MAX = 0.5
QUIET_S_MAX = 5.0
"""Where nothing is shown before the end."""
UNMATCHED_EVERY_S = 5.0
STOP_S_MAX = 20.0
"""How long the run may take to end once it is cancelled."""
_BAD = ("failed", "error")
_DIVIDED = ("running", "ended")
_ERRORS: dict[str, type[DtestError]] = {
    "failures": TooManyFailures,
    "stopped": SuiteStopped,
    "timeout": TimedOut,
    "unmatched": NoWorkerMatches,
}


class Port(Protocol):
    """What shows a run to somebody."""

    is_quiet: bool
    """It shows nothing before the end."""
    wants_all: bool
    """It wants to hear of every test, not only of those that failed."""

    def say(self, text: str) -> None:
        """Take something that is worth a line."""
        ...

    def divided(self, suite: Mapping[str, Any]) -> None:
        """Take how the suite is divided, once."""
        ...

    def news(self, fresh: Sequence[Observation]) -> None:
        """Take what tests came to, in the order of the journal."""
        ...

    def progress(self, run: Mapping[str, Any], since_s: float) -> None:
        """Take how far the run is, ``since_s`` seconds after it was divided."""
        ...


@dataclass(frozen=True, slots=True)
class Ended:
    """What is known of a run that has ended, or was left."""

    report: Report
    suite: Mapping[str, Any]
    """As `GET /api/suites/RUN` answers it."""
    plan: Sequence[Planned]
    took_s: float
    """Since it was divided, as far as it was followed."""
    interrupted: BaseException | None = None
    """What a person or a service manager ended it by."""

    @property
    def cut(self) -> CutShort | None:
        """Why it was ended before its tests had, if it was."""
        return self.report.cut

    @property
    def is_left(self) -> bool:
        """Say whether it had not ended when its caller had to go."""
        return self.interrupted is not None and self.suite["exit_code"] is None

    @property
    def predicted_s(self) -> float:
        """How long it was to take."""
        return float(self.suite["predicted_s"])

    @property
    def error(self) -> DtestError | None:
        """What a caller is to be told of the cut, beside the report; none where that says it."""
        cut = self.cut
        if cut is None or cut.cause in {"cancelled", "empty"}:
            return None
        return _ERRORS.get(cut.cause, UsageError)(cut.detail, hint=cut.hint)


def first_of(
    run_id: str, document: Mapping[str, Any], known: Mapping[str, Any] | None
) -> FirstSuite:
    """Return the same for a cell that is made for it; see ``hand_in``."""
    asked = {**document, "run_id": run_id}
    return FirstSuite(asked if known is None else {**asked, "recalls": True}, known)


def hand_in(
    api: ApiClient,
    run_id: str,
    document: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    port: Port,
) -> int:
    """Ask for a run of a suite under an id, once, however often; return where that stands.

    ``known`` is what is known of earlier runs here.

    Raises InvalidDocument for what makes no sense.
    """
    patient = PatientApi(api, port.say)
    asked = {**document, "run_id": run_id}
    if known is not None:
        try:
            api.post("/api/recalls", {**known, "run_id": run_id})
            asked["recalls"] = True
        except DtestError as error:  # it costs knowledge only
            port.say(f"the run does without what is known here: {error.message}")
    try:
        answer = patient.post_once("/api/suites", asked, key=run_id)
    except (KeyboardInterrupt, SystemExit):
        with suppress(DtestError):  # it may not have come to be
            api.post(f"/api/runs/{run_id}/cancel", {"reason": "interrupted"})
        raise
    return int(answer["seq"])


@dataclass
class Following:
    """One run, as it is followed."""

    api: ApiClient
    run_id: str
    port: Port
    wait_s: float | None = None
    """Longest wait; the run goes on without whoever followed."""
    since: int | None = None
    """Where the run was asked for, if that is known: the API may not be there yet."""
    _suite: Mapping[str, Any] = field(default_factory=dict)
    _plan: list[Planned] = field(default_factory=list)
    _last: Place = FIRST
    _told: set[str] = field(default_factory=set)
    _round: int = 0
    """Of re-runs, the latest that was told."""
    _looked_at: float = 0.0
    _divided_at: float | None = None

    def to_the_end(self) -> Ended:
        """Follow until the run has ended. The first interrupt cancels it, a second one leaves it.

        Raises TimedOut when it takes longer than ``wait_s``, and as the API does.
        """
        started = time.monotonic()
        deadline = started + self.wait_s if self.wait_s is not None else math.inf
        interrupted: BaseException | None = None
        patient = PatientApi(self.api, self.port.say)
        run: Mapping[str, Any] | None = None
        delay_s = QUIET_S_MAX if self.port.is_quiet else LOOK_S_MIN
        while run is None or not run["finished"]:
            try:
                if time.monotonic() > deadline:
                    if interrupted is not None:
                        break
                    message = f"run {self.run_id} did not end in {self.wait_s:g} s"
                    raise TimedOut(message, hint="it goes on: `dtest run watch` follows it again")
                run = self._look(patient, run, min(delay_s, deadline - time.monotonic()))
                delay_s = max(delay_s, min(LOOK_S_MAX, delay_s * 1.2))
            except (KeyboardInterrupt, SystemExit) as error:
                if interrupted is not None:
                    raise
                interrupted, deadline = error, time.monotonic() + STOP_S_MAX
                self._cancel(patient, type(error).__name__)
        return self._ended(patient, time.monotonic(), interrupted)

    def _cancel(self, patient: PatientApi, reason: str) -> None:
        self.port.say("cancelling the run")
        patient.post_again(f"/api/runs/{self.run_id}/cancel", {"reason": reason})

    def _look(
        self, patient: PatientApi, before: Mapping[str, Any] | None, wait_s: float
    ) -> Mapping[str, Any]:
        after = before["as_of_seq"] if before is not None else self.since
        wait = max(0.0, wait_s) if before is not None else None
        run = patient.get(f"/api/runs/{self.run_id}", after=after, wait_s=wait)
        suite = run["suite"]
        if suite is None:
            message = f"the run {self.run_id} is no run of a suite"
            raise UsageError(message, hint=f"`dtest run watch {self.run_id}`")
        if self._divided_at is None and suite["divided"] and suite["phase"] in _DIVIDED:
            self._divided(patient)
        if suite["round"] > self._round:
            self._round = suite["round"]
            self.port.say(f"what failed runs again: round {self._round}")
        self._news(patient, run)
        if not self.port.is_quiet:
            self._tell_unmatched(patient, run)
            since = self._divided_at
            self.port.progress(run, time.monotonic() - since if since is not None else 0.0)
        return run

    def _divided(self, patient: PatientApi) -> None:
        self._divided_at = time.monotonic()
        self._suite = patient.get(f"/api/suites/{self.run_id}")
        self.port.divided(self._suite)
        self._plan = plan_of(patient, self.run_id)

    def _news(self, patient: PatientApi, run: Mapping[str, Any]) -> None:
        if self.port.is_quiet:
            return
        if not self.port.wants_all and not any(run["testcases"].get(name) for name in _BAD):
            return
        outcomes = () if self.port.wants_all else _BAD
        fresh = fresh_observations(patient, self.run_id, self._last, outcomes)
        if fresh:
            self._last = place_of(fresh[-1])
            self.port.news(fresh)

    def _tell_unmatched(self, patient: PatientApi, run: Mapping[str, Any]) -> None:
        """Tell, now and then, what waits for a worker that does not exist."""
        now = time.monotonic()
        if not run["waiting"] or now - self._looked_at < UNMATCHED_EVERY_S:
            return
        self._looked_at = now
        for found in unmatched_of(patient, self.run_id):
            if found.text not in self._told:
                self._told.add(found.text)
                self.port.say(f"{found.text} (waiting for one that can)")

    def _ended(self, patient: PatientApi, now: float, interrupted: BaseException | None) -> Ended:
        if not self._suite or self._suite["exit_code"] is None:
            self._suite = patient.get(f"/api/suites/{self.run_id}")
        if not self._plan:
            self._plan = plan_of(patient, self.run_id)
        report = gather(patient, self.run_id, api_url=self.api.url, planned=self._plan)
        took_s = now - self._divided_at if self._divided_at is not None else 0.0
        return Ended(report, self._suite, self._plan, took_s, interrupted)
