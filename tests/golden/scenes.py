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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dtest.drills.catalogue import DRILLS
from dtest.drills.drill import Scene, run_drill
from dtest.journal.port import Outgoing
from dtest.roles.session import session
from dtest.settings import load_settings
from tests.golden.worlds import guarded, simulated

WAIT_S_MAX = 120.0
LOOK_EVERY_S = 0.05
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
SLOW = """
import time

import pytest


@pytest.mark.parametrize("number", range(24))
def test_slow(number):
    time.sleep(0.2)
"""


# -- a cell and who uses it ---------------------------------------------------------------------


class Cell:
    """A cell of this machine, used from the command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "DTEST_STATE_DIR": str(directory / "state"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        }

    def call(self, *words: str, cwd: Path | None = None, codes: tuple[int, ...] = (0,)) -> str:
        """Run one command; return what it prints. Raises RuntimeError for another exit code."""
        done = subprocess.run(
            [sys.executable, "-m", "dtest", *words],
            cwd=cwd or self.directory,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in codes:
            message = f"dtest {' '.join(words)} ended with {done.returncode}\n{done.stderr}"
            raise RuntimeError(message)
        return done.stdout

    def begin(self, *words: str, cwd: Path | None = None) -> "subprocess.Popen[bytes]":
        """Begin a command that goes on while other things happen."""
        return subprocess.Popen(
            [sys.executable, "-m", "dtest", *words],
            cwd=cwd or self.directory,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, *words: str) -> Any:
        """Run one command and read its JSON."""
        return json.loads(self.call(*words, "--json"))

    def submit(
        self, tasks: list[dict[str, Any]], *words: str, codes: tuple[int, ...] = (0,)
    ) -> str:
        """Submit tasks."""
        file = self.directory / "tasks.json"
        file.write_text(json.dumps(tasks), encoding="utf-8")
        return self.call("submit", str(file), *words, codes=codes)

    def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until a task is where it should be."""
        deadline = time.monotonic() + WAIT_S_MAX
        while time.monotonic() < deadline:
            task: dict[str, Any] = self.ask("task", "show", task_id)
            if task["status"] in statuses:
                return task
            time.sleep(LOOK_EVERY_S)
        message = f"{task_id} is {task['status']}, not {' or '.join(statuses)}"
        raise RuntimeError(message)

    def kill_machine(self, worker_id: str) -> None:
        """Kill an agent, its keeper and all that they started; it is started again."""
        home = str(self.directory / "state" / "main" / "agents" / worker_id)
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                told = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if home.encode() in told:
                os.kill(int(entry.name), signal.SIGKILL)


@contextmanager
def cell(to: Path, *words: str) -> Iterator[Cell]:
    """Have a cell up; archive its journal at the end."""
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        found = Cell(Path(place))
        found.call("up", *words)
        try:
            yield found
            found.call("archive", "write", "--to", str(to))
        finally:
            found.call("down")


# -- scenes -------------------------------------------------------------------------------------


def demo(to: Path) -> None:
    """The demo, as a new user sees it."""
    with tempfile.TemporaryDirectory(prefix="golden-") as place:
        user = Cell(Path(place))
        user.env["TMPDIR"] = place
        running = user.begin("demo")
        try:
            deadline = time.monotonic() + WAIT_S_MAX
            while time.monotonic() < deadline:
                time.sleep(1.0)
                for state in Path(place).glob("dtest-demo-*"):
                    user.env["DTEST_STATE_DIR"] = str(state)
                    shown = user.call("run", "show", "demo", "--json", codes=(0, 1, 2, 3))
                    if shown and json.loads(shown).get("finished"):
                        user.call("archive", "write", "--to", str(to))
                        return
            message = "the demo did not end"
            raise RuntimeError(message)
        finally:
            running.send_signal(signal.SIGINT)
            running.wait()


def drill(name: str, **more: Any) -> Callable[[Path], None]:
    """Return the scene of a drill: few injections, little load."""

    async def keep(scene: Scene) -> list[str]:
        genuine = DRILLS[name].check
        wrong = await genuine(scene) if genuine is not None else []
        return [f"not as promised: {text}" for text in wrong] or ["to be kept"]

    def record(to: Path) -> None:
        found = DRILLS[name]
        pace = replace(found.pace, simulated_per_s=12.0, real_per_s=1.0)
        changed = replace(found, pace=pace, check=keep)
        nodes = more.get("nodes", found.nodes[0])
        with tempfile.TemporaryDirectory(prefix="golden-") as place:
            report = asyncio.run(
                run_drill(
                    changed,
                    nodes=nodes,
                    runs=more.get("runs", 2),
                    seed=7,
                    evidence=Path(place) / "e",
                )
            )
            if report.violations != ["to be kept"]:
                message = f"drill {name}: {report.violations}"
                raise RuntimeError(message)
            shutil.copytree(Path(report.evidence) / "journal", to, dirs_exist_ok=True)

    return record


def toolz(to: Path) -> None:
    """A foreign suite, twice; the second time an agent is killed in the middle."""
    with cell(to, "--workers", "2", "--slots", "1") as user:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        command += ["toolz", f"toolz=={TOOLZ}", "--dest", str(user.directory)]
        subprocess.run(command, check=True)
        with tarfile.open(user.directory / f"toolz-{TOOLZ}.tar.gz") as archive:
            archive.extractall(user.directory, filter="data")
        home = user.directory / f"toolz-{TOOLZ}"
        user.call("test", cwd=home)
        (user.directory / "slow").mkdir()
        (user.directory / "slow" / "test_slow.py").write_text(SLOW, encoding="utf-8")
        running = user.begin("test", cwd=user.directory / "slow")
        _until_verdicts(user, 4)
        user.kill_machine("local-1")
        if running.wait():
            message = "the suite with a killed agent did not pass"
            raise RuntimeError(message)


def _until_verdicts(user: Cell, count: int) -> None:
    query = "SELECT count(*) AS n FROM testcases WHERE nodeid LIKE '%test_slow%'"
    while user.ask("db", "query", query)["n"] < count:
        time.sleep(LOOK_EVERY_S)


def reruns(to: Path) -> None:
    """Suites with re-runs, a bound on failures, classes of hardware, another runner."""
    with cell(to, "--workers", "2", "--slots", "1", "--simulate", "cuda:1") as user:
        home = user.directory / "shaky"
        home.mkdir()
        (home / "test_shaky.py").write_text(SHAKY, encoding="utf-8")
        user.call("test", "--reruns", "2", cwd=home, codes=(1,))
        user.call("test", "--maxfail", "1", cwd=home, codes=(1,))
        user.call("test", "--on", "cpu | cpu & min_memory_gb=1", cwd=home, codes=(1,))
        user.call("test", "--lf", cwd=home, codes=(1,))
        unit = user.directory / "unit"
        unit.mkdir()
        text = "import unittest\n\n\nclass Sums(unittest.TestCase):\n"
        text += "".join(f"    def test_{n}(self):\n        pass\n\n" for n in range(5))
        (unit / "test_sums.py").write_text(text, encoding="utf-8")
        user.call("test", "--runner", "unittest", cwd=unit)


def work(to: Path) -> None:
    """Tasks that are cancelled, retried, expired, refused; workers that are kept out or drained."""
    with cell(to, "--workers", "2", "--slots", "2", "--simulate", "cuda:1,rocm:1") as user:
        simulated = {"command": ["train"], "simulate": {"seconds": 0.1}}
        line = {"type": "command", "retry_policy": {"max_retries": 1, "retry_delay_seconds": 0.2}}
        user.call("policy", "set", "--ranking", "pack")
        user.call("policy", "set", "accept_s_max=20", "ageing_s_per_level=5", "refusal_delay_s=0.1")
        user.submit(
            [
                {"task_id": "good", "type": "command", "config": {"command": "true"}},
                {"task_id": "bad", **line, "config": {"command": "exit 3"}},
                {
                    "task_id": "never",
                    "type": "command",
                    "config": {"command": "true"},
                    "dependencies": ["bad"],
                },
                {
                    "task_id": "long",
                    "type": "command",
                    "config": {"command": "sleep 600"},
                    "grace_seconds": 0.5,
                },
                {
                    "task_id": "waits",
                    "type": "command",
                    "config": {"command": "true"},
                    "requirements": {"hardware": ["qnn"]},
                    "wait_limit_seconds": 2.0,
                },
                {
                    "task_id": "unwanted",
                    "type": "command",
                    "config": {"command": "true"},
                    "requirements": {"hardware": ["mps"]},
                },
                {
                    "task_id": "late",
                    "type": "command",
                    "config": {"command": "sleep 600"},
                    "timeout_seconds": 1.0,
                    "grace_seconds": 0.5,
                },
                {
                    "task_id": "cuda",
                    "type": "command",
                    "config": simulated,
                    "requirements": {"hardware": ["cuda"]},
                },
                {"task_id": "gone", "type": "command", "config": {"command": ["no-such-program"]}},
            ],
            "--name",
            "work",
        )
        user.until("long", "running")
        user.call("task", "cancel", "long")
        user.call("task", "cancel", "unwanted")
        for name in ("good", "bad", "never", "long", "waits", "late", "cuda", "gone"):
            user.until(name, "passed", "failed", "errored", "cancelled", "skipped", "expired")
        user.call("task", "retry", "bad")
        user.call("task", "retry", "long")
        user.until("long", "running")
        user.call("task", "cancel", "long")
        user.until("long", "cancelled")
        user.call("worker", "quarantine", "local-1", "--reason", "to be looked at")
        user.call("policy", "set", "--strategy", "minimal", "--timeouts", "observed")
        quick = {"type": "command", "name": "quick", "config": {"command": "true"}}
        user.submit([{"task_id": f"quick-{n}", **quick} for n in range(24)], "--wait")
        user.submit([{"task_id": "observed", **quick}], "--wait")
        user.call("worker", "reinstate", "local-1")
        words = ("accept_s_max=default", "ageing_s_per_level=default", "kinds_max=8")
        user.call("policy", "set", "--strategy", "progressive", "--timeouts", "declared", *words)
        asyncio.run(_garbage(user))
        user.submit(
            [{"task_id": "good", "type": "command", "config": {"command": "false"}}], codes=(2,)
        )
        user.call("worker", "drain", "local-2")
        user.submit(
            [{"task_id": "last", "type": "command", "config": {"command": "sleep 1"}}], "--wait"
        )
        user.until("bad", "failed")


async def _garbage(user: Cell) -> None:
    """Write what nobody can accept."""
    settings = load_settings({"state_dir": str(user.directory / "state")})
    async with session(settings, name="golden") as opened:
        where = "dtest.main.client.golden.task.queued"
        for number, payload in enumerate(
            (b"no JSON", b"[]", b'{"specversion": "1.0"}', b"\xff\x00")
        ):
            await opened.journal.append(Outgoing(where, payload, f"garbage-{number}"))


SCENES: dict[str, Callable[[Path], None]] = {
    "demo": demo,
    "toolz": toolz,
    "reruns": reruns,
    "work": work,
    **{f"drill-{name}": drill(name) for name in DRILLS if DRILLS[name].nodes[0] == 1},
    **{
        f"drill-{name}": drill(name, runs=1)
        for name in ("acknowledgements", "agent-disk", "projector-disk")
    },
    **{
        f"drill-{name}": drill(name, runs=1, nodes=DRILLS[name].nodes[0])
        for name in DRILLS
        if DRILLS[name].nodes[0] > 1
    },
    **{f"simulated-{seed}": simulated(seed) for seed in range(1, 13)},
    **{f"troubled-{seed}": simulated(seed, calm=False) for seed in range(101, 104)},
    **{f"guarded-{seed}": guarded(seed) for seed in range(1, 5)},
}
