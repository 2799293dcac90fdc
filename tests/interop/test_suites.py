"""A suite that Node.js asks for by NATS has the report of the same suite by ``dtest test``."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from dtest.drills.suites import essence_of
from dtest.projections.past import known_from
from dtest.reports.report import compose
from dtest.roles.session import session
from dtest.settings import load_settings
from tests.interop.conftest import DTEST, Node, running
from tests.kit.markdown import blocks_in

SUITE = """
import pytest

@pytest.mark.parametrize("n", range(9))
def test_one(n):
    if n == 4:
        pytest.skip("as ever")
    assert n != 7
"""
CALL_S_MAX = 120


def essence(env: dict[str, str], run: str) -> dict[str, Any]:
    """What the journal alone says of a run."""

    async def read() -> dict[str, Any]:
        async with session(load_settings(), name="tests") as opened:
            known, _ = await known_from(opened.journal, opened.cell, run)
            return essence_of(compose(known))

    with patch.dict("os.environ", env, clear=True):
        return asyncio.run(read())


@pytest.mark.node
def test_node_has_a_suite_run(node: Node, tmp_path: Path) -> None:
    for name in ("suite", "stack"):
        (tmp_path / name).mkdir()
    (tmp_path / "suite" / "test_a.py").write_text(SUITE)
    document = {"name": "suite", "cwd": str(tmp_path / "suite"), "python": sys.executable}
    with running(tmp_path / "stack", "--workers", "1", "--slots", "2") as env:
        by_node = replace(node, env=env)
        told = by_node.run(
            "suite.mjs", blocks_in("publishing.md", "js")[1], json.dumps({**document, "reruns": 1})
        )
        ended = subprocess.run(
            [DTEST, "test", "--reruns", "1", "--json"],
            cwd=tmp_path / "suite",
            env=env,
            capture_output=True,
            text=True,
            timeout=CALL_S_MAX,
            check=False,
        )
        assert ended.returncode == 1, ended.stderr
        reports = [
            essence(env, run) for run in (told["run_id"], json.loads(ended.stdout)["run_id"])
        ]
        wrong = by_node.run(
            "wrong.mjs",
            blocks_in("publishing.md", "js")[1],
            json.dumps({**document, "on": "cuda | cuda"}),
        )

    assert told["end"]["counts"] == {"failed": 1, "passed": 7, "skipped": 1}
    assert told["end"]["exit_code"] == 1
    assert reports[0] == reports[1]
    assert wrong["end"]["exit_code"] == 2
