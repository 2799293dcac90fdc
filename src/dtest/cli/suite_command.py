"""What a call of ``dtest test`` wants, read and checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dtest.cli.suite_options import Bounds, ReportFiles, Selection
from dtest.cli.suite_runner import ChosenRunner
from dtest.reports.muting import KnownFlaky
from dtest.suites.requirement import HardwareClass
from dtest.suites.rules import Rule


@dataclass(frozen=True, slots=True)
class SuiteCommand:
    """The options, with what settings say where they are silent."""

    paths: Sequence[str]
    workers: int | None
    python: str | None
    recipe: dict[str, Any] | None
    ship: bool | None
    classes: Sequence[HardwareClass]
    rules: Sequence[Rule]
    flaky: KnownFlaky
    by: ChosenRunner
    selection: Selection
    bounds: Bounds
    reports: ReportFiles
    as_json: bool
