"""A container engine for tests: the one that answers, else a private one while they run.

A private one needs root and the program ``dockerd``; it has a socket, a network and a directory of
its own, and ends with the tests.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

STARTED_S_MAX = 60.0
ENDED_S_MAX = 60.0
LOOK_EVERY_S = 0.1
MISSING = (
    "no container engine answers, and none can be started: install one"
    " (Debian: `apt-get install docker.io`) and be root, or name a running one by DOCKER_HOST"
)


def answers(address: str | None) -> bool:
    """Whether an engine answers: at an address, else where the environment says."""
    try:
        client = docker.DockerClient(address) if address else docker.from_env()
        try:
            return bool(client.ping())
        finally:
            client.close()
    except docker.errors.DockerException:
        return False


@contextmanager
def engine() -> Iterator[str | None]:
    """The address of an engine; none for the one that the environment names."""
    if answers(None):
        yield None
        return
    program = shutil.which("dockerd")
    if program is None or os.geteuid() != 0:
        pytest.fail(MISSING)
    directory = Path(tempfile.mkdtemp(prefix="dtest-engine-"))  # a socket's path has to be short
    try:
        with _private(program, directory) as address:
            yield address
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _private(program: str, directory: Path) -> Iterator[str]:
    address = f"unix://{directory / 'socket'}"
    log_path = directory / "dockerd.log"
    command = [
        *(program, "--storage-driver=vfs", "--bridge=none", f"--host={address}"),
        *(f"--data-root={directory / 'data'}", f"--exec-root={directory / 'exec'}"),
        f"--pidfile={directory / 'pid'}",
    ]
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + STARTED_S_MAX
        while not answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                words = log_path.read_text(errors="replace").strip().splitlines()[-5:]
                pytest.fail("dockerd did not start:\n" + "\n".join(words))
            time.sleep(LOOK_EVERY_S)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(ENDED_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
