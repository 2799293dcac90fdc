"""Reads the Test Anything Protocol, versions 12 to 14, as Perl, Node.js and many others write it.

Numbers of tests are not trusted, since some writers count anew for each file; how many there are
is held against the plan. A line that is no TAP is output of the test whose line comes next.
"""

import re
from dataclasses import dataclass, field, replace

from dtest.runners.case import BAD, Case, Outcome, Reading, bounded, one_line, seconds

INDENT = 4
NUMBER_DIGITS_MAX = 18
DEPTH_MAX = 100
_TEST = re.compile(r"(not )?ok\b(?: +([0-9]+))?(?: +-(?= |$))? *(.*)")
_PLAN = re.compile(r"1\.\.([0-9]{1,9})\s*(?:#\s*(.*))?")
_VERSION = re.compile(r"TAP version [0-9]+\s*")
_DIRECTIVE = re.compile(
    r"(?:^|\s)#\s*(?:(todo|skip)\S*(?:\s+(.*))?|(time)\s*=\s*(.*))\s*", re.IGNORECASE
)
"""White space before the hash, and none needed behind it; ``\\S*`` may follow the word (TAP 14).
``# time=`` is what bats and others write."""
_SUBTEST = re.compile(r"#\s*Subtest(?:: ?(.*))?")
_TIME = re.compile(r"duration_ms: *['\"]?([0-9.]+)")
_ERROR = re.compile(r"""(?:error|message): *(?:[|>][-+]?)? *['"]?(.*?)['"]?""")
_MILLISECONDS = re.compile(r"([0-9.]+) *(ms|s)?")


@dataclass(slots=True)
class _Level:
    """One stream: the outer one, or that of a subtest."""

    name: str = ""
    plan: int | None = None
    seen: int = 0
    highest: int = 0
    """Number of a test."""
    cases: list[Case] = field(default_factory=list)
    """Of the tests that have ended."""


@dataclass(slots=True)
class _Test:
    """A line of a test; its details may follow."""

    level: int
    good: bool
    name: str
    directive: str
    reason: str
    details: list[str]
    time_s: float = 0.0


class _Reader:
    def __init__(self) -> None:
        self.levels = [_Level()]
        self.problem = ""
        self.skipped_all: str | None = None
        self._test: _Test | None = None
        self._inner: list[Case] = []
        self._noise: list[str] = []
        self._block: int | None = None
        """How far the open block of details is indented."""

    def line(self, text: str) -> None:
        """Take one line."""
        body = text.lstrip(" ")
        indent = len(text) - len(body)
        if self._block is not None:
            if body.rstrip() == "..." and indent == self._block:
                self._block = None
            elif self._test is not None:
                self._detail(text[self._block :])
            return
        depth = indent // INDENT
        if self._test is not None and body.rstrip() == "---" and indent > self._test.level * INDENT:
            self._block = indent
        elif indent % INDENT or depth > min(len(self.levels), DEPTH_MAX):
            self._noise.append(text)
        elif not self._is_test(body, depth):
            self._no_test(text, body, depth)

    def _no_test(self, text: str, body: str, depth: int) -> None:
        plan = _PLAN.fullmatch(body.rstrip())
        subtest = _SUBTEST.fullmatch(body.rstrip())
        if plan is not None:
            self._plan(depth, int(plan[1]), plan[2] or "")
        elif subtest is not None:
            self._finish()
            # Some write it where the subtest's own lines stand, some one level further out.
            if len(self.levels) == depth + 1:
                self.levels.append(_Level(_plain(subtest[1] or "")))
        elif body.lower().startswith("bail out!"):
            self._finish()
            self.problem = f"it bailed out: {body[9:].strip()}".rstrip(": ")
        elif self._test is not None and body.startswith("#"):
            self._test.details.append(body)
        elif not _VERSION.fullmatch(body) and not body.startswith("pragma "):
            self._noise.append(text)

    def _plan(self, depth: int, tests: int, reason: str) -> None:
        self._finish()
        self._level(depth).plan = tests
        if not tests and not depth:
            self.skipped_all = re.sub(r"(?i)^skip\S*\s*", "", reason)

    def _detail(self, line: str) -> None:
        if self._test is not None:
            self._test.details.append(line)
            found = _TIME.fullmatch(line.strip())
            if found is not None:
                self._test.time_s = seconds(found[1]) / 1000

    def _is_test(self, body: str, depth: int) -> bool:
        found = _TEST.fullmatch(body.rstrip())
        if found is None:
            return False
        self._finish()
        description, directive, reason = found[3], "", ""
        said = _DIRECTIVE.search(description)
        if said is not None:
            description = description[: said.start()]
            directive = (said[1] or said[3]).lower()
            reason = said[2] or said[4] or ""
        name = _plain(description)
        level = self._level(depth)
        level.seen += 1
        level.highest = max(level.highest, int((found[2] or "0")[:NUMBER_DIGITS_MAX]))
        noise, self._noise = self._noise, []
        test = _Test(depth, not found[1], name or f"test {level.seen}", directive, reason, noise)
        if directive == "time":
            taken = _MILLISECONDS.match(reason)
            test.directive = ""
            test.time_s = seconds(taken[1]) / (1 if taken[2] == "s" else 1000) if taken else 0.0
        self._test = test
        return True

    def _level(self, depth: int) -> _Level:
        """Return the stream of that depth; those further in have ended."""
        while len(self.levels) > depth + 1:
            ended = self.levels.pop()
            inner = self._closed(ended)
            self._inner = inner if not self._inner else [*inner, *self._inner]
        while len(self.levels) < depth + 1:
            self.levels.append(_Level())
        return self.levels[depth]

    def _closed(self, level: _Level) -> list[Case]:
        if level.plan is not None and (level.plan != level.seen or level.highest > level.plan):
            self._short(level)
        elif level.plan is None and level.seen:
            self._complain(f"the subtest {level.name!r} has no plan")
        return level.cases

    def _short(self, level: _Level) -> None:
        where = f"the subtest {level.name!r}" if level.name else "it"
        if level.plan == level.seen:
            self._complain(f"{where} planned {level.plan} tests and reported the {level.highest}th")
        else:
            self._complain(f"{where} planned {level.plan} tests and reported {level.seen}")

    def _complain(self, problem: str) -> None:
        self.problem = self.problem or problem

    def _finish(self) -> None:
        """Make a case of the latest test, now that its details are known."""
        test, self._test = self._test, None
        if test is None:
            return
        inner, self._inner = self._inner, []
        level = self.levels[test.level]
        failed_inside = any(case.outcome in BAD for case in inner)
        level.cases += [_excused(test, _within(test.name, case)) for case in inner]
        outcome = _outcome(test)
        if inner and (outcome not in BAD or failed_inside):
            return  # its subtests have said all
        level.cases.append(_case(test, outcome))

    def end(self) -> Reading:
        """Return what was read, now that nothing follows."""
        self._finish()
        outer = self.levels[0]
        left: list[Case] = []
        if len(self.levels) > 1:
            for level in self.levels[:0:-1]:
                left = [_within(level.name or "(subtest)", case) for case in [*level.cases, *left]]
            self._complain("it ends within a subtest")
        if outer.plan is None:
            self._complain("it has no plan, so nobody knows whether tests are missing")
        elif outer.plan != outer.seen or outer.highest > outer.plan:
            self._short(outer)
        cases = [*outer.cases, *left]
        if self.skipped_all is not None and not cases and not self.problem:
            cases = [Case("(all)", "skipped", one_line(self.skipped_all))]
        return Reading(tuple(cases), self.problem)


def claims(line: bytes) -> bool:
    """Say whether a stream starts with this line."""
    text = line.decode("utf-8", "replace").rstrip()
    return bool(
        _VERSION.fullmatch(text)
        or _PLAN.fullmatch(text)
        or re.match(r"(not )?ok\b( [0-9]|$)", text)
    )


def read(data: bytes) -> Reading:
    """Return the cases of a stream."""
    reader = _Reader()
    for line in data.decode("utf-8", "replace").split("\n"):
        if line.strip():
            reader.line(line.rstrip("\r"))
    return reader.end()


def _outcome(test: _Test) -> Outcome:
    if test.directive == "skip":  # a `not ok` that was skipped is no failure
        return "skipped"
    if test.directive == "todo":
        return "xpassed" if test.good else "xfailed"
    return "passed" if test.good else "failed"


def _case(test: _Test, outcome: Outcome) -> Case:
    message = test.reason if test.directive else ""
    if outcome in BAD:
        message = _error(test.details) or "not ok"
    output = bounded("\n".join(test.details)) if outcome in BAD else ""
    return Case(test.name, outcome, one_line(message), output, test.time_s)


def _error(details: list[str]) -> str:
    """Find the line of the details that says what went wrong."""
    for at, line in enumerate(details):
        found = _ERROR.fullmatch(line.strip())
        if found is not None:
            return found[1] or next((each.strip() for each in details[at + 1 :]), "")
    comments = [line.strip() for line in details if line.strip().startswith("#")]
    return comments[0].lstrip("# ") if comments else ""


def _excused(test: _Test, case: Case) -> Case:
    """Return a failure inside of a test that may fail, or that is skipped, as that."""
    if case.outcome not in BAD or test.directive not in {"todo", "skip"}:
        return case
    return replace(case, outcome="xfailed" if test.directive == "todo" else "skipped")


def _within(name: str, case: Case) -> Case:
    return replace(case, name=f"{name}::{case.name}")


def _plain(text: str) -> str:
    return re.sub(r"\\([\\#])", r"\1", text).strip()
