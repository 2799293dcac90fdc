"""``dtest up``, ``down`` and ``status``: a whole cell on this machine."""

import ipaddress
import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from dtest.api.login import link_path
from dtest.caller.kept_stack import end_kept
from dtest.caller.local_stack import LocalStack, stop_stack
from dtest.caller.patience import PatientApi
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import Conflict, UsageError
from dtest.runtime.ids import secret
from dtest.runtime.nats_server import LOOPBACK
from dtest.runtime.ports import HeldPorts
from dtest.runtime.stack_file import StackFile, read_stack_file
from dtest.settings import OWN_STACK, Settings, environment, stack_path
from dtest.wording import counted

JOIN = "dtest-agent"


def up(  # noqa: PLR0913 - one option each
    *,
    workers: int = 2,
    slots: int | None = None,
    simulate: str = "",
    simulate_seconds: float = 0.1,
    schedulers: int = 1,
    port: int = 0,
    listen: str = LOOPBACK,
    nodes: int | None = None,
    replicas: int | None = None,
    foreground: Annotated[bool, Parameter(negative="")] = False,
    call: CallOptions = DEFAULTS,
) -> int:
    """Start a cell on this machine: brokers, scheduler, API, agents. It stays until `dtest down`.

    Examples: `dtest up` · `dtest up --workers 4 --simulate cuda:2,rocm:1,cpu:4` ·
    `dtest up --listen 192.168.1.20`

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
        Port of the HTTP API; by default a free one.
    listen
        The address of this machine at which brokers and API listen; by default only this machine
        reaches them. Others join by the line that is printed then.
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
    check_listen(listen, nats)
    wanted = LocalStack(
        settings.cell,
        settings.state_dir,
        listen=listen,
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
    if foreground and listen != LOOPBACK:
        message = "--foreground cannot print the line by which other machines join"
        raise UsageError(message, hint="leave out --foreground, or --listen")
    if foreground:
        os.execv(sys.executable, wanted.command)  # noqa: S606 - this very program goes on
    _tell(wanted.start(), path, listen=listen, as_json=call.json)
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


def check_listen(listen: str, nats: str | None) -> None:
    """Raise UsageError for an address at which nothing of this stack can listen."""
    if listen == LOOPBACK:
        return
    if nats:
        message = f"--listen {listen} is for own NATS servers, and {nats} is named to be used"
        raise UsageError(message, hint="give one of the two")
    try:
        found = ipaddress.IPv4Address(listen)
    except ValueError:
        found = None
    if found is None or found.is_unspecified:
        message = f"--listen {listen} names no single IPv4 address"
        raise UsageError(message, hint="give the one at which the other machines reach this one")
    try:
        with HeldPorts(listen) as ports:
            ports.take()
    except OSError as error:
        message = f"--listen {listen}: this machine has no such address"
        raise UsageError(message, hint="`ip address` shows those it has") from error


def _tell(stack: StackFile, path: Path, *, listen: str, as_json: bool) -> None:
    if as_json:
        shown = {"cell": stack.cell, "pid": stack.pid, "api_url": stack.api_url}
        output.as_json({**shown, "nats_url": stack.nats_url, "credentials": str(path)})
        return
    output.say(f"cell {stack.cell} is up (pid {stack.pid})")
    output.say(
        f"  open  {stack.api_url}{link_path(stack.token or '', now=time.time(), nonce=secret())}"
    )
    output.say(f"  API   {stack.api_url}/api/docs")
    output.say(f"  NATS  {stack.nats_url}")
    output.say(f"  credentials in {path}; the command line finds them by itself")
    if listen != LOOPBACK:
        _tell_joining(stack)


def _tell_joining(stack: StackFile) -> None:
    """Print the line that makes another machine a worker, and what that means."""
    words = {
        "DTEST_CELL": stack.cell,
        "DTEST_NATS_URL": stack.nats_url,
        "DTEST_NATS_USER": stack.nats_user or "",
        "DTEST_NATS_PASSWORD": stack.nats_password or "",
    }
    output.say("another machine joins by this line:")
    print(" ".join((*(f"{word}={shlex.quote(text)}" for word, text in words.items()), JOIN)))
    output.say("  its password lets anybody run anything on all workers, and nothing is encrypted:")
    output.say("  let only machines that you trust reach this address")


def login(*, call: CallOptions = DEFAULTS) -> int:
    """Print a link that opens the cell in a browser. It works once, for ten minutes.

    Example: `xdg-open "$(dtest login)"`
    """
    settings = call.settings()
    url, token = settings.require("api_url"), settings.require("token")
    link = f"{url.rstrip('/')}{link_path(token, now=time.time(), nonce=secret())}"
    if call.json:
        output.as_json({"url": link})
    else:
        print(link)
    return 0


def down(
    *, purge: Annotated[bool, Parameter(negative="")] = False, call: CallOptions = DEFAULTS
) -> int:
    """Stop the cell that `dtest up` started. Its journal stays, unless it is purged.

    Cells that `dtest test --keep` let stay end as well. Example: `dtest down --purge`

    Parameters
    ----------
    purge
        Delete the cell's journal and everything else it kept on this machine.
    """
    settings = call.settings()
    path = stack_path(settings)
    stack = stop_stack(path)
    kept, in_use = end_kept(settings.state_dir)
    if purge:
        shutil.rmtree(path.parent, ignore_errors=True)
    said = "stopped" if stack is not None else "was not up"
    if call.json:
        shown = {"cell": settings.cell, "stopped": stack is not None, "purged": purge}
        output.as_json({**shown, "kept": kept, "in_use": in_use})
    else:
        output.say(f"cell {settings.cell} {said}{' and is deleted' if purge else ''}")
        for place in kept:
            output.say(f"the cell that was kept for {place} ended")
        for place in in_use:
            output.say(f"the cell that is kept for {place} is in use; it stays with its call")
    return 0


def _tell_filling(journal: dict[str, Any]) -> None:
    """Say what a journal that has little room means, and what to do."""
    used = f"{journal['used_bytes']} of {journal['max_bytes']} bytes"
    match journal["state"]:
        case "full":
            print(f"THE JOURNAL IS FULL ({used}): leader and agents wait for room")
        case "reserved":
            print(f"the journal is nearly full ({used}): no submissions are taken")
        case _:
            return
    print("  try: dtest server migrate --journal-bytes N, see docs/limits.md")


def _standing_by(count: int | None) -> str:
    """Say who would take over from the leader."""
    if count is None:
        return "it is not known whether a scheduler stands by"
    if not count:
        return "no scheduler stands by: without the leader work waits until one is started"
    return f"{count} scheduler{'s stand' if count > 1 else ' stands'} by"


def status(call: CallOptions = DEFAULTS) -> int:
    """Show leadership, workers, tasks and positions of the cell.

    Example: `dtest status --json`
    """
    settings = call.settings()
    api = open_api(settings)
    is_local = str(getattr(settings.values.get("api_url"), "origin", "")).startswith(OWN_STACK)
    # A local one is started again when it ends.
    asked = PatientApi(api, output.say) if is_local else api
    shown = asked.get("/api/status")
    shown["api_url"] = api.url
    shown["credentials"] = str(stack_path(settings))
    if call.json:
        output.as_json(shown)
        return 0
    print(f"cell {shown['cell']}, leader {shown['leader_id']} since epoch {shown['epoch']}")
    print(_standing_by(shown["standbys"]))
    journal, projected = shown["journal"], shown["projected_seq"]
    print(f"journal at {journal['last_seq']}, read model at {projected}, API {api.url}")
    _tell_filling(journal)
    for kind, count in shown["unserved"].items():
        there = ", ".join(shown["types"]) or "no worker"
        print(f"no worker runs the {counted(count, 'task')} of type {kind!r}; there are: {there}")
    counts = [{"what": "workers", "state": k, "count": v} for k, v in shown["workers"].items()]
    counts += [{"what": "tasks", "state": k, "count": v} for k, v in shown["tasks"].items()]
    counts += [{"what": "events", "state": "refused", "count": shown["refused"]}]
    output.table(counts, ["what", "state", "count"])
    if len(shown["leaders"]) > 1:
        print("the last leaders:")
        output.table(shown["leaders"], ["epoch", "leader_id", "host", "elected_at"])
    return 0
