"""The process that conducts runs of suites, or stands by: any number of them may run."""

import asyncio
import os
import socket

import dtest
from dtest.conductor.conductor import conduct
from dtest.conductor.following import View
from dtest.conductor.means import Stage
from dtest.conductor.office import Office, Pen
from dtest.events import subject
from dtest.journal.patient import PatientJournal
from dtest.journal.stores import OutputStore, output_stream
from dtest.leadership.candidate import Watch
from dtest.leadership.leader import Identity
from dtest.leadership.snapshots import SnapshotFiles, current_basis
from dtest.roles.session import Session, hold_office
from dtest.runtime.clock import SystemClock
from dtest.runtime.ids import jitter, short_id
from dtest.runtime.lifecycle import kept_alive
from dtest.runtime.logs import set_up_logs
from dtest.settings import Settings, load_settings
from dtest.state.cell import Cell


async def serve(settings: Settings) -> None:
    """Stand by and conduct in turns, until stopped by a signal."""
    await hold_office(settings, lambda opened: _run(opened, settings), name="dtest conductor")


async def _run(opened: Session, settings: Settings) -> None:
    directory = settings.state_dir / opened.cell / "snapshots"
    begin, since = await _beginning(SnapshotFiles(directory, opened.cell, current_basis()), opened)
    clock = SystemClock()
    journal = PatientJournal(opened.journal)
    view = View(opened.journal, begin, since=since)
    output = OutputStore(
        output_stream(opened.connection, opened.cell, new_id=opened.new_id), opened.cell
    )
    stage = Stage(view, opened.journal, opened.connection, output, clock.now)
    office = Office(
        journal,
        opened.connection,
        view,
        identity=Identity(opened.cell, short_id(), socket.gethostname(), dtest.__version__),
        clock=clock,
        new_id=opened.new_id,
        watch=Watch(opened.connection, where=subject.conductor(opened.cell), jitter=jitter),
        pid=os.getpid(),
    )

    async def term(pen: Pen) -> None:
        await conduct(stage, pen)

    async with asyncio.TaskGroup() as group:
        group.create_task(view.run())
        group.create_task(office.run(term))
        group.create_task(kept_alive())


async def _beginning(files: SnapshotFiles, opened: Session) -> tuple[Cell, int]:
    """Return a state to begin with, from before the oldest run that has not ended, and its place.

    What tests came to stands in no snapshot: it is read again from there on.
    """
    latest = await files.latest(opened.journal)
    since = min((latest.suites[run_id].seq for run_id in latest.conducted), default=latest.seq + 1)
    if since > latest.seq:
        return latest, since
    return await files.latest(opened.journal, until=since - 1), since


def main() -> None:
    """Run a conductor with the settings of the environment."""
    set_up_logs(role="conductor", json_lines=True)
    asyncio.run(serve(load_settings()))


if __name__ == "__main__":
    main()
