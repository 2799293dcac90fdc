"""Drills on runs of suites: whoever dies in the middle, the run ends as an undisturbed one does."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from dtest.drills.checks import events_of
from dtest.drills.drill import Scene
from dtest.drills.load import seen_within
from dtest.drills.replica import replica
from dtest.drills.report import Injection
from dtest.errors import Unavailable
from dtest.journal.port import Stored
from dtest.projections.past import known_from
from dtest.reports.muting import NONE_MUTED
from dtest.reports.report import Report, compose
from dtest.settings import environment

VICTIMS = ("caller", "conductor", "leader", "agent", "api", "broker")
ENDED_S_MAX = 120.0
SILENCE_S_MAX = 10.0
"""How long a run may come to nothing new, whoever died."""
FILES, TESTS = 6, 20
SUITE = """
import time
import pytest

@pytest.mark.parametrize("n", range({tests}))
def test_one(n):
    time.sleep(0.02)
    if n % 9 == 4:
        assert n == -1, "as ever"
    if n % 9 == 7:
        pytest.skip("as ever")

@pytest.fixture
def broken():
    raise RuntimeError("as ever")

def test_without_its_fixture(broken):
    pass

@pytest.mark.xfail(reason="as ever")
def test_expected_to_fail():
    assert False
"""


async def conducted(scene: Scene, number: int) -> Injection:
    """Have a suite with re-runs run, and kill one of those who take part in the middle of it."""
    directory = await asyncio.to_thread(_suite, scene.ground.directory / "suite")
    kept = directory.with_name("suite-undisturbed.json")
    if not kept.exists():
        began = scene.watcher.since()
        run_id, code = await _run(scene, directory, "", 0.0)
        found = {**await _essence(scene, run_id), "caller": code}
        found["took_s"] = scene.watcher.since() - began
        await asyncio.to_thread(kept.write_bytes, orjson.dumps(found))
    wanted = orjson.loads(await asyncio.to_thread(kept.read_bytes))
    victim = VICTIMS[number % len(VICTIMS)]
    after_s = scene.rng.uniform(0.0, float(wanted["took_s"]))
    at = scene.watcher.since()
    run_id, code = await _run(scene, directory, victim, after_s)
    ended_at = scene.watcher.since()
    found = await _essence(scene, run_id)
    wrong = [name for name in found if orjson.loads(orjson.dumps(found[name])) != wanted[name]]
    told = f"run {run_id}, {victim} killed after {after_s:.2f} s"
    before = len(scene.report.violations)
    scene.report.violations += [f"{told}: other {name} than undisturbed" for name in wrong]
    if victim != "caller" and code != wanted["caller"]:
        scene.report.violations.append(f"{told}: its caller ended with {code}")
    silence_s = _silence_s(scene.watcher.messages, run_id)
    if silence_s > SILENCE_S_MAX:
        scene.report.violations.append(f"{told}: nothing new for {silence_s:.1f} s")
    figures = scene.report.figures
    figures["runs_that_differ"] = figures.get("runs_that_differ", 0.0) + (
        len(scene.report.violations) > before
    )
    figures["silence_s_max"] = max(round(silence_s, 2), figures.get("silence_s_max", 0.0))
    return Injection(f"{victim} killed", at, ended_at, f"silent for {silence_s:.1f} s at most")


async def as_undisturbed(scene: Scene) -> list[str]:
    """Say whether some run ended in another way; which one is said already."""
    count = scene.report.figures.get("runs_that_differ", 0.0)
    return [f"{count:g} runs did not end as undisturbed ones do"] if count else []


def _suite(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    for number in range(FILES):
        text = SUITE.replace("{tests}", str(TESTS))
        (directory / f"test_{number}.py").write_text(text)
    (directory / "pytest.ini").write_text("[pytest]\n")
    return directory


async def _run(scene: Scene, directory: Path, victim: str, after_s: float) -> tuple[str, int]:
    """Have the suite run to its end; return the run and the exit code of its caller."""
    settings = scene.ground.settings
    own = {
        "DTEST_CELL": str(settings.cell),
        "DTEST_API_URL": settings.require("api_url"),
        "DTEST_TOKEN": settings.require("token"),
        "XDG_CACHE_HOME": str(directory.with_name("suite-cache")),
    }
    words = ("test", "--reruns", "1", "--workers", "2", "--json", "--no-ship")

    def is_asked(kind: str, _: object, __: object) -> bool:
        return kind == "suite.submitted"

    async with scene.watcher.expecting(is_asked) as asked:
        caller = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "dtest", *words),
            cwd=directory,
            env={**environment(), **own},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await seen_within(asked, ENDED_S_MAX, "the suite's document")
    run_id = _latest(scene.watcher.messages)

    def has_ended(kind: str, data: Mapping[str, object], _: object) -> bool:
        return kind == "suite.ended" and data.get("run_id") == run_id

    async with scene.watcher.expecting(has_ended) as ended:
        if not any(_is_end(stored, run_id) for stored in scene.watcher.messages):
            await asyncio.sleep(after_s)
            await _kill(scene, victim, caller)
            if not any(_is_end(stored, run_id) for stored in scene.watcher.messages):
                await seen_within(ended, ENDED_S_MAX, "the end of the suite")
    return run_id, await caller.wait()


def _latest(messages: Sequence[Stored]) -> str:
    for stored in reversed(messages):
        for kind, data in events_of(stored):
            if kind == "suite.submitted":
                return str(data["run_id"])
    message = "no suite was asked for"
    raise Unavailable(message)


def _is_end(stored: Stored, run_id: str) -> bool:
    return any(
        kind == "suite.ended" and data.get("run_id") == run_id for kind, data in events_of(stored)
    )


async def _kill(scene: Scene, victim: str, caller: asyncio.subprocess.Process) -> None:
    ground = scene.ground
    match victim:
        case "caller" if caller.returncode is None:
            caller.kill()
        case "conductor":
            os.kill(await ground.conductor_pid(), signal.SIGKILL)
        case "leader":
            os.kill(await ground.leader_pid(), signal.SIGKILL)
        case "agent":
            os.kill(ground.child(scene.rng.choice(ground.agents())).process.pid, signal.SIGKILL)
        case "api":
            os.kill(ground.child("api").process.pid, signal.SIGKILL)
        case "broker":
            os.kill(scene.rng.choice(ground.brokers()).process.pid, signal.SIGKILL)
        case _:
            pass


async def _essence(scene: Scene, run_id: str) -> dict[str, Any]:
    """Return the report of a run by the journal alone, without times, workers and attempts."""
    copy = await replica(scene.watcher.messages)
    known, flaky = await known_from(copy, scene.ground.opened.cell, run_id)
    return essence_of(compose(known, flaky=flaky or NONE_MUTED))


def essence_of(report: Report) -> dict[str, Any]:
    """Return what a report says of the suite, and not of the run."""
    results = []
    for result in report.results:
        seen = result.deciding
        told = [seen.outcome, seen.phase, seen.message, seen.output] if seen is not None else []
        results.append([*result.key, result.verdict, result.cause, result.number, told])
    return {
        "exit_code": report.exit_code,
        "counts": dict(report.counts),
        "planned": report.planned,
        "results": results,
    }


def _silence_s(messages: Sequence[Stored], run_id: str) -> float:
    """Return the longest time without anything new of a run, from its document to its end."""
    tasks: set[object] = set()
    last: float | None = None
    longest_s = 0.0
    for stored in messages:
        for kind, data in events_of(stored):
            own = data.get("run_id") == run_id or data.get("task_id") in tasks
            if kind == "task.queued" and own:
                tasks.add(data["task_id"])
            if not own:
                continue
            if last is not None:
                longest_s = max(longest_s, stored.stored_at - last)
            last = stored.stored_at
            if kind == "suite.ended":
                return longest_s
    return longest_s
