"""Signs of hardware in Python's syntax: which piece of code hints at what. Pure.

Knows names, no more: what a name stands for elsewhere is not followed.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

Found = tuple[int, Mapping[str, Any], str]
"""Line, what is asked for, and why."""
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
GIB = 2**30
_GIB_NAMES = frozenset({"GB", "GIB", "GiB", "_1GB", "_1G", "_GB", "GIGABYTE"})
GIB_MIN, GIB_MAX = 1, 4096


def shown(node: ast.AST) -> Iterator[Found]:
    """Yield what a statement or function shows; what asks first whether it is there is a note."""
    if isinstance(node, ast.If | ast.IfExp):
        text = ast.unparse(node.test)
        asks = missing(text)
        if asks:
            skips = isinstance(node, ast.If) and any(map(_skips, node.body))
            yield (
                (node.lineno, asks, f"skips itself by {text}")
                if skips
                else (node.lineno, NOTHING, f"does one or the other by {text}")
            )
            return
    yield from _of_node(node)
    for inner in ast.iter_child_nodes(node):
        yield from shown(inner)


def missing(condition: str) -> Mapping[str, Any] | None:
    """Return what a condition asks whether it is there; none if that is nothing we know."""
    return next((asks for pattern, asks in _AVAILABLE if pattern.search(condition)), None)


def _skips(node: ast.stmt) -> bool:
    text = ast.unparse(node)
    return text.startswith(("pytest.skip(", "self.skipTest(", "raise unittest.SkipTest"))


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
        kind = device_in(text) if isinstance(text, str) else ""
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


def device_in(text: str) -> str:
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
