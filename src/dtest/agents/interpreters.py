"""The Pythons of this machine: the agent's own, and those in ``PATH``."""

import asyncio
import json
import platform
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from dtest.agents.recipe import Interpreter
from dtest.errors import NotFound
from dtest.events.environment import accepts

ASK_S_MAX = 20.0
MINORS = range(20, 7, -1)
PIP_MIN = (22, 3)
"""From here on pip serves an interpreter that has none."""
_ASK = (
    "import json,platform,sys,sysconfig;print(json.dumps([sys.executable,"
    "list(sys.version_info[:3]),platform.python_implementation(),sysconfig.get_platform()]))"
)


async def interpreter_for(constraint: str, path: str) -> Interpreter:
    """Return the first interpreter of the asked version. Raises NotFound that names the others."""
    own = own_interpreter()
    if accepts(constraint, own.version):
        return own
    seen = [own]
    for name in _candidates(path):
        found = await _asked(name)
        if found is None:
            continue
        if accepts(constraint, found.version):
            return found
        seen.append(found)
    versions = ", ".join(sorted({each.shown for each in seen}))
    message = f"the task wants Python {constraint}; this worker has {versions}"
    raise NotFound(message, hint="install one in the agent's PATH")


@cache
def own_interpreter() -> Interpreter:
    """Return the one that runs the agent."""
    return Interpreter(
        sys.executable,
        tuple(sys.version_info[:3]),
        platform.python_implementation(),
        sysconfig.get_platform(),
    )


@cache
def with_pip() -> str | None:
    """Return the agent's interpreter if its pip can serve others; that saves installing one."""
    try:
        found = version("pip").split(".")
    except PackageNotFoundError:
        return None
    numbers = tuple(int(part) for part in found[:2] if part.isdigit())
    return sys.executable if numbers >= PIP_MIN else None


def _candidates(path: str) -> Iterator[str]:
    for name in ("python3", *(f"python3.{minor}" for minor in MINORS)):
        found = shutil.which(name, path=path)
        if found is not None:
            yield found


async def _asked(program: str) -> Interpreter | None:
    """Ask an interpreter what it is; none if it does not say."""
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *("-I", "-c", _ASK),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(ASK_S_MAX):
            said, _ = await process.communicate()
        executable, numbers, implementation, where = json.loads(said)
    except (TimeoutError, ValueError):
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Interpreter(str(executable), tuple(numbers), str(implementation), str(where))
