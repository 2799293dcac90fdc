"""Go packages: listed by `go list`, each run by `go test -json`.

The tests of a package are not listed, since that would build it twice.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from dtest.runners import go_events
from dtest.runners.case import Case, Ended, Listing, Order, Progress, Reading


class Go:
    """The adapter. A path is a pattern of packages."""

    listed_by: Literal["command", "paths"] = "command"
    writes_results = False
    limits_tests = False
    tests_max = 1_000

    def targets(self, order: Order) -> Listing:
        """Only go can say what a pattern means."""
        return Listing()

    def list_command(self, order: Order, path: str) -> tuple[str, ...]:
        """Ask go; without paths, for all below."""
        return ("go", "list", "./..." if path == "." else path)

    def listed(self, order: Order, path: str, ended: Ended) -> Listing:
        """Read the list: a package a line."""
        if ended.exit_code:
            return Listing(problem=f"go did not list the packages: exit status {ended.exit_code}")
        packages = tuple(filter(None, ended.output.decode("utf-8", "replace").split("\n")))
        if not packages:
            return Listing(problem="go finds no packages there")
        return Listing(whole=packages)

    def command(
        self, order: Order, target: str, names: Sequence[str] | None, results: str
    ) -> tuple[str, ...]:
        """Name whole tests: subtests are chosen by reading."""
        tops = dict.fromkeys(name.partition("/")[0] for name in names or ())
        chosen = ("-run", f"^({'|'.join(map(re.escape, tops))})$") if tops else ()
        return ("go", "test", "-json", *order.arguments, *chosen, target)

    def progress(self) -> Progress | None:
        """Several tests may run at once."""
        return None

    def blamed(self, left: Sequence[str]) -> Sequence[str]:
        """Blame all that is missing."""
        return left

    def read(
        self, order: Order, names: Sequence[str] | None, ended: Ended, progress: Progress | None
    ) -> Reading:
        """Read the events. A package without tests is none that failed."""
        reading = go_events.read(ended.output)
        cases = tuple(replace(case, name=case.name.partition("::")[2]) for case in reading.cases)
        if not reading.cases and not reading.problem and b"[no test files]" in ended.output:
            return Reading((Case("(package)", "skipped", "no test files"),))
        return replace(reading, cases=cases)
