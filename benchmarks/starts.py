"""Whether a cell that is made for a call starts every time, and how long a call takes.

Run: ``python benchmarks/starts.py [--starts 500]``. One suite of one test, called again and again
with no cell running. Prints one JSON object: how many calls failed, what the first of these said,
and the seconds of whole calls. The exit code is 1 if one failed.
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

TEST = "def test_it(): pass\n"


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--starts", type=int, default=500)
    options = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("DTEST_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="dtest-bench-") as scratch:
        os.environ.update(HOME=scratch, XDG_CACHE_HOME=f"{scratch}/cache")
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        suite = Path(scratch) / "suite"
        suite.mkdir()
        (suite / "pytest.ini").write_text("[pytest]\n")
        (suite / "test_it.py").write_text(TEST)
        found = measure(suite, options.starts)
    print(json.dumps(found, indent=2))
    sys.exit(1 if found["failed"] else 0)


def measure(suite: Path, starts: int) -> dict[str, object]:
    """Call so often; return the figures."""
    command = [sys.executable, "-m", "dtest", "test", "--workers", "1"]
    seconds: list[float] = []
    words: list[str] = []
    for _ in range(starts):
        started = time.perf_counter()
        done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - started)
        if done.returncode or done.stdout != "1 passed\n":
            words.append(f"{done.returncode}: {done.stdout[-500:]}{done.stderr[-2_000:]}")
    return {
        "starts": starts,
        "failed": len(words),
        "first_failure": words[0] if words else None,
        "seconds": spread(seconds),
    }


if __name__ == "__main__":
    main()
