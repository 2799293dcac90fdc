"""Environments of other versions of pytest and of plug-ins, made once for all workers of a run."""

import fcntl
import subprocess
import sys
import venv
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

DONE = "made"


def environment(root: Path, name: str, requirements: Sequence[str]) -> str:
    """Return the interpreter of an environment that holds these; a failure is never a skip."""
    root.mkdir(parents=True, exist_ok=True)
    name = f"{name}-{sha256(' '.join(requirements).encode()).hexdigest()[:8]}"
    place = root / name
    python = place / "bin" / "python"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / DONE).exists():
            venv.create(place, with_pip=False, clear=True)
            command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
            done = subprocess.run(
                [*command, *requirements], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
            (place / DONE).touch()
    return str(python)
