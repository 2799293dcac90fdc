"""What the source of a test file shows of the machines that its tests ask for. Pure.

Reads syntax only: nothing is imported or run. What it finds is evidence for a person to judge, each
with its line; a name can mislead, and what happens in other files is not followed.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CUDA: Mapping[str, Any] = {"hardware": ("cuda",)}
GPU: Mapping[str, Any] = {"hardware": ("cuda", "rocm")}
CHROMIUM: Mapping[str, Any] = {"browser": "chromium"}
DOCKER: Mapping[str, Any] = {"labels": {"docker": "yes"}}
NOTHING: Mapping[str, Any] = {}
"""For what a person should look at, and no requirement follows from."""
IMPORTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "cupy": (CUDA, "cupy needs CUDA"),
    "numba.cuda": (CUDA, "numba.cuda needs CUDA"),
    "pycuda": (CUDA, "pycuda needs CUDA"),
    "pynvml": (CUDA, "pynvml speaks to NVIDIA's driver"),
    "tensorrt": (CUDA, "tensorrt needs CUDA"),
    "torch.cuda": (CUDA, "imports torch.cuda"),
    "triton": (GPU, "triton compiles for GPUs"),
    "torch.mps": ({"hardware": ("mps",)}, "imports torch.mps"),
    "openvino": ({"hardware": ("openvino",)}, "openvino runs on its devices, or on the CPU"),
    "playwright": (CHROMIUM, "playwright drives a browser"),
    "pyppeteer": (CHROMIUM, "pyppeteer drives a browser"),
    "selenium": (CHROMIUM, "selenium drives a browser"),
    "splinter": (CHROMIUM, "splinter drives a browser"),
    "docker": (DOCKER, "speaks to a container engine"),
    "testcontainers": (DOCKER, "starts containers"),
}
"""Modules, with those inside of them."""
MARKERS: dict[str, Mapping[str, Any]] = {
    "cuda": CUDA,
    "gpu": GPU,
    "nvidia": CUDA,
    "rocm": {"hardware": ("rocm",)},
    "mps": {"hardware": ("mps",)},
    "tpu": {"hardware": ("tpu",)},
    "qnn": {"hardware": ("qnn",)},
    "openvino": {"hardware": ("openvino",)},
    "browser": CHROMIUM,
    "playwright": CHROMIUM,
    "selenium": CHROMIUM,
    "firefox": {"browser": "firefox"},
    "chromium": CHROMIUM,
    "docker": DOCKER,
    "container": DOCKER,
}
"""By the marker's name, or what follows ``requires_`` or ``needs_`` in it."""
NOTED = frozenset({"slow", "large_memory", "high_memory", "bigmem", "memory"})
"""Markers that tell of a need, and not how much."""
_REQUIRES = re.compile(r"(?:requires?|needs?)_\w+")
_DEVICE = re.compile(r"(cuda|mps|hip)(?::\d+)?|/?(?:device:)?(GPU)(?::\d+)?|(gpu)")
_PROVIDER = re.compile(r"(CUDA|Tensorrt|ROCM|MIGraphX|QNN|OpenVINO|CoreML)ExecutionProvider")
_DEVICES: dict[str, Mapping[str, Any]] = {
    "cuda": CUDA,
    "mps": {"hardware": ("mps",)},
    "hip": {"hardware": ("rocm",)},
    "gpu": GPU,
    "tensorrt": CUDA,
    "rocm": {"hardware": ("rocm",)},
    "migraphx": {"hardware": ("rocm",)},
    "qnn": {"hardware": ("qnn",)},
    "openvino": {"hardware": ("openvino",)},
    "coreml": {"hardware": ("mps",)},
}
_DEVICE_CALLS = frozenset(
    {"device", "devices", "to", "list_physical_devices", "set_default_device"}
)
_BROWSERS = {"firefox": "firefox", "Firefox": "firefox", "chromium": "chromium"}
_BROWSERS |= {"Chrome": "chrome", "Edge": "edge", "Safari": "safari", "webkit": "safari"}
_AVAILABLE = (
    (re.compile(r"cuda|nvidia|pynvml", re.IGNORECASE), CUDA),
    (re.compile(r"rocm|hip\b", re.IGNORECASE), {"hardware": ("rocm",)}),
    (re.compile(r"\bmps\b", re.IGNORECASE), {"hardware": ("mps",)}),
    (re.compile(r"gpu", re.IGNORECASE), GPU),
    (re.compile(r"docker", re.IGNORECASE), DOCKER),
    (re.compile(r"virtual_memory|total_ram|_memory\b", re.IGNORECASE), NOTHING),
)
"""What the condition of a skip says is missing."""
SNIPPET_CHARS_MAX = 160
GIB = 2**30
_GIB_NAMES = frozenset({"GB", "GIB", "GiB", "_1GB", "_1G", "_GB", "GIGABYTE"})
GIB_MIN, GIB_MAX = 1, 4096
FILE = ""
"""The name of the whole file among its tests."""
Function = ast.FunctionDef | ast.AsyncFunctionDef
Found = tuple[int, Mapping[str, Any], str]
"""Line, what is asked for, and why."""


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

    def read(self, tree: ast.Module) -> None:
        """Take in a whole module."""
        for node in tree.body:
            if isinstance(node, Function) and not _is_test(node.name):
                self._helpers[node.name] = (list(_shown(node)), _names(node))
                if _is_autouse(node):
                    self._uses(FILE, {node.name})
        self._body(tree.body, FILE)

    def _body(self, body: Sequence[ast.stmt], scope: str) -> None:
        for node in body:
            if isinstance(node, Function) and _is_test(node.name):
                self._test(node, _inside(scope, node.name))
            elif isinstance(node, ast.ClassDef):
                self._class(node, _inside(scope, node.name))
            elif isinstance(node, Function):
                if scope:  # set-up of a class
                    self._notes(scope, _shown(node))
            elif _pytestmark(node) is not None:
                self._marks(scope, _listed(_pytestmark(node)))
            else:
                self._notes(scope, _shown(node))

    def _class(self, node: ast.ClassDef, scope: str) -> None:
        self._marks(scope, node.decorator_list)
        self._body(node.body, scope)

    def _test(self, node: Function, scope: str) -> None:
        self._marks(scope, node.decorator_list)
        self._notes(scope, (found for each in node.body for found in _shown(each)))
        self._uses(scope, _names(node))

    def _uses(self, scope: str, names: set[str]) -> None:
        """Note what the functions show that are used, and those that they use."""
        open_names, seen = set(names), set()
        while open_names:
            name = open_names.pop()
            if name in seen or name not in self._helpers:
                continue
            seen.add(name)
            shown, further = self._helpers[name]
            self._notes(scope, shown)
            open_names |= further

    def _marks(self, scope: str, marks: Sequence[ast.expr]) -> None:
        for mark in marks:
            called = mark
            if isinstance(mark, ast.Name) and mark.id in self._constants:
                called = self._constants[mark.id]
            name, arguments = _mark(called)
            if name == "dtest":
                self.said.add(scope)
            elif name == "skipif" and arguments:
                self._skip(scope, mark.lineno, arguments[0])
            elif name == "usefixtures":
                words = (each.value for each in arguments if isinstance(each, ast.Constant))
                self._uses(scope, {word for word in words if isinstance(word, str)})
            elif name == "parametrize":
                for text in _texts(arguments):
                    if _device(text):
                        why = f"one of its parameters is {text!r}: mark that parameter alone"
                        self._note(scope, (mark.lineno, NOTHING, why))
            elif name:
                self._marker(scope, mark.lineno, name)

    def _skip(self, scope: str, line: int, condition: ast.expr) -> None:
        text = ast.unparse(condition)
        for pattern, asks in _AVAILABLE:
            if pattern.search(text):
                self._note(scope, (line, asks, f"is skipped if {text}"))
                return

    def _marker(self, scope: str, line: int, name: str) -> None:
        asks = MARKERS.get(name)
        if asks is None and _REQUIRES.fullmatch(name):
            words = name.split("_")
            asks = next((MARKERS[word] for word in words if word in MARKERS), NOTHING)
        if asks is None and name in NOTED:
            asks = NOTHING
        if asks is not None:
            self._note(scope, (line, asks, f"carries the marker {name}"), marker=name)

    def _notes(self, scope: str, shown: Iterator[Found] | Sequence[Found]) -> None:
        for found in shown:
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
    return (node.id if isinstance(node, ast.Name) and _REQUIRES.match(node.id) else ""), []


def _names(node: Function) -> set[str]:
    """Return the names that a function uses: of fixtures, and of others."""
    given = {each.arg for each in (*node.args.args, *node.args.kwonlyargs)}
    return given | {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _texts(arguments: Sequence[ast.expr]) -> Iterator[str]:
    for argument in arguments[1:]:
        for each in ast.walk(argument):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                yield each.value


def _shown(node: ast.AST) -> Iterator[Found]:
    """Yield what a statement or function shows; what asks first whether it is there is a note."""
    if isinstance(node, ast.If | ast.IfExp):
        text = ast.unparse(node.test)
        if any(pattern.search(text) for pattern, asks in _AVAILABLE if asks):
            yield node.lineno, NOTHING, f"uses it only if {text}"
            others = node.orelse if isinstance(node.orelse, list) else [node.orelse]
            for each in others:
                yield from _shown(each)
            return
    yield from _of_node(node)
    for inner in ast.iter_child_nodes(node):
        yield from _shown(inner)


def _of_node(node: ast.AST) -> Iterator[Found]:
    match node:
        case ast.Import(names=names):
            for name in names:
                yield from _imported(node.lineno, name.name)
        case ast.ImportFrom(module=str(module), names=names, level=0):
            whole = [module, *(f"{module}.{name.name}" for name in names)]
            yield from next(
                filter(None, (list(_imported(node.lineno, each)) for each in whole)), ()
            )
        case ast.Call():
            yield from _called(node)
        case ast.Attribute(value=ast.Name(id="torch"), attr="cuda"):
            yield node.lineno, CUDA, "uses torch.cuda"
        case ast.Attribute(value=ast.Name(id="webdriver"), attr=name) if name in _BROWSERS:
            yield node.lineno, {"browser": _BROWSERS[name]}, f"starts {name}"
        case ast.Constant(value=str(text)) if provider := _PROVIDER.fullmatch(text):
            yield node.lineno, _DEVICES[provider[1].lower()], f"runs on {text}"
        case ast.BinOp(op=ast.Mult() | ast.LShift()):
            size = _gib(node)
            if size is not None and GIB_MIN < size <= GIB_MAX:
                asks = {"min_memory_gb": round(size * GIB / 1e9, 1)}
                yield node.lineno, asks, f"{ast.unparse(node)} bytes are {size:g} GiB"


def _imported(line: int, module: str) -> Iterator[Found]:
    parts = module.split(".")
    for depth in range(len(parts), 0, -1):
        known = IMPORTS.get(".".join(parts[:depth]))
        if known is not None:
            yield line, *known
            return


def _called(node: ast.Call) -> Iterator[Found]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    if isinstance(node.func, ast.Name):
        name = node.func.id
    texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
    devices = [keyword.value for keyword in node.keywords if keyword.arg in ("device", "platform")]
    texts = texts if name in _DEVICE_CALLS else []
    texts += [each.value for each in devices if isinstance(each, ast.Constant)]
    for text in texts:
        kind = _device(text) if isinstance(text, str) else ""
        if kind:
            yield node.lineno, _DEVICES[kind], f"names the device {text!r}"
    if name == "cuda" and isinstance(node.func, ast.Attribute):
        yield node.lineno, CUDA, "moves something to a CUDA device"
    if name == "importorskip" and node.args and isinstance(node.args[0], ast.Constant):
        yield from _imported(node.lineno, str(node.args[0].value))
    if name == "launch" and isinstance(node.func, ast.Attribute):
        started = node.func.value
        if isinstance(started, ast.Attribute) and started.attr in _BROWSERS:
            yield node.lineno, {"browser": _BROWSERS[started.attr]}, f"starts {started.attr}"


def _device(text: str) -> str:
    """Return the kind of device that a text names, nothing if it names none."""
    found = _DEVICE.fullmatch(text)
    return next(filter(None, found.groups())).lower() if found is not None else ""


def _gib(node: ast.BinOp) -> float | None:
    """Return a number of GiB that is written as one: ``8 * 1024**3``, ``8 << 30``, ``8 * GiB``."""
    match node:
        case ast.BinOp(ast.Constant(int() | float() as size), ast.Mult(), unit) if _is_gib(unit):
            return float(size)
        case ast.BinOp(unit, ast.Mult(), ast.Constant(int() | float() as size)) if _is_gib(unit):
            return float(size)
        case ast.BinOp(ast.Constant(int(size)), ast.LShift(), ast.Constant(30)):
            return float(size)
    return None


def _is_gib(node: ast.expr) -> bool:
    match node:
        case ast.BinOp(ast.Constant(1024), ast.Pow(), ast.Constant(3)):
            return True
        case ast.BinOp(ast.Constant(2), ast.Pow(), ast.Constant(30)):
            return True
        case ast.BinOp(ast.Constant(1), ast.LShift(), ast.Constant(30)):
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _GIB_NAMES
    return False
