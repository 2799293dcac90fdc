"""``dtest event``: the journal itself."""

import asyncio
import os
import select
import stat
import sys
from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from cyclopts import Parameter

from dtest.cli import output
from dtest.cli.history import JOURNAL_ALONE, ArchiveOptions, history
from dtest.cli.options import DEFAULTS, CallOptions, StandardInputOrFile
from dtest.cli.runs import show_items
from dtest.errors import InvalidDocument, NotFound, UsageError
from dtest.events.codec import iso

LOOK_EVERY_S = 0.5


def tail(
    pattern: str = "*.*",
    *,
    after: int | None = None,
    count: int | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Print events as they come, one a line.

    Examples: `dtest event tail 'task.*' --json` · `dtest event tail --after 0 --count 10`

    Parameters
    ----------
    pattern
        Type of event; ``*`` stands for one word.
    after
        Start after this sequence number; by default only what is new.
    count
        End after so many events.
    """
    from dtest.journal.memory import fits
    from dtest.roles.session import session

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(_reader_left())
            await tell()
            watching.cancel()

    async def tell() -> None:
        shown = 0
        async with session(call.settings(), name="dtest event tail") as opened:
            start = (await opened.journal.bounds()).last if after is None else after
            async with opened.journal.follow(start) as feed:
                async for batch in feed:
                    for stored in batch:
                        for index, event in enumerate(_written(stored.payload)):
                            if not fits(_type(event), pattern):
                                continue
                            _print(stored.seq, index, stored.subject, event, call.json)
                            shown += 1
                            if count is not None and shown >= count:
                                return

    asyncio.run(run())
    return 0


async def _reader_left() -> None:
    """Wait until the program that reads standard output has ended. Raises BrokenPipeError.

    For commands that may be silent for long: `dtest event tail | head -1` ends with its reader.
    """
    if not stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode):
        return
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)  # an error is reported without being asked for
    while not pipe.poll(0):  # noqa: ASYNC110 - the kernel tells pollers only
        await asyncio.sleep(LOOK_EVERY_S)
    raise BrokenPipeError


def _written(payload: bytes) -> list[Any]:
    try:
        content = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return [{"raw": payload[:10_000].decode(errors="replace")}]
    return content if isinstance(content, list) else [content]


def _type(event: object) -> str:
    wire = event.get("type") if isinstance(event, dict) else None
    name = wire.removeprefix("dev.dtest.") if isinstance(wire, str) else "malformed.event.v1"
    return name.rpartition(".")[0] or "malformed.event"


def _print(seq: int, index: int, where: str, event: object, as_json: bool) -> None:  # noqa: FBT001
    if as_json:
        output.as_json({"seq": seq, "index": index, "subject": where, "event": event})
    elif isinstance(event, dict) and "data" in event:
        data = orjson.dumps(event["data"]).decode()
        print(f"{seq}.{index} {event.get('time')} {_type(event)} {data[:300]}", flush=True)
    else:
        print(f"{seq}.{index} {where} {orjson.dumps(event).decode()[:300]}", flush=True)


def show(seq: int, *, past: ArchiveOptions = JOURNAL_ALONE, call: CallOptions = DEFAULTS) -> int:
    """Print one message of the journal, and whether its events were accepted as written.

    Example: `dtest event show 1200`

    Parameters
    ----------
    seq
        Its sequence number.
    """
    from dtest.events.envelope import Malformed

    async def run() -> dict[str, Any]:
        async with history(call, past, name="dtest event show") as opened:
            stored = await opened.journal.get(seq)
            if stored is None:
                message = f"the journal has no message {seq}"
                raise NotFound(message, hint="`dtest status` shows the last number")
            record = stored.record()
            return {
                "seq": stored.seq,
                "subject": stored.subject,
                "stored_at": stored.stored_at,
                "events": _written(stored.payload),
                "malformed": [
                    {"index": i, "code": e.code, "detail": e.detail}
                    for i, e in enumerate(record.events)
                    if isinstance(e, Malformed)
                ],
            }

    found = asyncio.run(run())
    if call.json:
        output.as_json(found)
    else:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
    return 0


def publish(type: str, file: StandardInputOrFile = "-", *, call: CallOptions = DEFAULTS) -> int:
    """Record events as a client: the data of one event, or an array of them.

    Example: `echo '{"task_id": "t1"}' | dtest event publish task.cancel_requested`

    Parameters
    ----------
    type
        Type of the events, as ``task.queued``.
    file
        A JSON file, or ``-`` for standard input.
    """
    from pydantic import ValidationError

    from dtest.client import Client
    from dtest.events import codec
    from dtest.events.catalogue import PAYLOADS, ROLE_OF
    from dtest.events.fields import ClientId
    from dtest.events.problem import explain
    from dtest.journal.room import JournalRoom
    from dtest.roles.session import session
    from dtest.runtime.clock import SystemClock

    if ROLE_OF.get(type) != "client":
        known = ", ".join(sorted(name for name, role in ROLE_OF.items() if role == "client"))
        message = f"clients do not write events of type {type!r}"
        raise UsageError(message, hint=f"known: {known}")
    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        content = orjson.loads(text)
        items = content if isinstance(content, list) else [content]
        facts: list[Any] = [codec.adapter(PAYLOADS[type]).validate_python(item) for item in items]
    except (OSError, orjson.JSONDecodeError) as error:
        message = f"{file}: {error}"
        raise UsageError(message) from error
    except ValidationError as error:
        hint = f"see `dtest event schema {type}`"
        raise InvalidDocument(explain(error), hint=hint) from error
    if not facts:
        message = f"{file} holds no event"
        raise UsageError(message)

    settings = call.settings()

    async def run() -> list[int]:
        async with session(settings, name="dtest event publish") as opened:
            client = Client(
                opened.journal,
                cell=opened.cell,
                client_id=ClientId("cli"),
                now=SystemClock().now,
                new_id=opened.new_id,
            )
            if type == "task.queued":
                room = JournalRoom(
                    opened.journal,
                    reserve_ratio=settings.limit("journal_reserve_ratio"),
                    monotonic=SystemClock().monotonic,
                )
                await room.admit(len(text), tasks=len(facts))
            return [place.seq for place in await client.say(facts)]

    seqs = asyncio.run(run())
    if call.json:
        output.as_json({"seq": seqs[-1], "events": len(seqs)})
    else:
        output.say(f"{len(seqs)} recorded, the last at {seqs[-1]}")
    return 0


def schema(type: str | None = None, *, call: CallOptions = DEFAULTS) -> int:
    """Print the JSON Schema of an event, or list the events.

    Example: `dtest event schema task.queued`

    Parameters
    ----------
    type
        Type of event, as ``task.queued``.
    """
    from dtest.events.catalogue import PAYLOADS, ROLE_OF
    from dtest.events.schema import event_schema

    if type is None:
        rows = [
            {
                "type": name,
                "written_by": ROLE_OF[name],
                "meaning": (kind.__doc__ or "").split("\n")[0],
            }
            for name, kind in sorted(PAYLOADS.items())
        ]
        show_items(rows, ("type", "written_by", "meaning"), as_json=call.json)
        return 0
    if type not in PAYLOADS:
        message = f"no event has the type {type!r}"
        raise UsageError(message, hint="`dtest event schema` lists them")
    if call.json:
        output.as_json(event_schema(type))
    else:
        print(orjson.dumps(event_schema(type), option=orjson.OPT_INDENT_2).decode())
    return 0


def verify(
    *,
    unrecorded_rules: Literal["decide", "trust"] = "decide",
    past: ArchiveOptions = JOURNAL_ALONE,
    call: CallOptions = DEFAULTS,
) -> int:
    """Check the whole journal from its events alone.

    Nothing lost, nothing twice, no requirement violated, every decision right for its basis by the
    rules and parameters that its term recorded. Says which decisions could not be made again and
    what was trusted. Exit code 0 if all holds that was checked, 3 if not, or if it cannot be told.

    Examples: `dtest event verify` · `dtest event verify --archive DIR --offline`

    Parameters
    ----------
    unrecorded_rules
        Terms of older versions recorded no rules. Decide again by the last such rules, where a
        difference is a doubt, for theirs may be older still; or trust them and check facts alone.
    """
    from dtest.leadership.audit import verify as check

    async def run() -> Any:  # noqa: ANN401 - loaded above
        async with history(call, past, name="dtest event verify") as opened:
            return await check(opened.journal, opened.cell, unrecorded=unrecorded_rules)

    found = asyncio.run(run())
    if call.json:
        output.as_json({**asdict(found), "verdict": found.verdict})
    else:
        _tell_audit(asdict(found))
        output.say(found.verdict)
        if found.doubts and not found.violations:
            older = any("not recorded" in text for text in found.doubts)
            output.say(f"  try: {'--unrecorded-rules trust' if older else 'a newer dtest'}")
    return 3 if found.violations or found.doubts else 0


def _tell_audit(found: dict[str, Any]) -> None:
    """Print what the audit found, the worst last."""
    for name, value in found.items():
        if isinstance(value, int):
            print(f"{name.replace('_', ' ')}: {value}")
    for name, count in found["terms"].items():
        print(f"terms of {name}: {count}")
    for name, count in found["decisions_not_again"].items():
        print(f"NOT DECIDED AGAIN: {count} decisions by {name}")
    for text in found["short"]:
        print(f"NOT PROVEN {text}")
    for text in found["policy_changes"]:
        print(f"policy changed at {text}")
    for text in found["trusted"]:
        print(f"trusted: {text}")
    for text in found["doubts"]:
        print(f"DOUBT {text}")
    for text in found["violations"]:
        print(f"VIOLATION {text}")


def replay(
    *,
    to: str | None = None,
    state: Annotated[bool, Parameter(negative="")] = False,
    past: ArchiveOptions = JOURNAL_ALONE,
    call: CallOptions = DEFAULTS,
) -> int:
    """Show the state of the cell as it was at a sequence number or time.

    Examples: `dtest event replay --to 1200` · `dtest event replay --to 2026-11-20T12:00:00Z`

    Parameters
    ----------
    to
        A sequence number or an RFC 3339 instant; by default the end.
    state
        Print the whole state as JSON instead of its sums.
    """
    from dtest.journal.port import read_to
    from dtest.state.cell import Cell
    from dtest.state.fold import apply

    until_seq, until_s = _point(to)

    async def run() -> Cell:
        async with history(call, past, name="dtest event replay") as opened:
            cell = Cell(opened.cell)
            last = (await opened.journal.bounds()).last
            last = last if until_seq is None else min(until_seq, last)
            async for batch in read_to(opened.journal, 0, last):
                for stored in batch:
                    if until_s is not None and stored.stored_at > until_s:
                        return cell
                    apply(cell, stored.record())
            return cell

    cell = asyncio.run(run())
    if state:
        from dtest.state.snapshot import dump

        print(dump(cell).decode())
        return 0
    shown = {
        "seq": cell.seq,
        "at": cell.now,
        "epoch": cell.epoch,
        "leader_id": cell.leader_id,
        "rules": cell.term.rules,
        "strategy": cell.strategy,
        "parameters_set": cell.chosen,
        "tasks": dict(Counter(str(task.status) for task in cell.tasks.values())),
        "workers": dict(Counter(str(worker.status) for worker in cell.workers.values())),
        "runs": len(cell.runs),
        "refused": cell.refused,
        "ignored": dict(cell.ignored),
    }
    if call.json:
        output.as_json(shown)
    else:
        shown["at"] = iso(cell.now)
        for name, value in shown.items():
            print(f"{name}: {output.cell(value, name)}")
    return 0


def _point(to: str | None) -> tuple[int | None, float | None]:
    if to is None:
        return None, None
    if to.isdigit():
        return int(to), None
    try:
        instant = datetime.fromisoformat(to)
    except ValueError as error:
        message = f"{to!r} is neither a sequence number nor an RFC 3339 instant"
        raise UsageError(message, hint="as 1200 or 2026-11-20T12:00:00Z") from error
    if instant.tzinfo is None:
        message = f"{to!r} lacks its zone"
        raise UsageError(message, hint="append Z for UTC")
    return None, instant.timestamp()
