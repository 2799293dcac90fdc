#!/usr/bin/env python3
"""Run dtest from a fresh checkout: make ``.venv`` beside this file, then start what was asked for.

Needs Python 3.11 with pip and nothing else. A second call finds its stamp and starts at once.
It does not choose versions: requirements/*.lock do.
"""

import sys

if sys.version_info < (3, 11):  # an older Python 3 must be able to read this file up to its end
    sys.exit(
        f"bootstrap: Python 3.11 or newer is needed; this is {sys.version.split()[0]}"
        f" ({sys.executable})"
    )

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

USAGE = """usage: python3 bootstrap.py demo [ARGS]    see dtest work on this machine
       python3 bootstrap.py test [ARGS]    run the default tests; ARGS go to pytest
       python3 bootstrap.py check          run the checks that CI runs
       python3 bootstrap.py run -- CMD     run any command of the development environment
"""
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
ORIGIN = VENV / ".made-by"
LEVELS = ("runtime", "dev")
"""What can be installed, from little to much: dev.lock holds all of runtime.lock."""
ON_ALL_CORES = ("-n", "logical", "--maxprocesses", "8", "--dist", "loadfile")
"""The tests of a file share servers, so they stay together."""


def main(args: list[str]) -> None:
    """Install what the first word needs, then become that command."""
    verb, rest = args[:1], args[1:]
    if verb == ["demo"]:
        level, command = "runtime", [str(VENV / "bin" / "dtest"), "demo", *rest]
    elif verb == ["test"]:
        level, command = "dev", [str(PYTHON), "-m", "pytest", *ON_ALL_CORES, *rest]
    elif args == ["check"]:
        level, command = "dev", [str(VENV / "bin" / "just"), "check"]
    elif verb == ["run"] and rest[:1] == ["--"] and rest[1:]:
        level, command = "dev", rest[1:]
    elif args in (["-h"], ["--help"]):
        sys.stdout.write(USAGE)
        return
    else:
        sys.stderr.write(USAGE)
        sys.exit(2)
    with (ROOT / ".venv.lock").open("w") as lock:
        wait_for(lock.fileno())
        install(level)
    become(command)


def wait_for(lock: int) -> None:
    """Hold the lock: two installations at once would spoil each other's files."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("waiting for another installation to finish")
        fcntl.flock(lock, fcntl.LOCK_EX)


def install(level: str) -> None:
    """Bring ``.venv`` to the level, or find that it is there already."""
    if made_here() and any(is_fresh(enough) for enough in LEVELS[LEVELS.index(level) :]):
        return
    if pip("--version", python=sys.executable).returncode:
        sys.exit(
            f"bootstrap: {sys.executable} has no pip 22.3 or newer;"
            " install it (Debian: apt install python3-pip)"
        )
    if not made_here():
        make_venv()
    for each in LEVELS:
        stamp(each).unlink(missing_ok=True)
    say(f"installing requirements/{level}.lock (the first time takes a minute)")
    must_pip("install", "--require-hashes", "-r", f"requirements/{level}.lock")
    say("installing dtest itself")
    must_pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
    stamp(level).write_text(digest(level), encoding="utf-8")  # last: half an installation has none


def make_venv() -> None:
    """Make ``.venv`` anew, with no pip in it: ours serves it too.

    Debian keeps ensurepip, which would bring pip, in a package of its own.
    """
    say(f"making .venv with Python {sys.version.split()[0]}")
    if VENV.exists():
        if not ORIGIN.is_file():
            sys.exit(f"bootstrap: {VENV} was made by something else; move it away")
        old = ROOT / ".venv.old"  # renamed first: a half deleted one would look foreign
        shutil.rmtree(old, ignore_errors=True)
        VENV.rename(old)
        shutil.rmtree(old)
    VENV.mkdir()
    ORIGIN.touch()
    result = completed([sys.executable, "-m", "venv", "--without-pip", str(VENV)])
    if result.returncode:
        sys.exit(f"bootstrap: cannot make {VENV}: {result.stdout.strip()}")
    ORIGIN.write_text(origin(), encoding="utf-8")


def made_here() -> bool:
    """Whether ``.venv`` was made at this place by this Python and still starts."""
    return PYTHON.exists() and ORIGIN.is_file() and ORIGIN.read_text(encoding="utf-8") == origin()


def origin() -> str:
    """What a virtual environment is bound to: its place (scripts hold it) and its interpreter."""
    return f"{ROOT}\n{sys.version}\n"


def is_fresh(level: str) -> bool:
    """Whether the level was installed from the files as they are now."""
    return stamp(level).is_file() and stamp(level).read_text(encoding="utf-8") == digest(level)


def stamp(level: str) -> Path:
    """The file that says that the level is installed."""
    return VENV / f".installed-{level}"


def digest(level: str) -> str:
    """A hash of all that decides what gets installed."""
    found = hashlib.sha256(origin().encode())
    for name in (f"requirements/{level}.lock", "pyproject.toml"):
        found.update((ROOT / name).read_bytes())
    return found.hexdigest()


def must_pip(*args: str) -> None:
    """Run pip for ``.venv``; silent unless it fails."""
    result = pip(*args, "--quiet", python=str(PYTHON))
    if result.returncode:
        sys.stderr.write(result.stdout)
        sys.exit(f"bootstrap: pip failed (above); what it ran: pip {' '.join(args)}")


def pip(*args: str, python: str) -> "subprocess.CompletedProcess[str]":
    """Run this Python's pip on the environment of another interpreter."""
    return completed([sys.executable, "-m", "pip", "--python", python, *args])


def completed(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a step to its end and keep what it prints."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env={
            **os.environ,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_USER": "0",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def become(command: list[str]) -> None:
    """Replace this process by the command, with the programs of ``.venv`` first in PATH."""
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    os.environ["VIRTUAL_ENV"] = str(VENV)
    os.environ.pop("PYTHONHOME", None)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"bootstrap: cannot start {command[0]}: {error.strerror}")


def say(line: str) -> None:
    """One line of progress."""
    print(f"bootstrap: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.exit(f"bootstrap: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
