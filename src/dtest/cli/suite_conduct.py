"""``dtest test``, once it is known what is wanted: plan the suite, run it, tell what it came to."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dtest.cli import output
from dtest.cli.api_client import ApiClient
from dtest.cli.cell_memory import CellMemory
from dtest.cli.fleet import fleet_of, for_suites, is_remote
from dtest.cli.reports import write_report
from dtest.cli.suite import shown
from dtest.cli.suite_cell import interpreter_of, shipped_here
from dtest.cli.suite_command import SuiteCommand
from dtest.cli.suite_history import HistoryFile
from dtest.cli.suite_lots import Lane, Planner, Share, kinds_of, lanes_of, refuse_unmatched
from dtest.cli.suite_options import ReportFiles
from dtest.cli.suite_run import RunEnd, SuitePlace, SuiteRun, keys_of
from dtest.errors import NOTHING_SELECTED, DtestError, SuiteStopped, TooManyFailures
from dtest.state.worker import Worker
from dtest.suites.requirement import in_words

INTERRUPTED = 130


def conduct(api: ApiClient, wanted: SuiteCommand) -> int:
    """Run the suite in a cell; return the exit code."""
    kept = HistoryFile(Path.cwd())
    fleet = for_suites(fleet_of(api))
    lanes = _lanes(wanted, fleet)
    run = SuiteRun(api, Path.cwd().name or "tests", wanted.flaky, as_json=wanted.as_json)
    run.start(_place(wanted, api, fleet), wanted.paths, wanted.bounds, lanes)
    past = CellMemory(api, run.name, kinds_of(lanes), kept=kept)
    try:
        planner = Planner(wanted.rules, wanted.selection, past, fleet, wanted.workers)
        shares = _planned(wanted, run, lanes, planner)
    except BaseException as error:
        run.stop(reason=type(error).__name__)
        raise
    if all(share.suite.is_empty for share in shares):
        run.stop(reason="no tests")
        output.say(f"no tests ran: {wanted.by.name} found none")
        return NOTHING_SELECTED
    if not wanted.as_json:
        _tell_plan(shares)
    end = run.carry(shares, wanted.bounds)
    kept.add(end.report, keys_of(shares))
    return _concluded(end, wanted.reports, as_json=wanted.as_json)


def _lanes(wanted: SuiteCommand, fleet: list[Worker]) -> Sequence[Lane]:
    queue = f"q{uuid.uuid4().hex}"
    lanes = lanes_of(wanted.classes, wanted.rules, fleet, queue=queue, sessions=wanted.workers)
    for lane in lanes:
        if lane.why_not:
            output.say(f"{lane.name}: {lane.why_not}")
    if wanted.bounds.fail_unmatched:
        refuse_unmatched((lane.name, lane.why_not) for lane in lanes)
    return lanes


def _place(wanted: SuiteCommand, api: ApiClient, fleet: list[Worker]) -> SuitePlace:
    shipped = is_remote(fleet) if wanted.ship is None else wanted.ship
    finds_python = wanted.recipe is None and wanted.by.uses_python
    return SuitePlace(
        "." if shipped else str(Path.cwd()),
        interpreter_of(wanted.python, is_here=not shipped) if finds_python else None,
        wanted.by.arguments(wanted.selection),
        shipped_here(api) if shipped else None,
        wanted.recipe,
        wanted.by.document,
    )


def _planned(
    wanted: SuiteCommand, run: SuiteRun, lanes: Sequence[Lane], planner: Planner
) -> list[Share]:
    found = [
        suite and wanted.by.selected(suite, wanted.selection)
        for suite in run.collected(wanted.bounds)
    ]
    shares, notes = planner.shares(lanes, found)
    for note in notes:
        output.say(note)
    if wanted.bounds.fail_unmatched:
        refuse_unmatched(
            (each.nodeid, each.cause) for share in shares for each in share.unrun if each.applies
        )
    return shares


def _tell_plan(shares: Sequence[Share]) -> None:
    """Tell how much there is, and what of it asks for machines of its own."""
    for share in shares:
        suite, name = share.suite, share.lane.name
        output.say(f"{name}: {shown(suite)}" if name else shown(suite))
        for lot in share.lots:
            if lot.is_early:
                output.say(f"  {len(lot.tests)} ask for {in_words(lot.requirements)}")
        elsewhere = sum(not each.applies for each in share.unrun)
        if elsewhere:
            output.say(f"  {elsewhere} are not for {name or 'these machines'}")
        for cause, count in Counter(each.cause for each in share.unrun if each.applies).items():
            if cause != share.lane.why_not:
                output.say(f"  {count} cannot run: {cause}")


def _concluded(end: RunEnd, reports: ReportFiles, *, as_json: bool) -> int:
    """Tell what the run came to, write the reports, and return the exit code."""
    from dtest.cli.suite_end import as_document, tell

    code = _code(end)
    report = replace(end.report, exit_code=code)
    if as_json:
        output.as_json(as_document(report, end))
    else:
        tell(report, end, durations=reports.durations)
    for path, form, _ in reports.files:
        write_report(path, form, report)
    if end.cut is not None and not isinstance(end.cut, TooManyFailures | SuiteStopped):
        raise end.cut
    return code


def _code(end: RunEnd) -> int:
    match end.cut:
        case None:
            return end.report.exit_code
        case DtestError() as error:
            return error.exit_code
        case SystemExit(code=int(code)):
            return code
        case _:
            return INTERRUPTED
