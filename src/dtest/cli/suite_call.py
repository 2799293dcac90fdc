"""``dtest test``, once it is known what is wanted: hand the suite in, follow it, tell of it."""

import sys
from pathlib import Path

from dtest.caller.api_client import ApiClient
from dtest.caller.cell import OpenCell, interpreter_of, shipped_here
from dtest.caller.document import Choice, SuitePlace, suite_document
from dtest.caller.fleet import fleet_of, is_remote, tell_old
from dtest.caller.following import Ended, Following, first_of, hand_in
from dtest.caller.history_file import HistoryFile
from dtest.cli import output
from dtest.cli.reports import write_report
from dtest.cli.shipping import tell_shipped
from dtest.cli.suite_command import SuiteCommand
from dtest.cli.suite_display import shown
from dtest.cli.suite_options import NO_FILES, ReportFiles
from dtest.runtime.first_suite import FirstSuite

INTERRUPTED = 130


def conduct(cell: OpenCell, wanted: SuiteCommand) -> int:
    """Have the suite run in a cell and follow it; return the exit code."""
    from dtest.caller.gathering import keys_of

    api, kept = cell.api, HistoryFile(Path.cwd())
    with shown(as_json=wanted.as_json) as port:
        run_id, seq = wanted.run_id, cell.first_seq
        if seq is None:
            seq = hand_in(api, run_id, _asked(api, wanted), kept.document(), port)
        if wanted.detach:
            return _detached(run_id, as_json=wanted.as_json)
        end = Following(api, run_id, port, since=seq).to_the_end()
    kept.add(end.report, keys_of(end.plan))
    code = concluded(end, wanted.reports, as_json=wanted.as_json)
    if end.is_left and not cell.outlives_call:
        sys.exit(code)  # the cell is not to stay with a run that nobody wants
    return code


def _detached(run_id: str, *, as_json: bool) -> int:
    if as_json:
        output.as_json({"run_id": run_id})
    else:
        print(run_id)
    return 0


def first_suite(wanted: SuiteCommand) -> FirstSuite:
    """Return the suite as a cell on this machine is asked for it, which sees these files."""
    return first_of(wanted.run_id, _document(wanted, None), HistoryFile(Path.cwd()).document())


def _asked(api: ApiClient, wanted: SuiteCommand) -> dict[str, object]:
    fleet = fleet_of(api)
    tell_old(fleet, output.say)
    is_shipped = is_remote(fleet) if wanted.ship is None else wanted.ship
    return _document(wanted, shipped_here(api, tell_shipped) if is_shipped else None)


def _document(wanted: SuiteCommand, shipped: str | None) -> dict[str, object]:
    finds_python = wanted.recipe is None and wanted.by.uses_python
    place = SuitePlace(
        "." if shipped else str(Path.cwd()),
        interpreter_of(wanted.python, is_here=shipped is None) if finds_python else None,
        wanted.by.arguments(wanted.selection),
        shipped,
        wanted.recipe,
        wanted.by.document,
    )
    chosen = wanted.selection
    choice = Choice(
        wanted.paths,
        wanted.by.keyword(chosen),
        chosen.last_failed,
        chosen.failed_first,
        wanted.on,
        wanted.rules,
        wanted.workers,
    )
    name = Path.cwd().name or "tests"
    return suite_document(name, place, choice, wanted.limits, wanted.flaky)


def concluded(end: Ended, reports: ReportFiles = NO_FILES, *, as_json: bool) -> int:
    """Tell what the run came to, write the reports, and return the exit code.

    Raises what cut the run, where that is no result of its tests.
    """
    from dtest.cli.suite_telling import as_document, tell

    report = end.report
    if end.cut is not None and end.cut.cause in {"cancelled", "empty"} and not end.interrupted:
        output.say(end.cut.detail)
    is_empty = end.cut is not None and end.cut.cause == "empty"
    if as_json and not is_empty:
        output.as_json(as_document(report, end))
    elif end.suite["divided"] and not is_empty:
        tell(report, end, durations=reports.durations)
    for path, form, _ in reports.files:
        write_report(path, form, report)
    if isinstance(end.interrupted, SystemExit):
        raise end.interrupted
    if end.is_left:
        output.say(f"run {report.run.run_id} has not ended; `dtest run watch` follows it")
        return INTERRUPTED
    error = end.error
    if error is not None and end.cut is not None and end.cut.cause not in {"failures", "stopped"}:
        raise error
    return _agreed(report.exit_code, end.suite["exit_code"])


def _agreed(judged: int, recorded: int | None) -> int:
    """Return the exit code; where this report and the cell's own sums differ, never 0."""
    if recorded is None or recorded == judged:
        return judged
    output.say(f"the cell's own sums say {recorded}, this report says {judged}: please report it")
    return recorded or judged
