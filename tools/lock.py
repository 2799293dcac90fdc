#!/usr/bin/env python3
"""Write requirements/runtime.lock and requirements/dev.lock from pyproject.toml.

pip-compile resolves with pip's own resolver and lists the hashes of all files of each release,
so that one lock serves every platform. Versions already locked stay; ``--upgrade`` lifts them.
What this machine adds to the index (other indexes, folders of wheels, constraints) is left out:
a lock must come out the same everywhere.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
HEADER = """\
# Made by `just lock` from pyproject.toml; do not edit.
# Every file of each release is listed by hash, so the lock serves every platform.
"""
EXTRAS = {"dev": ["--extra=dev"], "runtime": []}
"""In the order of making: runtime starts from dev's versions, so that they are the same."""
REACH = ("index-url", "cert", "client-cert", "proxy", "timeout", "default-timeout", "trusted-host")
"""The only settings of pip that are taken over: how to reach the one index."""


def main() -> None:
    """Compile both locks, check them, and only then replace the old ones."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--upgrade", action="store_true", help="lift every version")
    upgrade = parser.parse_args().upgrade
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        seed = "" if upgrade else read(LOCKS / "dev.lock")
        made: dict[str, str] = {}
        for name in EXTRAS:
            made[name] = seed = HEADER + compiled(name, work / f"{name}.txt", seed)
            refuse_addresses(name, made[name])
    if strangers := pins(made["runtime"]) - pins(made["dev"]):
        sys.exit(f"lock: in runtime.lock but not in dev.lock: {', '.join(sorted(strangers))}")
    LOCKS.mkdir(exist_ok=True)
    for name, text in made.items():
        (LOCKS / f"{name}.lock").write_text(text, encoding="utf-8")
        print(f"requirements/{name}.lock: {len(pins(text))} releases")


def compiled(name: str, output: Path, seed: str) -> str:
    """Resolve one lock; pins in ``seed`` are kept where they fit."""
    output.write_text(seed, encoding="utf-8")
    command = [
        *(sys.executable, "-m", "piptools", "compile", "--quiet", "--no-config", "--no-header"),
        *("--generate-hashes", "--allow-unsafe", "--strip-extras", "--annotation-style=line"),
        *("--no-emit-options", "--build-deps-for=editable", "--newline=lf"),
        *EXTRAS[name],
        *(f"--output-file={output}", "pyproject.toml"),
    ]
    result = subprocess.run(command, cwd=ROOT, env=environment(), check=False)
    if result.returncode:
        sys.exit(f"lock: {name}: pip-compile failed (above)")
    return output.read_text(encoding="utf-8")


def environment() -> dict[str, str]:
    """This environment, with pip's settings reduced to those of REACH."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option in REACH:
            kept["PIP_" + option.upper().replace("-", "_")] = value.strip("'\"")
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def refuse_addresses(name: str, text: str) -> None:
    """Stop before an address or an option of pip gets into a committed file."""
    for line in text.splitlines():
        if "://" in line or line.startswith("-"):
            sys.exit(f"lock: {name}: refused to write an address or an option: {line}")


def pins(text: str) -> set[str]:
    """All ``name==version`` of a lock."""
    return set(re.findall(r"^[^\s#=]+==[^\s;]+", text, flags=re.MULTILINE))


def read(path: Path) -> str:
    """The text of a file that may be missing."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


if __name__ == "__main__":
    main()
