"""What golden journals are recorded of: real cells of this machine, used from the command line.

A scene leads a cell somewhere and leaves its journal as an archive. It checks nothing: that the
journal holds is checked before it is kept.
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dtest.drills import drill as drills
from dtest.drills.catalogue import DRILLS
from dtest.drills.evidence import JOURNAL
from dtest.journal.port import Outgoing
from dtest.roles.session import session
from dtest.runtime.machine import processes_with
from dtest.settings import load_settings
from tests.cli.command import Person, eventually, interrupt
from tests.golden.worlds import Scene, guarded, simulated

WAIT_S_MAX = 120.0
KEPT = "to be kept"
"""What a drill's check says, so that a drill which holds keeps its journal."""
LONG = frozenset({"acknowledgements", "agent-disk", "projector-disk"})
"""Drills on one broker of which one injection takes long enough."""
ENDS = ("passed", "failed", "errored", "cancelled", "skipped", "expired")
TOOLZ = "1.2.0"
SHAKY = """
import os, pathlib

import pytest


def test_good():
    assert True


def test_shaky():
    mark = pathlib.Path("seen-once")
    if not mark.exists():
        mark.touch()
        raise AssertionError("fails at first")


def test_bad():
    assert 2 + 2 == 5


def test_takes_its_process_down():
    os.kill(os.getpid(), 11)


@pytest.mark.parametrize("number", range(20))
def test_many(number):
    assert number >= 0
"""
"""A suite with one test of each outcome."""
SLOW = """
import time

import pytest


@pytest.mark.parametrize("number", range(24))
def test_slow(number):
    time.sleep(0.2)
"""
"""Tests that last long enough for an agent to be killed between two of them."""
SUMS = """
import unittest


class Sums(unittest.TestCase):
    def test_two(self):
        self.assertEqual(1 + 1, 2)

    def test_three(self):
        self.assertEqual(1 + 2, 3)
"""


# -- who uses a cell ----------------------------------------------------------------------------


@contextmanager
def somebody() -> Iterator[Person]:
    """Have a person with an empty home; nothing of theirs runs afterwards."""
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        person = Person(Path(place), Path(place))
        try:
            yield person
        finally:
            person.end_all()


@contextmanager
def cell(to: Path, *words: str) -> Iterator[Person]:
    """Have a cell up; archive its journal at the end."""
    with somebody() as user:
        user.dtest("up", *words).good()
        try:
            yield user
            user.dtest("archive", "write", "--to", str(to)).good()
        finally:
            user.dtest("down").good()


def submit(user: Person, *tasks: dict[str, Any], wait: bool = False, code: int = 0) -> None:
    """Submit tasks. Raises AssertionError for another exit code."""
    file = user.home / "tasks.json"
    file.write_text(json.dumps(tasks), encoding="utf-8")
    ended = user.dtest("submit", str(file), *(["--wait"] if wait else []))
    assert ended.code == code, ended


def run_suite(user: Person, where: Path, *words: str, code: int = 0) -> None:
    """Run a suite. Raises AssertionError for another exit code."""
    ended = user.at(where).dtest("test", *words)
    assert ended.code == code, ended


def until(user: Person, task_id: str, *statuses: str) -> None:
    """Wait until a task is where it should be. Raises AssertionError."""
    what = f"{task_id} is {' or '.join(statuses)}"

    def is_there() -> bool:
        shown = user.dtest("task", "show", task_id, "--json").good().json
        return shown["status"] in statuses

    eventually(is_there, what=what, within_s=WAIT_S_MAX)


def command(task_id: str, line: Any, **more: Any) -> dict[str, Any]:
    """Return the document of a task that runs one command."""
    return {"task_id": task_id, "type": "command", "config": {"command": line}, **more}


# -- scenes -------------------------------------------------------------------------------------


def demo(to: Path) -> None:
    """The demo, as a new user sees it."""
    with somebody() as user, user.started("demo") as running:

        def has_ended() -> bool:
            for state in user.temp.glob("dtest-demo-*"):
                user.more = {"DTEST_STATE_DIR": str(state)}
                shown = user.dtest("run", "show", "demo", "--json")
                return bool(shown.out) and bool(shown.json.get("finished"))
            return False

        eventually(has_ended, what="the demo has ended", within_s=WAIT_S_MAX)
        user.dtest("archive", "write", "--to", str(to)).good()
        interrupt(running)


def drill(name: str, *, runs: int) -> Scene:
    """Return the scene of a drill: few injections, little load, on as few brokers as it takes."""
    found = DRILLS[name]

    async def keep(scene: drills.Scene) -> list[str]:
        wrong = await found.check(scene) if found.check is not None else []
        return [f"not as promised: {text}" for text in wrong] or [KEPT]

    def record(to: Path) -> None:
        pace = replace(found.pace, simulated_per_s=12.0, real_per_s=1.0)
        calm = replace(found, pace=pace, check=keep)
        with tempfile.TemporaryDirectory(prefix="golden-") as place:
            evidence = Path(place) / "evidence"
            run = drills.run_drill(calm, nodes=found.nodes[0], runs=runs, seed=7, evidence=evidence)
            report = asyncio.run(run)
            assert report.violations == [KEPT], report.violations
            shutil.copytree(evidence / JOURNAL, to, dirs_exist_ok=True)

    return record


def toolz(to: Path) -> None:
    """A foreign suite, twice; the second time an agent is killed in the middle."""
    with cell(to, "--workers", "2", "--slots", "1") as user:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        fetch += ["toolz", f"toolz=={TOOLZ}", "--dest", str(user.home)]
        subprocess.run(fetch, check=True)
        with tarfile.open(user.home / f"toolz-{TOOLZ}.tar.gz") as archive:
            archive.extractall(user.home, filter="data")
        run_suite(user, user.home / f"toolz-{TOOLZ}")
        slow = suite(user, "slow", SLOW)
        with user.at(slow).started("test") as running:
            eventually(lambda: _verdicts(user) >= 4, what="four verdicts", within_s=WAIT_S_MAX)
            for pid in processes_with(str(user.state / "agents" / "local-1")):
                os.kill(pid, signal.SIGKILL)
            assert running.wait(WAIT_S_MAX) == 0, "the suite passes though an agent was killed"


def _verdicts(user: Person) -> int:
    query = "SELECT count(*) AS n FROM testcases WHERE nodeid LIKE '%test_slow%'"
    return int(user.dtest("db", "query", query, "--json").good().json["n"])


def suite(user: Person, name: str, text: str) -> Path:
    """Write a suite of one file; return its directory."""
    home = user.home / name
    home.mkdir()
    (home / f"test_{name}.py").write_text(text, encoding="utf-8")
    return home


def reruns(to: Path) -> None:
    """Suites with re-runs, a bound on failures, classes of hardware, another runner."""
    with cell(to, "--workers", "2", "--slots", "1", "--simulate", "cuda:1") as user:
        shaky = suite(user, "shaky", SHAKY)
        run_suite(user, shaky, "--reruns", "2", code=1)
        run_suite(user, shaky, "--maxfail", "1", code=1)
        run_suite(user, shaky, "--on", "cpu | cpu & min_memory_gb=1", code=1)
        run_suite(user, shaky, "--lf", code=1)
        run_suite(user, suite(user, "sums", SUMS), "--runner", "unittest")


def work(to: Path) -> None:
    """Tasks that are cancelled, retried, expired, refused; workers that are kept out or drained."""
    with cell(to, "--workers", "2", "--slots", "2", "--simulate", "cuda:1,rocm:1") as user:
        again = {"max_retries": 1, "retry_delay_seconds": 0.2}
        policy(user, "--ranking", "pack")
        policy(user, "accept_s_max=20", "ageing_s_per_level=5", "refusal_delay_s=0.1")
        submit(
            user,
            command("good", "true"),
            command("bad", "exit 3", retry_policy=again),
            command("never", "true", dependencies=["bad"]),
            command("long", "sleep 600", grace_seconds=0.5),
            command("waits", "true", requirements={"hardware": ["qnn"]}, wait_limit_seconds=2.0),
            command("unwanted", "true", requirements={"hardware": ["mps"]}),
            command("late", "sleep 600", timeout_seconds=1.0, grace_seconds=0.5),
            {
                **command("cuda", ["train"], requirements={"hardware": ["cuda"]}),
                "config": {"command": ["train"], "simulate": {"seconds": 0.1}},
            },
            command("gone", ["no-such-program"]),
        )
        until(user, "long", "running")
        for name in ("long", "unwanted"):
            user.dtest("task", "cancel", name).good()
        for name in ("good", "bad", "never", "long", "waits", "late", "cuda", "gone"):
            until(user, name, *ENDS)
        for name in ("bad", "long"):
            user.dtest("task", "retry", name).good()
        until(user, "long", "running")
        user.dtest("task", "cancel", "long").good()
        until(user, "long", "cancelled")
        user.dtest("worker", "quarantine", "local-1", "--reason", "to be looked at").good()
        policy(user, "--strategy", "minimal", "--timeouts", "observed")
        submit(user, *(command(f"quick-{n}", "true", name="quick") for n in range(24)), wait=True)
        submit(user, command("observed", "true", name="quick"), wait=True)
        user.dtest("worker", "reinstate", "local-1").good()
        policy(user, "accept_s_max=default", "ageing_s_per_level=default", "kinds_max=8")
        policy(user, "--strategy", "progressive", "--timeouts", "declared")
        asyncio.run(_garbage(user))
        submit(user, command("good", "false"), code=2)
        user.dtest("worker", "drain", "local-2").good()
        submit(user, command("last", "true"), wait=True)
        until(user, "bad", "failed")


def drained(to: Path) -> None:
    """Workers that are drained and let in again, with work that waits for them meanwhile."""
    with cell(to, "--workers", "1", "--slots", "1", "--simulate", "cuda:1") as user:
        submit(user, command("before", "true"), wait=True)
        user.dtest("worker", "drain", "local-1", "--reason", "new cable").good()
        submit(user, command("meanwhile", "true"))
        user.dtest("worker", "quarantine", "local-1").good()
        user.dtest("worker", "reinstate", "local-1", "--reason", "cable is in").good()
        until(user, "meanwhile", "passed")
        user.dtest("worker", "reinstate", "local-1").good()
        user.dtest("worker", "drain", "local-1").good()


def policy(user: Person, *words: str) -> None:
    """Choose policies."""
    user.dtest("policy", "set", *words).good()


async def _garbage(user: Person) -> None:
    """Write what nobody can accept."""
    settings = load_settings({"state_dir": str(user.state.parent)})
    async with session(settings, name="golden") as opened:
        where = "dtest.main.client.golden.task.queued"
        for number, payload in enumerate(
            (b"no JSON", b"[]", b'{"specversion": "1.0"}', b"\xff\x00")
        ):
            await opened.journal.append(Outgoing(where, payload, f"garbage-{number}"))


SCENES: dict[str, Scene] = {
    "demo": demo,
    "toolz": toolz,
    "reruns": reruns,
    "work": work,
    "drained": drained,
    **{
        f"drill-{name}": drill(name, runs=1 if name in LONG or one.nodes[0] > 1 else 2)
        for name, one in DRILLS.items()
    },
    **{f"simulated-{seed}": simulated(seed) for seed in range(1, 13)},
    **{f"troubled-{seed}": simulated(seed, calm=False) for seed in range(101, 104)},
    **{f"guarded-{seed}": guarded(seed) for seed in range(1, 5)},
}
