"""``dtest up``, ``down`` and ``status``: a whole cell on this machine."""

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dtest.caller.local_stack import LocalStack, stop_stack
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import Conflict, UsageError
from dtest.runtime.stack_file import StackFile, read_stack_file
from dtest.settings import Settings, environment, stack_path


def up(  # noqa: PLR0913 - one option each
    *,
    workers: int = 2,
    slots: int | None = None,
    simulate: str = "",
    simulate_seconds: float = 0.1,
    schedulers: int = 1,
    port: int = 0,
    nodes: int | None = None,
    replicas: int | None = None,
    foreground: Annotated[bool, Parameter(negative="")] = False,
    call: CallOptions = DEFAULTS,
) -> int:
    """Start a cell on this machine: brokers, scheduler, API, agents. It stays until `dtest down`.

    Examples: `dtest up` · `dtest up --workers 4 --simulate cuda:2,rocm:1,cpu:4`

    Parameters
    ----------
    workers
        Agents that run real processes.
    slots
        Attempts that run at once on each of them; by default one for each processor.
    simulate
        Simulated workers beside them, as ``cuda:2,rocm:1,cpu:4``; labelled as simulated.
    simulate_seconds
        How long a task takes on a simulated worker unless the task says so.
    schedulers
        One leads; with more than one, another takes over within a second when it dies.
    port
        Port of the HTTP API on loopback; by default a free one.
    nodes
        How many NATS servers: 1, 3 or 5; by default as many as the cell has, or one.
    replicas
        How many of them keep each stream; by default the setting `replicas`, else all.
    foreground
        Stay in the foreground until Ctrl-C.
    """
    _check(workers, slots, schedulers, simulate)
    settings = call.settings()
    path = stack_path(settings)
    refuse_second(settings)
    nats = settings.get("nats_url") if call.nats or environment().get("DTEST_NATS_URL") else None
    if nats and nodes is not None:
        message = f"--nodes {nodes} asks for own NATS servers, and {nats} is named to be used"
        raise UsageError(message, hint="give one of the two")
    wanted = LocalStack(
        settings.cell,
        settings.state_dir,
        workers=workers,
        slots=slots,
        simulate=simulate,
        simulate_seconds=simulate_seconds,
        schedulers=schedulers,
        port=port,
        nats=nats,
        nodes=nodes,
        replicas=check_replicas(replicas or settings.replicas),
    )
    if foreground:
        os.execv(sys.executable, wanted.command)  # noqa: S606 - this very program goes on
    _tell(wanted.start(), path, as_json=call.json)
    return 0


def refuse_second(settings: Settings) -> None:
    """Raise Conflict if a stack of the cell is up."""
    running = read_stack_file(stack_path(settings))
    if running is not None:
        message = f"a stack of cell {settings.cell} is up already (pid {running.pid})"
        raise Conflict(message, hint="use it, or `dtest down` first")


def check_replicas(replicas: int | None) -> int | None:
    """Return a number of replicas, or raise UsageError for one that makes no sense."""
    if replicas not in (None, 1, 3, 5):
        message = f"{replicas} replicas are not offered"
        raise UsageError(message, hint="1 survives no death of a server, 3 survive one, 5 two")
    return replicas


def _check(workers: int, slots: int | None, schedulers: int, simulate: str) -> None:
    """Raise UsageError before anything is started."""
    counts = (("--workers", workers, 0), ("--slots", slots, 1), ("--schedulers", schedulers, 1))
    for option, value, least in counts:
        if value is not None and value < least:
            message = f"{option} is {value}; at least {least} is needed"
            raise UsageError(message)
    if simulate:
        from dtest.roles.agent_main import parse_kinds

        parse_kinds(simulate)


def _tell(stack: StackFile, path: Path, *, as_json: bool) -> None:
    if as_json:
        shown = {"cell": stack.cell, "pid": stack.pid, "api_url": stack.api_url}
        output.as_json({**shown, "nats_url": stack.nats_url, "credentials": str(path)})
        return
    output.say(f"cell {stack.cell} is up (pid {stack.pid})")
    output.say(f"  API   {stack.api_url}/api/docs")
    output.say(f"  NATS  {stack.nats_url}")
    output.say(f"  credentials in {path}; the command line finds them by itself")


def down(
    *, purge: Annotated[bool, Parameter(negative="")] = False, call: CallOptions = DEFAULTS
) -> int:
    """Stop the cell that `dtest up` started. Its journal stays, unless it is purged.

    Parameters
    ----------
    purge
        Delete the cell's journal and everything else it kept on this machine.
    """
    settings = call.settings()
    path = stack_path(settings)
    stack = stop_stack(path)
    if purge:
        shutil.rmtree(path.parent, ignore_errors=True)
    said = "stopped" if stack is not None else "was not up"
    if call.json:
        output.as_json({"cell": settings.cell, "stopped": stack is not None, "purged": purge})
    else:
        output.say(f"cell {settings.cell} {said}{' and is deleted' if purge else ''}")
    return 0


def _tell_filling(journal: dict[str, Any]) -> None:
    """Say what a journal that has little room means, and what to do."""
    used = f"{journal['used_bytes']} of {journal['max_bytes']} bytes"
    match journal["state"]:
        case "full":
            output.say(f"THE JOURNAL IS FULL ({used}): leader and agents wait for room")
        case "reserved":
            output.say(f"the journal is nearly full ({used}): no submissions are taken")
        case _:
            return
    output.say("  try: dtest server migrate --journal-bytes N, see docs/limits.md")


def _standing_by(count: int | None) -> str:
    """Say who would take over from the leader."""
    if count is None:
        return "it is not known whether a scheduler stands by"
    if not count:
        return "no scheduler stands by: without the leader work waits until one is started"
    return f"{count} scheduler{'s stand' if count > 1 else ' stands'} by"


def status(call: CallOptions = DEFAULTS) -> int:
    """Show leadership, workers, tasks and positions of the cell."""
    settings = call.settings()
    api = open_api(settings)
    shown = api.get("/api/status")
    shown["api_url"] = api.url
    shown["credentials"] = str(stack_path(settings))
    if call.json:
        output.as_json(shown)
        return 0
    output.say(f"cell {shown['cell']}, leader {shown['leader_id']} since epoch {shown['epoch']}")
    output.say(_standing_by(shown["standbys"]))
    journal, projected = shown["journal"], shown["projected_seq"]
    output.say(f"journal at {journal['last_seq']}, read model at {projected}, API {api.url}")
    _tell_filling(journal)
    counts = [{"what": "workers", "state": k, "count": v} for k, v in shown["workers"].items()]
    counts += [{"what": "tasks", "state": k, "count": v} for k, v in shown["tasks"].items()]
    counts += [{"what": "events", "state": "refused", "count": shown["refused"]}]
    output.table(counts, ["what", "state", "count"])
    if len(shown["leaders"]) > 1:
        output.say("the last leaders:")
        output.table(shown["leaders"], ["epoch", "leader_id", "host", "elected_at"])
    return 0
