"""How ``dtest test`` and ``dtest run watch`` show a run of a suite while it goes on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dtest.cli import output
from dtest.cli.remaining import Remaining
from dtest.cli.watching import Progress, Screen, progress_of, screen
from dtest.reports.observation import Observation
from dtest.reports.terminal import shortened
from dtest.wording import counted

LINE_CHARS_MAX = 200


class Quiet:
    """Shows nothing but what must be said."""

    is_quiet = True
    wants_all = False

    def say(self, text: str) -> None:
        """Say it on standard error, beside the document."""
        output.say(text)

    def divided(self, suite: Mapping[str, Any]) -> None:
        """Say what else there is to say of the plan; the document has its figures."""
        for lane in suite["lanes"]:
            if lane["why_not"]:
                self.say(f"{lane['name']}: {lane['why_not']}")
        for note in suite["notes"]:
            self.say(note)

    def news(self, fresh: Sequence[Observation]) -> None:
        """Say nothing."""

    def progress(self, run: Mapping[str, Any], since_s: float) -> None:
        """Say nothing."""


class Shown:
    """Failures as they come, and how far the run is: a bar on a terminal, lines elsewhere."""

    is_quiet = False
    wants_all = False

    def __init__(self, on: Screen) -> None:
        self._screen = on
        self._remaining = Remaining()

    def say(self, text: str) -> None:
        """Say it above the bar."""
        self._screen.line(text)

    def divided(self, suite: Mapping[str, Any]) -> None:
        """Tell how much there is, and what of it asks for machines of its own."""
        for lane in suite["lanes"]:
            pools = [pool for pool in suite["pools"] if pool["hardware"] == lane["name"]]
            for line in _of_lane(lane, pools):
                self._screen.line(line)
        for note in suite["notes"]:
            self._screen.line(note)

    def news(self, fresh: Sequence[Observation]) -> None:
        """Tell what failed."""
        for seen in fresh:
            attempt = f" (attempt {seen.attempt})" if seen.attempt > 1 else ""
            self._screen.line(f"{seen.outcome.upper():6} {shortened(seen.nodeid)}{attempt}")
            if seen.message:
                self._screen.line(f"       {seen.message.splitlines()[0][:LINE_CHARS_MAX]}")

    def progress(self, run: Mapping[str, Any], since_s: float) -> None:
        """Tell how far the run is."""
        planned = run["suite"]["planned"]
        if run["suite"]["divided"]:
            state = self._tests(run, planned, since_s) if planned else progress_of(run)
            self._screen.state(state)

    def _tests(self, run: Mapping[str, Any], planned: int, since_s: float) -> Progress:
        cases = [f"{count} {name}" for name, count in sorted(run["testcases"].items())]
        done = min(planned, sum(run["testcases"].values()))
        self._remaining.note(since_s, done)
        left_s = self._remaining.left_s(planned) if done < planned else None
        left = f", about {left_s:.0f} s left" if left_s is not None else ""
        text = f"{done}/{counted(planned, 'test')}: {', '.join(cases) or 'none yet'}{left}"
        return Progress(text, done, planned, bool(run["finished"]))


def _of_lane(lane: Mapping[str, Any], pools: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    name = lane["name"]
    if lane["why_not"]:
        yield f"{name}: {lane['why_not']}" if name else lane["why_not"]
    yield f"{name}: {_held(lane)}" if name else _held(lane)
    for pool in pools:
        if pool["queue"] is not None and pool["asked"]:
            yield f"  {pool['tests']} ask for {pool['asked']}"
    elsewhere = sum(pool["tests"] for pool in pools if not pool["applies"])
    if elsewhere:
        yield f"  {elsewhere} are not for {name or 'these machines'}"
    for pool in pools:
        if pool["queue"] is None and pool["applies"] and pool["cause"] != lane["why_not"]:
            yield f"  {pool['tests']} cannot run: {pool['cause']}"


def _held(lane: Mapping[str, Any]) -> str:
    broken = f", {lane['broken']} could not be collected" if lane["broken"] else ""
    if lane["whole"]:
        return f"{lane['whole']} to run, whose tests are not known before{broken}"
    return f"{counted(lane['tests'], 'test')} in {counted(lane['files'], 'file')}{broken}"


@contextmanager
def shown(*, as_json: bool) -> Iterator[Quiet | Shown]:
    """Show a run for the length of a block."""
    if as_json:
        yield Quiet()
        return
    with screen() as on:
        yield Shown(on)
