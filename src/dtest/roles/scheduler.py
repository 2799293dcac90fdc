"""The process that leads a cell: fold, decide, record; with detector and sweeper beside it."""

import asyncio
import socket

import structlog

import dtest
from dtest.journal.stores import checkpoint_store
from dtest.journal.streams import Limits
from dtest.leadership.checkpoints import CheckpointSweeper
from dtest.leadership.decision import Policy
from dtest.leadership.detector import Detector
from dtest.leadership.leader import Deposed, Identity, Leader
from dtest.roles.session import Session, session
from dtest.runtime.clock import SystemClock
from dtest.runtime.ids import short_id
from dtest.runtime.lifecycle import hold_many_objects, on_stop_signals, run_until_stopped
from dtest.runtime.logs import set_up_logs
from dtest.settings import Settings, load_settings

log = structlog.get_logger()

PATIENCE_S = 3_600.0
"""How long the leader repeats one append while the brokers are away."""


async def lead(opened: Session, policy: Policy) -> None:
    """Lead one term. Raises Deposed when another leader was elected."""
    clock = SystemClock()
    leader = Leader(
        opened.journal,
        identity=Identity(opened.cell, short_id(), socket.gethostname(), dtest.__version__),
        clock=clock,
        new_id=opened.new_id,
        policy=policy,
    )
    detector = Detector(leader, opened.connection, cell=opened.cell, monotonic=clock.monotonic)
    files = checkpoint_store(opened.connection, opened.cell, Limits())
    async with asyncio.TaskGroup() as group:
        group.create_task(leader.run())
        group.create_task(detector.run())
        group.create_task(CheckpointSweeper(leader, files).run())


async def serve(settings: Settings) -> None:
    """Lead until stopped by a signal or deposed."""
    hold_many_objects()
    stop = asyncio.Event()
    on_stop_signals(stop.set)
    async with (
        session(settings, name="dtest scheduler", retry_s_max=PATIENCE_S, wait_s=15.0) as opened,
        asyncio.TaskGroup() as group,
    ):
        main = group.create_task(_lead(opened, stop))
        await run_until_stopped(main, stop)


async def _lead(opened: Session, stop: asyncio.Event) -> None:
    try:
        await lead(opened, Policy())
    except* Deposed as group:
        log.warning("stepped_down", detail=str(group.exceptions[0]))
        stop.set()


def main() -> None:
    """Run the scheduler with the settings of the environment."""
    set_up_logs(role="scheduler", json_lines=True)
    asyncio.run(serve(load_settings()))


if __name__ == "__main__":
    main()
