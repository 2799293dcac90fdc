"""What a session asks of one run of pytest.

PYTEST_DONT_REWRITE: no assertion here.
"""

from __future__ import annotations

from typing import TypedDict

from dtest_pytest_feed import Done
from dtest_pytest_quiet import Worker

# ruff: noqa: INP001 - the directory is put on a foreign import path, so it is no package of ours


class Request(TypedDict):
    """What the session asks of this one run of pytest."""

    out: str  # the records are appended here
    scratch: str  # a directory for what only the session reads
    pythonpath: str | None  # the value the tests are to see
    paths: list[str]  # files and directories wanted whole
    nodeids: list[str]  # tests or classes wanted by name
    only: list[int] | None  # after a crash: numbers of the tests that are still to run
    reported: list[str]  # files that have a record already
    failures_before: int  # failures of earlier runs, for --maxfail
    again: bool  # an earlier run of this session has got so far
    feed: str | None  # a file that says what to run while it runs, in the place of paths
    collect: bool  # with a feed: collect all first and say what there is
    done: Done | None  # of the feed, by earlier runs
    worker: Worker | None  # who the session is, where there are several
