"""``dtest server mirror`` and ``dtest server promote``: a second region that can take over."""

import asyncio
from dataclasses import asdict

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions


def mirror(
    *,
    domain: str | None = None,
    replicas: int | None = None,
    journal_bytes: int | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Keep a copy of another region's journal on these servers, and show how far it is.

    Example: `dtest server mirror --domain first --nats tls://n1.second:4222`

    Parameters
    ----------
    domain
        The JetStream domain of the region that has the journal. Without it nothing is made.
    replicas
        How many servers of this region keep the copy; by default the setting `replicas`, else
        3 on a cluster.
    journal_bytes
        What the copy may grow to; at least as much as the journal. By default 16 GiB.
    """
    from dtest.journal.migration import Wanted, usual_replicas
    from dtest.journal.mirror import MirrorState, create_mirror, get_mirror
    from dtest.journal.streams import Limits
    from dtest.roles.session import session

    settings = call.settings()
    asked = replicas or settings.replicas

    async def make() -> MirrorState:
        async with session(settings, name="dtest mirror") as opened:
            if domain is not None:
                count = await usual_replicas(opened.connection, opened.cell, asked)
                limits = Wanted(count, journal_bytes).limits(Limits())
                await create_mirror(opened.connection, opened.cell, limits, domain)
            return await get_mirror(opened.connection, opened.cell)

    state = asyncio.run(make())
    if call.json:
        output.as_json(asdict(state))
    else:
        output.table([asdict(state)], ["stream", "api", "last_seq", "lag", "heard_s"])
    return 0


def promote(*, replicas: int | None = None, call: CallOptions = DEFAULTS) -> int:
    """Make the copy on these servers the journal, and the cell's other streams beside it.

    Refused while the origin answers: a cell must not have two journals.

    Example: `dtest server promote --nats nats://10.1.0.5:4222`

    Parameters
    ----------
    replicas
        How many servers keep each stream; by default as many as keep the copy.
    """
    from dtest.journal import mirror as second
    from dtest.roles.session import session

    settings = call.settings()

    async def take_over() -> int:
        async with session(settings, name="dtest promote") as opened:
            return await second.promote(opened.connection, opened.cell, replicas=replicas)

    last = asyncio.run(take_over())
    if call.json:
        output.as_json({"cell": settings.cell, "last_seq": last})
    else:
        output.say(f"cell {settings.cell} has its journal here now, up to {last}")
        output.say("  start schedulers and API here, and point agents and clients at these servers")
    return 0
