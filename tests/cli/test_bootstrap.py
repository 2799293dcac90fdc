"""``bootstrap.py``: from a fresh checkout to a command, with nothing but Python and pip.

Works on a copy of the files that it reads, with a pip that only notes what it is asked for.
"""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = "bootstrap.py"
COPIED = (SCRIPT, "pyproject.toml", "requirements/dev.lock", "requirements/runtime.lock")
PIP = """
import json, os, sys

with open(os.environ["PIP_CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
print("says pip")
sys.exit(1 if os.environ.get("PIP_FAILS", "no such word") in sys.argv else 0)
"""


@dataclass(frozen=True)
class Checkout:
    """A copy with what a call of its bootstrap needs."""

    root: Path

    def call(
        self, *words: str, python: str = sys.executable, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """Call it as a person does."""
        own = {"PATH": os.defpath, "PYTHONPATH": str(self.root / "fake")}
        return subprocess.run(
            [python, str(self.root / SCRIPT), *words],
            env={**own, "PIP_CALLS": str(self.root / "calls"), **env},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def pip_calls(self) -> list[list[str]]:
        """What pip was asked for since the last time."""
        file = self.root / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "check out"
    (root / "requirements").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(ROOT / name, root / name)
    (root / "fake" / "pip").mkdir(parents=True)
    (root / "fake" / "pip" / "__init__.py").touch()
    (root / "fake" / "pip" / "__main__.py").write_text(PIP)
    return Checkout(root)


def module() -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_help_names_every_word_and_installs_nothing(checkout: Checkout) -> None:
    ended = checkout.call("--help")

    assert ended.returncode == 0
    assert all(f"bootstrap.py {word}" in ended.stdout for word in ("demo", "test", "check", "run"))
    assert not checkout.pip_calls()
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("words", [[], ["nonsense"], ["check", "more"], ["run"], ["run", "--"]])
def test_other_words_are_a_usage_error(checkout: Checkout, words: list[str]) -> None:
    ended = checkout.call(*words)

    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ")
    assert not checkout.pip_calls()


def test_a_cold_start_installs_by_hashes_and_becomes_the_command(checkout: Checkout) -> None:
    ended = checkout.call("run", "--", "sh", "-c", "echo $VIRTUAL_ENV; exit 7")

    assert ended.returncode == 7
    assert ended.stdout.strip() == str(checkout.root / ".venv")
    asked, first, second = checkout.pip_calls()
    assert asked[-1] == "--version"
    python = ["--python", str(checkout.root / ".venv" / "bin" / "python")]
    assert first == [
        *python,
        *("install", "--require-hashes", "-r", "requirements/dev.lock", "--quiet"),
    ]
    assert second[:3] == [*python, "install"]
    assert {"--no-deps", "--no-build-isolation", "--editable", "."} <= set(second)


def test_a_warm_start_does_not_call_pip(checkout: Checkout) -> None:
    checkout.call("run", "--", "true")
    checkout.pip_calls()

    ended = checkout.call("run", "--", "echo", "warm")

    assert (ended.stdout, ended.stderr) == ("warm\n", "")
    assert not checkout.pip_calls()


def test_a_warm_start_needs_no_pip_at_all(checkout: Checkout) -> None:
    checkout.call("run", "--", "true")
    shutil.rmtree(checkout.root / "fake" / "pip")
    (checkout.root / "fake" / "pip.py").write_text("raise SystemExit('no pip here')")

    assert checkout.call("run", "--", "true").returncode == 0


def test_what_needs_less_than_is_there_starts_at_once(checkout: Checkout) -> None:
    checkout.call("run", "--", "true")
    checkout.pip_calls()

    ended = checkout.call("demo")

    assert "cannot start" in ended.stderr  # the pip of this test has installed no dtest
    assert not checkout.pip_calls()


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements/dev.lock"])
def test_a_changed_file_is_installed_again(checkout: Checkout, name: str) -> None:
    checkout.call("run", "--", "true")
    checkout.pip_calls()
    with (checkout.root / name).open("a") as file:
        file.write("# changed\n")

    checkout.call("run", "--", "true")

    assert len(checkout.pip_calls()) == 3


def test_a_moved_checkout_is_made_anew(checkout: Checkout) -> None:
    checkout.call("run", "--", "true")
    moved = Checkout(checkout.root.rename(checkout.root.with_name("moved")))
    moved.pip_calls()

    ended = moved.call("run", "--", "sh", "-c", "echo $VIRTUAL_ENV")

    assert ended.stdout.strip() == str(moved.root / ".venv")
    assert len(moved.pip_calls()) == 3
    assert not (moved.root / ".venv.old").exists()


def test_a_failed_installation_is_told_and_tried_again(checkout: Checkout) -> None:
    ended = checkout.call("run", "--", "true", PIP_FAILS="--require-hashes")

    assert ended.returncode == 1
    assert "says pip" in ended.stderr
    assert "bootstrap: pip failed" in ended.stderr
    assert checkout.call("run", "--", "true").returncode == 0
    assert len(checkout.pip_calls()) == 5


def test_a_python_without_pip_is_told_what_to_do(checkout: Checkout) -> None:
    ended = checkout.call("run", "--", "true", PIP_FAILS="--version")

    assert ended.returncode == 1
    assert "has no pip" in ended.stderr
    assert "apt install python3-pip" in ended.stderr
    assert not (checkout.root / ".venv").exists()


def test_an_environment_that_is_somebody_elses_is_kept(checkout: Checkout) -> None:
    theirs = checkout.root / ".venv" / "theirs"
    theirs.parent.mkdir()
    theirs.touch()

    ended = checkout.call("run", "--", "true")

    assert ended.returncode == 1
    assert "was made by something else" in ended.stderr
    assert theirs.exists()


def test_an_older_python_gets_one_clear_line(checkout: Checkout) -> None:
    """It stops before it reads what an older Python does not have."""
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 18); sys.version = '3.9.18 (simulated)';"
        f" runpy.run_path({str(checkout.root / SCRIPT)!r}, run_name='__main__')"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("bootstrap: Python 3.11 or newer is needed; this is 3.9.18")
    assert ended.stderr.count("\n") == 1


def test_an_older_python_can_read_the_file() -> None:
    ast.parse((ROOT / SCRIPT).read_text(encoding="utf-8"), feature_version=(3, 7))


def test_the_two_levels_are_the_locks_that_exist() -> None:
    levels = module().LEVELS

    assert {path.stem for path in (ROOT / "requirements").glob("*.lock")} >= set(levels)
    runtime, dev = (
        {
            line.partition("==")[0]
            for line in (ROOT / "requirements" / f"{level}.lock").read_text().splitlines()
            if "==" in line
        }
        for level in levels
    )
    assert runtime < dev
