"""What ``dtest test`` adds to a suite of five seconds: with a running stack, and with nothing.

Run: ``python benchmarks/startup.py [--rounds 5]``. Ten tests sleep for half a second each, in one
session. Prints one JSON object: seconds of whole processes, and by how much they exceed those of
plain pytest in the same round.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import spread

SUITE = """
import time
import pytest

@pytest.mark.parametrize("n", range(10))
def test_n(n):
    time.sleep(0.5)
"""


def seconds_of(command: list[str], home: Path) -> float:
    """Run a command to its end; return how long it took."""
    started = time.perf_counter()
    subprocess.run(command, cwd=home, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("DTEST_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="dtest-bench-") as scratch:
        os.environ.update(HOME=scratch, XDG_CACHE_HOME=f"{scratch}/cache")
        suite = Path(scratch) / "suite"
        suite.mkdir()
        (suite / "pytest.ini").write_text("[pytest]\n")
        (suite / "test_five_seconds.py").write_text(SUITE)
        print(json.dumps(measure(suite, Path(scratch), options.rounds), indent=2))


def measure(suite: Path, scratch: Path, rounds: int) -> dict[str, object]:
    """Return the figures of each way to run the suite."""
    dtest = [sys.executable, "-m", "dtest"]
    up, nothing = (["--state-dir", str(scratch / name)] for name in ("up", "nothing"))
    words = ["test", "--workers", "1", "--python", sys.executable]
    ways = {
        "plain pytest": [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        "a running stack": [*dtest, *words, *up],
        "nothing": [*dtest, *words, *nothing],
    }
    started = [*dtest, "up", "--workers", "1", "--slots", "2", *up]
    subprocess.run(started, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, list[float]] = {way: [] for way in ways}
    try:
        for _ in range(rounds):
            for way, command in ways.items():
                found[way].append(seconds_of(command, suite))
    finally:
        subprocess.run([*dtest, "down", *up], check=False, stdout=subprocess.DEVNULL)
    plain = found["plain pytest"]
    return {
        "seconds": {way: spread(values) for way, values in found.items()},
        "added_seconds": {
            way: spread([value - base for value, base in zip(values, plain, strict=True)])
            for way, values in found.items()
            if way != "plain pytest"
        },
    }


if __name__ == "__main__":
    main()
