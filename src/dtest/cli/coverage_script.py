"""Combine what coverage.py measured on many workers, and report on it.

A script for an interpreter that has coverage.py; it needs nothing of dtest. Workers had the tree
in other places: which, is told from the measured paths that end as files of this tree do.
Usage: ``coverage_script.py TREE OUTPUT_DIRECTORY DATA_FILE...``; prints one JSON object.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

EXIT_FAILED, EXIT_MISSING = 1, 64


def main(arguments: list[str]) -> int:
    """Combine, report, print."""
    try:
        import coverage
        from coverage.exceptions import CoverageException
    except ImportError:
        print(f"{sys.executable} has no coverage.py", file=sys.stderr)
        return EXIT_MISSING
    tree, output, *data_files = arguments
    os.chdir(tree)  # where the project's own settings of coverage.py are
    into = Path(output)
    try:
        measured: set[str] = set()
        for file in data_files:
            data = coverage.CoverageData(file)
            data.read()
            measured |= data.measured_files()
        combined = coverage.Coverage(data_file=str(into / ".coverage"))
        elsewhere = other_places(measured, tree)
        stated = combined.get_option("paths")
        paths = dict(stated) if isinstance(stated, dict) else {}
        combined.set_option("paths", {**paths, "dtest": [tree, *elsewhere]})
        combined.combine(data_files, strict=True, keep=True)
        combined.save()
        known = sorted(combined.get_data().measured_files())
        combined.xml_report(outfile=str(into / "coverage.xml"), ignore_errors=True)
        percent = combined.html_report(directory=str(into / "html"), ignore_errors=True)
    except CoverageException as error:
        print(str(error), file=sys.stderr)
        return EXIT_FAILED
    unknown = [path for path in known if not Path(path).exists()]
    told = {"files": len(known), "percent": percent, "unknown": unknown, "places": elsewhere}
    print(json.dumps(told))
    return 0


def other_places(measured: Iterable[str], tree: str) -> list[str]:
    """Return where else the tree was, by how many files say so."""
    votes: Counter[str] = Counter()
    here = Path(tree)
    for path in map(Path, measured):
        if not path.is_absolute() or path.is_relative_to(here):
            continue
        for depth in range(1, len(path.parts)):  # the longest end first
            if here.joinpath(*path.parts[depth:]).is_file():
                votes[str(Path(*path.parts[:depth]))] += 1
                break
    return [place for place, _ in votes.most_common() if place != here.anchor]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
