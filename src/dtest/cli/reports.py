"""``dtest report``: the report of any run that the cell remembers."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dtest.caller.known_flaky import known_flaky_tests
from dtest.cli import output
from dtest.cli.history import JOURNAL_ALONE, ArchiveOptions, history
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import UsageError
from dtest.reports.form import Format
from dtest.wording import counted

if TYPE_CHECKING:
    from dtest.reports.muting import KnownFlaky
    from dtest.reports.report import Report


def build(
    run: str = "@last",
    *,
    format: Format,
    output_file: Annotated[Path | None, Parameter(name="--output")] = None,
    known_flaky: Path | None = None,
    past: ArchiveOptions = JOURNAL_ALONE,
    call: CallOptions = DEFAULTS,
) -> int:
    """Write the report of a run; the exit code is 0 once it is written.

    It is the report that `dtest test` would have written at the end. With `--archive` it is made
    from the journal and the archive, with `--offline` from the archive alone: no cell is needed.

    What the run came to stands in the report: every test has one verdict from all its attempts
    and re-runs, and `exit_code` in the JSON report is what a gate would say.

    Examples: `dtest report build --format html --output report.html` ·
    `dtest report build 0197 --format json | jq .counts` ·
    `dtest report build 0197 --format junit --archive DIR --offline`

    Parameters
    ----------
    run
        The run's id, a unique beginning of it, or ``@last``.
    format
        What to write: JUnit XML, CTRF, dtest's JSON, Markdown or one self-contained HTML file.
    output_file
        Where to write it; by default to standard output.
    known_flaky
        The list of known flaky tests to go by. By default that which a suite was handed in with;
        for any other run `dtest-known-flaky.toml` here or further up.
    """
    from dtest.caller.gathering import gather
    from dtest.cli.door import open_api
    from dtest.reports.formats import FORMATS

    if output_file is not None:
        check_writable(output_file, "--output")
    listed = known_flaky_tests(known_flaky, output.say)
    flaky = listed if known_flaky is not None else None
    if past.archive is not None or past.offline:
        report = asyncio.run(_from_past(run, past, call, (flaky, listed)))
    else:
        api = open_api(call.settings())
        report = gather(api, run, api_url=api.url, flaky=flaky, found_here=listed)
    if output_file is None:
        sys.stdout.buffer.write(FORMATS[format](report))
        return 0
    write_report(output_file, format, report)
    if call.json:
        told = {"run_id": report.run.run_id, "format": format, "file": str(output_file)}
        output.as_json({**told, "counts": report.counts, "exit_code": report.exit_code})
    else:
        output.say(
            f"run {report.run.run_id}: {counted(len(report.results), 'test')} in {output_file}"
        )
    return 0


async def _from_past(
    run: str, past: ArchiveOptions, call: CallOptions, lists: "tuple[KnownFlaky | None, KnownFlaky]"
) -> "Report":
    from dtest.projections.past import known_from
    from dtest.reports.report import compose

    async with history(call, past, name="dtest report build") as opened:
        known, own = await known_from(opened.journal, opened.cell, run)
        stated, found_here = lists
        return compose(known, flaky=stated or own or found_here)


def check_writable(path: Path, option: str) -> None:
    """Raise UsageError for a file that could not be written, before there is anything to write."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        message = f"{option} {path} cannot be written"
        raise UsageError(message, hint="give a file in a directory that exists")


def write_report(path: Path, form: Format, report: "Report") -> None:
    """Write one report to a file. Raises UsageError if that cannot be done."""
    from dtest.reports.formats import FORMATS

    content = FORMATS[form](report)
    try:
        path.write_bytes(content)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}"
        raise UsageError(message, hint="give a file in a directory that can be written") from error
