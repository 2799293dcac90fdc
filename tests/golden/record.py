"""Records a golden journal: a real cell is led somewhere, its journal kept as an archive.

Run ``python -m tests.golden.record NAME`` (``just golden NAME``); ``--list`` names the scenes.
What is kept held when it was recorded: the audit found no violation, and the account beside the
archive is what the code of that day made of it. CONTRIBUTING.md says when one more is due.
"""

import argparse
import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import dtest
from dtest.archive.reader import open_archive
from dtest.leadership.audit import verify
from dtest.leadership.rules import CURRENT
from tests.golden.account import folded, rows_of, state_of, sums_of
from tests.golden.scenes import SCENES
from tests.kit.recording import Recording

JOURNALS = Path(__file__).with_name("journals")
EXPECTED = "expected.json"


async def expected_of(directory: Path) -> dict[str, Any]:
    """Return the account of an archived journal. Raises RuntimeError if it does not hold."""
    archive = open_archive(directory)
    stored = [message for batch in archive.batches() for message in batch]
    cell_id = archive.stream.cell
    report = await verify(Recording(stored), cell_id)
    wrong = [*report.violations, *report.doubts]
    if wrong:
        message = f"{directory.name} does not hold: {wrong}"
        raise RuntimeError(message)
    rows = await rows_of(stored, cell_id)
    return {
        "recorded_by": dtest.__version__,
        "commit": _commit(),
        "sums": sums_of(report),
        "state": {name: part.summary() for name, part in state_of(folded(stored, cell_id)).items()},
        "rows": {name: part.summary() for name, part in rows.items()},
    }


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, cwd=JOURNALS.parent, capture_output=True, text=True, check=True)
    return found.stdout.strip()


def tell(directory: Path) -> None:
    """Print the account of a golden journal, a record a line, to compare what two checkouts say."""
    archive = open_archive(directory)
    stored = [message for batch in archive.batches() for message in batch]
    rows = asyncio.run(rows_of(stored, archive.stream.cell))
    state = state_of(folded(stored, archive.stream.cell))
    for name, section in {**state, **rows}.items():
        for record in section.lines():
            print(name, record.decode())


def keep(name: str, to: Path) -> None:
    """Record one journal into a directory of its own below ``to``; it must not be there yet."""
    place = to / name
    place.mkdir(parents=True)
    SCENES[name](place)
    expected = asyncio.run(expected_of(place))
    (place / EXPECTED).write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in place.iterdir())
    print(f"{name}: {expected['sums']['events']} events, {size} bytes")


def main() -> None:
    """Record what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--list", action="store_true", help="name the scenes")
    parser.add_argument("--to", type=Path, default=JOURNALS / f"rules-{CURRENT.version}")
    parser.add_argument("--account", metavar="RULES/NAME", help="print what a journal amounts to")
    options = parser.parse_args()
    if options.account:
        tell(JOURNALS / options.account)
    if options.list:
        print("\n".join(SCENES))
    for name in options.names:
        keep(name, options.to)


if __name__ == "__main__":
    main()
