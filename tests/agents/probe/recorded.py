"""A machine that answers from a table: the in-memory adapter of the probes' port.

It knows globs, but no directories and no permissions beyond a list of refused paths.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType

from dtest.agents.probe.machine import Answer

FIXTURES = Path(__file__).parent / "fixtures"


def fixture(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Recorded:
    system: str = "Linux"
    release: str = "6.1.0"
    arch: str = "x86_64"
    commands: Mapping[str, Answer] = field(default_factory=dict)
    """By the beginning of the command line, without the directory of the command."""
    files: Mapping[str, str] = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()
    """Paths that exist and have nothing to read."""
    refused: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    usable: int | None = 4
    free: int | None = 500_000_000_000
    nvml: ModuleType | None = None

    def run(self, *argv: str, limit_s: float) -> Answer:
        line = " ".join((Path(argv[0]).name, *argv[1:]))
        known = [start for start in self.commands if line.startswith(start)]
        return self.commands[max(known, key=len)] if known else None

    def read(self, path: str) -> str | None:
        return self.files.get(path)

    def paths(self, pattern: str) -> tuple[str, ...]:
        found = (path for path in {*self.files, *self.nodes} if _matches(path, pattern))
        return tuple(sorted(found, key=lambda path: (len(path), path)))

    def which(self, name: str) -> str | None:
        known = any(start.split(" ")[0] == name for start in self.commands)
        return f"/usr/bin/{name}" if known else None

    def variable(self, name: str) -> str:
        return self.variables.get(name, "")

    def permits(self, path: str) -> bool:
        return path not in self.refused

    def has_module(self, name: str) -> bool:
        return name in self.modules

    def processors(self) -> int | None:
        return self.usable

    def free_bytes(self, directory: str) -> int | None:
        return self.free

    def load_nvml(self) -> ModuleType | None:
        return self.nvml


def _matches(path: str, pattern: str) -> bool:
    parts, wanted = path.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))
