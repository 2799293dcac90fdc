"""``dtest ship``: the tree of a project to the cell, and the words about it."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dtest.caller.cell import ship_tree
from dtest.cli import output
from dtest.cli.door import open_api
from dtest.cli.options import DEFAULTS, CallOptions


def ship(
    paths: list[str] | None = None,
    /,
    *,
    root: Annotated[Path | None, Parameter(name=["--root", "-C"])] = None,
    call: CallOptions = DEFAULTS,
) -> int:
    """Bring the files of a directory to the cell and print the name under which tasks find them.

    Git says which: tracked files, and untracked ones that are not ignored. Only what the cell does
    not have is sent.

    Examples: `dtest ship` · `dtest ship src tests --root ~/project`

    Parameters
    ----------
    paths
        Only these files and directories; by default all.
    root
        The directory; by default the present one.
    """
    shipped = ship_tree(
        open_api(call.settings()), root or Path.cwd(), paths=paths or [], tell=tell_shipped
    )
    if call.json:
        output.as_json(
            {
                "workspace": shipped.digest,
                "files": shipped.files,
                "bytes": shipped.bytes_total,
                "files_sent": shipped.files_sent,
                "bytes_sent": shipped.bytes_sent,
                "notes": list(shipped.notes),
            }
        )
    else:
        print(shipped.digest)
    return 0


def tell_shipped(text: str) -> None:
    """Tell about a tree on standard error."""
    print(f"dtest: {text}", file=sys.stderr, flush=True)
