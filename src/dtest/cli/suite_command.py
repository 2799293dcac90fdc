"""What a call of ``dtest test`` wants, read and checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dtest.caller.suite_settings import Limits
from dtest.cli.suite_options import ReportFiles, Selection
from dtest.cli.suite_runner import ChosenRunner
from dtest.reports.muting import KnownFlaky
from dtest.runtime.ids import IdSource


@dataclass(frozen=True, slots=True)
class SuiteCommand:
    """The options, with what settings say where they are silent."""

    paths: Sequence[str]
    workers: int | None
    python: str | None
    recipe: dict[str, Any] | None
    ship: bool | None
    on: str
    rules: Sequence[dict[str, Any]]
    flaky: KnownFlaky
    by: ChosenRunner
    selection: Selection
    limits: Limits
    reports: ReportFiles
    detach: bool
    as_json: bool
    run_id: str = field(default_factory=IdSource())
    """Of the run that is asked for."""
