"""``dtest cluster``: the brokers of a cell on this machine without its other roles.

The same supervisor as under ``dtest up`` keeps them, so ``dtest down`` stops either.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dtest.caller.local_stack import LocalStack
from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.cli.stack import check_replicas, refuse_second
from dtest.cli.stack import down as stack_down
from dtest.settings import Settings, stack_path

if TYPE_CHECKING:
    from dtest.journal.cluster import Greeting, Placement


def up(*, nodes: int = 3, replicas: int | None = None, call: CallOptions = DEFAULTS) -> int:
    """Start a cluster of NATS servers on this machine, with the cell's streams and no other role.

    Examples: `dtest cluster up --nodes 3` · `dtest cluster up --nodes 5 --replicas 3`

    Parameters
    ----------
    nodes
        How many servers: 1, 3 or 5.
    replicas
        How many of them keep each stream; by default the setting `replicas`, else all.
    """
    settings = call.settings()
    refuse_second(settings)
    wanted = LocalStack(
        settings.cell,
        settings.state_dir,
        nodes=nodes,
        replicas=check_replicas(replicas or settings.replicas),
        brokers_only=True,
    )
    stack = wanted.start()
    path = stack_path(settings)
    servers = stack.nats_url.split(",")
    if call.json:
        told = {"cell": stack.cell, "pid": stack.pid, "nats_url": stack.nats_url}
        output.as_json({**told, "nodes": len(servers), "credentials": str(path)})
        return 0
    output.say(f"{len(servers)} NATS servers of cell {stack.cell} are up (pid {stack.pid})")
    for server in servers:
        output.say(f"  {server}")
    output.say(f"  credentials in {path}; the command line finds them by itself")
    return 0


def status(call: CallOptions = DEFAULTS) -> int:
    """Show each server and each stream: who is alive, who leads, whose replica lags.

    Example: `dtest cluster status`

    Exit code 0 if every server answers and every replica is current, else 3.
    """
    settings = call.settings()
    greetings, placed = asyncio.run(_look(settings))
    nodes = _nodes(greetings, placed)
    whole = all(node["alive"] for node in nodes) and all(one.is_whole for one in placed)
    if call.json:
        streams = [{**asdict(one), "whole": one.is_whole} for one in placed]
        output.as_json({"cell": settings.cell, "whole": whole, "nodes": nodes, "streams": streams})
    else:
        output.table(nodes, ["server", "address", "alive", "version", "leads"])
        output.table(
            [
                {"stream": one.stream, "messages": one.messages, **asdict(replica)}
                for one in placed
                for replica in one.replicas
            ],
            ["stream", "messages", "server_name", "leads", "current", "offline", "lag", "heard_ms"],
        )
    return 0 if whole else 3


async def _look(settings: Settings) -> "tuple[list[Greeting], list[Placement]]":
    from dtest.journal.cluster import greet_all, placements
    from dtest.roles.session import address_of, session

    greetings = await greet_all(address_of(settings).servers)
    async with session(settings, name="dtest cluster status") as opened:
        return greetings, await placements(opened.connection, opened.cell)


def _nodes(
    greetings: "Sequence[Greeting]", placed: "Sequence[Placement]"
) -> list[dict[str, object]]:
    """Return a line for each address, and for each server that only a stream's leader names."""
    named = {one.server_name for one in greetings if one.server_name}
    lines: list[dict[str, object]] = []
    for one in greetings:
        leads = [each.stream for each in placed if each.leader and each.leader == one.server_name]
        line = {"server": one.server_name, "address": one.address, "version": one.version}
        lines.append({**line, "alive": one.server_name is not None, "leads": leads})
    silent = sum(one.server_name is None for one in greetings)
    others = {
        replica.server_name: not replica.offline
        for each in placed
        for replica in each.replicas
        if replica.server_name not in named
    }
    if silent and len(others) == silent == 1:  # the one that does not answer is the one not named
        (name,) = others
        return [{**line, "server": line["server"] or name} for line in lines]
    if silent:  # their names cannot be told apart
        return lines
    return lines + [
        {"server": name, "address": None, "version": None, "alive": alive, "leads": []}
        for name, alive in sorted(others.items())
    ]


def down(
    *, purge: Annotated[bool, Parameter(negative="")] = False, call: CallOptions = DEFAULTS
) -> int:
    """Stop the servers that `dtest cluster up` started. Their stores stay, unless purged.

    Example: `dtest cluster down`

    Parameters
    ----------
    purge
        Delete the stores: the journal and everything else the cell kept on this machine.
    """
    return stack_down(purge=purge, call=call)
