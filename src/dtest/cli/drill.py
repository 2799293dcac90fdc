"""``dtest drill``: failures on purpose, on a throw-away cell of this machine."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import NotFound, UsageError

NOT_HELD = 3
SEED_DEFAULT = 1


def ls(*, call: CallOptions = DEFAULTS) -> int:
    """List the drills.

    Example: `dtest drill ls`
    """
    from dtest.drills.catalogue import DRILLS

    rows = [
        {
            "name": one.name,
            "runs": one.runs,
            "nodes": list(one.nodes),
            "partition": list(one.layout.ways),
            "summary": one.summary,
        }
        for one in DRILLS.values()
    ]
    if call.json:
        output.as_json({"drills": rows})
    else:
        output.table(rows, ["name", "runs", "summary"])
    return 0


def run(
    name: str,
    *,
    nodes: str = "1",
    runs: int | None = None,
    seed: int = SEED_DEFAULT,
    report: Path | None = None,
    partition: Literal["auto", "netns", "proxy"] = "auto",
    evidence: Path | None = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Run a drill on a throw-away cell under load, and check that nothing was lost.

    Example: `dtest drill run leader --runs 20 --json --report drill.html`

    Parameters
    ----------
    name
        One of `dtest drill ls`.
    nodes
        How many brokers: one number, or several with commas for a comparison.
    runs
        Injections in each layout; by default what the drill says.
    seed
        Draws the pauses and the victims; the same seed draws the same.
    report
        Write a page with a timeline there.
    partition
        How parts are cut off: by network namespaces, whose cables are pulled (root on Linux), or
        by a proxy that holds the bytes; by default the first where it is permitted.
    evidence
        Where the journal and the logs are kept if a check does not hold, for `dtest drill replay`
        and for a report of the fault; by default below the state directory.
    """
    from dtest.drills.catalogue import DRILLS
    from dtest.drills.drill import run_drill
    from dtest.drills.layout import Way
    from dtest.drills.report import page
    from dtest.drills.wires import check_way
    from dtest.runtime.logs import set_up_logs

    drill = DRILLS.get(name)
    if drill is None:
        message = f"there is no drill {name!r}"
        raise NotFound(message, hint=f"known: {', '.join(DRILLS)}")
    if runs is not None and runs < 1:
        message = f"--runs is {runs}; at least 1 is needed"
        raise UsageError(message)
    sizes = _sizes(nodes, drill.nodes, name)
    way = None if partition == "auto" else Way(partition)
    check_way(drill.layout, way, name)
    set_up_logs(role="drill", json_lines=False, level=50)
    kept = evidence or call.settings().state_dir / "drills" / name
    reports = []
    for size in sizes:
        output.say(f"drill {name} on {size} broker{'s' * (size > 1)}, seed {seed}")
        found = asyncio.run(
            run_drill(
                drill,
                nodes=size,
                runs=runs or drill.runs,
                seed=seed,
                evidence=kept,
                partition=way,
            )
        )
        reports.append(found)
        if found.partition:
            output.say(f"parts were cut off by {found.partition}: {found.partition_why}")
        for text in found.violations:
            output.say(f"VIOLATION {text}")
        for text in found.client_errors[:10]:
            output.say(f"client error: {text}")
        if found.evidence:
            output.say(f"journal and logs are kept in {found.evidence}")
    if report is not None:
        report.write_text(page(reports), encoding="utf-8")
        output.say(f"page written to {report}")
    documents = [one.document() for one in reports]
    if call.json:
        output.as_json(documents[0] if len(documents) == 1 else {"by_nodes": documents})
    else:
        output.table([_row(one) for one in documents], list(_row(documents[0])))
    return 0 if all(one.holds for one in reports) else NOT_HELD


def replay(*, journal: Path, lose: str = "", call: CallOptions = DEFAULTS) -> int:
    """Rehearse a recovery on a copy of a journal: what a new leader finds and decides.

    Example: `dtest archive write --to DIR`, then `dtest drill replay --journal DIR --lose gpu-7`

    Parameters
    ----------
    journal
        An archive, as `dtest archive write` makes it. It is only read.
    lose
        Workers, with commas, that die as the new leader takes over.
    """
    from dtest.archive.reader import read_archive
    from dtest.drills.rehearsal import rehearse

    names = [name for name in lose.split(",") if name]
    found = asyncio.run(rehearse(read_archive(journal), names)).document()
    if call.json:
        output.as_json(found)
    else:
        rows = [{"what": name, "found": _shown(value)} for name, value in found.items()]
        output.table(rows, ["what", "found"])
    return NOT_HELD if found["violations"] or found["doubts"] else 0


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items()) or "nothing"
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _sizes(nodes: str, possible: Sequence[int], name: str) -> list[int]:
    try:
        sizes = [int(part) for part in nodes.split(",")]
    except ValueError:
        sizes = []
    wrong = [size for size in sizes if size not in possible]
    if not sizes or wrong:
        message = f"--nodes is {nodes!r}; {name} runs on {', '.join(map(str, possible))}"
        raise UsageError(message, hint="give one number, or several with commas")
    return sizes


def _row(document: dict[str, Any]) -> dict[str, object]:
    recovery = document["recovery_ms"]
    return {
        "nodes": document["nodes"],
        "runs": document["runs"],
        **{f"{part}_ms": recovery.get(part, "-") for part in ("min", "p50", "p99", "max")},
        "tasks": document["tasks"],
        "lost": document["lost"],
        "duplicated": document["duplicated"],
        "faulted": document["faulted_attempts"],
        "client_errors": len(document["client_errors"]),
        "violations": len(document["violations"]),
    }
