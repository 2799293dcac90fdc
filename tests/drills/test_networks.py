"""Cables that can be pulled: a real network where it is permitted, a clear refusal where not."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from dtest.drills import networks as module
from dtest.drills.layout import Layout, Way
from dtest.drills.networks import NamespacesRefused, networks
from dtest.drills.wires import wired
from tests.kit.namespaces import refusal
from tests.kit.nats import eventually

SAYS_LINES = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as wire:
    for line in sys.stdin:
        wire.sendall(line.encode())
"""
WAITS = """
import asyncio
from dtest.drills.networks import networks
async def main():
    async with networks() as network:
        await network.join()
        print(network.address, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def addresses() -> set[str]:
    """The addresses of this machine."""
    return {one.address for found in psutil.net_if_addrs().values() for one in found}


async def test_what_is_sent_over_a_cable_that_is_pulled_arrives_once_it_is_back() -> None:
    if refused := await refusal():
        assert "network namespaces" in refused
        return
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.put_nowait(line)
        writer.close()

    async with networks() as network:
        server = await asyncio.start_server(hear, network.address, 0)
        _, starter, cable = await network.join()
        words = (sys.executable, "-c", SAYS_LINES, network.address)
        port = str(server.sockets[0].getsockname()[1])
        part = await asyncio.create_subprocess_exec(
            *starter, *words, port, stdin=asyncio.subprocess.PIPE
        )
        assert part.stdin is not None
        part.stdin.write(b"one\n")
        assert await heard.get() == b"one\n"

        await cable.cut()
        part.stdin.write(b"two\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await heard.get()
        await cable.mend()

        assert await heard.get() == b"two\n"
        part.stdin.close()
        await part.wait()
        server.close()
    assert network.address not in addresses()


async def test_nothing_is_left_of_a_network_whose_drill_was_killed() -> None:
    if refused := await refusal():
        assert "network namespaces" in refused
        return
    drill = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WAITS, stdout=asyncio.subprocess.PIPE
    )
    assert drill.stdout is not None
    address = (await drill.stdout.readline()).decode().strip()
    holders = psutil.Process(drill.pid).children()
    assert address in addresses()
    assert len(holders) == 2

    os.kill(drill.pid, signal.SIGKILL)
    await drill.wait()

    await eventually(lambda: address not in addresses())
    await eventually(lambda: not any(one.is_running() for one in holders))


async def test_a_program_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEARCHED", str(tmp_path))
    layout = Layout(on_wires=("agent local-1",))

    with pytest.raises(NamespacesRefused, match="need the program 'ip'") as caught:
        async with wired(layout, 1, Way.NETNS):
            pass
    assert caught.value.hint == "install the package iproute2"
    with pytest.raises(NamespacesRefused, match="need the program 'ip'"):
        async with wired(Layout(brokers_on_wires=True), 3, None):
            pass
    async with wired(layout, 1, None) as wiring:
        assert wiring.way is Way.PROXY
        assert "need the program 'ip'" in wiring.why
        assert wiring.overrides.keys() == wiring.proxies.keys() == {"agent local-1"}


async def test_what_the_machine_refuses_is_told_in_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in ("ip", "nsenter", "unshare"):
        (tmp_path / tool).write_text("#!/bin/sh\necho Operation not permitted >&2\nexit 1\n")
        (tmp_path / tool).chmod(0o700)
    monkeypatch.setattr(module, "_SEARCHED", str(tmp_path))

    with pytest.raises(NamespacesRefused, match=r"not permitted here.*Operation not permitted"):
        async with networks():
            pass
