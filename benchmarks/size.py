"""How the cost of a test grows with the size of its suite: time for each, and memory.

Run: ``python benchmarks/size.py [--tests N ...] [--shape one files] [--rounds 1] [--python PYTHON]
[--xdist]``.
Suites of empty tests, all in one file or spread over 2,000, through ``dtest test`` in a cell of its
own, two sessions. Prints one JSON object: seconds for each test, the ratio of the largest size to
the smallest, and the most memory that dtest's own processes and its sessions took (resident, in
MB), beside plain pytest's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from figures import spread

FILES = 2_000
LOOK_EVERY_S = 0.2
MB = 1_000_000
ONE = "import pytest\n\n@pytest.mark.parametrize('n', range({}))\ndef test_n(n): pass\n"
DTEST = [sys.executable, "-m", "dtest"]
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]


def suite(shape: str, tests: int, root: Path) -> Path:
    """Write a suite; return its directory."""
    place = root / f"{shape}-{tests}"
    place.mkdir()
    (place / "pytest.ini").write_text("[pytest]\n")
    if shape == "one":
        (place / "test_it.py").write_text(ONE.format(tests))
        return place
    for number in range(FILES):
        count = tests // FILES + (number < tests % FILES)
        (place / f"test_{number:04}.py").write_text(
            "".join(f"def test_{n}(): pass\n" for n in range(count))
        )
    return place


def run(command: list[str], place: Path) -> tuple[float, dict[str, float]]:
    """Run a command to its end; return its seconds, and the most memory of each kind of process."""
    peaks: dict[str, float] = {}
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            _look(process.pid, peaks)
            time.sleep(LOOK_EVERY_S)
        took_s = time.perf_counter() - started
        if process.returncode:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return took_s, peaks


def _look(pid: int, peaks: dict[str, float]) -> None:
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            words, held = " ".join(process.cmdline()).strip(), process.memory_info().rss / MB
        except psutil.Error:
            continue
        is_session = " -m pytest" in words or "dtest_pytest" in words
        kind = "session" if is_session else _kind(words)
        peaks[kind] = max(peaks.get(kind, 0.0), round(held, 1))


def _kind(words: str) -> str:
    for name in ("scheduler", "conductor", "agent_main", "api", "stack_main", "fork_server"):
        if f"dtest.roles.{name}" in words:
            return name
    if "nats-server" in words:
        return "broker"
    return "dtest test" if "-m dtest test" in words else "other"


def measure(shape: str, tests: int, options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Return the figures of one suite."""
    place = suite(shape, tests, root)
    ways = {
        "pytest": [options.python, *PYTEST],
        "dtest": [*DTEST, "test", "--workers", "2", "--python", options.python],
    }
    if options.xdist:
        ways["xdist"] = [options.python, *PYTEST, "-n", "2"]
    found: dict[str, Any] = {}
    for way, command in ways.items():
        rounds = [run(command, place) for _ in range(options.rounds)]
        seconds = [took_s for took_s, _ in rounds]
        peaks = {kind: max(each.get(kind, 0.0) for _, each in rounds) for kind in rounds[0][1]}
        per_test = spread([took_s / tests * 1e6 for took_s in seconds])
        found[way] = {"seconds": spread(seconds), "microseconds_a_test": per_test, "peak_mb": peaks}
    return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--tests", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--shape", nargs="+", choices=["one", "files"], default=["one", "files"])
    parser.add_argument("--python", default=sys.executable, help="interpreter of the suites")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--xdist", action="store_true", help="run each by xdist, too")
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("DTEST_")]:
        del os.environ[name]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="dtest-bench-") as scratch:
        os.environ.update(HOME=scratch, XDG_CACHE_HOME=f"{scratch}/cache")
        for shape in options.shape:
            of_shape = {str(n): measure(shape, n, options, Path(scratch)) for n in options.tests}
            least, most = (
                of_shape[str(n)]["dtest"]["microseconds_a_test"]["median"]
                for n in (min(options.tests), max(options.tests))
            )
            figures[shape] = {**of_shape, "largest_to_smallest": round(most / least, 3)}
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
