"""What equal failures have in common, so that a hundred of them are read once. Pure.

A signature is the kind of the exception, its message without what differs from run to run, and the
innermost frame that lies in the tested tree. It says nothing about causes.
"""

import hashlib
import re
from dataclasses import dataclass

from dtest.reports.observation import Observation
from dtest.reports.terminal import uncoloured

MESSAGE_CHARS_MAX = 300
LINE_CHARS_MAX = 1_000
"""Of a message, before what varies is left out."""
TRACE_CHARS_MAX = 20_000
"""Only so much of a trace is searched for frames, from its end: the innermost one is there."""
_SECTION = "\n---- "
"""Begins what the test itself printed, after the trace; it may look like frames."""
_VARYING = (
    (
        re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?"),
        "<time>",
    ),
    (re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"(?<![\w<])(?:[A-Za-z]:)?(?:[\\/][\w.+~@%-]+){2,}[\\/]?"), "<path>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)(?=[0-9a-fA-F]*[a-fA-F])[0-9a-fA-F]{7,}\b"), "<id>"),
    (re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b"), "<id>"),
    (re.compile(r"(?<!\w)[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"), "<n>"),
)
"""Order matters: what holds others comes first."""
_KIND = re.compile(r"((?:\w+\.)*\w+)(?::\s|:?$)")
_WORDS = ("Error", "Exception", "Warning", "Failed", "Exit", "Interrupt", "Timeout")
_PYTEST_FRAME = re.compile(r"^(?P<file>[^\s:<>][^:\n<>]*\.py):(?P<line>\d+): ", re.MULTILINE)
_NATIVE_FRAME = re.compile(r'^\s*File "(?P<file>[^"\n<>]+)", line (?P<line>\d+)', re.MULTILINE)
_FOREIGN = re.compile(r"(?:^|/)(?:site-packages|dist-packages|lib/python\d[^/]*)(?:/|$)")


@dataclass(frozen=True, slots=True, order=True)
class Signature:
    """What makes two failures equal."""

    kind: str
    message: str
    frame: str
    """File and line, as ``tests/test_a.py:12``; empty if unknown."""

    @property
    def id(self) -> str:
        """A short name, the same wherever the same failure is seen."""
        text = f"{self.kind}\0{self.message}\0{self.frame}"
        return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:12]


def signature(failure: Observation) -> Signature:
    """Return the signature of a failure or error."""
    line = uncoloured(failure.message).partition("\n")[0].strip()[:LINE_CHARS_MAX]
    kind, message = _kind(line)
    return Signature(kind or failure.outcome, normalised(message), _frame(failure))


def normalised(message: str) -> str:
    """Return a message without instants, ids, addresses, paths and numbers."""
    for pattern, name in _VARYING:
        message = pattern.sub(name, message)
    return message[:MESSAGE_CHARS_MAX]


def _kind(line: str) -> tuple[str, str]:
    """Split a message into the exception's name and the rest; pytest names no assertion."""
    found = _KIND.match(line)
    if found is not None and (found[1].endswith(_WORDS) or "." in found[1]):
        return found[1], line[found.end() :]
    before, colon, rest = line.partition(":")
    if colon and before in {"crashed", "interrupted", "teardown", *_LIMITS}:
        return before, rest.strip()
    return ("AssertionError", line) if line.startswith("assert ") else ("", line)


_LIMITS = ("run_timeout", "idle_output_timeout", "oom_task", "disk_quota")


def _frame(failure: Observation) -> str:
    """Return the innermost frame that is not of an installed package."""
    trace = f"\n{failure.output}".partition(_SECTION)[0][-TRACE_CHARS_MAX:]
    text = uncoloured(trace)
    found = [*_PYTEST_FRAME.finditer(text), *_NATIVE_FRAME.finditer(text)]
    for match in sorted(found, key=lambda match: -match.start()):
        if not _FOREIGN.search(match["file"]):
            return f"{match['file']}:{match['line']}"
    return ""
