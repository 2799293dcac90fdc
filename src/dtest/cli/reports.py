"""``dtest report``: the report of any run that the cell remembers."""

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import UsageError
from dtest.reports.form import Format
from dtest.reports.muting import FILE_NAME, NONE_MUTED, KnownFlaky, read_known_flaky

if TYPE_CHECKING:
    from dtest.reports.report import Report


def build(
    run: str = "@last",
    *,
    format: Format,
    output_file: Annotated[Path | None, Parameter(name="--output")] = None,
    known_flaky: Path | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Write the report of a run; the exit code is 0 once it is written.

    What the run came to stands in the report: every test has one verdict from all its attempts
    and re-runs, and `exit_code` in the JSON report is what a gate would say.

    Examples: `dtest report build --format html --output report.html` ·
    `dtest report build 0197 --format json | jq .counts`

    Parameters
    ----------
    run
        The run's id, a unique beginning of it, or ``@last``.
    format
        What to write: JUnit XML, CTRF, dtest's JSON, Markdown or one self-contained HTML file.
    output_file
        Where to write it; by default to standard output.
    known_flaky
        The list of known flaky tests; by default `dtest-known-flaky.toml` here or further up.
    """
    from dtest.cli.api_client import open_api
    from dtest.cli.gathering import gather
    from dtest.reports.formats import FORMATS

    if output_file is not None:
        check_writable(output_file, "--output")
    flaky = known_flaky_tests(known_flaky)
    api = open_api(call.settings())
    report = gather(api, run, api_url=api.url, flaky=flaky)
    if output_file is None:
        sys.stdout.buffer.write(FORMATS[format](report))
        return 0
    write_report(output_file, format, report)
    if call.json:
        told = {"run_id": report.run.run_id, "format": format, "file": str(output_file)}
        output.as_json({**told, "counts": report.counts, "exit_code": report.exit_code})
    else:
        output.say(f"run {report.run.run_id}: {len(report.results)} tests in {output_file}")
    return 0


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


def known_flaky_tests(stated: Path | None = None) -> KnownFlaky:
    """Read the list of known flaky tests, and say which entries have expired.

    Raises UsageError when the list is malformed, or was stated and is not there.
    """
    path = stated if stated is not None else _nearest(Path.cwd())
    if path is None:
        return NONE_MUTED
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise UsageError(message, hint=f"a list is made by hand: {FILE_NAME}") from error
    found = read_known_flaky(text, source=str(path), today=today())
    for warning in found.warnings():
        output.say(f"dtest: {path}: {warning}")
    return found


def _nearest(start: Path) -> Path | None:
    paths = (directory / FILE_NAME for directory in (start, *start.parents))
    return next((path for path in paths if path.is_file()), None)


def today() -> date:
    """Return the day, in UTC as everywhere."""
    return datetime.now(UTC).date()
