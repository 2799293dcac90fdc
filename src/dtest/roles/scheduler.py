"""The process that leads a cell, or stands by: any number of them may run."""

import asyncio
import os
import socket
from collections.abc import Callable

import dtest
from dtest.events import subject
from dtest.journal.patient import PatientJournal
from dtest.journal.stores import checkpoint_store
from dtest.journal.workspace_store import WorkspaceStore
from dtest.leadership.candidate import Candidate, Watch
from dtest.leadership.checkpoints import CheckpointSweeper
from dtest.leadership.follower import Follower
from dtest.leadership.leader import Identity, Leader
from dtest.leadership.snapshots import SnapshotFiles, SnapshotWriter, current_basis
from dtest.leadership.workspaces import WorkspaceRenewer
from dtest.roles.session import Session, hold_office
from dtest.runtime.clock import SystemClock
from dtest.runtime.ids import jitter, short_id
from dtest.runtime.lifecycle import kept_alive
from dtest.runtime.logs import set_up_logs
from dtest.settings import Settings, load_settings


async def serve(settings: Settings) -> None:
    """Stand by and lead in turns, until stopped by a signal."""
    await hold_office(settings, lambda opened: _run(opened, settings), name="dtest scheduler")


async def _run(opened: Session, settings: Settings) -> None:
    directory = settings.state_dir / opened.cell / "snapshots"
    files = SnapshotFiles(directory, opened.cell, current_basis())
    follower = Follower(opened.journal, await files.latest(opened.journal))
    stream = (await opened.journal.bounds()).created
    clock = SystemClock()
    checkpoints = checkpoint_store(opened.connection, opened.cell)
    workspaces = WorkspaceStore(opened.connection, opened.cell, new_id=opened.new_id)
    candidate = Candidate(
        opened.journal,
        opened.connection,
        follower,
        watch=Watch(opened.connection, where=subject.leader(opened.cell), jitter=jitter),
        new_leader=_terms(opened, follower, clock),
        monotonic=clock.monotonic,
        pid=os.getpid(),
        duties=lambda leader: (
            CheckpointSweeper(leader, checkpoints).run(),
            WorkspaceRenewer(leader, workspaces, now=clock.now).run(),
        ),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(follower.run())
        group.create_task(candidate.run())
        group.create_task(SnapshotWriter(files, follower, stream=stream).run())
        group.create_task(kept_alive())


def _terms(opened: Session, follower: Follower, clock: SystemClock) -> Callable[[], Leader]:
    identity = Identity(opened.cell, short_id(), socket.gethostname(), dtest.__version__)

    def new() -> Leader:
        leader = Leader(
            PatientJournal(opened.journal, refused=lambda: leader.waits_for_room()),  # noqa: PLW0108 - it is made here
            follower,
            identity=identity,
            clock=clock,
            new_id=opened.new_id,
        )
        return leader

    return new


def main() -> None:
    """Run a scheduler with the settings of the environment."""
    set_up_logs(role="scheduler", json_lines=True)
    asyncio.run(serve(load_settings()))


if __name__ == "__main__":
    main()
