"""The outside world as probes see it: commands, files, names and the environment.

It reads and runs, within limits; what an answer means is for the probe that asks.
"""

import glob
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Protocol

import pynvml

from dtest.settings import environment

READ_BYTES_MAX = 4 << 20
"""More than /proc/cpuinfo of a thousand processors."""
OUTPUT_BYTES_MAX = 4 << 20
PATHS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Ended:
    """A command ran to its end."""

    exit_code: int
    output: str
    errors: str = ""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A command was killed at its time limit."""

    after_s: float


Answer = Ended | TimedOut | None
"""What came of a command; none if it could not be started."""


class Machine(Protocol):
    """Access to one machine. Nothing here raises: what cannot be had is none or empty."""

    @property
    def system(self) -> str:
        """``Linux``, ``Darwin`` or ``Android``."""

    @property
    def release(self) -> str:
        """The kernel's version."""

    @property
    def arch(self) -> str:
        """The instruction set of this Python, as ``x86_64``."""

    def run(self, *argv: str, limit_s: float) -> Answer:
        """Run a command without input; the answer keeps its first output only."""

    def read(self, path: str) -> str | None:
        """Return the beginning of a file, bytes that are no UTF-8 as surrogate escapes."""

    def paths(self, pattern: str) -> tuple[str, ...]:
        """Return the paths that a glob pattern matches, shorter ones first, then by name."""

    def which(self, name: str) -> str | None:
        """Return where a command is."""

    def variable(self, name: str) -> str:
        """Return an environment variable, empty if it is not set."""

    def permits(self, path: str) -> bool:
        """Say whether this process may read and write a device node."""

    def has_module(self, name: str) -> bool:
        """Say whether this Python could import a top-level module, without importing it."""

    def processors(self) -> int | None:
        """Return how many logical processors the scheduler lets this process use."""

    def free_bytes(self, directory: str) -> int | None:
        """Return the free space where a directory is, or will be."""

    def load_nvml(self) -> ModuleType | None:
        """Return pynvml or what stands in for it; whether the library is there shows its use."""


class LocalMachine:
    """The machine that this process runs on."""

    def __init__(self) -> None:
        self._environ = environment()

    @property
    def system(self) -> str:
        """See ``Machine.system``."""
        return platform.system()

    @property
    def release(self) -> str:
        """See ``Machine.release``."""
        return platform.release()

    @property
    def arch(self) -> str:
        """See ``Machine.arch``."""
        return platform.machine()

    def run(self, *argv: str, limit_s: float) -> Answer:
        """See ``Machine.run``."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            # Files, not pipes: a grandchild that lives on would keep a pipe open for ever.
            try:
                child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=errors,
                    env={**self._environ, "LC_ALL": "C"},
                    start_new_session=True,
                )
            except (OSError, ValueError):
                return None
            try:
                exit_code = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                with suppress(OSError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                return TimedOut(limit_s)
            return Ended(exit_code, _beginning(output), _beginning(errors))

    def read(self, path: str) -> str | None:
        """See ``Machine.read``."""
        try:
            with Path(path).open("rb") as file:
                return file.read(READ_BYTES_MAX).decode("utf-8", "surrogateescape")
        except (OSError, ValueError):
            return None

    def paths(self, pattern: str) -> tuple[str, ...]:
        """See ``Machine.paths``."""
        found = glob.glob(pattern)  # noqa: PTH207 - patterns are absolute, pathlib wants a root
        return tuple(sorted(found, key=lambda path: (len(path), path))[:PATHS_MAX])

    def which(self, name: str) -> str | None:
        """See ``Machine.which``."""
        return shutil.which(name, path=self._environ.get("PATH"))

    def variable(self, name: str) -> str:
        """See ``Machine.variable``."""
        return self._environ.get(name, "")

    def permits(self, path: str) -> bool:
        """See ``Machine.permits``."""
        return os.access(path, os.R_OK | os.W_OK)

    def has_module(self, name: str) -> bool:
        """See ``Machine.has_module``."""
        try:
            return importlib.util.find_spec(name) is not None
        except (ImportError, ValueError):
            return False

    def processors(self) -> int | None:
        """See ``Machine.processors``."""
        if hasattr(os, "sched_getaffinity"):
            with suppress(OSError):
                return len(os.sched_getaffinity(0))
        return os.cpu_count()

    def free_bytes(self, directory: str) -> int | None:
        """See ``Machine.free_bytes``."""
        for place in (Path(directory), *Path(directory).parents):
            with suppress(OSError):
                return shutil.disk_usage(place).free
        return None

    def load_nvml(self) -> ModuleType | None:
        """See ``Machine.load_nvml``."""
        module: ModuleType = pynvml
        return module


def _beginning(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(OUTPUT_BYTES_MAX).decode("utf-8", "replace")
