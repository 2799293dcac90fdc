"""Making each report of 60,000 results, and opening the HTML one in headless Chromium.

Run: ``python benchmarks/reports.py [--tests 60000] [--rounds 5] [--chromium PATH]``. Prints one
JSON object; without ``--chromium`` nothing is opened (``just test-browser`` says how to get it).
"""

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dtest.reports.formats import FORMATS
from dtest.reports.observation import Attempt, Known, Observation, Outcome, Part, Run
from dtest.reports.report import Report, compose

OPENED = datetime(2026, 1, 1, tzinfo=UTC)
PER_FILE, PER_TASK, WORKERS = 150, 500, 8
EVERY_FAILING, EVERY_SKIPPED = 100, 37
OUTPUT = "\n".join(f"line {n}: what a test says before it fails" for n in range(60))
ROWS_SHOWN = "() => document.documentElement.dataset.shownMs !== undefined"


def known(count: int) -> Known:
    """Return a run of so many tests: one in a hundred fails, half of those pass when run again."""
    observations: list[Observation] = []
    for n in range(count):
        outcome: Outcome = "passed"
        if n % EVERY_FAILING == 0:
            outcome = "failed"
        elif n % EVERY_SKIPPED == 0:
            outcome = "skipped"
        observations.append(_observation(n, outcome, f"t{n // PER_TASK}", n))
        if n % (2 * EVERY_FAILING) == 0:
            observations.append(_observation(n, "passed", "again", count + n))
    tasks = [*sorted({item.task_id for item in observations})]
    attempts = tuple(
        Attempt(
            task,
            1,
            f"worker-{n % WORKERS}",
            "cpu",
            "passed",
            started_at=OPENED + timedelta(seconds=n // WORKERS),
            finished_at=OPENED + timedelta(seconds=n // WORKERS + 1),
        )
        for n, task in enumerate(tasks)
    )
    parts = tuple(Part(task, f"tests {task}", "passed") for task in tasks)
    run = Run("0190-benchmark", "benchmark", (("commit", "0123abc"),), OPENED)
    return Known(run, parts, attempts, tuple(observations))


def _observation(n: int, outcome: Outcome, task: str, seq: int) -> Observation:
    file = f"tests/area_{n // PER_FILE % 20}/test_module_{n // PER_FILE}.py"
    return Observation(
        task,
        1,
        1 + n,
        seq,
        f"{file}::TestSubject::test_that_it_does_what_it_says[{n}-parameter]",
        outcome,
        duration_s=n % 97 / 1000,
        message=f"ValueError: number {n} is wrong" if outcome == "failed" else "",
        output=f"{OUTPUT}\n{file}:{n % 90}: ValueError" if outcome == "failed" else "",
        file=file,
        line=n % 500,
        worker_id=f"worker-{n % WORKERS}",
    )


def seconds(made: Callable[[], object], rounds: int) -> list[float]:
    """Return how long each of several rounds takes."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        made()
        took.append(time.perf_counter() - begun)
    return took


def figures(took: list[float]) -> dict[str, float]:
    """Return the median with the least and the most."""
    return {
        "median_s": round(statistics.median(took), 3),
        "min_s": round(min(took), 3),
        "max_s": round(max(took), 3),
    }


def peak_mb(made: Callable[[], object]) -> float:
    """Return the most memory that is taken above what was there before."""
    tracemalloc.start()
    made()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(peak / 1e6, 1)


def opened(page_bytes: bytes, chromium: str, rounds: int) -> dict[str, object]:
    """Return how long a fresh browser page takes from navigation to the first rows drawn."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - an extra

    wall, inside = [], []
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        path = Path(directory) / "report.html"
        path.write_bytes(page_bytes)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(rounds):
            context = browser.new_context()
            page = context.new_page()
            begun = time.perf_counter()
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_function(ROWS_SHOWN)
            wall.append(time.perf_counter() - begun)
            inside.append(page.evaluate("Number(document.documentElement.dataset.shownMs)") / 1000)
            context.close()
        version = browser.version
        browser.close()
    return {"chromium": version, "wall": figures(wall), "by_the_page": figures(inside)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default="", help="path of the browser")
    options = parser.parse_args()
    told = known(options.tests)
    report: Report = compose(told)
    found: dict[str, object] = {"tests": options.tests, "rounds": options.rounds}
    judged = figures(seconds(lambda: compose(told), options.rounds))
    found["verdicts"] = {**judged, "peak_mb": peak_mb(lambda: compose(told))}
    for name, form in FORMATS.items():
        made = {"bytes": len(form(report))}
        took = figures(seconds(lambda form=form: form(report), options.rounds))  # type: ignore[misc]
        found[name] = {**made, **took, "peak_mb": peak_mb(lambda form=form: form(report))}  # type: ignore[misc]
    if options.chromium:
        found["opened"] = opened(FORMATS["html"](report), options.chromium, options.rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
