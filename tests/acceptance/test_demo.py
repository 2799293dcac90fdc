"""The demo goes wrong in every planned way, ends as it should, and leaves nothing behind."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.acceptance

DEMO_S_MAX = 180.0


def test_the_demo_ends_as_expected_and_its_journal_holds(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dtest", "demo", "--exit", "--json"],
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["as_expected"] is True
    assert told["killed"].startswith("local-")
    assert told["verify"]["violations"] == []
    assert told["verify"]["tasks_open"] == 0
    assert {row["task"] for row in told["tasks"] if row["simulated"]} == {
        "train-on-cuda",
        "train-on-rocm",
        "train-on-any-gpu",
    }
    assert not list(tmp_path.glob("dtest-demo-*"))
    assert not [p for p in psutil.process_iter() if str(tmp_path) in " ".join(_arguments(p))]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_load_of_simulated_tasks_loses_and_repeats_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dtest", "stress", "--tasks", "2000", "--workers", "2"]
    done = subprocess.run(
        [*command, "--json"],
        capture_output=True,
        text=True,
        timeout=DEMO_S_MAX,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["lost"], figures["duplicated"]) == (0, 0)
    names = ("completed_per_s", "dispatch_ms_p50", "dispatch_ms_p99", "projected_per_s")
    assert all(figures[name] > 0 for name in names)
