"""What `dtest status` says of those who would take over from the leader."""

import os
import signal
from pathlib import Path

import pytest

from dtest.drills.ground import ground
from dtest.drills.layout import Layout
from tests.cli.command import Person
from tests.kit.nats import eventually

ALONE = "no scheduler stands by: without the leader work waits until one is started"


@pytest.mark.slow
async def test_who_stands_by_is_counted(tmp_path: Path) -> None:
    layout = Layout(schedulers=3, workers=0, simulated=1)
    async with ground(layout, nodes=1) as cell:
        stated = {
            "DTEST_API_URL": cell.settings.require("api_url"),
            "DTEST_TOKEN": cell.settings.require("token"),
        }
        person = Person(tmp_path / "home", tmp_path, stated)

        def shows(count: int | None, words: str) -> bool:
            shown = person.dtest("status", "--json").good().json["standbys"]
            return shown == count and words in person.dtest("status").good().out

        await eventually(lambda: shows(2, "2 schedulers stand by"))
        leader = await cell.leader_pid()
        standbys = [
            child
            for name, child in cell.stack.children.items()
            if name.startswith("scheduler") and child.process.pid != leader
        ]
        for child in standbys:
            child.may_start.clear()
        os.kill(standbys[0].process.pid, signal.SIGKILL)
        await eventually(lambda: shows(1, "1 scheduler stands by"))
        os.kill(standbys[1].process.pid, signal.SIGKILL)
        await eventually(lambda: shows(0, ALONE))
