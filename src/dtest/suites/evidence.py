"""What the source of a test file shows of the machines that its tests ask for. Pure.

Reads syntax only: nothing is imported or run. What it finds is evidence for a person to judge, each
with its line; a name can mislead, and what happens in other files is not followed.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtest.suites.signs import MARKERS, NOTED, NOTHING, Found, device_in, missing, shown

REQUIRES = re.compile(r"(?:requires?|needs?)_\w+")
"""Names of markers and decorators that say what is asked for."""
SNIPPET_CHARS_MAX = 160
FILE = ""
"""The name of the whole file among its tests."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Finding:
    """One line that tells something."""

    test: str
    """As in a node id: ``test_a``, ``TestA``, ``TestA::test_b``; empty for the whole file."""
    line: int
    snippet: str
    asks: Mapping[str, Any]
    """Requirements by keyword; nothing where a person has to see what follows."""
    why: str
    marker: str | None = None
    """Told by this marker, which other tests may carry."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What one file shows."""

    file: str
    findings: tuple[Finding, ...] = ()
    said: frozenset[str] = frozenset()
    """Tests, classes or the file (empty) that carry a mark ``dtest`` already."""
    problem: str = ""
    """Why it could not be read."""


def analysed(source: str, file: str) -> Analysis:
    """Return what the source of a file shows; what is no Python is named as a problem."""
    try:
        tree = ast.parse(source, file)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
        return Analysis(file, problem=f"{line}{getattr(error, 'msg', None) or error}")
    reader = _Reader(source.splitlines(), _constants(tree))
    reader.read(tree)
    once = {(each.test, each.line, each.why): each for each in reader.found}
    findings = sorted(once.values(), key=lambda each: (each.line, each.test))
    return Analysis(file, tuple(findings), frozenset(reader.said))


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Return what names of the module stand for: a mark is often made once and used by name."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


class _Reader:
    """Walks through a module, and notes what each test shows."""

    def __init__(self, lines: Sequence[str], constants: Mapping[str, ast.expr]) -> None:
        self.found: list[Finding] = []
        self.said: set[str] = set()
        self._lines = lines
        self._constants = constants
        self._helpers: dict[str, tuple[list[Found], set[str]]] = {}
        """What functions that are no tests show, and which names they use."""
        self._used: set[str] = set()

    def read(self, tree: ast.Module) -> None:
        """Take in a whole module."""
        for node in tree.body:
            if isinstance(node, Function) and not _is_test(node.name):
                self._helpers[node.name] = (list(shown(node)), _names(node))
                if _is_autouse(node):
                    self._uses(FILE, {node.name})
        self._body(tree.body, FILE)
        for name in self._helpers.keys() - self._used:
            for line, _, why in self._helpers[name][0]:
                self._note(FILE, (line, NOTHING, f"{why}, in {name}, which no test here uses"))

    def _body(self, body: Sequence[ast.stmt], scope: str) -> None:
        for node in body:
            if isinstance(node, Function) and _is_test(node.name):
                self._test(node, _inside(scope, node.name))
            elif isinstance(node, ast.ClassDef):
                self._class(node, _inside(scope, node.name))
            elif isinstance(node, Function):
                if scope:  # set-up of a class
                    self._notes(scope, shown(node))
            elif _pytestmark(node) is not None:
                self._marks(scope, _listed(_pytestmark(node)))
            elif not _names_a_mark(node):  # one counts where it is put on a test
                self._notes(scope, shown(node))

    def _class(self, node: ast.ClassDef, scope: str) -> None:
        self._marks(scope, node.decorator_list)
        self._body(node.body, scope)

    def _test(self, node: Function, scope: str) -> None:
        self._marks(scope, node.decorator_list)
        self._notes(scope, (found for each in node.body for found in shown(each)))
        self._uses(scope, _names(node))

    def _uses(self, scope: str, names: set[str]) -> None:
        """Note what the functions show that are used, and those that they use."""
        open_names, seen = set(names), set()
        while open_names:
            name = open_names.pop()
            if name in seen or name not in self._helpers:
                continue
            seen.add(name)
            told, further = self._helpers[name]
            self._notes(scope, told)
            open_names |= further
        self._used |= seen

    def _marks(self, scope: str, marks: Sequence[ast.expr]) -> None:
        for mark in marks:
            called = mark
            if isinstance(mark, ast.Name) and mark.id in self._constants:
                called = self._constants[mark.id]
            name, arguments = _mark(called)
            if name == "dtest":
                self.said.add(scope)
            elif name in ("skipif", "skipIf", "skipUnless") and arguments:
                self._skip(scope, mark.lineno, arguments[0])
            elif name == "usefixtures":
                words = (each.value for each in arguments if isinstance(each, ast.Constant))
                self._uses(scope, {word for word in words if isinstance(word, str)})
            elif name == "parametrize":
                for text in _texts(arguments):
                    if device_in(text):
                        why = f"one of its parameters is {text!r}: mark that parameter alone"
                        self._note(scope, (mark.lineno, NOTHING, why))
            elif name:
                self._marker(scope, mark.lineno, name)

    def _skip(self, scope: str, line: int, condition: ast.expr) -> None:
        text = ast.unparse(condition)
        asks = missing(text)
        if asks is not None:
            self._note(scope, (line, asks, f"is run or skipped by {text}"))

    def _marker(self, scope: str, line: int, name: str) -> None:
        asks = MARKERS.get(name)
        if asks is None and REQUIRES.fullmatch(name):
            words = name.split("_")
            asks = next((MARKERS[word] for word in words if word in MARKERS), NOTHING)
        if asks is None and name in NOTED:
            asks = NOTHING
        if asks is not None:
            self._note(scope, (line, asks, f"carries the marker {name}"), marker=name)

    def _notes(self, scope: str, told: Iterable[Found]) -> None:
        for found in told:
            self._note(scope, found)

    def _note(self, scope: str, found: Found, *, marker: str | None = None) -> None:
        line, asks, why = found
        snippet = self._lines[line - 1].strip() if line <= len(self._lines) else ""
        self.found.append(Finding(scope, line, snippet[:SNIPPET_CHARS_MAX], asks, why, marker))


def _is_test(name: str) -> bool:
    return name.startswith("test")


def _inside(scope: str, name: str) -> str:
    return f"{scope}::{name}" if scope else name


def _is_autouse(node: Function) -> bool:
    return any(
        keyword.arg == "autouse" and isinstance(keyword.value, ast.Constant) and keyword.value.value
        for each in node.decorator_list
        if isinstance(each, ast.Call)
        for keyword in each.keywords
    )


def _pytestmark(node: ast.stmt) -> ast.expr | None:
    if not isinstance(node, ast.Assign):
        return None
    names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    return node.value if "pytestmark" in names else None


def _names_a_mark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("pytest.mark.")


def _listed(value: ast.expr | None) -> list[ast.expr]:
    if isinstance(value, ast.List | ast.Tuple):
        return list(value.elts)
    return [] if value is None else [value]


def _mark(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """Return the name of a mark and its arguments; a decorator's own name where it is no mark."""
    if isinstance(node, ast.Call):
        name, _ = _mark(node.func)
        return name, node.args
    if isinstance(node, ast.Attribute):
        return node.attr, []
    return (node.id if isinstance(node, ast.Name) and REQUIRES.match(node.id) else ""), []


def _names(node: Function) -> set[str]:
    """Return the names that a function uses: of fixtures, and of others."""
    given = {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
    return given | {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _texts(arguments: Sequence[ast.expr]) -> Iterator[str]:
    for argument in arguments[1:]:
        for each in ast.walk(argument):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value
