"""Any command that writes its results as JUnit XML, TAP or `go test -json`.

With ``{path}`` among its words it runs once for each path, so that sessions share them; without,
it runs once. ``{results}`` stands for a file of its own that it is to write.
"""

from collections.abc import Sequence
from typing import Literal

from dtest.runners import results as forms
from dtest.runners.case import Case, Ended, Listing, Order, Progress, Reading

PATH = "{path}"
RESULTS = "{results}"


class Command:
    """The adapter."""

    listed_by: Literal["command", "paths"] = "paths"
    writes_results = False
    limits_tests = False
    tests_max = 100_000

    def targets(self, order: Order) -> Listing:
        """Return each path, or the command itself."""
        if not any(PATH in word for word in order.arguments):
            return Listing(whole=(label(order.arguments),))
        if not order.paths:
            return Listing(problem=f"the command has {PATH} in it: name the paths to run it for")
        return Listing(whole=order.paths)

    def list_command(self, order: Order, path: str) -> tuple[str, ...]:
        """Never asked for."""
        return ()

    def listed(self, order: Order, path: str, ended: Ended) -> Listing:
        """Never asked for."""
        return Listing()

    def command(
        self, order: Order, target: str, names: Sequence[str] | None, results: str
    ) -> tuple[str, ...]:
        """Return the command; it runs as a whole, whatever is asked for."""
        words = tuple(
            word.replace(PATH, target).replace(RESULTS, results) for word in order.arguments
        )
        alone = any(PATH in word for word in order.arguments)
        return words if alone else (*words, *order.paths)

    def progress(self) -> Progress | None:
        """Nothing is known before its end."""
        return None

    def blamed(self, left: Sequence[str]) -> Sequence[str]:
        """Blame all that is missing."""
        return left

    def read(
        self, order: Order, names: Sequence[str] | None, ended: Ended, progress: Progress | None
    ) -> Reading:
        """Read all files of results, or what it wrote to standard output."""
        if not ended.results:
            return forms.read(ended.output)
        cases: list[Case] = []
        problems: list[str] = []
        for name, content in ended.results:
            reading = forms.read(content)
            cases += reading.cases
            if reading.problem:
                problems.append(f"{name}: {reading.problem}")
        return Reading(tuple(cases), "; ".join(problems))


def label(arguments: Sequence[str]) -> str:
    """Name a command by its program."""
    return arguments[0].rstrip("/").rpartition("/")[2] if arguments else ""
