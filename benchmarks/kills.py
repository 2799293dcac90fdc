"""A suite while an agent, or a worker's whole machine, is killed in the middle, and undisturbed.

Run: ``python benchmarks/kills.py [--rounds 3] [--tests 400] [--seconds 0.05]``. It starts a stack
of its own with two workers of one slot each. Prints one JSON object: seconds of whole processes,
the ratios to the undisturbed run of the same round, and whether every verdict is the same.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
from figures import spread

from dtest.runtime.machine import descendants_of, processes_with

FILES = 10
MODULE = """
import pathlib, time
import pytest

NOTES = pathlib.Path(__file__).with_name("notes")

@pytest.mark.parametrize("n", range({tests}))
def test_n(n):
    with NOTES.open("a") as file:
        file.write(".")
    time.sleep({seconds})
    assert n % 17 != 3
"""
KINDS = ("undisturbed", "agent killed", "machine killed")
VICTIM = "local-1"
AGENT = f"dtest.roles.agent_main --name {VICTIM} "


def killed(place: Path, kind: str) -> None:
    """Kill the agent alone, or all that its machine would take along."""
    mark = str(place / "main" / "agents" / VICTIM)
    stack = json.loads((place / "main" / "stack.json").read_text())
    children = psutil.Process(stack["pid"]).children(recursive=True)
    agents = [child.pid for child in children if AGENT in " ".join(child.cmdline())]
    if len(agents) != 1:
        sys.exit(f"there are {len(agents)} agents {VICTIM} in {place}")
    pids = agents
    if kind == "machine killed":
        pids = [*agents, *descendants_of(agents[0]), *processes_with(mark)]
    for pid in dict.fromkeys(pids):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def one(kind: str, suite: Path, place: Path, tests: int) -> tuple[float, Counter[tuple[str, str]]]:
    """Run the suite once; return how long it took, and its verdicts."""
    notes = suite / "notes"
    notes.write_text("")
    words = ["test", "--json", "--workers", "2", "--python", sys.executable]
    command = [sys.executable, "-m", "dtest", *words, "--state-dir", str(place)]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=suite, stdout=subprocess.PIPE, text=True) as process:
        while kind != "undisturbed" and process.poll() is None:
            if notes.stat().st_size >= tests // 2:
                killed(place, kind)
                break
            time.sleep(0.01)
        said, _ = process.communicate()
    took_s = time.perf_counter() - started
    if process.returncode != 1:
        sys.exit(f"the suite ended with {process.returncode} ({kind})")
    cases = json.loads(said)["testcases"]
    return took_s, Counter((case["nodeid"], case["outcome"]) for case in cases)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tests", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=0.05)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dtest-bench-") as scratch:
        os.environ.update(HOME=scratch, XDG_CACHE_HOME=f"{scratch}/cache")
        suite, place = Path(scratch) / "suite", Path(scratch) / "state"
        suite.mkdir()
        (suite / "pytest.ini").write_text("[pytest]\n")
        text = MODULE.format(tests=options.tests // FILES, seconds=options.seconds)
        for number in range(FILES):
            (suite / f"test_{number}.py").write_text(text)
        stack = [sys.executable, "-m", "dtest"]
        up = ["up", "--workers", "2", "--slots", "1", "--state-dir", str(place)]
        subprocess.run([*stack, *up], check=True, stdout=subprocess.DEVNULL)
        try:
            measured = measure(suite, place, options.rounds, options.tests)
        finally:
            subprocess.run([*stack, "down", "--state-dir", str(place)], check=False)
    print(json.dumps(measured, indent=2))


def measure(suite: Path, place: Path, rounds: int, tests: int) -> dict[str, object]:
    """Return the figures of each kind."""
    one("undisturbed", suite, place, tests)  # from here on it is known how long the tests take
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    same = True
    for _ in range(rounds):
        verdicts = []
        for kind in KINDS:
            took_s, found = one(kind, suite, place, tests)
            seconds[kind].append(took_s)
            verdicts.append(found)
        same &= all(found == verdicts[0] for found in verdicts)
    quiet = seconds["undisturbed"]
    return {
        "tests": tests,
        "same": same,
        "seconds": {kind: spread(found) for kind, found in seconds.items()},
        "ratio_to_undisturbed": {
            kind: spread([a / b for a, b in zip(found, quiet, strict=True)])
            for kind, found in seconds.items()
            if kind != "undisturbed"
        },
    }


if __name__ == "__main__":
    main()
