"""How ``dtest server migrate`` compares, mends and tells."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict

from dtest.cli import output
from dtest.errors import Conflict
from dtest.journal.cluster import await_leaders
from dtest.journal.migration import Finding, Wanted, apply, compare
from dtest.roles.session import session
from dtest.settings import Settings

COPIED_S_MAX = 120.0


def migrated(settings: Settings, wanted: Wanted, *, check: bool, as_json: bool) -> int:
    """Compare the streams of a cell, mend them unless told to check; return the exit code.

    Raises Conflict when a difference stays.
    """
    before, after = asyncio.run(_migrate(settings, wanted, check=check))
    if as_json:
        told = {"cell": settings.cell, "streams": [_shown(one) for one in before]}
        right = all(one.state == "right" for one in after)
        output.as_json({**told, "left": [_shown(one) for one in after], "right": right})
    else:
        _tell(before, after, check=check)
    left = [one for one in after if one.state != "right"]
    if left and not check:
        names = ", ".join(one.stream for one in left)
        message = f"not everything could be changed in place: {names}"
        raise Conflict(message, hint="docs/operations.md, section Changing streams")
    return 1 if left else 0


async def _migrate(
    settings: Settings, wanted: Wanted, *, check: bool
) -> tuple[list[Finding], list[Finding]]:
    async with session(settings, name="dtest migrate") as opened:
        before = await compare(opened.connection, opened.cell, wanted)
        if check:
            return before, before
        after = [await apply(opened.connection, finding) for finding in before]
        if after != before:  # new copies take their time
            await await_leaders(opened.connection, opened.cell, wait_s=COPIED_S_MAX, whole=True)
        return before, after


def _shown(finding: Finding) -> dict[str, object]:
    differences = [asdict(one) for one in finding.differences]
    return {"stream": finding.stream, "state": finding.state, "differences": differences}


def _tell(before: Sequence[Finding], after: Sequence[Finding], *, check: bool) -> None:
    rows: list[dict[str, object]] = []
    for was, now in zip(before, after, strict=True):
        if was.state == "missing":
            rows.append({"stream": was.stream, "state": "missing" if check else "created"})
        elif was.state == "right":
            rows.append({"stream": was.stream, "state": "right"})
        kept = {one.setting: one.obstacle for one in (was if check else now).differences}
        for one in was.differences:
            state = "different" if check else "kept" if one.setting in kept else "changed"
            about = {"setting": one.setting, "found": one.found, "wanted": one.wanted}
            obstacle = kept.get(one.setting, "")
            rows.append({"stream": was.stream, "state": state, **about, "obstacle": obstacle})
    output.table(rows, ["stream", "state", "setting", "found", "wanted", "obstacle"])
