"""``dtest test --runner``: which runner, and what it cannot do that pytest can."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dtest.cli.suite_options import Selection
from dtest.errors import UsageError
from dtest.events.runner import Runner
from dtest.runners.case import Order
from dtest.runners.command import PATH, RESULTS
from dtest.runners.registry import ADAPTERS, COMMAND, PYTEST, UNITTEST, Chosen, chosen


@Parameter(name="*", group="Runner")
@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What runs the tests."""

    runner: str = PYTEST
    """`pytest`, `unittest`, `gtest`, `ctest`, `go`, each with its options behind it; or a command
    that writes JUnit XML, TAP or `go test -json`. With `{path}` in it, it runs once for each path.
    """
    runner_argument: Annotated[
        tuple[str, ...], Parameter(name="--runner-argument", negative="")
    ] = ()
    """One more word for the runner; may be repeated. Everything behind `--` is handed on so."""
    results: Annotated[str | None, Parameter(name="--results")] = None
    """The file, or a pattern of files, that the command writes its results to; by default standard
    output. `{results}` in the command stands for a file of its own."""

    def chosen(self, selection: Selection, *, python: str | None) -> "ChosenRunner":
        """Return the runner. Raises UsageError for what it cannot be told."""
        named, words = chosen(self.runner), self.runner_argument
        paths: tuple[str, ...] = ()
        if named.name == PYTEST:
            check_words((*named.arguments, *words))
            paths, words = paths_among(words)
        made = ChosenRunner(named.told(words), self.results, paths)
        made.check(selection, python=python)
        return made


@dataclass(frozen=True, slots=True)
class ChosenRunner:
    """A runner and where its results are."""

    chosen: Chosen
    results: str | None
    paths: tuple[str, ...] = ()
    """What its own words name to test."""

    @property
    def name(self) -> str:
        """Its name, for people."""
        return self.chosen.arguments[0] if self.chosen.name == COMMAND else self.chosen.name

    @property
    def uses_python(self) -> bool:
        """Say whether it runs in an interpreter of the tested project."""
        return self.chosen.name in {PYTEST, UNITTEST}

    @property
    def is_single(self) -> bool:
        """Say whether it is one process, so that one session is enough."""
        words = self.chosen.arguments
        return self.chosen.name == COMMAND and not any(PATH in word for word in words)

    @property
    def document(self) -> dict[str, Any] | None:
        """What a task's config says of it; none for pytest."""
        if self.chosen.name == PYTEST:
            return None
        return asdict(Runner(self.chosen.name, self.chosen.arguments, self.results))

    def arguments(self, selection: Selection) -> tuple[str, ...]:
        """Return what pytest is told; others have their words in their own document."""
        if self.chosen.name != PYTEST:
            return ()
        return (*selection.arguments, *self.chosen.arguments)

    def keyword(self, selection: Selection) -> str:
        """Return what ``-k`` says where the runner does not choose by itself as pytest does."""
        return (selection.keyword or "") if self.chosen.name != PYTEST else ""

    def check_paths(self, paths: tuple[str, ...]) -> None:
        """Raise UsageError if the runner needs to be told what to test, and is not."""
        adapter = ADAPTERS.get(self.chosen.name)
        if adapter is not None:
            problem = adapter.targets(Order(self.chosen.arguments, paths)).problem
            if problem:
                raise UsageError(problem)

    def check(self, selection: Selection, *, python: str | None) -> None:
        """Raise UsageError for options that would do nothing."""
        if self.chosen.name == PYTEST:
            if self.results is not None:
                message = "--results is for a command, and pytest runs the tests"
                raise UsageError(message, hint='`--runner "make check" --results report.xml`')
            return
        words = self.chosen.arguments
        if self.results is not None and self.chosen.name != COMMAND:
            message = f"--results is for a command; the runner {self.name} has its own"
            raise UsageError(message)
        if self.results is not None and any(PATH in word for word in words):
            message = f"a command with {PATH} runs several times at once; --results is one place"
            raise UsageError(message, hint=f"write {RESULTS} in the command instead")
        if python is not None and not self.uses_python:
            message = f"--python has no meaning for the runner {self.name}"
            raise UsageError(message, hint="the programs in PATH are used, or --environment's")
        self._check_selection(selection)

    def _check_selection(self, selection: Selection) -> None:
        if selection.marker:
            message = f"--marker has no meaning for the runner {self.name}"
            raise UsageError(message, hint="only pytest has markers")
        stated = {
            "--keyword": selection.keyword,
            "--last-failed": selection.last_failed,
            "--failed-first": selection.failed_first,
        }
        for option, value in stated.items():
            if value and not self.chosen.has_known_tests:
                message = f"{option} needs tests that are known before they run"
                raise UsageError(message, hint=f"have {self.name} choose by its own options")


def check_words(words: tuple[str, ...]) -> None:
    """Raise UsageError for options of pytest that make no sense where the tests run elsewhere."""
    if not words:
        return
    from dtest.caller.invocation import refused_words

    refused = [f"{each.option} does not go with dtest: {each.why}" for each in refused_words(words)]
    if refused:
        raise UsageError("; ".join(refused), hint="leave it out")


def paths_among(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell the paths among words for pytest from its options and their values.

    A word that is there as a file or directory is a path, unless it belongs to an option of
    pytest's own; an option of a plugin takes such a value by ``=`` alone.
    """
    if not any(_is_there(word) for word in words):
        return (), words
    from _pytest.config import get_config

    from dtest.caller.invocation import arities_of, tokens

    paths: list[str] = []
    options: list[str] = []
    for token in tokens(words, arities_of(get_config())):
        is_path = not token.name and _is_there(token.words[0])
        (paths if is_path else options).extend(token.words)
    return tuple(paths), tuple(options)


def _is_there(word: str) -> bool:
    return not word.startswith("-") and Path(word.partition("::")[0]).exists()


PYTEST_RUNS = RunnerOptions()
