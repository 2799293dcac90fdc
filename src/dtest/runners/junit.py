"""Reads JUnit XML, in the forms that runners write it.

There is no one schema: suites nest or not, a reason stands in an attribute or in the text. A file
that is cut off tells what stands before the cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from dtest.runners.case import BAD, Case, Outcome, Reading, bounded, count, one_line, seconds

START = (b"<?xml", b"<testsuites", b"<testsuite")
"""How a line begins where the report does; package managers talk before it."""
_JUNK_BEHIND = expat.errors.codes[expat.errors.XML_ERROR_JUNK_AFTER_DOC_ELEMENT]
DEPTH_MAX = 100
BAD_TAGS = frozenset({"error", "failure"})
NODE_CLASS = "test"
"""Node.js writes it for every test: it names nothing."""


@dataclass(slots=True)
class Element:
    """One test case as it stands in the file, or a verdict on it."""

    tag: str
    attributes: dict[str, str]
    text: list[str] = field(default_factory=list)
    children: list["Element"] = field(default_factory=list)
    suites: tuple[str, ...] = ()
    """Names of the suites around it, the outermost first."""

    def get(self, name: str) -> str:
        """Return an attribute, empty for none."""
        return self.attributes.get(name, "")

    def child(self, *tags: str) -> "Element | None":
        """Return the first child of one of these kinds."""
        return next((child for child in self.children if child.tag in tags), None)

    @property
    def content(self) -> str:
        """The text directly in it."""
        return "".join(self.text).strip()


@dataclass(slots=True)
class _Suite:
    name: str
    declared: int | None
    errors: int
    cases: int = 0
    bad: int = 0
    """Elements of failures and errors in it."""
    nested: bool = False

    @property
    def is_short(self) -> bool:
        """Say whether tests are missing. Some count one twice that fails again in its teardown."""
        return (
            not self.nested
            and self.declared is not None
            and self.declared - self.errors > self.cases
        )

    @property
    def problem(self) -> str:
        """Say what of its counts does not fit what it holds."""
        if self.is_short:
            return (
                f"the suite {self.name!r} says it has {self.declared} tests and holds {self.cases}"
            )
        if self.errors > self.bad and not self.nested:
            return (
                f"the suite {self.name!r} says that {self.errors} failed, and tells of {self.bad}"
            )
        return ""


class _Parser:
    """Collects test cases while the file is read."""

    def __init__(self) -> None:
        self.found: list[Element] = []
        self.short = ""
        """What of the counts of the first such suite does not fit."""
        self._open: list[_Suite | Element | None] = []
        self._bad = 0
        self._root: tuple[int, int] = (0, 0)
        """Number of tests, and of those that failed, as the whole report says."""
        self._expat = expat.ParserCreate()
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text
        # No report needs a declaration of its own, and entities can be made to explode.
        self._expat.StartDoctypeDeclHandler = _refuse_declarations

    def parse(self, data: bytes) -> None:
        """Read all. Raises expat.ExpatError, and ValueError for what no report holds."""
        self._expat.Parse(data, True)

    @property
    def problem(self) -> str:
        """What of the counts does not fit: of a suite, or of the whole."""
        tests, failed = self._root
        if self.short:
            return self.short
        if failed and not self._bad:
            return f"it says that {failed} tests failed, and tells of none"
        if tests - failed > len(self.found):
            return f"it says it has {tests} tests and holds {len(self.found)}"
        return ""

    @property
    def at(self) -> int:
        """Where reading stopped."""
        return self._expat.ErrorByteIndex

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= DEPTH_MAX:
            message = f"it nests deeper than {DEPTH_MAX} elements"
            raise ValueError(message)
        tag = tag.rpartition(":")[2]
        element = self._element()
        if element is not None:
            inner = Element(tag, attributes)
            element.children.append(inner)
            self._open.append(inner)
        elif tag == "testcase":
            suites = tuple(item.name for item in self._open if isinstance(item, _Suite))
            self._open.append(Element(tag, attributes, suites=tuple(filter(None, suites))))
        elif tag == "testsuite":
            outer = self._suite()
            if outer is not None:
                outer.nested = True
            errors = (count(attributes.get("errors")) or 0) + (
                count(attributes.get("failures")) or 0
            )
            self._open.append(
                _Suite(attributes.get("name", ""), count(attributes.get("tests")), errors)
            )
        elif tag == "testsuites" and not self._open:
            failed = (count(attributes.get(name)) or 0 for name in ("errors", "failures"))
            self._root = count(attributes.get("tests")) or 0, sum(failed)
            self._open.append(None)
        elif tag in BAD_TAGS and isinstance(self._open[-1] if self._open else None, _Suite):
            suites = tuple(item.name for item in self._open if isinstance(item, _Suite))
            own = Element("testcase", {"name": "(suite)"}, suites=tuple(filter(None, suites)))
            own.children.append(Element(tag, attributes))
            self.found.append(own)
            self._open.append(own.children[0])
            self._count_bad(1)
        else:
            self._open.append(None)

    def _count_bad(self, count: int) -> None:
        self._bad += count
        suite = self._suite()
        if suite is not None:
            suite.bad += count

    def _end(self, _tag: str) -> None:
        ended = self._open.pop()
        if isinstance(ended, Element) and ended.tag == "testcase":
            self.found.append(ended)
            self._count_bad(sum(child.tag in BAD_TAGS for child in ended.children))
            suite = self._suite()
            if suite is not None:
                suite.cases += 1
        elif isinstance(ended, _Suite) and ended.problem and not self.short:
            self.short = ended.problem

    def _text(self, text: str) -> None:
        element = self._element()
        if element is not None:
            element.text.append(text)

    def _element(self) -> Element | None:
        last = self._open[-1] if self._open else None
        return last if isinstance(last, Element) else None

    def _suite(self) -> _Suite | None:
        suites = (item for item in reversed(self._open) if isinstance(item, _Suite))
        return next(suites, None)


def _refuse_declarations(*_: object) -> None:
    message = "it declares a document type of its own"
    raise ValueError(message)


def claims(line: bytes) -> bool:
    """Say whether a report starts with this line."""
    return line.lstrip(b"\xef\xbb\xbf \t").startswith(START)


def elements(data: bytes) -> tuple[list[Element], str]:
    """Return all test cases as they stand there, and what is wrong with it.

    Several reports may follow each other, with other words between them.
    """
    found: list[Element] = []
    problem = ""
    left: bytes | None = _body(data)
    while left is not None and not problem:
        parser = _Parser()
        body, left = left, None
        try:
            parser.parse(body)
            problem = parser.problem
        except expat.ExpatError as error:
            if error.code == _JUNK_BEHIND:
                problem, left = parser.problem, _body(body[parser.at :]) or None
            else:
                said = expat.ErrorString(error.code)
                problem = f"its XML ends or breaks off at line {error.lineno}: {said}"
        except (ValueError, LookupError) as error:  # LookupError: an encoding that nobody knows
            problem = f"its XML cannot be read: {error}"
        found += parser.found
    return found, problem


def _body(data: bytes) -> bytes:
    """Return what stands there from where a report starts, nothing if none does."""
    at = 0
    for line in data.splitlines(keepends=True):
        if claims(line):
            return data[at:].lstrip(b"\xef\xbb\xbf \t\r\n")
        at += len(line)
    return b""


def read(data: bytes) -> Reading:
    """Return the cases of a report."""
    found, problem = elements(data)
    return Reading(tuple(map(case, found)), problem)


def case(element: Element) -> Case:
    """Return one test and its verdict."""
    outcome, message, text = verdict(element)
    return Case(
        "::".join(_names(element)),
        outcome,
        one_line(message or text) if outcome != "passed" else "",
        bounded("\n".join(_output(element, text))) if outcome in BAD else "",
        seconds(element.attributes.get("time")),
        element.get("file"),
        count(element.attributes.get("line")),
    )


def _names(element: Element) -> Iterator[str]:
    """Yield what names the test: suites and class, each said once, then its own name."""
    yield from element.suites
    of_class = element.get("classname")
    if of_class and of_class != NODE_CLASS and of_class not in element.suites:
        yield of_class
    yield element.get("name") or "(no name)"


def verdict(element: Element) -> tuple[Outcome, str, str]:
    """Return the outcome of a test with its message and its text."""
    bad = element.child("error", "failure")
    skipped = element.child("skipped")
    if skipped is not None and skipped.get("type") == "todo":  # Node.js: it may fail for now
        return ("xpassed" if bad is None else "xfailed"), skipped.get("message"), ""
    if bad is not None:
        first = element.child("error") or bad
        outcome: Outcome = "error" if first.tag == "error" else "failed"
        texts = [
            child.content or child.get("message")
            for child in element.children
            if child.tag in {"error", "failure"}
        ]
        return outcome, first.get("message"), "\n".join(texts)
    if skipped is not None:
        # pytest's own reports know tests that fail as expected by this type.
        expected = skipped.get("type") == "pytest.xfail"
        return ("xfailed" if expected else "skipped"), skipped.get("message"), skipped.content
    if element.get("result") == "suppressed" or element.get("status") in {"notrun", "disabled"}:
        return "skipped", "disabled", ""
    return "passed", "", ""


def _output(element: Element, text: str) -> Iterator[str]:
    if text:
        yield text
    for tag, name in (("system-out", "stdout"), ("system-err", "stderr")):
        child = element.child(tag)
        if child is not None and child.content:
            yield f"---- {name} ----\n{child.content}"
