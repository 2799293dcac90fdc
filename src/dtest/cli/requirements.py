"""``dtest requirements``: what the sources of a suite show of the machines that its tests need."""

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from dtest.caller.suite_settings import suite_settings
from dtest.cli import output
from dtest.cli.options import DEFAULTS, CallOptions
from dtest.errors import NOTHING_SELECTED
from dtest.suites.evidence import Analysis, analysed
from dtest.suites.proposal import Evidence, Proposals, proposals
from dtest.wording import counted
from dtest.workspaces.listing import list_files

NAMES = ("test_*.py", "*_test.py", "conftest.py")
"""As pytest finds tests by default."""


def requirements(paths: list[str] | None = None, /, *, call: CallOptions = DEFAULTS) -> int:
    """Propose which machines tests need, from their source: shown with evidence, never applied.

    Nothing is imported or run, and no file is changed. What marks or `[tool.dtest]` say already is
    left out. A proposal is only as good as its evidence: read it before you copy it.

    Examples: `dtest requirements` · `dtest requirements tests/gpu --json`

    Parameters
    ----------
    paths
        Files, or directories whose test files are read; by default the current directory.
    """
    rules = suite_settings(call.settings()).rules
    files = list(_files(Path.cwd(), paths or []))
    if not files:
        output.say(f"no test files: none is called {', '.join(NAMES)}")
        return NOTHING_SELECTED
    found = proposals([_read(Path.cwd(), file) for file in files], rules)
    if call.json:
        output.as_json(_document(found, len(files)))
    else:
        _tell(found, len(files))
    return 0


def _files(root: Path, paths: list[str]) -> Iterator[str]:
    """Yield the files, relative to the root; one that is named itself may have any name."""
    named = {PurePosixPath(path).as_posix() for path in paths if (root / path).is_file()}
    listed = list_files(root, paths).paths
    for path in sorted({*listed, *named}):
        if path in named or any(fnmatch(PurePosixPath(path).name, name) for name in NAMES):
            yield path


def _read(root: Path, file: str) -> Analysis:
    try:
        source = (root / file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return Analysis(file, problem=f"cannot be read: {error}")
    return analysed(source, file)


def _document(found: Proposals, files: int) -> dict[str, Any]:
    return {
        "files": files,
        "proposals": [
            {
                "match": each.match,
                "marker": each.marker,
                "asks": dict(each.asks),
                "rule": each.rule,
                "mark": each.mark,
                "evidence": [_evidence(one) for one in each.evidence],
            }
            for each in found.proposals
        ],
        "notes": [_evidence(each) for each in found.notes],
        "problems": [{"file": file, "problem": problem} for file, problem in found.problems],
    }


def _evidence(found: Evidence) -> dict[str, Any]:
    one = found.finding
    place = {"file": found.file, "line": one.line, "test": one.test or None}
    return {**place, "snippet": one.snippet, "why": one.why}


def _tell(found: Proposals, files: int) -> None:
    for each in found.proposals:
        print(each.match or f"marker {each.marker}")
        for one in each.evidence:
            _line(one)
        print(f"  {each.mark}\n")
    if found.notes:
        print("to look at, nothing follows from it by itself")
        for one in found.notes:
            _line(one)
        print()
    if found.proposals:
        print("# a proposal for pyproject.toml; nothing was changed\n")
        print("\n\n".join(each.rule for each in found.proposals))
    for file, problem in found.problems:
        output.say(f"{file}: {problem}")
    output.say(f"{counted(files, 'file')} read, {counted(len(found.proposals), 'proposal')}")


def _line(found: Evidence) -> None:
    print(f"  {found.place}: {found.finding.why}")
    print(f"      {found.finding.snippet}")
