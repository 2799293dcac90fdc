"""Real suites through ``dtest test``, ``pytest -n 2`` of xdist and plain pytest, in turns.

Run: ``python benchmarks/suites.py [--rounds 5] [--suite NAME ...] [--work DIR]``. It downloads the
suites, makes an environment for them and starts a stack of its own; needs pip and its index.
Prints one JSON object: seconds of whole processes, as median, lowest and highest, and the ratios of
paired runs. ``same`` says that dtest and plain pytest agree on every test.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from figures import spread

PINS = (
    "pytest",
    "pytest-xdist==3.8.*",
    "hypothesis",
    "cloudpickle",
    "markupsafe",
    "trio",
    "pyyaml",
)
SUITES = {
    "toolz": ("toolz==1.2.0", "toolz"),
    "sqlparse": ("sqlparse==0.6.1", "tests"),
    "jinja2": ("jinja2==3.1.6", "tests"),
    "attrs": ("attrs==26.1.0", "tests"),
    "more-itertools": ("more-itertools==11.2.1", "tests"),
}
MANY = "many"
"""5,000 tests that do nothing, in 50 files."""
PLUGIN = """
import json, os

seen = {}

def pytest_collectreport(report):
    if not report.passed:
        seen[report.nodeid] = "error" if report.failed else "skipped"

def pytest_runtest_logreport(report):
    if type(report).__name__.lower() == "subtestreport":
        return
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if outcome == "skipped" else "xpassed"
    elif outcome == "failed" and report.when != "call":
        outcome = "error"
    if report.when == "call" or outcome != "passed":
        seen[report.nodeid] = outcome

def pytest_sessionfinish(session):
    if "OUTCOMES" in os.environ:
        with open(os.environ["OUTCOMES"], "w") as file:
            json.dump(seen, file)
"""


def prepare(name: str, work: Path, python: Path) -> tuple[Path, list[str]]:
    """Return the directory of a suite and what to run there."""
    if name == MANY:
        home = work / MANY
        home.mkdir(exist_ok=True)
        (home / "pytest.ini").write_text("[pytest]\n")
        for number in range(50):
            lines = [f"def test_{n}():\n    assert {n} + 1 == {n + 1}\n" for n in range(100)]
            (home / f"test_{number:02}.py").write_text("\n".join(lines))
        return home, []
    requirement, path = SUITES[name]
    package, _, version = requirement.partition("==")
    files = package.replace("-", "_")
    home = work / f"{files}-{version}"
    if not home.exists():
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run(
            [*fetch, "--no-binary", package, "--dest", str(work), requirement], check=True
        )
        with tarfile.open(work / f"{files}-{version}.tar.gz") as archive:
            archive.extractall(work, filter="data")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(home)], check=True)
    return home, [path]


def seconds_of(command: list[str], home: Path, env: dict[str, str]) -> tuple[float, str]:
    """Run a command to its end; return how long it took and what it said."""
    started = time.perf_counter()
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, check=False)
    took_s = time.perf_counter() - started
    if done.returncode not in (0, 1):
        sys.exit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return took_s, done.stdout


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--suite", action="append", choices=[*SUITES, MANY])
    parser.add_argument("--work", type=Path, help="keep downloads and the environment here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dtest-bench-") as scratch:
        work = (options.work or Path(scratch)).absolute()
        work.mkdir(parents=True, exist_ok=True)
        measured = measure(options.suite or [*SUITES, MANY], options.rounds, work, Path(scratch))
    print(json.dumps(measured, indent=2))


def measure(names: list[str], rounds: int, work: Path, scratch: Path) -> dict[str, object]:
    """Return the figures of each suite."""
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINS], check=True)
    (scratch / "outcomes.py").write_text(PLUGIN, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTEST_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    env = {**kept, "HOME": str(scratch), "XDG_CACHE_HOME": str(scratch / "cache")}
    dtest = [sys.executable, "-m", "dtest"]
    state = ["--state-dir", str(scratch / "state")]
    up = [*dtest, "up", "--workers", "1", "--slots", "2", *state]
    subprocess.run(up, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return {name: one(name, rounds, work, python, dtest, state, env, scratch) for name in names}
    finally:
        subprocess.run([*dtest, "down", *state], env=env, check=False, stderr=subprocess.DEVNULL)


def one(
    name: str,
    rounds: int,
    work: Path,
    python: Path,
    dtest: list[str],
    state: list[str],
    env: dict[str, str],
    scratch: Path,
) -> dict[str, object]:
    """Return the figures of one suite."""
    home, paths = prepare(name, work, python)
    quiet = ["-q", "-p", "no:cacheprovider"]
    ours = [*dtest, "test", "--json", "--workers", "2", "--python", str(python), *state, *paths]
    theirs = [str(python), "-m", "pytest", *quiet, "-n", "2", *paths]
    plain = [str(python), "-m", "pytest", *quiet, "-p", "outcomes", *paths]
    report = scratch / f"{name}.json"
    watched = {**env, "PYTHONPATH": str(scratch), "OUTCOMES": str(report)}
    found: dict[str, list[float]] = {"dtest": [], "xdist": [], "plain": []}
    same = True
    runs = {"dtest": (ours, env), "xdist": (theirs, env), "plain": (plain, watched)}
    for number in range(rounds):
        order = list(runs) if number % 2 == 0 else list(reversed(runs))
        said = ""
        for which in order:  # nobody always comes first
            command, its_env = runs[which]
            took_s, words = seconds_of(command, home, its_env)
            found[which].append(took_s)
            said = words if which == "dtest" else said
        told = Counter((case["nodeid"], case["outcome"]) for case in json.loads(said)["testcases"])
        same &= told == Counter(json.loads(report.read_text()).items())
    pairs = zip(found["dtest"], found["xdist"], strict=True)
    ratios = [dtest_s / xdist_s for dtest_s, xdist_s in pairs]
    seconds = {which: spread(values) for which, values in found.items()}
    return {"tests": len(told), "same": same, "seconds": seconds, "ratio_to_xdist": spread(ratios)}


if __name__ == "__main__":
    main()
