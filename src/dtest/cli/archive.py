"""``dtest archive``: the journal as files that need no broker."""

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import UsageError
from dtest.wording import counted

if TYPE_CHECKING:
    from dtest.archive.manifest import Entry

SEGMENT_MESSAGES_DEFAULT = 10_000
SEGMENT_MESSAGES_MAX = 1_000_000
SEGMENT_SECONDS_DEFAULT = 60.0
NOT_HELD = 3


def write(
    *,
    to: Path,
    segment_messages: int = SEGMENT_MESSAGES_DEFAULT,
    follow: Annotated[bool, Parameter(negative="")] = False,
    segment_seconds: float | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Write the journal down as checksummed Parquet segments; go on where the last call ended.

    The journal is only read. Whatever a call that was killed has left is completed by the next.

    Examples: `dtest archive write --to /srv/archive` · `… --follow`

    Parameters
    ----------
    to
        Directory of the archive; made if there is none.
    segment_messages
        Messages in a segment; the last one of a call may have fewer, and so may large messages.
    follow
        Go on with what comes, until interrupted.
    segment_seconds
        With --follow: write a segment that is not full after so long; by default 60.
    """
    if not 1 <= segment_messages <= SEGMENT_MESSAGES_MAX:
        message = f"--segment-messages is {segment_messages}, not 1 to {SEGMENT_MESSAGES_MAX}"
        raise UsageError(message)
    if segment_seconds is not None and not (follow and segment_seconds > 0):
        message = "--segment-seconds is a number above 0, and stands with --follow"
        raise UsageError(message)
    from dtest.archive.archiver import Archiver, SegmentSize
    from dtest.archive.manifest import Stream
    from dtest.archive.writer import writing
    from dtest.roles.session import session

    entries: list[Entry] = []

    def written(entry: "Entry") -> None:
        if not follow:
            entries.append(entry)
        elif call.json:
            output.as_json(asdict(entry))
        else:
            output.say(f"{entry.file}: {counted(entry.label.messages, 'message')}")

    async def run() -> tuple[int, str]:
        async with session(call.settings(), name="dtest archive write") as opened:
            stream = Stream(opened.cell, (await opened.journal.bounds()).created)
            with writing(to, stream) as writer:
                archiver = Archiver(
                    opened.journal, writer, SegmentSize(segment_messages), written=written
                )
                if follow:
                    await archiver.follow(every_s=segment_seconds or SEGMENT_SECONDS_DEFAULT)
                else:
                    await archiver.catch_up()
                return writer.last_seq, writer.head

    last_seq, head = asyncio.run(run())
    messages = sum(entry.label.messages for entry in entries)
    if call.json:
        output.as_json(
            {
                "directory": str(to),
                "segments_written": len(entries),
                "messages_written": messages,
                "last_seq": last_seq,
                "head": head,
            }
        )
    else:
        segments = counted(len(entries), "new segment")
        output.say(f"{to}: {counted(messages, 'message')} up to {last_seq}, in {segments}")
        print(f"head: {head}")
    return 0


def verify(directory: Path, *, head: str | None = None, call: CallOptions = DEFAULTS) -> int:
    """Check an archive by itself: checksums, chain and numbers. Needs no broker.

    Exit code 0 if all holds, 3 if not. What the events say is checked by
    `dtest event verify --archive DIR --offline`.

    Example: `dtest archive verify /srv/archive`

    Parameters
    ----------
    directory
        The archive.
    head
        The head that an earlier call printed, and that you kept elsewhere: shows that since then
        nothing was replaced and no end cut off.
    """
    from dtest.archive.inspection import inspect

    found = inspect(directory, head=head)
    if call.json:
        output.as_json(asdict(found))
    else:
        for name, value in asdict(found).items():
            if name not in {"violations", "unfinished"}:
                print(f"{name.replace('_', ' ')}: {value}")
        for text in found.violations:
            print(f"VIOLATION {text}")
        if found.unfinished:
            output.say(f"{found.unfinished} is not listed yet; the next call of write lists it")
        output.say("all holds" if not found.violations else "the archive does not hold")
    return NOT_HELD if found.violations else 0
