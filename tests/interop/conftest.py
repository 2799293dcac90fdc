"""A real cell with one simulated worker, and Node.js with the packages of ``node/package.json``."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

MANIFEST = Path(__file__).with_name("node") / "package.json"
DTEST = str(Path(sys.executable).with_name("dtest"))
STACK_S_MAX = 120
NPM_S_MAX = 180
NPM_FLAGS = (
    *("--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"),
    *("--prefer-offline", "--engine-strict=false"),
    *("--fetch-retries=2", "--fetch-retry-mintimeout=500", "--fetch-retry-maxtimeout=2000"),
)
PROGRAM_S_MAX = 60
NODE_WITH_WEBSOCKET = 22


@dataclass(frozen=True)
class Node:
    """Runs JavaScript modules that find the installed packages."""

    directory: Path
    program: str
    options: tuple[str, ...]
    env: Mapping[str, str]

    def run(self, name: str, text: str, *arguments: str) -> Any:
        """Run a module; what it prints is one JSON document."""
        script = self.directory / name
        script.write_text(text, encoding="utf-8")
        ended = subprocess.run(
            [self.program, *self.options, str(script), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PROGRAM_S_MAX,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="session")
def cell_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a running cell, with one simulated worker."""
    directory = tmp_path_factory.mktemp("stack")
    with running(directory, "--workers", "0", "--simulate", "cpu:1") as env:
        yield env


@contextmanager
def running(directory: Path, *workers: str) -> Iterator[dict[str, str]]:
    """Run a cell for the length of a block; yield the environment of its clients."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DTEST_")}
    where = ("--cell", "main", "--state-dir", str(directory))

    def dtest(*arguments: str) -> str:
        ended = subprocess.run(
            [DTEST, *arguments, *where],
            env=env,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=STACK_S_MAX,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    try:
        up = json.loads(dtest("up", *workers, "--json"))
        said = json.loads(Path(up["credentials"]).read_text(encoding="utf-8"))
        names = ("nats_url", "nats_user", "nats_password", "api_url", "token")
        yield {**env, **{f"DTEST_{name.upper()}": said[name] for name in names}}
    finally:
        dtest("down", "--purge")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, cell_env: dict[str, str]) -> Node:
    directory = tmp_path_factory.mktemp("node")
    shutil.copy(MANIFEST, directory)
    program, npm = needed("node"), needed("npm")
    try:
        subprocess.run(
            [npm, "install", *NPM_FLAGS],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=NPM_S_MAX,
            check=True,
        )
    except subprocess.SubprocessError as error:
        pytest.fail(
            f"npm could not install the packages of {MANIFEST.name}: these tests need the npm "
            f"registry, or npm's cache filled from it\n{error}\n{getattr(error, 'stderr', '')}",
            pytrace=False,
        )
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    major = int(version.stdout.lstrip("v").partition(".")[0])
    options = () if major >= NODE_WITH_WEBSOCKET else ("--experimental-websocket",)
    return Node(directory, program, options, cell_env)


def needed(program: str) -> str:
    """Return where a program is; a machine without it fails, it does not skip."""
    found = shutil.which(program)
    if found is None:
        pytest.fail(f"these tests need {program} on the PATH", pytrace=False)
    return found
